"""A reading of small ONNX files of our own, in exact rationals: nothing of `graph/` is used.

Tensors hold *forms*: affine functions of the inputs, as coefficients and a constant [..., n + 1] (n = 0: plain numbers). Linear operators map
forms to forms; a piecewise linear operator offers, for each of its elements, a few branches: where they apply, and the form there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

Array = NDArray[Any]
Form = tuple[Fraction, ...]  # (c_1, ..., c_n, c_0): sum c_i x_i + c_0
ZERO, ONE = Fraction(0), Fraction(1)


class UnknownModel(Exception):
    """The file holds something that this reader does not know; the message says what."""


@dataclass(frozen=True)
class Half:
    """form <= 0, or < 0 if strict."""

    form: Form
    strict: bool = False

    def holds(self, point: Sequence[Fraction]) -> bool:
        """Whether `point` [n] meets it."""
        value = at(self.form, point)
        return value < 0 if self.strict else value <= 0


@dataclass(frozen=True)
class Branch:
    """Where all `where` hold, an element has the value `form`."""

    where: tuple[Half, ...]
    form: Form


def at(form: Form, point: Sequence[Fraction]) -> Fraction:
    """The value of a form at a point [n]."""
    return sum((c * x for c, x in zip(form, point, strict=False) if c), form[-1])


@dataclass(frozen=True, eq=False)
class Network:
    """A file. `steps` are its operators in their order; `constants` its initializers, as Fractions."""

    input: str
    output: str
    shape: tuple[int, ...]
    steps: tuple[onnx.NodeProto, ...] = field(repr=False)
    constants: Mapping[str, Array] = field(repr=False)

    @property
    def size(self) -> int:
        """The number of inputs."""
        return int(np.prod(self.shape))

    def start(self, forms: Sequence[Form]) -> dict[str, Array]:
        """The tensors before the first step; `forms` are those of the inputs."""
        return {self.input: _packed(forms, self.shape)}

    def outputs(self, tensors: Mapping[str, Array]) -> list[Form]:
        """The forms of the outputs, once every step is done."""
        return _unpacked(tensors[self.output])

    def evaluate(self, point: Sequence[Fraction]) -> list[Fraction]:
        """The exact outputs at a point."""
        tensors = self.start([(x,) for x in point])
        for step in self.steps:
            result = apply(step, tensors, self.constants)
            if isinstance(result, Pieces):
                result = result.tensor([_taken(branches) for branches in result.elements])
            tensors[step.output[0]] = result
        return [form[0] for form in self.outputs(tensors)]


def _taken(branches: Sequence[Branch]) -> Form:
    return next(branch.form for branch in branches if all(half.holds(()) for half in branch.where))


@dataclass(frozen=True, eq=False)
class Pieces:
    """What a piecewise linear operator makes: the branches of every element, and the shape of the whole."""

    elements: tuple[tuple[Branch, ...], ...]
    shape: tuple[int, ...]

    def tensor(self, forms: Sequence[Form]) -> Array:
        """The tensor, once a branch is taken for every element."""
        return _packed(forms, self.shape)


def read(path: Path) -> Network:
    """Read a file with one input and one output. Raises UnknownModel."""
    return parse(path.read_bytes())


def parse(data: bytes) -> Network:
    """The same from bytes."""
    graph = onnx.load_model_from_string(data).graph
    constants = {t.name: rationals(numpy_helper.to_array(t)) for t in graph.initializer}
    inputs = [i for i in graph.input if i.name not in constants]
    if len(inputs) != 1 or len(graph.output) != 1:
        raise UnknownModel(f"{len(inputs)} inputs and {len(graph.output)} outputs")
    shape = tuple(d.dim_value for d in inputs[0].type.tensor_type.shape.dim)
    return Network(inputs[0].name, graph.output[0].name, shape, tuple(graph.node), constants)


def rationals(array: Array) -> Array:
    """The same numbers, exactly."""
    exact = np.empty(array.shape, dtype=object)
    exact.reshape(-1)[:] = [Fraction(v) for v in array.reshape(-1).tolist()]
    return exact


def apply(step: onnx.NodeProto, tensors: Mapping[str, Array], constants: Mapping[str, Array]) -> Array | Pieces:
    """What one operator makes of the tensors so far. Raises UnknownModel for an operator or an attribute that is not known."""
    attributes = {a.name: onnx.helper.get_attribute_value(a) for a in step.attribute}
    rule = _RULES.get(step.op_type)
    if rule is None:
        raise UnknownModel(f"operator {step.op_type}")
    width = next(iter(tensors.values())).shape[-1]
    values = [tensors[name] if name in tensors else _lifted(constants[name], width) for name in step.input]
    result = rule(values, attributes)
    if attributes:
        raise UnknownModel(f"attributes {sorted(attributes)} of {step.op_type}")
    return result


def _lifted(constant: Array, width: int) -> Array:
    """A constant tensor as forms."""
    forms = np.full((*constant.shape, width), ZERO, dtype=object)
    forms[..., -1] = constant
    return forms


def _packed(forms: Sequence[Form], shape: tuple[int, ...]) -> Array:
    tensor = np.empty((len(forms), len(forms[0])), dtype=object)
    for k, form in enumerate(forms):
        tensor[k] = form
    return tensor.reshape(*shape, -1)


def _unpacked(tensor: Array) -> list[Form]:
    return [tuple(row) for row in tensor.reshape(-1, tensor.shape[-1])]


def _numbers(tensor: Array) -> Array:
    """The values of a tensor that must be constant."""
    if any(c for c in tensor[..., :-1].reshape(-1)):
        raise UnknownModel("a constant was expected where something depends on the inputs")
    return tensor[..., -1]


# --- linear operators: tensors of forms, and attributes, which a rule takes out of their dictionary -----------------------------

Attributes = dict[str, Any]


def _product(a: Array, b: Array) -> Array:
    """Forms [r, k, n + 1] times numbers [k, m]: forms [r, m, n + 1]."""
    if a.ndim != 3 or b.ndim != 2:
        raise UnknownModel(f"a product of ranks {a.ndim - 1} and {b.ndim}")
    return np.moveaxis(np.tensordot(a, b, axes=([1], [0])), 1, -1)


def _gemm(values: Sequence[Array], attributes: Attributes) -> Array:
    a, b = values[0], _numbers(values[1])
    if attributes.pop("transA", 0):
        raise UnknownModel("Gemm with transA")
    b = b.T if attributes.pop("transB", 0) else b
    alpha, beta = (Fraction(attributes.pop(name, 1.0)) for name in ("alpha", "beta"))
    product = _product(a, b * alpha)
    return product + values[2] * beta if len(values) > 2 else product


def _matmul(values: Sequence[Array], attributes: Attributes) -> Array:
    return _product(values[0], _numbers(values[1]))


def _reshape(values: Sequence[Array], attributes: Attributes) -> Array:
    if attributes.pop("allowzero", 0):
        raise UnknownModel("Reshape with allowzero")
    shape = [int(v) for v in _numbers(values[1])]
    if 0 in shape:
        raise UnknownModel("Reshape to a shape with 0")
    return values[0].reshape(*_filled(shape, values[0].size // values[0].shape[-1]), values[0].shape[-1])


def _filled(shape: list[int], size: int) -> list[int]:
    """A shape with its -1 worked out."""
    known = int(np.prod([d for d in shape if d != -1]))
    return [size // known if d == -1 else d for d in shape]


def _flatten(values: Sequence[Array], attributes: Attributes) -> Array:
    axis = attributes.pop("axis", 1)
    shape = values[0].shape[:-1]
    return values[0].reshape(int(np.prod(shape[:axis])), int(np.prod(shape[axis:])), values[0].shape[-1])


# --- piecewise linear operators ------------------------------------------------------------------------------------------------


def _minus(a: Form, b: Form) -> Form:
    return tuple(x - y for x, y in zip(a, b, strict=True))


def _times(a: Form, factor: Fraction) -> Form:
    return tuple(x * factor for x in a)


def _level(like: Form, value: Fraction) -> Form:
    """The constant `value`."""
    return (*(ZERO for _ in like[1:]), value)


def _below(a: Form, value: Fraction = ZERO, strict: bool = False) -> Half:
    """a <= value."""
    return Half((*a[:-1], a[-1] - value), strict)


def _above(a: Form, value: Fraction = ZERO, strict: bool = False) -> Half:
    """a >= value."""
    return Half(_times((*a[:-1], a[-1] - value), -ONE), strict)


def _elementwise(branches: Callable[[Form], tuple[Branch, ...]], tensor: Array) -> Pieces:
    return Pieces(tuple(branches(form) for form in _unpacked(tensor)), tensor.shape[:-1])


def _relu(values: Sequence[Array], attributes: Attributes) -> Pieces:
    return _kinked(values[0], ZERO)


def _leaky(values: Sequence[Array], attributes: Attributes) -> Pieces:
    return _kinked(values[0], Fraction(attributes.pop("alpha", float(np.float32(0.01)))))


def _abs(values: Sequence[Array], attributes: Attributes) -> Pieces:
    return _kinked(values[0], -ONE)


def _kinked(tensor: Array, slope: Fraction) -> Pieces:
    """`slope` x left of 0, x right of it."""
    return _elementwise(lambda z: (Branch((_below(z),), _times(z, slope)), Branch((_above(z),), z)), tensor)


def _sign(values: Sequence[Array], attributes: Attributes) -> Pieces:
    def branches(z: Form) -> tuple[Branch, ...]:
        zero = (_below(z), _above(z))
        return (
            Branch((_below(z, strict=True),), _level(z, -ONE)), Branch(zero, _level(z, ZERO)), Branch((_above(z, strict=True),), _level(z, ONE)),
        )  # fmt: skip

    return _elementwise(branches, values[0])


def _clip(values: Sequence[Array], attributes: Attributes) -> Pieces:
    low, high = (_numbers(v).item() for v in values[1:])
    if low > high:
        raise UnknownModel("Clip with its bounds the wrong way round")

    def branches(z: Form) -> tuple[Branch, ...]:
        return (
            Branch((_below(z, low),), _level(z, low)), Branch((_above(z, low), _below(z, high)), z), Branch((_above(z, high),), _level(z, high)),
        )  # fmt: skip

    return _elementwise(branches, values[0])


def _largest(forms: Sequence[Form]) -> tuple[Branch, ...]:
    """The maximum of forms."""
    return tuple(Branch(tuple(_below(_minus(other, form)) for other in forms if other is not form), form) for form in forms)


def _max(values: Sequence[Array], attributes: Attributes) -> Pieces:
    tensors = np.broadcast_arrays(*values)
    return Pieces(tuple(_largest(forms) for forms in zip(*map(_unpacked, tensors), strict=True)), tensors[0].shape[:-1])


def _max_pool(values: Sequence[Array], attributes: Attributes) -> Pieces:
    tensor = values[0]
    kernel = tuple(attributes.pop("kernel_shape"))
    strides = tuple(attributes.pop("strides", [1] * len(kernel)))
    if any(attributes.pop("pads", [])) or tensor.ndim != len(kernel) + 3:
        raise UnknownModel("MaxPool with pads, or of another rank")
    sides = [(n - k) // s + 1 for n, k, s in zip(tensor.shape[2:-1], kernel, strides, strict=True)]
    places = [(*outer, *inner) for outer in np.ndindex(*tensor.shape[:2]) for inner in np.ndindex(*sides)]
    return Pieces(tuple(_largest(list(_window(tensor, place, kernel, strides))) for place in places), (*tensor.shape[:2], *sides))


def _window(tensor: Array, place: tuple[int, ...], kernel: tuple[int, ...], strides: tuple[int, ...]) -> Iterator[Form]:
    for offset in np.ndindex(*kernel):
        yield tuple(tensor[(*place[:2], *(p * s + o for p, s, o in zip(place[2:], strides, offset, strict=True)))])


_RULES: dict[str, Callable[[Sequence[Array], Attributes], Array | Pieces]] = {
    "Gemm": _gemm, "MatMul": _matmul, "Reshape": _reshape, "Flatten": _flatten,
    "Add": lambda values, attributes: values[0] + values[1],
    "Sub": lambda values, attributes: values[0] - values[1],
    "Neg": lambda values, attributes: -values[0],
    "Identity": lambda values, attributes: values[0],
    "Relu": _relu, "LeakyRelu": _leaky, "Abs": _abs, "Sign": _sign, "Clip": _clip, "Max": _max, "MaxPool": _max_pool,
}  # fmt: skip
