"""The checker's graph: core nodes, what functions they hold, and what float32 does to each ONNX operator's output.

Frozen data, made by `lowering/`, read by every arithmetic. A node is exact over the reals. `rounding` stands on the last
core node of an ONNX operator and says how far float32 may take the operator's output from the reals (ARITHMETIC 8);
nodes inside an operator have None.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from verifier.checker.maps import Map

Array = NDArray[Any]


@dataclass(frozen=True)
class Pieces:
    """f(x) = slopes[i] x + intercepts[i] between breakpoints[i-1] and breakpoints[i]; values[i] = f(breakpoints[i]).

    All numbers are exact doubles. `step` is "" or "floor" | "ceil" | "round" (half to even) | "int32" | "int64" (floor, of what such an
    integer may be): then the lists are empty.
    """

    breakpoints: tuple[float, ...] = ()
    slopes: tuple[float, ...] = ()
    intercepts: tuple[float, ...] = ()
    values: tuple[float, ...] = ()
    step: str = ""


@dataclass(frozen=True)
class Smooth:
    """`name` in `kernels`: exp log sqrt reciprocal sigmoid tanh erf sin cos softplus pow (`parameter`: the exponent); or in `activations`: softsign
    tan asin atan sinh cosh asinh acosh atanh elu (alpha) gelu hard_swish (its ramp at 0) mish swish (the factor of x^3 in its sigmoid)."""

    name: str
    parameter: float = 0.0


Function = Pieces | Smooth


@dataclass(frozen=True)
class Rounding:
    """What float32 does to an operator's output. `kind` names the row of ARITHMETIC 8:

    "affine": `count` roundings, magnitudes composed over the operator's core nodes from `sources` (its input nodes);
    "exact" (Relu, Max, Clip, Abs ...: s = theta); "moves" (re-indexing: s = 0); "product" (`count` roundings of H_x H_y;
    for Div `divisor` is the node of y); "pieces" (LeakyRelu, HardSigmoid: `count`); "sqrt" (`count` = 1, or 2 for its reciprocal);
    "kernel" (`name` in the measured table, the argument is sources[0]); "softmax" (over `count` values, the argument is
    sources[0]); "gate" (a product of the two sources that over the reals is a function of one tensor: `drift` says for either
    how many times the slack of which node it may be off it); "refused" (`name` says why).
    """

    kind: str
    sources: tuple[int, ...] = ()
    count: int = 0
    divisor: int = -1
    name: str = ""
    drift: tuple[tuple[tuple[int, float], ...], ...] = ()


@dataclass(frozen=True, eq=False)
class Node:
    """`place` names the ONNX operator, `inputs` are indices of earlier nodes, `shape` includes the batch axis."""

    place: str
    inputs: tuple[int, ...]
    shape: tuple[int, ...]
    rounding: Rounding | None

    @property
    def size(self) -> int:
        return math.prod(self.shape)


@dataclass(frozen=True, eq=False)
class Input(Node):
    """A graph input named `name`."""

    name: str


@dataclass(frozen=True, eq=False)
class Constant(Node):
    """Known numbers, flat [size]: |true value - value| <= radius (0 for numbers that were read)."""

    value: Array = field(repr=False)
    radius: Array = field(repr=False)


@dataclass(frozen=True, eq=False)
class Affine(Node):
    """sum_p maps[p](inputs[p]) + bias; bias flat [size] or None, |true bias - bias| <= bias_radius (None: read, exact)."""

    maps: tuple[Map, ...]
    bias: Array | None = field(repr=False, default=None)
    bias_radius: Array | None = field(repr=False, default=None)


@dataclass(frozen=True, eq=False)
class Elementwise(Node):
    """function(x), element by element."""

    function: Function


@dataclass(frozen=True, eq=False)
class Product(Node):
    """x y, element by element; equal sizes."""


@dataclass(frozen=True, eq=False)
class MatMul(Node):
    """x @ y for shapes (outer..., n, k) and (outer..., k, m), equal outer axes, both variable."""


@dataclass(frozen=True, eq=False)
class Maximum(Node):
    """y[i] = max over j of x[windows[i, j]], of at most two; -1 is padding, which is ignored. Min is -Maximum(-x).

    `inputs`: x, the twin b + relu(a - b), which is the same number, and the difference a - b. Intervals go by x, linear rules by the twin.
    """

    windows: Array = field(repr=False)


@dataclass(frozen=True, eq=False)
class Softmax:
    """One Softmax operator: `node` is the Affine x - shift (bias = -shift, to be given per certificate) in front of its Exp, of
    `rows` rows; `row_of` [size] says which row an element of that node belongs to."""

    node: int
    rows: int
    row_of: Array = field(repr=False)


@dataclass(frozen=True, eq=False)
class Network:
    """`nodes` in topological order. `sites`: (ONNX tensor name, k) -> the k-th non-linear core node of the operator that outputs it.
    `rewritten`: why nothing can be said of it in float32; "" where something can."""

    nodes: tuple[Node, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    input_names: tuple[str, ...]
    output_names: tuple[str, ...]
    sites: Mapping[tuple[str, int], int]
    softmaxes: tuple[Softmax, ...]
    rewritten: str = ""


def without_the_unread(network: Network, kept: Iterable[int] = ()) -> Network:
    """Zeros in the place of all nodes that neither an output, an input nor one of `kept` is made of, nor what float32 does to such a node; these
    have no sites and no shifts."""
    nodes, alive = network.nodes, {*network.outputs, *network.inputs, *kept}
    for i in range(len(nodes) - 1, -1, -1):
        alive |= {*nodes[i].inputs, *_rounded_from(nodes[i].rounding)} if i in alive else set()
    nothing = {i: np.zeros(node.size) for i, node in enumerate(nodes) if i not in alive}
    return replace(
        network,
        nodes=tuple(Constant(n.place, (), n.shape, None, nothing[i], nothing[i]) if i in nothing else n for i, n in enumerate(nodes)),
        sites={site: i for site, i in network.sites.items() if i in alive},
        softmaxes=tuple(softmax for softmax in network.softmaxes if softmax.node in alive),
    )


def _rounded_from(rounding: Rounding | None) -> set[int]:
    """The nodes that a rounding names: of a gate also those that are no operand of the function that it is."""
    if rounding is None:
        return set()
    return {*rounding.sources, *(i for part in rounding.drift for i, _ in part), *([rounding.divisor] if rounding.divisor >= 0 else [])}
