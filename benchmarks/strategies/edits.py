"""Ways to make a verification problem smaller, in the order in which delta debugging tries them.

The edits of DelBugV (arXiv 2305.18558): drop layers, merge neurons, linearise; and those of a property: fewer cases, fewer atoms, a smaller box.
An edit promises a valid model and nothing about the truth, which is established again by who tries it. `centre` is an input whose execution
should change little: a counterexample, where there is one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from benchmarks.soundness.property import Atom, Property, decimal
from benchmarks.strategies.chains import Link, axes, incoming, links, outgoing, replaced, weighted
from benchmarks.strategies.draft import Array, Draft, attributes
from benchmarks.strategies.reference import reference

FEW = 64  # constants with at most this many entries are simplified entry by entry
KINKS: Mapping[str, float] = {"Relu": 0.0, "Abs": -1.0}  # slope left of 0; it is 1 on the right


@dataclass(frozen=True, eq=False)
class Problem:
    """A network, a property with one box, and an input [n], float32, in the box."""

    draft: Draft
    unsafe: Property
    centre: Array

    def values(self) -> dict[str, Array]:
        """What every tensor is at the centre, by onnx's reference implementation."""
        names = [name for node in self.draft.nodes for name in node.output if name]
        model = self.draft.model()
        del model.graph.output[:]
        model.graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names)
        shape = [d.dim_value or 1 for d in self.draft.input.type.tensor_type.shape.dim]
        x = self.centre.astype(np.float32).reshape(shape)
        results = reference(model, {self.draft.input.name: x})
        return {self.draft.input.name: x, **dict(zip(names, results, strict=True))}

    @property
    def size(self) -> tuple[int, int, int, int]:
        """Nodes, numbers in constants that are not 0, inputs that vary, atoms."""
        constants = {name: v for name, v in self.draft.constants.items() if any(name in node.input for node in self.draft.nodes)}
        varying = sum(low < high for low, high in zip(self.unsafe.lower, self.unsafe.upper, strict=True))
        numbers = sum(int(np.count_nonzero(v)) for v in constants.values())
        return len(self.draft.nodes), numbers, varying, sum(map(len, self.unsafe.cases))


Edit = Callable[[Problem], Iterator[Problem]]


def fewer_cases(problem: Problem) -> Iterator[Problem]:
    """Each case alone."""
    if len(problem.unsafe.cases) > 1:
        for case in problem.unsafe.cases:
            yield replace(problem, unsafe=replace(problem.unsafe, cases=(case,)))


def fewer_atoms(problem: Problem) -> Iterator[Problem]:
    """Without one atom."""
    for k, case in enumerate(problem.unsafe.cases):
        for a in range(len(case) if len(case) > 1 else 0):
            cases = (*problem.unsafe.cases[:k], (*case[:a], *case[a + 1 :]), *problem.unsafe.cases[k + 1 :])
            yield replace(problem, unsafe=replace(problem.unsafe, cases=cases))


def cut_front(problem: Problem) -> Iterator[Problem]:
    """The network from a hidden tensor on, over boxes around its value; last ones first."""
    values, box = problem.values(), problem.unsafe
    old = [float(high - low) / 2 for low, high in zip(box.lower, box.upper, strict=True)]
    for name in [output for node in reversed(problem.draft.nodes) for output in node.output][1:]:
        value = values[name]
        if value.dtype != np.float32 or value.ndim == 0:
            continue
        flat, draft = value.reshape(-1), problem.draft.copy()
        draft.nodes = [node for node in draft.nodes if name not in node.output]
        draft = draft.without_dead()
        if not draft.nodes or draft.readers(draft.input.name):
            continue
        draft.rename_reads(name, draft.input.name)
        draft.input = helper.make_tensor_value_info(draft.input.name, TensorProto.FLOAT, value.shape)
        if not _closed(draft):
            continue
        if np.array_equal(flat, problem.centre):
            yield Problem(draft, box, flat)  # what was cut only reshapes, most likely
        for radius in (max(old, default=1.0), 1.0, 0.125):
            low, high = (tuple(decimal(v) for v in (flat + np.float32(s * radius)).tolist()) for s in (-1, 1))
            yield Problem(draft, replace(box, lower=low, upper=high), flat)


def _closed(draft: Draft) -> bool:
    """Whether every operand is made somewhere."""
    made = {draft.input.name, *draft.constants, *(name for node in draft.nodes for name in node.output)}
    return all(name in made for node in draft.nodes for name in node.input if name)


