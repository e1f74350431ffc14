"""Hypothesis strategies for people who test verifiers: small ONNX networks, input boxes, properties with known truth.

Needs only hypothesis, numpy and onnx. Networks are valid by construction, and come with a bound of their outputs and of the
error of any float32 execution on the inputs |x| <= RADIUS, so that the truth of a property can be known without a solver:
`sat` properties contain a concrete execution, `unsat` ones ask for outputs beyond the bound. Everything shrinks: fewer
operators, smaller tensors, weights towards 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, NamedTuple

import numpy as np
import onnx
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

Array = NDArray[Any]
Shape = tuple[int, ...]
Draw = Callable[[st.SearchStrategy[Any]], Any]

RADIUS = 2.0
OPSET, IR_VERSION = 17, 8
_TAME = 64.0  # tensors are scaled down to this magnitude
_ROUNDING = 2.0**-22  # more than one float32 operation loses, relative to its result
_ACTIVATION_ERROR = 2.0**-17  # more than a runtime's Sigmoid, Tanh, Exp, Sin, ... loses, relative to max(1, result)


class Network(NamedTuple):
    """A model with one input and one output. On |x| <= RADIUS the exact outputs lie in [-magnitude, magnitude], and a
    float32 execution differs from them by at most `error` (absolute)."""

    model: onnx.ModelProto
    input_shape: Shape
    output_shape: Shape
    magnitude: float
    error: float


class InputBox(NamedTuple):
    """lower <= x <= upper, flat float32 arrays [n] inside [-RADIUS, RADIUS]; some sides have width 0."""

    lower: Array
    upper: Array


class Instance(NamedTuple):
    """A verification problem. `truth` is "sat", "unsat" or None (not known); `witness` is a flat float32 input for "sat"."""

    network: Network
    box: InputBox
    property: str
    truth: str | None
    witness: Array | None


# --- building a model, with a bound of every tensor ---------------------------------------------------------------------------


@dataclass(frozen=True)
class _Tensor:
    name: str
    shape: Shape
    magnitude: float
    error: float


@dataclass
class _Builder:
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: list[TensorProto] = field(default_factory=list)
    tensors: list[_Tensor] = field(default_factory=list)

    def constant(self, value: Array) -> str:
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(value, name))
        return name

    def emit(self, operator: str, inputs: list[str], shape: Shape, magnitude: float, error: float, **attributes: Any) -> _Tensor:
        """Append a node; `error` is what the inputs' errors and the rounding of this operator amount to."""
        out = _Tensor(f"t{len(self.nodes)}", shape, magnitude, error)
        self.nodes.append(helper.make_node(operator, inputs, [out.name], name=f"{operator}_{len(self.nodes)}", **attributes))
        self.tensors.append(out)
        return out

    def linear(
        self, operator: str, x: _Tensor, operands: list[str], shape: Shape, gain: float, shift: float, terms: int, **attributes: Any
    ) -> _Tensor:
        """A node with |out| <= gain |x| + shift that sums `terms` products."""
        magnitude = gain * x.magnitude + shift
        error = gain * x.error + (terms + 2) * _ROUNDING * magnitude
        return self.emit(operator, [x.name, *operands], shape, magnitude, error, **attributes)

    def function(self, operator: str, x: _Tensor, magnitude: float, lipschitz: float, inputs: tuple[str, ...] = (), **attributes: Any) -> _Tensor:
        error = lipschitz * x.error + _ACTIVATION_ERROR * max(1.0, magnitude)
        return self.emit(operator, [x.name, *inputs], x.shape, magnitude, error, **attributes)

    def tame(self, x: _Tensor, limit: float = _TAME) -> _Tensor:
        """x, scaled by a power of two if its bound is above `limit`."""
        if x.magnitude <= limit:
            return x
        factor = 2.0 ** -math.ceil(math.log2(x.magnitude / limit))
        return self.linear("Mul", x, [self.constant(np.float32(factor).reshape(1))], x.shape, factor, 0.0, 1)


def _weights(draw: Draw, *shape: int) -> Array:
    """float32 multiples of 1/64 in [-2, 2), one byte of choice each; they shrink to 0."""
    size = math.prod(shape)
    return (np.frombuffer(draw(st.binary(min_size=size, max_size=size)), np.int8) / np.float32(64)).astype(np.float32).reshape(shape)


