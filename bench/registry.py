"""Rows of the table of design section 11: what is measured, against whom, and the ratio to reach."""

import dataclasses
from collections.abc import Callable
from typing import Any


@dataclasses.dataclass
class Row:
    name: str
    what: str
    unit: str  # of what `measure` returns: "ms" or "us"
    targets: dict[str, float]  # peer -> how many times less time than it; "base" -> at most so many times the base
    peers: tuple[str, ...]
    rounds: int
    measure: Callable[[str, float], Any]  # (library, scale) -> seconds, or (seconds, seconds of the base)


rows: dict[str, Row] = {}


def row(name, what, unit, targets, peers=("joblib",), rounds=5):
    """Register a function as a row. Peers without a target are shown for comparison."""

    def register(function):
        rows[name] = Row(name, what, unit, targets, peers, rounds, function)
        return function

    return register