def cut_back(problem: Problem) -> Iterator[Problem]:
    """The network up to a hidden tensor, asked for one of its values at the centre; first tensors first."""
    values = problem.values()
    for name in [output for node in problem.draft.nodes[:-1] for output in node.output]:
        value = values[name]
        if value.dtype != np.float32 or value.ndim == 0 or name == problem.draft.output.name:
            continue
        draft = problem.draft.copy()
        draft.output = helper.make_tensor_value_info(name, TensorProto.FLOAT, value.shape)
        flat = value.reshape(-1)
        for j in np.argsort(-np.abs(flat))[:3].tolist():
            for sign in (1, -1):
                row = tuple(Decimal(sign if k == j else 0) for k in range(flat.size))
                room = 2.0**-8 * max(1.0, abs(float(flat[j])))
                atom = Atom(row, decimal(sign * float(flat[j]) + room))
                yield Problem(draft.without_dead(), replace(problem.unsafe, cases=((atom,),)), problem.centre)


def bypass(problem: Problem) -> Iterator[Problem]:
    """Without one node: who reads it reads an operand of the same shape."""
    shapes = problem.draft.shapes()
    for k in reversed(range(len(problem.draft.nodes))):
        node = problem.draft.nodes[k]
        for operand in dict.fromkeys(node.input):
            last = node.op_type == "Identity" and operand == problem.draft.input.name and node.output[0] == problem.draft.output.name
            if operand and not last and operand not in problem.draft.constants and shapes.get(operand) == shapes.get(node.output[0]):
                yield replace(problem, draft=_without(problem.draft, k, operand))


def _without(draft: Draft, number: int, operand: str) -> Draft:
    result = draft.copy()
    node = result.nodes.pop(number)
    if node.output[0] != result.output.name:
        result.rename_reads(node.output[0], operand)
    elif operand == result.input.name:
        result.nodes.append(result.node("Identity", [operand], result.output.name))
    else:
        maker = next(other for other in result.nodes if operand in other.output)
        result.rename_reads(operand, result.output.name)
        maker.output[list(maker.output).index(operand)] = result.output.name
    return result.without_dead()


def linearise(problem: Problem) -> Iterator[Problem]:
    """A piecewise linear function replaced by the piece of each of its elements at the centre."""
    values = problem.values()
    for k, node in enumerate(problem.draft.nodes):
        left = attributes(node).get("alpha", 0.01) if node.op_type == "LeakyRelu" else KINKS.get(node.op_type)
        if left is None or node.input[0] in problem.draft.constants:
            continue
        draft = problem.draft.copy()
        slopes = np.where(values[node.input[0]] > 0, np.float32(1), np.float32(left)).astype(np.float32)
        draft.nodes[k] = draft.node("Mul", [node.input[0], draft.constant("slopes", slopes)], node.output[0])
        yield replace(problem, draft=draft)


def fewer_neurons(problem: Problem) -> Iterator[Problem]:
    """A hidden layer without some neurons (halves, quarters, single ones), whose values at the centre go to the next bias."""
    values = problem.values()
    for link in links(problem.draft):
        size = link.width // 2
        while size >= 1 and link.width > 1:
            for start in range(0, link.width, size):
                keep = [i for i in range(link.width) if not start <= i < start + size]
                yield replace(problem, draft=_kept(problem.draft, link, keep, values))
            size //= 2


def _kept(draft: Draft, link: Link, keep: list[int], values: Mapping[str, Array]) -> Draft:
    weight, bias = outgoing(draft, link)
    reading, second = incoming(draft, link), draft.nodes[link.second]
    moved = None
    if second.op_type == "Gemm":
        lost = [i for i in range(link.width) if i not in keep]
        constant = np.tensordot(values[second.input[0]].reshape(link.width, link.block)[lost], reading[lost], axes=2)
        moved = constant + (draft.constants[second.input[2]].reshape(-1) if len(second.input) > 2 else 0)
    return replaced(draft, link, weight[keep], None if bias is None else bias[keep], reading[keep], moved)


def merged_neurons(problem: Problem) -> Iterator[Problem]:
    """Two neighbours become one: the mean of what makes them, the sum of what reads them."""
    for link in links(problem.draft):
        for i in range(link.width - 1):
            weight, bias = (None if a is None else _joined(a, i, 0.5) for a in outgoing(problem.draft, link))
            if weight is not None:
                yield replace(problem, draft=replaced(problem.draft, link, weight, bias, _joined(incoming(problem.draft, link), i, 1.0)))


def _joined(rows: Array, i: int, factor: float) -> Array:
    return np.concatenate([rows[:i], (rows[i : i + 1] + rows[i + 1 : i + 2]) * np.float32(factor), rows[i + 2 :]])


