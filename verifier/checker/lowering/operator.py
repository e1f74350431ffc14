"""One ONNX operator as its lowering sees it: inputs, checked attributes, version, and refusals that name the place."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import onnx

from verifier.checker.lowering.builder import UNSURE, Array, Builder, Held, Items, Known, Rounded, Shape, Tensor, Value
from verifier.checker.lowering.forms import note
from verifier.checker.network import Rounding
from verifier.checker.refusal import Rejected

Attribute = int | float | str | tuple[int, ...] | tuple[float, ...] | tuple[str, ...] | Array | onnx.GraphProto


# What multiplies constants by numbers that depend on the input, or moves them: float32 rounds each product once more for each rounding before.
MULTIPLIES = frozenset(
    """
    BatchNormalization Conv ConvTranspose DequantizeLinear Gemm GroupNormalization InstanceNormalization LayerNormalization MatMul Mul
    RMSNormalization
    """.split()
)
MOVES = frozenset(("Expand", "Flatten", "Gather", "Identity", "Reshape", "Slice", "Split", "Squeeze", "Tile", "Transpose", "Unsqueeze"))


@dataclass(frozen=True, eq=False)
class Operator:
    """`version` is the operator's own; `attributes` are those of the file, of the types that the standard gives them."""

    kind: str
    version: int
    place: str
    builder: Builder
    attributes: dict[str, Attribute]
    inputs: tuple[Value | None, ...]
    outputs: tuple[str, ...]
    held: tuple[Held | None, ...]  # the inputs, sequences too
    run_body: Callable[[onnx.GraphProto, Sequence[Held], str], list[Held]]
    times: int = 0  # how often float32 rounds the constants among the inputs before they are read; -1 as in `Rounded`

    def refuse(self, reason: str) -> Rejected:
        return Rejected("unsupported-operator", f"{self.place}: {reason}")

    def require(self, holds: bool, reason: str) -> None:
        if not holds:
            raise self.refuse(reason)

    def optional(self, i: int) -> Value | None:
        """Input `i`, or None where the file leaves it out."""
        hidden = i < len(self.held) and self.inputs[i] is None and self.held[i] is not None
        self.require(not hidden, f"input {i} is a sequence, or -infinity somewhere")
        return self.inputs[i] if i < len(self.inputs) else None

    def value(self, i: int) -> Value:
        found = self.optional(i)
        if found is None:
            raise self.refuse(f"input {i} is missing")
        return found

    def items(self, i: int) -> tuple[Value, ...]:
        """Input `i`, a sequence."""
        found = self.held[i] if i < len(self.held) else None
        if not isinstance(found, Items):
            raise self.refuse(f"input {i} is no sequence")
        return found.values

    def body(self, name: str) -> onnx.GraphProto:
        found = self.attributes.get(name)
        if not isinstance(found, onnx.GraphProto):
            raise self.refuse(f"attribute {name} is no graph")
        return found

    def run(self, name: str, inputs: Sequence[Held], label: str = "") -> list[Held]:
        """The outputs of the sub-graph in attribute `name`; a label tells runs apart."""
        return self.run_body(self.body(name), inputs, next(tensor for tensor in self.outputs if tensor) + (f"/{label}" if label else ""))

    def tensor(self, i: int) -> Tensor:
        """Input `i` as a node; a constant becomes one."""
        return self.as_tensor(self.value(i))

    def as_tensor(self, x: Value) -> Tensor:
        return self.builder.constant(x.value) if isinstance(x, Known) else x

    def known(self, i: int) -> Array:
        found = self.value(i)
        if not isinstance(found, Known):
            raise self.refuse(f"input {i} is not a constant")
        return found.value

    def known_floats(self, i: int) -> Array:
        found = self.known(i)
        self.require(found.dtype in (np.float32, np.float64), f"input {i} is of type {found.dtype}")
        return found.astype(np.float64)

    def known_integers(self, i: int) -> tuple[int, ...] | None:
        """Input `i`, at most a vector of integers; None where the file leaves it out."""
        if self.optional(i) is None:
            return None
        found = self.known(i)
        self.require(found.dtype in (np.int32, np.int64) and found.ndim <= 1, f"input {i} is of type {found.dtype} and shape {found.shape}")
        return tuple(int(v) for v in found.reshape(-1))

    def integer(self, name: str, default: int) -> int:
        found = self.attributes.get(name, default)
        self.require(type(found) is int, f"attribute {name}")
        return found if isinstance(found, int) else default

    def flag(self, name: str, default: int) -> bool:
        found = self.integer(name, default)
        self.require(found in (0, 1), f"attribute {name} is {found}")
        return found == 1

    def real(self, name: str, default: float) -> float:
        """Finite, or equal to the default."""
        found = self.attributes.get(name, default)
        self.require(type(found) is float and (math.isfinite(found) or found == default), f"attribute {name}")
        return found if isinstance(found, float) else default

    def string(self, name: str, default: str) -> str:
        found = self.attributes.get(name, default)
        return found if isinstance(found, str) else default

    def strings(self, name: str) -> tuple[str, ...] | None:
        found = self.attributes.get(name)
        return tuple(str(v) for v in found) if isinstance(found, tuple) else None

    def reals(self, name: str) -> tuple[float, ...] | None:
        """Finite ones."""
        found = self.attributes.get(name)
        numbers = tuple(float(v) for v in found) if isinstance(found, tuple) else None
        self.require(numbers is None or all(math.isfinite(v) for v in numbers), f"attribute {name}")
        return numbers

    def integers(self, name: str) -> tuple[int, ...] | None:
        found = self.attributes.get(name)
        return tuple(int(v) for v in found) if isinstance(found, tuple) else None

    def axis(self, axis: int, rank: int) -> int:
        """`axis` counted from the front."""
        self.require(-rank <= axis < rank, f"axis {axis} of a tensor of rank {rank}")
        return axis % rank

    def axes(self, axes: Sequence[int], rank: int) -> tuple[int, ...]:
        """`axes` counted from the front, each once, sorted."""
        found = sorted(self.axis(a, rank) for a in axes)
        self.require(len(set(found)) == len(found), f"axes {tuple(axes)}")
        return tuple(found)

    def sources(self) -> tuple[int, ...]:
        return tuple(dict.fromkeys(x.node for x in self.inputs if isinstance(x, Tensor)))

    def end(
        self, x: Tensor, kind: str, count: int = 0, *, divisor: int = -1, name: str = "", sources: Shape | None = None, element: str = "float32"
    ) -> Tensor:
        """`x` as an output, with what float32 does to it, and the type of its elements."""
        if self.times < 0:
            kind, name = "refused", UNSURE
        found = self.builder.end(x, Rounding(kind, self.sources() if sources is None else sources, count + self.times, divisor, name))
        note(self.builder, self.kind, self.inputs, found, self.real)
        return replace(found, element=element)

    def made(self, value: Array, times: int = 0) -> Rounded:
        """A constant, exactly, that float32 rounds `times` times more than those of the inputs."""
        return Rounded(value, self.times if self.times < 0 else self.times + times)

    def stage(self, x: Tensor, kind: str, count: int = 0, *, sources: tuple[Tensor, ...], name: str = "") -> Tensor:
        """`x` as a result on the way that float32 rounds on its own, made from `sources`; what follows is a stage of its own."""
        found = self.builder.end(x, Rounding(kind, tuple(dict.fromkeys(y.node for y in sources)), count, -1, name))
        self.builder.stage()
        return found


