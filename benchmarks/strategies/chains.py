"""Hidden layers: a linear operator, elementwise functions, the next linear operator. Here neurons can be permuted, rescaled, merged, removed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx

from benchmarks.strategies.draft import Array, Draft, attributes

ELEMENTWISE = frozenset("Relu LeakyRelu Abs Clip Sigmoid Tanh Softplus Erf Exp Sin Cos Identity Neg Sign Flatten".split())
HOMOGENEOUS = frozenset("Relu LeakyRelu Abs Identity Neg Flatten Mul".split())  # f(s x) = s f(x) for s > 0
LINEAR = frozenset(("Gemm", "MatMul", "Conv"))


@dataclass(frozen=True)
class Link:
    """`first` and `second` are numbers of nodes; between them only `between`. Neuron i of `width` is read by rows i * block .. of `second`."""

    first: int
    second: int
    between: tuple[int, ...]
    width: int
    block: int
    homogeneous: bool


def links(draft: Draft) -> list[Link]:
    """Every hidden layer whose values go nowhere else."""
    found = [_follow(draft, k) for k, node in enumerate(draft.nodes) if weighted(draft, node)]
    return [link for link in found if link is not None]


def weighted(draft: Draft, node: onnx.NodeProto) -> bool:
    """Whether the node is linear with a constant weight, in a form that is understood here."""
    if node.op_type not in LINEAR or node.input[0] in draft.constants or any(name not in draft.constants for name in node.input[1:]):
        return False
    given, weight = attributes(node), draft.constants[node.input[1]]
    if node.op_type == "Gemm":
        plain = not given.get("transA") and given.get("alpha", 1.0) == given.get("beta", 1.0) == 1.0
        return plain and (len(node.input) < 3 or draft.constants[node.input[2]].size == weight.shape[axes(node)[0]])
    return weight.ndim == 2 if node.op_type == "MatMul" else given.get("group", 1) == 1


def _follow(draft: Draft, first: int) -> Link | None:
    tensor, between = draft.nodes[first].output[0], list[int]()
    while tensor != draft.output.name:
        reading = [k for k, node in enumerate(draft.nodes) if tensor in node.input]
        if len(reading) != 1:
            return None
        node = draft.nodes[reading[0]]
        if weighted(draft, node):
            return _link(draft, first, reading[0], tuple(between))
        if not _one_by_one(draft, node):
            return None
        between.append(reading[0])
        tensor = node.output[0]
    return None


def _one_by_one(draft: Draft, node: onnx.NodeProto) -> bool:
    """An elementwise function, the flattening of one image, or a product with one number."""
    if node.op_type == "Mul":
        return len(node.input) == 2 and node.input[1] in draft.constants and draft.constants[node.input[1]].size == 1
    return node.op_type in ELEMENTWISE and (node.op_type != "Flatten" or attributes(node).get("axis", 1) == 1)


def _link(draft: Draft, first: int, second: int, between: tuple[int, ...]) -> Link | None:
    kinds = {draft.nodes[k].op_type for k in between}
    (out, _), (_, into) = axes(draft.nodes[first]), axes(draft.nodes[second])
    width, rows = (draft.constants[draft.nodes[k].input[1]].shape[axis] for k, axis in ((first, out), (second, into)))
    if rows % width or not _fits(draft.nodes[first].op_type, "Flatten" in kinds, draft.nodes[second].op_type):
        return None
    return Link(first, second, between, width, rows // width, kinds <= HOMOGENEOUS)


def _fits(first: str, flattened: bool, second: str) -> bool:
    """Whether the second operator contracts the axis that the first one makes."""
    if first == "Conv":
        return (second == "Conv") != flattened
    return second != "Conv" and not (first == "MatMul" and flattened)


def axes(node: onnx.NodeProto) -> tuple[int, int]:
    """The axes of its weight that stand for its outputs and its inputs."""
    if node.op_type == "Conv" or (node.op_type == "Gemm" and attributes(node).get("transB")):
        return 0, 1
    return 1, 0


def outgoing(draft: Draft, link: Link) -> tuple[Array, Array | None]:
    """What makes the neurons: the weight with neurons first, and the bias [width], if there is one."""
    node = draft.nodes[link.first]
    bias = draft.constants[node.input[2]].reshape(-1) if len(node.input) > 2 else None
    return np.moveaxis(draft.constants[node.input[1]], axes(node)[0], 0), bias


def incoming(draft: Draft, link: Link) -> Array:
    """What reads the neurons: the weight as [width, block, ...]."""
    node = draft.nodes[link.second]
    weight = np.moveaxis(draft.constants[node.input[1]], axes(node)[1], 0)
    return weight.reshape(link.width, link.block, *weight.shape[1:])


def replaced(draft: Draft, link: Link, weight: Array, bias: Array | None, reading: Array, reading_bias: Array | None = None) -> Draft:
    """A draft whose layer has these weights, in the layouts of `outgoing` and `incoming`; the number of neurons may be another."""
    result = draft.copy()
    first, second = result.nodes[link.first], result.nodes[link.second]
    first.input[1] = result.constant("weight", np.moveaxis(weight, 0, axes(first)[0]).astype(np.float32))
    if bias is not None:
        first.input[2] = result.constant("bias", bias.astype(np.float32))
    joined = reading.reshape(-1, *reading.shape[2:])
    second.input[1] = result.constant("weight", np.moveaxis(joined, 0, axes(second)[1]).astype(np.float32))
    if reading_bias is not None:
        del second.input[2:]
        second.input.append(result.constant("bias", reading_bias.astype(np.float32)))
    return result


def permuted(draft: Draft, link: Link, order: Sequence[int]) -> Draft:
    """The same function, its neurons in another order."""
    weight, bias = outgoing(draft, link)
    return replaced(draft, link, weight[list(order)], None if bias is None else bias[list(order)], incoming(draft, link)[list(order)])


def rescaled(draft: Draft, link: Link, exponents: Sequence[int]) -> Draft:
    """The same function, neuron i made 2^exponents[i] times as large, and read by as much less. Raises ValueError for a layer that is not
    homogeneous."""
    if not link.homogeneous:
        raise ValueError("a function between the layers does not let factors through")
    scale = np.exp2(np.array(exponents, np.float64))
    weight, bias = outgoing(draft, link)
    reading = incoming(draft, link)
    up, down = scale.reshape(-1, *[1] * (weight.ndim - 1)), scale.reshape(-1, *[1] * (reading.ndim - 1))
    return replaced(draft, link, weight * up, None if bias is None else bias * scale, reading / down)
