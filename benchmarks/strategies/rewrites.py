"""Ways to write the same function differently. All are exact over the reals, and in float32 up to the order of sums."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import onnx

from benchmarks.strategies.draft import Array, Draft, attributes

IDENTITIES = ("Identity", "Add 0", "Mul 1", "Neg Neg", "Relu - Relu")


def with_identity(draft: Draft, tensor: str, kind: str) -> Draft:
    """Everything that reads `tensor` reads a copy of it, made by `kind`, one of IDENTITIES; the output too, if that is the tensor."""
    result = draft.copy()
    place = result.place(tensor)
    source = tensor
    if tensor == result.output.name:
        source = result.fresh("inner")
        maker = result.nodes[place - 1]
        maker.output[list(maker.output).index(tensor)] = source
        result.rename_reads(tensor, source)
        copy = tensor
    else:
        copy = result.fresh("copy")
        result.rename_reads(tensor, copy, place)
    result.nodes[place:place] = _identity(result, source, copy, kind)
    return result


def _identity(draft: Draft, source: str, copy: str, kind: str) -> list[onnx.NodeProto]:
    a, b, c = (draft.fresh(f"part{k}") for k in range(3))
    match kind:
        case "Identity":
            return [draft.node("Identity", [source], copy)]
        case "Add 0":
            return [draft.node("Add", [source, draft.constant("zero", np.zeros(1, np.float32))], copy)]
        case "Mul 1":
            return [draft.node("Mul", [source, draft.constant("one", np.ones(1, np.float32))], copy)]
        case "Neg Neg":
            return [draft.node("Neg", [source], a), draft.node("Neg", [a], copy)]
        case "Relu - Relu":
            positive, negated, negative = draft.node("Relu", [source], a), draft.node("Neg", [source], b), draft.node("Relu", [b], c)
            return [positive, negated, negative, draft.node("Sub", [a, c], copy)]
    raise ValueError(f"no identity is called {kind}")


def translated(draft: Draft, shift: Array) -> Draft:
    """The function of x + shift, flat float32 [n]: in the bias of the Gemm that alone reads the input, where that is exact; else by a Sub."""
    result = draft.copy()
    readers = result.readers(result.input.name)
    if len(readers) == 1 and _fold(result, readers[0], shift):
        return result
    back, name = result.fresh("back"), result.input.name
    shape = [d.dim_value or 1 for d in result.input.type.tensor_type.shape.dim]
    result.rename_reads(name, back)
    result.nodes.insert(0, result.node("Sub", [name, result.constant("shift", shift.astype(np.float32).reshape(shape))], back))
    return result


def _fold(draft: Draft, node: onnx.NodeProto, shift: Array) -> bool:
    given = attributes(node)
    if node.op_type != "Gemm" or set(given) - {"transB"} or any(name not in draft.constants for name in node.input[1:]) or len(node.input) < 3:
        return False
    weight = draft.constants[node.input[1]].astype(np.float64)
    bias = draft.constants[node.input[2]].astype(np.float64) - (weight if given.get("transB") else weight.T) @ shift.astype(np.float64)
    exact = bias.astype(np.float32)
    if not _multiples(weight, shift, bias) or (exact != bias).any():
        return False
    node.input[2] = draft.constant("bias", exact)
    return True


def _multiples(*arrays: Array) -> bool:
    """Whether all are multiples of 2^-24 below 2^10, so that double precision rounds nothing."""
    return all(bool((np.abs(a) < 2**10).all() and (np.mod(a.astype(np.float64) * 2**24, 1) == 0).all()) for a in arrays)


def convolutions(draft: Draft) -> list[int]:
    """The numbers of the Conv nodes with constant weights and explicit pads."""
    return [
        k for k, node in enumerate(draft.nodes)
        if node.op_type == "Conv" and all(name in draft.constants for name in node.input[1:]) and not attributes(node).get("auto_pad")
    ]  # fmt: skip


def conv_as_gemm(draft: Draft, number: int) -> Draft:
    """One convolution written as Flatten, Gemm, Reshape."""
    node, shapes = draft.nodes[number], draft.shapes()
    image, out = shapes[node.input[0]][1:], shapes[node.output[0]]
    weight = draft.constants[node.input[1]]
    matrix = unrolled(weight, image, out[1:], attributes(node))
    bias = draft.constants[node.input[2]] if len(node.input) > 2 else np.zeros(out[1], np.float32)
    result = draft.copy()
    flat, product = result.fresh("flat"), result.fresh("product")
    rows = result.constant("bias", np.repeat(bias, math.prod(out[2:])))
    nodes = [
        result.node("Flatten", [node.input[0]], flat, axis=1),
        result.node("Gemm", [flat, result.constant("weight", matrix), rows], product),
        result.node("Reshape", [product, result.constant("shape", np.array(out, np.int64))], node.output[0]),
    ]
    result.nodes[number : number + 1] = nodes
    return result


def unrolled(weight: Array, image: Sequence[int], out: Sequence[int], given: dict[str, object]) -> Array:
    """The matrix [inputs, outputs] of a convolution in two dimensions: `image` and `out` are (channels, height, width)."""
    strides, pads, dilations = (list(given.get(k, d)) for k, d in (("strides", [1, 1]), ("pads", [0] * 4), ("dilations", [1, 1])))  # type: ignore[call-overload]
    group = int(given.get("group", 1))  # type: ignore[call-overload]
    matrix = np.zeros((*image, *out), np.float32)
    per_group, out_per_group = image[0] // group, out[0] // group
    for o, y, x in np.ndindex(*out):
        for c, i, j in np.ndindex(*weight.shape[1:]):
            row, column = y * strides[0] + i * dilations[0] - pads[0], x * strides[1] + j * dilations[1] - pads[1]
            if 0 <= row < image[1] and 0 <= column < image[2]:
                matrix[o // out_per_group * per_group + c, row, column, o, y, x] += weight[o, c, i, j]
    return matrix.reshape(math.prod(image), math.prod(out))
