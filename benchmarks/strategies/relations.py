"""Metamorphic pairs: two questions whose answers must agree in one direction, whatever the truth.

A `Pair` holds a question and one or more that are implied by it: if the first is `sat`, not all of the others can be `unsat`. The thresholds of
the others are relaxed by more than any float32 execution of either network may lose, so that a verifier that speaks of the reals and one that
speaks of float32 must both comply: a contradiction is never a matter of rounding.
Relations: DeepGalaxy (arXiv 2201.08087), ReluSplitter and VeriStable (insertion of identities), research/soundness.md 5.3.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import NamedTuple

import numpy as np
import onnx
from hypothesis import strategies as st

from benchmarks.soundness.property import Atom, Property, decimal, vnnlib1
from benchmarks.strategies.builder import OPSET, Draw, weights
from benchmarks.strategies.chains import links, permuted, rescaled
from benchmarks.strategies.draft import Draft
from benchmarks.strategies.networks import PIECEWISE, SMOOTH, Network, convolved, layered, networks
from benchmarks.strategies.operators import OPERATORS
from benchmarks.strategies.problems import InputBox, Instance, about, inner_boxes, instance
from benchmarks.strategies.reexport import NEWEST, oldest_opset, reexport
from benchmarks.strategies.rewrites import conv_as_gemm, convolutions, translated, with_identity


class Pair(NamedTuple):
    """If `first` is sat, one of `others` is. `relation` is one of RELATIONS."""

    relation: str
    first: Instance
    others: tuple[Instance, ...]

    @property
    def operators(self) -> tuple[str, ...]:
        """The kinds of nodes in all of its networks, sorted."""
        return tuple(sorted({kind for one in (self.first, *self.others) for kind in one.network.operators}))


Sides = tuple[Instance, tuple[Instance, ...]]


def relaxed(one: Instance) -> Instance:
    """The same question with every threshold moved outward by more than two float32 executions can differ, twice over."""
    error = 4 * one.network.error + 2.0**-16
    cases = tuple(tuple(_relax(atom, error) for atom in case) for case in one.unsafe.cases)
    unsafe = Property(one.unsafe.lower, one.unsafe.upper, cases)
    return one._replace(unsafe=unsafe, property=vnnlib1(unsafe))


def _relax(atom: Atom, error: float) -> Atom:
    slack = error * sum(abs(float(c)) for c in atom.coefficients)
    return Atom(atom.coefficients, decimal(float(atom.bound) + slack), False)


def asked_of(one: Instance, model: onnx.ModelProto) -> Instance:
    """The same question about another model of the same function."""
    return one._replace(network=one.network._replace(model=model))


# --- relations that rewrite the network ----------------------------------------------------------------------------------------


def _either(draw: Draw, one: Instance, other: Instance) -> Sides:
    """Two questions with the same answer, in either direction."""
    tight, wide = (one, other) if draw(st.booleans()) else (other, one)
    return tight, (relaxed(wide),)


def _rewritten(draw: Draw, one: Instance, model: onnx.ModelProto) -> Sides:
    return _either(draw, one, asked_of(one, model))


def _permutation(draw: Draw, one: Instance, operators: tuple[str, ...]) -> Sides:
    draft = Draft.of(one.network.model)
    link = draw(st.sampled_from(links(draft)))
    return _rewritten(draw, one, permuted(draft, link, draw(st.permutations(range(link.width)))).model())


def _rescaling(draw: Draw, one: Instance, operators: tuple[str, ...]) -> Sides:
    draft = Draft.of(one.network.model)
    link = draw(st.sampled_from([link for link in links(draft) if link.homogeneous]))
    exponents = draw(st.lists(st.integers(-8, 8), min_size=link.width, max_size=link.width))
    return _rewritten(draw, one, rescaled(draft, link, exponents).model())


def _identity(draw: Draw, one: Instance, operators: tuple[str, ...]) -> Sides:
    """Of kinds that are made of `operators`, where there are any."""
    needs = {"Identity": "Identity", "Add 0": "Add constant", "Mul 1": "Mul constant", "Neg Neg": "Neg"}
    return _insertion(draw, one, tuple(kind for kind, operator in needs.items() if operator in operators) or tuple(needs))


def _relu_split(draw: Draw, one: Instance, operators: tuple[str, ...]) -> Sides:
    return _insertion(draw, one, ("Relu - Relu",))


def _insertion(draw: Draw, one: Instance, kinds: tuple[str, ...]) -> Sides:
    draft = Draft.of(one.network.model)
    return _rewritten(draw, one, with_identity(draft, draw(st.sampled_from(draft.float_tensors())), draw(st.sampled_from(kinds))).model())


def _unrolling(draw: Draw, one: Instance, operators: tuple[str, ...]) -> Sides:
    draft = Draft.of(one.network.model)
    return _rewritten(draw, one, conv_as_gemm(draft, draw(st.sampled_from(convolutions(draft)))).model())


def _export(draw: Draw, one: Instance, operators: tuple[str, ...]) -> Sides:
    opset = draw(st.integers(oldest_opset(one.network.model), NEWEST))
    return _rewritten(draw, one, reexport(one.network.model, opset))


def _translation(draw: Draw, one: Instance, operators: tuple[str, ...]) -> Sides:
    shift = weights(draw, one.box.lower.size)
    there = instance(one.network, InputBox(one.box.lower + shift, one.box.upper + shift), one.unsafe.cases)
    moved = asked_of(there, translated(Draft.of(one.network.model), shift).model())
    if one.witness is not None:
        moved = moved._replace(truth="sat", witness=one.witness + shift)
    return _either(draw, one, moved)


# --- relations that rewrite the property ---------------------------------------------------------------------------------------


def _reordering(draw: Draw, one: Instance, operators: tuple[str, ...]) -> Sides:
    """Cases and atoms in another order, a case perhaps twice."""
    cases = [tuple(draw(st.permutations(case))) for case in draw(st.permutations(one.unsafe.cases))]
    cases += draw(st.lists(st.sampled_from(cases), max_size=1))
    return _either(draw, one, instance(one.network, one.box, cases, one.truth, one.witness))


def _growth(draw: Draw, one: Instance, operators: tuple[str, ...]) -> Sides:
    """sat in a box, sat in every larger one."""
    return _within(one, draw(inner_boxes(one.box))), (relaxed(one),)


def _halves(draw: Draw, one: Instance, operators: tuple[str, ...]) -> Sides:
    """sat in a box, sat in one of its halves."""
    widths = one.box.upper - one.box.lower
    axis = draw(st.sampled_from(np.flatnonzero(widths).tolist() or [0]))
    cut = one.box.lower[axis] + widths[axis] * np.float32(draw(st.integers(1, 7)) / 8)
    left, right = one.box.upper.copy(), one.box.lower.copy()
    left[axis] = right[axis] = cut
    return one, (relaxed(_within(one, InputBox(one.box.lower, left))), relaxed(_within(one, InputBox(right, one.box.upper))))


def _tightening(draw: Draw, one: Instance, operators: tuple[str, ...]) -> Sides:
    """sat, and still sat if an atom or a bound is given up, or a case is added."""
    cases = [list(case) for case in one.unsafe.cases]
    case = draw(st.sampled_from([case for case in cases if len(case) > 1] or [cases[0]]))
    if len(case) > 1:
        case.pop(draw(st.integers(0, len(case) - 1)))
    else:
        cases.append([Atom(case[0].coefficients, case[0].bound + Decimal(1))])
    return one, (relaxed(instance(one.network, one.box, cases, one.truth, one.witness)),)


def _within(one: Instance, box: InputBox) -> Instance:
    """The same question about another box, its truth known if the witness is still inside."""
    inside = one.witness is not None and bool((box.lower <= one.witness).all() and (one.witness <= box.upper).all())
    return instance(one.network, box, one.unsafe.cases, "sat" if inside else None, one.witness if inside else None)


def _layers(operators: tuple[str, ...], most: int, opsets: tuple[int, ...]) -> st.SearchStrategy[Network]:
    return layered(tuple(name for name in PIECEWISE + SMOOTH if name in operators) or ("Relu",), opsets, "Conv" in operators)


def _homogeneous(operators: tuple[str, ...], most: int, opsets: tuple[int, ...]) -> st.SearchStrategy[Network]:
    return layered(tuple(name for name in ("Relu", "LeakyRelu", "Abs") if name in operators) or ("Relu",), opsets, "Conv" in operators)


def _canonical(operators: tuple[str, ...], most: int, opsets: tuple[int, ...]) -> st.SearchStrategy[Network]:
    return networks(operators, most)


Source = Callable[[tuple[str, ...], int, tuple[int, ...]], st.SearchStrategy[Network]]
Relate = Callable[[Draw, Instance, tuple[str, ...]], Sides]
_RELATIONS: Mapping[str, tuple[Source, Relate]] = {
    "neuron permutation": (_layers, _permutation),
    "power-of-two rescaling": (_homogeneous, _rescaling),
    "identity insertion": (networks, _identity),
    "ReLU-split insertion": (networks, _relu_split),
    "Conv as Gemm": (convolved, _unrolling),
    "opset re-export": (_canonical, _export),
    "input translation": (networks, _translation),
    "disjunct reordering": (networks, _reordering),
    "epsilon monotonicity": (networks, _growth),
    "box splitting": (networks, _halves),
    "weaker property": (networks, _tightening),
}
RELATIONS = tuple(_RELATIONS)


@st.composite
def pairs(
    draw: Draw,
    relations: tuple[str, ...] = RELATIONS,
    operators: tuple[str, ...] = OPERATORS,
    max_operators: int = 4,
    opsets: tuple[int, ...] = (OPSET,),
    truths: tuple[str | None, ...] = (None, "sat"),
) -> Pair:
    """A pair of one of `relations`. Relations about layers or convolutions bring networks of their own, with functions among `operators`."""
    relation = draw(st.sampled_from(relations))
    source, relate = _RELATIONS[relation]
    one = draw(about(draw(source(operators, max_operators, opsets)), truths))
    return Pair(relation, *relate(draw, one, operators))
