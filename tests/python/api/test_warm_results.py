"""Memory of results that are gone is used again for later ones: never under an array that lives, never without end."""

import gc
import os

import numpy as np
import pytest
from joblot import Parallel, delayed

COUNT = 24


def filled(number, size):
    return np.full(size, number, dtype=">i4")


def call(first, size):
    return Parallel(n_jobs=2)(delayed(filled)(first + i, size) for i in range(COUNT))


def resident():
    with open("/proc/self/statm", encoding="ascii") as statm:
        return int(statm.read().split()[1]) * 4096


def test_results_that_are_kept_stay_as_they_are():
    size = 32 << 10  # of 128 KB
    kept = []
    for first in range(0, 5 * COUNT, COUNT):
        results = call(first, size)
        kept.append(results[first // COUNT])
        kept.append(results[-1][5:10].view())  # a view keeps its memory from being used again
        del results
        gc.collect()
    for round_, first in enumerate(range(0, 5 * COUNT, COUNT)):
        whole, view = kept[2 * round_ : 2 * round_ + 2]
        assert whole.dtype == np.dtype(">i4")
        assert (whole == first + round_).all()
        assert (view == first + COUNT - 1).all()


def test_a_shorter_result_in_used_memory_has_its_own_size():
    call(0, 40 << 10)
    for result in call(7, 36 << 10):
        assert result.shape == (36 << 10,)
        assert (result == result[0]).all()


@pytest.mark.skipif("libasan" in os.environ.get("LD_PRELOAD", ""), reason="ASan keeps what is freed")
def test_what_a_call_has_no_use_for_is_given_back():
    size = 256 << 10  # of 1 MB
    call(0, 16)
    before = resident()
    kept = call(0, size)
    del kept
    gc.collect()
    for _ in range(2):
        Parallel(n_jobs=2)(delayed(pow)(i, 2) for i in range(4))
    assert resident() < before + (8 << 20)