def _largest(a: Array) -> float:
    return float(np.abs(a).max())


# --- operators: each takes a tensor and gives one, or None where it does not apply ----------------------------------------------


def _gemm(b: _Builder, draw: Draw, x: _Tensor) -> _Tensor | None:
    if len(x.shape) != 2:
        return None
    n, m = x.shape[1], draw(st.integers(1, 4))
    transposed = draw(st.booleans())
    weight, bias = _weights(draw, n, m), _weights(draw, m)
    stored = weight.T.copy() if transposed else weight
    gain = float(np.abs(weight).sum(axis=0).max())
    return b.linear("Gemm", x, [b.constant(stored), b.constant(bias)], (1, m), gain, _largest(bias), n + 1, transB=int(transposed))


def _matmul(b: _Builder, draw: Draw, x: _Tensor) -> _Tensor | None:
    n, m = x.shape[-1], draw(st.integers(1, 4))
    weight = _weights(draw, n, m)
    return b.linear("MatMul", x, [b.constant(weight)], (*x.shape[:-1], m), float(np.abs(weight).sum(axis=0).max()), 0.0, n)


def _window(draw: Draw, x: _Tensor) -> tuple[int, int, int] | None:
    """kernel, stride and padding that fit an image, equal in both directions."""
    if len(x.shape) != 4:
        return None
    padding = draw(st.integers(0, 1))
    kernel = draw(st.integers(padding + 1, 3))
    return None if min(x.shape[2:]) + 2 * padding < kernel else (kernel, draw(st.integers(1, 2)), padding)