def settled(op: Operator) -> Operator:
    """`op` with the constants that operators made as its inputs: numbers where it multiplies or moves them, else nodes. Halves are moved only."""
    halves = any(isinstance(x, Known) and x.value.dtype == np.float16 for x in op.inputs)
    op.require(not halves or op.kind in ("Cast", "Identity", "Reshape", "Transpose"), "constants of type float16, which a Cast may widen")
    found = [x for x in op.held if isinstance(x, Rounded)]
    if not found:
        return op
    varies = any(isinstance(x, Tensor) for x in op.held)
    if op.kind in MOVES or (op.kind in MULTIPLIES and (varies or op.kind == "DequantizeLinear")):
        held = tuple(Known(x.value) if isinstance(x, Rounded) else x for x in op.held)
        times = -1 if any(x.times < 0 for x in found) else sum(x.times for x in found)
    else:
        held, times = tuple(op.builder.rounded(x) if isinstance(x, Rounded) else x for x in op.held), 0
    return replace(op, inputs=tuple(x if isinstance(x, Tensor | Known) else None for x in held), held=held, times=times)


def carried(op: Operator, results: Sequence[Held]) -> Sequence[Held]:
    """`results`, whose constants float32 has rounded as often as the inputs of `op`."""
    return [op.made(x.value) if op.times and isinstance(x, Known) else x for x in results]
