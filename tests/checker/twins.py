"""Both arithmetics on one problem: the float64 kernel, and the exact twin on the very state the kernel found."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.checker.random_networks import flat_slopes
from verifier.checker.bounds import Checker
from verifier.checker.exact_bounds import ExactBounds, Functional, State, Vector, rationals
from verifier.checker.network import Network
from verifier.checker.slack import Slack
from verifier.checker.state import State as FloatState

Array = NDArray[Any]
SlopePairs = Mapping[int, tuple[Array, Array]]  # node -> lower, upper slopes [size]


def float_state(checker: Checker, lower: Array, upper: Array, program: int = 0) -> FloatState:
    """The kernel's state over one box [n_in]."""
    return checker.state(1, lower[None], upper[None], {}, {}, program)


def float_bound(checker: Checker, state: FloatState, functional: Mapping[int, Array], slopes: SlopePairs) -> Fraction:
    """The kernel's lower bound of one functional [size per node], exactly the double it is."""
    start = {k: row[None, None] for k, row in functional.items()}
    stored = {k: (low[None, None], high[None, None]) for k, (low, high) in slopes.items()}
    zero = np.zeros((1, 1))
    return Fraction(float(checker.lower_bound(state, start, zero, zero, stored)[0, 0]))


def box_of(network: Network, ends: Array) -> dict[int, Vector]:
    """One end of a box [n_in] per input node."""
    found, at = {}, 0
    for k in network.inputs:
        found[k] = rationals(ends[at : at + network.nodes[k].size], network.nodes[k].size)
        at += network.nodes[k].size
    return found


def same_state(network: Network, state: FloatState) -> State:
    """The kernel's state as rationals, so that only the arithmetic of what follows differs."""
    sizes = [node.size for node in network.nodes]
    lower, upper = ([rationals(np.broadcast_to(end[0], n), n) for end, n in zip(ends, sizes, strict=True)] for ends in (state.lower, state.upper))
    slack = [rationals(None if s is None else s[0], n) for s, n in zip(state.slack, sizes, strict=True)]
    return State(lower, upper, slack)


def as_rows(functional: Mapping[int, Array]) -> Functional:
    """A functional [size per node] as the exact twin takes it."""
    return {k: {i: Fraction(x) for i, x in enumerate(row.tolist()) if x} for k, row in functional.items()}


def both_bounds(
    network: Network,
    lower: Array,
    upper: Array,
    functional: Mapping[int, Array],
    slopes: SlopePairs,
    program: int = 0,
    slack: Slack | None = None,
) -> tuple[Fraction, Fraction]:
    """(the kernel's lower bound, the exact one) with the same slopes over the same state."""
    checker = Checker(network, slack)
    state = float_state(checker, lower, upper, program)
    exact = ExactBounds(network, slack).lower_bound(same_state(network, state), as_rows(functional), slopes=flat_slopes(dict(slopes)))
    return float_bound(checker, state, functional, slopes), exact