def _conv(b: _Builder, draw: Draw, x: _Tensor) -> _Tensor | None:
    window = _window(draw, x)
    if window is None:
        return None
    kernel, stride, padding = window
    channels = x.shape[1]
    group = draw(st.sampled_from(sorted({1, channels})))
    out = group * draw(st.integers(1, 2))
    fits = min(x.shape[2:]) + 2 * padding > 2 * (kernel - 1)
    dilation = draw(st.integers(1, 2)) if fits else 1
    weight, bias = _weights(draw, out, channels // group, kernel, kernel), _weights(draw, out)
    size = tuple((s + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1 for s in x.shape[2:])
    gain, terms = float(np.abs(weight).sum(axis=(1, 2, 3)).max()), weight[0].size + 1
    layout = {"kernel_shape": [kernel] * 2, "strides": [stride] * 2, "pads": [padding] * 4, "dilations": [dilation] * 2, "group": group}
    return b.linear("Conv", x, [b.constant(weight), b.constant(bias)], (1, out, *size), gain, _largest(bias), terms, **layout)


def _conv_transpose(b: _Builder, draw: Draw, x: _Tensor) -> _Tensor | None:
    if len(x.shape) != 4 or max(x.shape[2:]) > 4:
        return None
    kernel, stride, out = draw(st.integers(1, 3)), draw(st.integers(1, 2)), draw(st.integers(1, 2))
    weight, bias = _weights(draw, x.shape[1], out, kernel, kernel), _weights(draw, out)
    size = tuple((s - 1) * stride + kernel for s in x.shape[2:])
    gain, terms = float(np.abs(weight).sum(axis=(0, 2, 3)).max()), x.shape[1] * kernel * kernel + 1
    layout = {"kernel_shape": [kernel] * 2, "strides": [stride] * 2}
    return b.linear("ConvTranspose", x, [b.constant(weight), b.constant(bias)], (1, out, *size), gain, _largest(bias), terms, **layout)


def _batch_norm(b: _Builder, draw: Draw, x: _Tensor) -> _Tensor | None:
    scale, bias, mean = (_weights(draw, x.shape[1]) for _ in range(3))
    variance = np.abs(_weights(draw, x.shape[1])) + np.float32(0.25)
    gain = float((np.abs(scale) / np.sqrt(variance)).max())
    parameters = [b.constant(a) for a in (scale, bias, mean, variance)]
    return b.linear("BatchNormalization", x, parameters, x.shape, gain, gain * _largest(mean) + _largest(bias), 8)


def _constant_arithmetic(operator: str) -> Callable[[_Builder, Draw, _Tensor], _Tensor]:
    def build(b: _Builder, draw: Draw, x: _Tensor) -> _Tensor:
        value = _weights(draw, x.shape[-1])
        gain, shift = (_largest(value), 0.0) if operator == "Mul" else (1.0, _largest(value))
        return b.linear(operator, x, [b.constant(value)], x.shape, gain, shift, 1)

    return build


def _partner(b: _Builder, draw: Draw, x: _Tensor) -> _Tensor:
    """A tensor of the shape of x: an earlier one, or x itself."""
    return draw(st.sampled_from([t for t in reversed(b.tensors) if t.shape == x.shape]))


def _branches(operator: str) -> Callable[[_Builder, Draw, _Tensor], _Tensor]:
    def build(b: _Builder, draw: Draw, x: _Tensor) -> _Tensor:
        y = _partner(b, draw, x)
        magnitude = x.magnitude * y.magnitude if operator == "Mul" else x.magnitude + y.magnitude
        error = _product_error(x, y) if operator == "Mul" else x.error + y.error
        return b.emit(operator, [x.name, y.name], x.shape, magnitude, error + 2 * _ROUNDING * magnitude)

    return build


def _product_error(x: _Tensor, y: _Tensor) -> float:
    return x.error * (y.magnitude + y.error) + y.error * x.magnitude


def _matmul_of_branches(b: _Builder, draw: Draw, x: _Tensor) -> _Tensor | None:
    if len(x.shape) < 3:
        return None
    y = _transpose(b, draw, _partner(b, draw, x), swap_last=True)
    n = x.shape[-1]
    magnitude = n * x.magnitude * y.magnitude
    shape = (*x.shape[:-1], y.shape[-1])
    return b.emit("MatMul", [x.name, y.name], shape, magnitude, n * _product_error(x, y) + (n + 2) * _ROUNDING * magnitude)


def _div(b: _Builder, draw: Draw, x: _Tensor) -> _Tensor:
    """x / (y y + 1): the divisor is at least 1."""
    y = _partner(b, draw, x)
    square = b.emit("Mul", [y.name, y.name], y.shape, y.magnitude**2, _product_error(y, y) + 2 * _ROUNDING * y.magnitude**2)
    divisor = b.linear("Add", square, [b.constant(np.ones(1, np.float32))], y.shape, 1.0, 1.0, 1)
    error = x.error + x.magnitude * divisor.error + 4 * _ROUNDING * x.magnitude
    return b.emit("Div", [x.name, divisor.name], x.shape, x.magnitude, error)


def _concat(b: _Builder, draw: Draw, x: _Tensor) -> _Tensor | None:
    y, axis = _partner(b, draw, x), draw(st.integers(1, len(x.shape) - 1))
    if math.prod(x.shape) > 16:
        return None
    shape = (*x.shape[:axis], 2 * x.shape[axis], *x.shape[axis + 1 :])
    return b.emit("Concat", [x.name, y.name], shape, max(x.magnitude, y.magnitude), max(x.error, y.error), axis=axis)


def _reindexed(b: _Builder, operator: str, x: _Tensor, operands: list[str], shape: Shape, **attributes: Any) -> _Tensor:
    return b.emit(operator, [x.name, *operands], shape, x.magnitude, x.error, **attributes)


def _slice(b: _Builder, draw: Draw, x: _Tensor) -> _Tensor:
    axis = draw(st.integers(1, len(x.shape) - 1))
    n = x.shape[axis]
    start = draw(st.integers(0, n - 1))
    end, step = draw(st.integers(start + 1, n)), draw(st.integers(1, 2))
    shape = (*x.shape[:axis], len(range(start, end, step)), *x.shape[axis + 1 :])
    return _reindexed(b, "Slice", x, [b.constant(np.array([v], np.int64)) for v in (start, end, axis, step)], shape)


def _gather(b: _Builder, draw: Draw, x: _Tensor) -> _Tensor:
    axis = draw(st.integers(1, len(x.shape) - 1))
    index = draw(st.lists(st.integers(-x.shape[axis], x.shape[axis] - 1), min_size=1, max_size=3))
    shape = (*x.shape[:axis], len(index), *x.shape[axis + 1 :])
    return _reindexed(b, "Gather", x, [b.constant(np.array(index, np.int64))], shape, axis=axis)


def _split(b: _Builder, draw: Draw, x: _Tensor) -> _Tensor | None:
    """Two parts; both can be used later."""
    axis = draw(st.integers(1, len(x.shape) - 1))
    if x.shape[axis] < 2:
        return None
    sizes = [first := draw(st.integers(1, x.shape[axis] - 1)), x.shape[axis] - first]
    left, right = (
        _Tensor(f"t{len(b.nodes)}_{k}", (*x.shape[:axis], size, *x.shape[axis + 1 :]), x.magnitude, x.error) for k, size in enumerate(sizes)
    )
    inputs = [x.name, b.constant(np.array(sizes, np.int64))]
    b.nodes.append(helper.make_node("Split", inputs, [left.name, right.name], name=f"Split_{len(b.nodes)}", axis=axis))
    b.tensors += [left, right]
    return draw(st.sampled_from([left, right]))


def _transpose(b: _Builder, draw: Draw, x: _Tensor, swap_last: bool = False) -> _Tensor:
    rank = len(x.shape)
    order = [*range(rank - 2), rank - 1, rank - 2] if swap_last else [0, *draw(st.permutations(range(1, rank)))]
    return _reindexed(b, "Transpose", x, [], tuple(x.shape[i] for i in order), perm=order)


def _flatten(b: _Builder, draw: Draw, x: _Tensor) -> _Tensor:
    return _reindexed(b, "Flatten", x, [], (1, math.prod(x.shape)), axis=1)


def _leaky_relu(b: _Builder, draw: Draw, x: _Tensor) -> _Tensor:
    return b.function("LeakyRelu", x, x.magnitude, 1.0, alpha=draw(st.sampled_from([0.0, 0.125, 0.5, 0.01])))


def _exp(b: _Builder, draw: Draw, x: _Tensor) -> _Tensor:
    x = b.tame(x, 3.0)
    top = math.exp(x.magnitude + x.error)
    return b.function("Exp", x, top, top)


def _pow(b: _Builder, draw: Draw, x: _Tensor) -> _Tensor:
    n = draw(st.integers(2, 3))
    steepest = n * (x.magnitude + x.error) ** (n - 1)
    return b.function("Pow", x, x.magnitude**n, steepest, (b.constant(np.float32(n).reshape(1)),))


def _bounded(operator: str, lipschitz: float = 1.0) -> Callable[[_Builder, Draw, _Tensor], _Tensor]:
    return lambda b, draw, x: b.function(operator, x, 1.0, lipschitz)


def _softmax(b: _Builder, draw: Draw, x: _Tensor) -> _Tensor:
    return b.function("Softmax", x, 1.0, 1.0, axis=draw(st.sampled_from([-1, len(x.shape) - 1])))


def _reduce(operator: str) -> Callable[[_Builder, Draw, _Tensor], _Tensor | None]:
    def build(b: _Builder, draw: Draw, x: _Tensor) -> _Tensor | None:
        axis, keep = draw(st.integers(1, len(x.shape) - 1)), draw(st.booleans())
        if not keep and len(x.shape) == 2:
            return None  # the result would be a vector without a batch axis of its own
        n = x.shape[axis]
        shape = (*x.shape[:axis], *([1] if keep else []), *x.shape[axis + 1 :])
        if operator == "ReduceMean":
            return b.linear(operator, x, [], shape, 1.0, 0.0, n, axes=[axis], keepdims=int(keep))
        return b.linear(operator, x, [b.constant(np.array([axis], np.int64))], shape, float(n), 0.0, n, keepdims=int(keep))

    return build


def _max_pool(b: _Builder, draw: Draw, x: _Tensor) -> _Tensor | None:
    window = _window(draw, x)
    if window is None:
        return None
    kernel, stride, padding = window
    size = tuple((s + 2 * padding - kernel) // stride + 1 for s in x.shape[2:])
    layout = {"kernel_shape": [kernel] * 2, "strides": [stride] * 2, "pads": [padding] * 4}
    return _reindexed(b, "MaxPool", x, [], (*x.shape[:2], *size), **layout)


_Operator = Callable[[_Builder, Draw, _Tensor], _Tensor | None]
_OPERATORS: dict[str, _Operator] = {
    "Gemm": _gemm,
    "Relu": lambda b, draw, x: b.function("Relu", x, x.magnitude, 1.0),
    "Conv": _conv,
    "MaxPool": _max_pool,
    "MatMul": _matmul,
    "Add": _branches("Add"),
    "Sub": _branches("Sub"),
    "Mul": _branches("Mul"),
    "MatMul of two branches": _matmul_of_branches,
    "Add constant": _constant_arithmetic("Add"),
    "Mul constant": _constant_arithmetic("Mul"),
    "BatchNormalization": _batch_norm,
    "ConvTranspose": _conv_transpose,
    "Concat": _concat,
    "Slice": _slice,
    "Gather": _gather,
    "Split": _split,
    "Transpose": _transpose,
    "Flatten": _flatten,
    "LeakyRelu": _leaky_relu,
    "Sigmoid": _bounded("Sigmoid"),
    "Tanh": _bounded("Tanh"),
    "Exp": _exp,
    "Sin": _bounded("Sin"),
    "Cos": _bounded("Cos"),
    "Pow": _pow,
    "Softmax": _softmax,
    "Div": _div,
    "Neg": lambda b, draw, x: _reindexed(b, "Neg", x, [], x.shape),
    "ReduceMean": _reduce("ReduceMean"),
    "ReduceSum": _reduce("ReduceSum"),
}
OPERATORS = tuple(_OPERATORS)

# --- the strategies -------------------------------------------------------------------------------------------------------------

_input_shapes = st.one_of(
    st.integers(1, 4).map(lambda n: (1, n)),
    st.tuples(st.just(1), st.integers(1, 2), st.integers(2, 4), st.integers(2, 4)),
    st.tuples(st.just(1), st.integers(2, 3), st.integers(1, 3)),
)


@st.composite
def networks(draw: Draw, operators: tuple[str, ...] = OPERATORS, max_operators: int = 6) -> Network:
    """Networks of 1 to `max_operators` of the named operators (some bring helpers), each reading the last tensor or an earlier one.

    An operator that does not fit the rank of its operand is left out; if none is left, the network is a Relu or Gemm.
    """
    b = _Builder()
    shape = draw(_input_shapes)
    x = _Tensor("x", shape, RADIUS, 0.0)
    b.tensors.append(x)
    for name in draw(st.lists(st.sampled_from(operators), min_size=1, max_size=max_operators)):
        back = draw(st.sampled_from([0, 0, 0, 1, 2]))
        operand = x if back == 0 else b.tensors[-1 - min(back, len(b.tensors) - 1)]
        made = _OPERATORS[name](b, draw, operand)
        x = x if made is None else b.tame(made)
    if not b.nodes:
        x = b.function("Relu", x, x.magnitude, 1.0)
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        b.nodes,
        "drawn",
        [value("x", TensorProto.FLOAT, shape)],
        [value(x.name, TensorProto.FLOAT, x.shape)],
        b.constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION, producer_name="soundproof")
    return Network(model, shape, x.shape, x.magnitude, x.error)


def models(operators: tuple[str, ...] = OPERATORS, max_operators: int = 6) -> st.SearchStrategy[onnx.ModelProto]:
    """Small valid ONNX models with one float32 input and one output, finite on |x| <= RADIUS."""
    return networks(operators, max_operators).map(lambda network: network.model)


@st.composite
def boxes(draw: Draw, size: int) -> InputBox:
    """Boxes of `size` inputs inside [-RADIUS, RADIUS], with ends that are multiples of 1/32."""
    whole = int(RADIUS * 32)
    ends = st.integers(-whole, whole)
    sides = [sorted((draw(ends), draw(ends))) for _ in range(size)]
    lower, upper = (np.array([side[k] for side in sides], np.float32) / np.float32(32) for k in (0, 1))
    return InputBox(lower, upper)


@st.composite
def shrinking_boxes(draw: Draw, size: int, steps: int = 3) -> list[InputBox]:
    """`steps` boxes, each inside the one before: bounds over them must not get wider."""
    found = [draw(boxes(size))]
    for _ in range(steps - 1):
        outer = found[-1]
        cuts = np.array(draw(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=size, max_size=size)), np.float32) / 8
        width = outer.upper - outer.lower
        found.append(InputBox(outer.lower + cuts[:, 0] * width, outer.upper - cuts[:, 1] * width))
    return found


@st.composite
def points(draw: Draw, box: InputBox) -> Array:
    """Float32 points of a box, corners and centre among the likely ones."""
    parts = np.array(draw(st.lists(st.integers(0, 8), min_size=box.lower.size, max_size=box.lower.size)), np.float32) / 8
    return np.clip(box.lower + parts * (box.upper - box.lower), box.lower, box.upper).astype(np.float32)


@st.composite
def instances(
    draw: Draw, truths: tuple[str | None, ...] = ("sat", "unsat", None), operators: tuple[str, ...] = OPERATORS, max_operators: int = 6
) -> Instance:
    """Networks with a box and a VNN-LIB 1.0 property, whose truth is known unless it is None.

    "sat": a drawn point satisfies one of the cases in every float32 execution (up to `network.error`, with room to spare).
    "unsat": every case contains an atom beyond what the outputs can reach, over the reals and in float32.
    """
    network = draw(networks(operators, max_operators))
    box = draw(boxes(math.prod(network.input_shape)))
    truth = draw(st.sampled_from(truths))
    outputs = math.prod(network.output_shape)
    others = draw(st.lists(_cases(network, outputs, impossible=truth == "unsat"), min_size=0 if truth == "sat" else 1, max_size=3))
    if truth != "sat":
        return Instance(network, box, _text(box, outputs, others), truth, None)
    witness = draw(points(box))
    (result,) = ReferenceEvaluator(network.model).run(None, {"x": witness.reshape(network.input_shape)})
    room = 2 * network.error + 2.0**-10
    chosen = draw(st.lists(st.tuples(st.integers(0, outputs - 1), st.booleans()), min_size=1, max_size=3))
    flat = result.reshape(-1).astype(np.float64)
    reached = [f"(<= Y_{j} {_decimal(flat[j] + room)})" if below else f"(>= Y_{j} {_decimal(flat[j] - room)})" for j, below in chosen]
    place = draw(st.integers(0, len(others)))
    return Instance(network, box, _text(box, outputs, [*others[:place], reached, *others[place:]]), "sat", witness)


@st.composite
def _cases(draw: Draw, network: Network, outputs: int, impossible: bool) -> list[str]:
    """Atoms of one unsafe case; if `impossible`, one of them is beyond the network's reach."""
    index = st.integers(0, outputs - 1)
    threshold = st.integers(-16, 16).map(lambda k: _decimal(k / 16 * max(network.magnitude, 1.0)))
    sign = st.sampled_from(["<=", ">=", "<", ">"])
    against_number = st.builds("({} Y_{} {})".format, sign, index, threshold)
    pairs = st.lists(index, min_size=2, max_size=2, unique=True) if outputs > 1 else st.nothing()
    against_output = st.builds(lambda s, pair: f"({s} Y_{pair[0]} Y_{pair[1]})", sign, pairs)
    atoms = draw(st.lists(against_number | against_output, min_size=0 if impossible else 1, max_size=2))
    if impossible:
        beyond = network.magnitude + 2 * network.error + 1
        j, above = draw(index), draw(st.booleans())
        atoms.insert(draw(st.integers(0, len(atoms))), f"(>= Y_{j} {_decimal(beyond)})" if above else f"(<= Y_{j} {_decimal(-beyond)})")
    return atoms


def _text(box: InputBox, outputs: int, cases: list[list[str]]) -> str:
    lines = [f"(declare-const X_{i} Real)" for i in range(box.lower.size)] + [f"(declare-const Y_{j} Real)" for j in range(outputs)]
    for i, (lower, upper) in enumerate(zip(box.lower.tolist(), box.upper.tolist(), strict=True)):
        lines += [f"(assert (>= X_{i} {_decimal(lower)}))", f"(assert (<= X_{i} {_decimal(upper)}))"]
    lines.append("(assert (or " + " ".join(f"(and {' '.join(atoms)})" for atoms in cases) + "))")
    return "\n".join(lines) + "\n"


def _decimal(value: float) -> str:
    """Exactly this double, without exponent."""
    return format(Decimal(value), "f")
