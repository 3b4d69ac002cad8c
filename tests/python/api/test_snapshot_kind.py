"""Which inputs can write to an array between the drawing of two tasks."""

import numpy as np
import pytest
from joblot import delayed
from joblot._snapshot import NOTHING, SAMPLE, WHOLE, kind_of


def generator(items):
    yield from items


class Items:
    def __init__(self, items):
        self.items = items

    def __iter__(self):
        return iter(self.items)

    def __getitem__(self, i):
        return self.items[i]


def wrapped(tasks):
    """As scikit-learn does."""
    return ((function, args, kwargs) for function, args, kwargs in tasks)


@pytest.mark.parametrize(
    "make, kind",
    [
        (lambda: [1], NOTHING),
        (lambda: (1,), NOTHING),
        (lambda: (delayed(abs)(i) for i in range(3)), SAMPLE),
        (lambda: (delayed(abs)(i) for i in [1, 2]), SAMPLE),
        (lambda: (delayed(abs)(i) for i, _ in zip([1], {2: 3}, strict=True)), SAMPLE),
        (lambda: (delayed(abs)(i) for i, _ in enumerate("ab")), SAMPLE),
        (lambda: wrapped(delayed(abs)(i) for i in range(3)), SAMPLE),
        (lambda: iter([1]), SAMPLE),
        (lambda: (delayed(abs)(i) for _ in [1] for i in generator([1])), WHOLE),
        (lambda: wrapped(delayed(abs)(i) for _ in [1] for i in [2]), WHOLE),
        (lambda: generator([1]), WHOLE),
        (lambda: (delayed(abs)(i) for i in generator([1])), WHOLE),
        (lambda: (delayed(abs)(i) for i, _ in zip([1], generator([1]), strict=True)), WHOLE),
        (lambda: wrapped(generator([1])), WHOLE),
        (lambda: map(abs, [1]), WHOLE),
        (lambda: filter(abs, [1]), WHOLE),
        (lambda: (delayed(abs)(i) for i in map(abs, [1])), WHOLE),
        (lambda: iter(Items([1]).__getitem__, 2), WHOLE),
        (lambda: Items([1]), WHOLE),
        (lambda: {1: 2}, WHOLE),
        (lambda: np.array([1, 2]), WHOLE),
    ],
)
def test_kind_of(make, kind):
    assert kind_of(make()) == kind


def test_a_generator_expression_that_has_run_out():
    tasks = (i for i in [1])
    list(tasks)
    assert kind_of(tasks) == WHOLE
