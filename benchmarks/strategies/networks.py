"""Small valid ONNX networks, from chosen operators at chosen opsets."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import onnx
from hypothesis import strategies as st

from benchmarks.strategies.builder import INPUT_ERROR, OPSET, Builder, Draw, Shape, Tensor, weights
from benchmarks.strategies.operators import BUILDERS, OPERATORS
from benchmarks.strategies.reexport import NEWEST, oldest_opset, reexport

RADIUS = 2.0
OPSETS = tuple(range(9, NEWEST + 1))
PIECEWISE = ("Relu", "LeakyRelu", "Abs", "Clip")
SMOOTH = ("Sigmoid", "Tanh", "Softplus")
WINDOWS = ("Conv", "ConvTranspose", "MaxPool", "AveragePool")


class Network(NamedTuple):
    """A model with one input and one output. On |x| <= RADIUS the exact outputs lie in [-magnitude, magnitude], and a
    float32 execution differs from them by at most `error` (absolute), even one whose input is off by INPUT_ERROR."""

    model: onnx.ModelProto
    input_shape: Shape
    output_shape: Shape
    magnitude: float
    error: float

    @property
    def operators(self) -> tuple[str, ...]:
        """The kinds of its nodes, sorted."""
        return tuple(sorted({node.op_type for node in self.model.graph.node}))


_rows = st.integers(1, 4).map(lambda n: (1, n))
_images = st.tuples(st.just(1), st.integers(1, 2), st.integers(2, 4), st.integers(2, 4))
_input_shapes = st.one_of(_rows, _images, st.tuples(st.just(1), st.integers(2, 3), st.integers(1, 3)))
_mostly_images = st.one_of(_rows, _images, _images, _images)  # a row makes an image that is hardly larger than a window


@st.composite
def networks(
    draw: Draw, operators: tuple[str, ...] = OPERATORS, max_operators: int = 6, opsets: tuple[int, ...] = (OPSET,)
) -> Network:
    """Networks of 1 to `max_operators` of the named operators (some bring helpers), each reading the last tensor or an earlier one.

    The opset is one of `opsets`, or the oldest that can say what was drawn, if that is newer than all of them.
    """
    names = draw(st.lists(st.sampled_from(operators), min_size=1, max_size=max_operators))
    shape = draw(_mostly_images if names[0] in WINDOWS else _input_shapes)
    return at_opset(draw, _drawn(draw, shape, names), opsets)


@st.composite
def convolved(
    draw: Draw, operators: tuple[str, ...] = OPERATORS, max_operators: int = 6, opsets: tuple[int, ...] = (OPSET,)
) -> Network:
    """The same, with an image for input and a convolution in the first place."""
    rest = draw(st.lists(st.sampled_from(operators), min_size=0, max_size=max_operators))
    return at_opset(draw, _drawn(draw, draw(_images), ["Conv", *rest]), opsets)


def _drawn(draw: Draw, shape: Shape, names: list[str]) -> Network:
    b = Builder()
    x = Tensor("x", shape, RADIUS, INPUT_ERROR)
    b.tensors.append(x)
    for name in names:
        back = draw(st.sampled_from([0, 0, 0, 1, 2]))
        operand = x if back == 0 else b.tensors[-1 - min(back, len(b.tensors) - 1)]
        x = b.tame(BUILDERS[name](b, draw, operand))
    return finished(b, x)


@st.composite
def layered(draw: Draw, functions: tuple[str, ...] = PIECEWISE + SMOOTH, opsets: tuple[int, ...] = (OPSET,), convolution: bool = True) -> Network:
    """Plain networks: perhaps a convolution, then two or three dense layers, a function of `functions` after all but the last."""
    b = Builder()
    shape = draw(_rows | st.tuples(st.just(1), st.integers(1, 2), st.integers(2, 3), st.integers(2, 3)) if convolution else _rows)
    x = Tensor("x", shape, RADIUS, INPUT_ERROR)
    b.tensors.append(x)
    if len(shape) == 4:
        x = _with_function(b, draw, BUILDERS["Conv"](b, draw, x), functions)
        x = BUILDERS["Flatten"](b, draw, x)
    for _ in range(draw(st.integers(1, 2))):
        width = draw(st.integers(1, 4))
        x = _with_function(b, draw, b.gemm(x, weights(draw, x.size, width), weights(draw, width)), functions)
    outputs = draw(st.integers(1, 3))
    x = b.gemm(x, weights(draw, x.size, outputs), weights(draw, outputs))
    return at_opset(draw, finished(b, x), opsets)


def _with_function(b: Builder, draw: Draw, x: Tensor, functions: tuple[str, ...]) -> Tensor:
    return BUILDERS[draw(st.sampled_from(functions))](b, draw, b.tame(x))


def finished(b: Builder, output: Tensor) -> Network:
    """The network from the first tensor of `b` to `output`."""
    return Network(b.model(output), b.tensors[0].shape, output.shape, output.magnitude, output.error)


def at_opset(draw: Draw, network: Network, opsets: tuple[int, ...]) -> Network:
    """The same network, re-exported at one of `opsets` that can say it."""
    oldest = oldest_opset(network.model)
    opset = draw(st.sampled_from([n for n in opsets if n >= oldest] or [oldest]))
    return network if opset == OPSET else network._replace(model=reexport(network.model, opset))


def models(
    operators: tuple[str, ...] = OPERATORS, max_operators: int = 6, opsets: tuple[int, ...] = (OPSET,)
) -> st.SearchStrategy[onnx.ModelProto]:
    """Small valid ONNX models with one float32 input and one output, finite on |x| <= RADIUS."""
    return networks(operators, max_operators, opsets).map(lambda network: network.model)


@st.composite
def needles(
    draw: Draw, operators: tuple[str, ...] = OPERATORS, max_operators: int = 3, opsets: tuple[int, ...] = (OPSET,)
) -> tuple[Network, np.ndarray, int, float]:
    """(network, point, output j, threshold): output j exceeds the threshold in a small neighbourhood of the point, and nowhere else.

    A drawn network with outputs in [-M, M] gets a ReLU pyramid of height 2 M + 2 over the flat float32 `point` [n]; the threshold is M + 1/2,
    and the outputs of the point exceed it by at least 1. Outside of the pyramid the gradient of its branch is zero.
    """
    base = draw(networks(operators, max_operators))
    b = Builder(list(base.model.graph.node), list(base.model.graph.initializer), [Tensor("x", base.input_shape, RADIUS, INPUT_ERROR)])
    y = Tensor(base.model.graph.output[0].name, base.output_shape, base.magnitude, base.error)
    n, j = b.tensors[0].size, draw(st.integers(0, y.size - 1))
    point = weights(draw, n)
    steep = np.float32(2.0 ** draw(st.integers(0, 6)))
    height = np.float32(2.0 ** np.ceil(np.log2(2 * y.magnitude + 2)))
    flat = b.reshape(b.tensors[0], (1, n))
    apart = b.gemm(flat, np.hstack([np.eye(n), -np.eye(n)]).astype(np.float32), np.concatenate([-point, point]))
    inside = b.gemm(b.piecewise("Relu", apart, apart.magnitude), np.full((2 * n, 1), -steep, np.float32), np.ones(1, np.float32))
    pyramid = b.piecewise("Relu", inside, 1.0)
    spread = np.zeros((1, y.size), np.float32)
    spread[0, j] = height
    bump = b.reshape(b.gemm(pyramid, spread, np.zeros(y.size, np.float32)), y.shape)
    total = b.emit("Add", [y.name, bump.name], y.shape, y.magnitude + bump.magnitude, 2 * (y.error + bump.error))
    return at_opset(draw, finished(b, total), opsets), point, j, y.magnitude + 0.5