def smaller_box(problem: Problem) -> Iterator[Problem]:
    """Inputs fixed at the centre, many at first; then sides pulled in by half."""
    centre = [decimal(v) for v in problem.centre.tolist()]
    lower, upper = problem.unsafe.lower, problem.unsafe.upper
    varying = [i for i in range(len(lower)) if lower[i] < upper[i]]
    size = len(varying)
    while size:
        for start in range(0, len(varying), size):
            fixed = set(varying[start : start + size])
            low, high = (tuple(centre[i] if i in fixed else side[i] for i in range(len(side))) for side in (lower, upper))
            yield replace(problem, unsafe=replace(problem.unsafe, lower=low, upper=high))
        size //= 2


def fewer_inputs(problem: Problem) -> Iterator[Problem]:
    """Without an input that does not vary, where one Gemm alone reads the inputs: its part goes to the bias."""
    draft, box = problem.draft, problem.unsafe
    readers = [node for node in draft.nodes if draft.input.name in node.input]
    if len(readers) != 1 or readers[0].op_type != "Gemm" or not weighted(draft, readers[0]) or len(box.lower) < 2:
        return
    axis = axes(readers[0])[1]
    weight = draft.constants[readers[0].input[1]]
    for i in range(len(box.lower)):
        if box.lower[i] == box.upper[i]:
            smaller, name = draft.copy(), draft.input.name
            smaller.input = helper.make_tensor_value_info(name, TensorProto.FLOAT, (1, len(box.lower) - 1))
            (node,) = smaller.readers(name)
            bias = np.take(weight, i, axis) * problem.centre[i]
            bias = bias + (draft.constants[node.input[2]].reshape(-1) if len(node.input) > 2 else 0)
            del node.input[:]
            node.input.extend([name, smaller.constant("weight", np.delete(weight, i, axis)), smaller.constant("bias", bias.astype(np.float32))])
            lower, upper = (side[:i] + side[i + 1 :] for side in (box.lower, box.upper))
            yield Problem(smaller, Property(lower, upper, box.cases), np.delete(problem.centre, i))


def fewer_outputs(problem: Problem) -> Iterator[Problem]:
    """Without an output that no atom names, where a Gemm makes the outputs."""
    draft, cases = problem.draft, problem.unsafe.cases
    number = draft.place(draft.output.name) - 1
    outputs = len(cases[0][0].coefficients)
    if number < 0 or draft.nodes[number].op_type != "Gemm" or not weighted(draft, draft.nodes[number]) or draft.readers(draft.output.name):
        return
    for j in range(outputs if outputs > 1 else 0):
        if any(atom.coefficients[j] for case in cases for atom in case):
            continue
        smaller = draft.copy()
        node = smaller.nodes[number]
        node.input[1] = smaller.constant("weight", np.delete(draft.constants[node.input[1]], j, axes(node)[0]))
        if len(node.input) > 2:
            node.input[2] = smaller.constant("bias", np.delete(draft.constants[node.input[2]].reshape(-1), j))
        smaller.output = helper.make_tensor_value_info(draft.output.name, TensorProto.FLOAT, (1, outputs - 1))
        kept = tuple(tuple(replace(a, coefficients=a.coefficients[:j] + a.coefficients[j + 1 :]) for a in case) for case in cases)
        yield replace(problem, draft=smaller, unsafe=replace(problem.unsafe, cases=kept))


def simpler_constants(problem: Problem) -> Iterator[Problem]:
    """Zeros and short numbers in the place of weights: whole tensors, then entry by entry where there are few."""
    for name, value in problem.draft.constants.items():
        if value.dtype != np.float32 or not any(name in node.input for node in problem.draft.nodes):
            continue
        wholes = [np.zeros_like(value), np.round(value), np.round(value * 8) / np.float32(8)]
        entries = [_with_zero(value, k) for k in range(value.size)] if 1 < value.size <= FEW else []
        for simple in (*wholes, *entries):
            if (simple != value).any() and np.count_nonzero(simple) <= np.count_nonzero(value):
                draft = problem.draft.copy()
                draft.constants[name] = simple.astype(np.float32)
                yield replace(problem, draft=draft)


def _with_zero(value: Array, k: int) -> Array:
    changed = value.copy()
    changed.reshape(-1)[k] = 0
    return changed


EDITS: Mapping[str, Edit] = {
    "fewer cases": fewer_cases, "fewer atoms": fewer_atoms, "cut the front": cut_front, "cut the back": cut_back, "drop a layer": bypass,
    "linearise": linearise, "fewer neurons": fewer_neurons, "merge neurons": merged_neurons, "smaller box": smaller_box,
    "fewer inputs": fewer_inputs, "fewer outputs": fewer_outputs, "simpler constants": simpler_constants,
}  # fmt: skip


def model_of(problem: Problem) -> onnx.ModelProto:
    """The model of a problem."""
    return problem.draft.without_dead().model()


def shape_of(value: Any) -> tuple[int, ...]:
    """The static shape of a graph input or output; a dynamic axis is 1."""
    return tuple(d.dim_value or 1 for d in value.type.tensor_type.shape.dim)
