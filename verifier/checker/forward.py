"""Forward linear bounds: every node between two functions of the inputs that vary, carried from the inputs on.

One pass costs as much as (varying inputs + 1) evaluations, where a backward pass per layer costs one per neuron: for few
varying inputs and wide layers. With t_k = x_k - centre_k, |t_k| <= radius_k, it holds of every execution in the box that

    low[0] + sum_k low[k] t_k  <=  h  <=  high[0] + sum_k high[k] t_k            low, high [B, 1 + varying, size], row 0 the constants.

Rounding: a computed row k differs from the exact one by e_k, which moves the form by at most |e_k| radius_k (row 0: |e_0|). A sum of
n products whose terms weigh S = sum_k |row_k| weight_k in all, weight = (1, radius), so moves by at most G(n + 4) S; the constants
are lowered and raised by that, and by what underflow can lose.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from verifier.checker import arithmetic
from verifier.checker.arithmetic import Array, dn, up
from verifier.checker.network import Affine, Elementwise, Input, Maximum, Network, Node, Product
from verifier.checker.slopes import share_of_twin
from verifier.checker.state import Planes, State

Relaxation = Callable[[State, int, Elementwise], Planes]
NEGLIGIBLE = 2.0**-12  # of the widest input: a narrower one enters as an interval (any choice is sound)


@dataclass(frozen=True)
class Form:
    """Both functions of one node [B, 1 + varying, size]."""

    low: Array
    high: Array


class Forward:
    """One pass over boxes [B, n_in]; `step` is called for every node in order, after its interval is known. `planes` relaxes functions."""

    def __init__(self, network: Network, planes: Relaxation, pure: Mapping[int, bool], lower: Array, upper: Array) -> None:
        self.planes, self.pure, self.forms = planes, pure, list[Form]()
        width = upper - lower
        self.varying = np.flatnonzero((width > NEGLIGIBLE * width.max(-1, keepdims=True)).any(0))
        low, high = lower[:, self.varying], upper[:, self.varying]
        centre = low / 2 + high / 2
        self.radius = up(np.maximum(high - centre, centre - low))
        self.weight = np.concatenate([np.ones((len(lower), 1)), self.radius], 1)[..., None]
        ends = np.cumsum([network.nodes[i].size for i in network.inputs])[:-1]
        sides = [np.split(self._identity(end, centre), ends, -1) for end in (lower, upper)]
        self.inputs = {i: Form(a, b) for i, a, b in zip(network.inputs, *sides, strict=True)}

    def _identity(self, end: Array, centre: Array) -> Array:
        """One side of the inputs: centre + t for those that vary, `end` for the others."""
        whole = np.zeros((len(end), 1 + len(self.varying), end.shape[1]))
        whole[:, 0] = end
        whole[:, 0, self.varying] = centre
        whole[:, np.arange(1, 1 + len(self.varying)), self.varying] = 1.0
        return whole

    def step(self, state: State, i: int, node: Node, slack: Array | None) -> tuple[Array, Array]:
        """Keep the form of node i, whose bounds stand in the state already, and return what it says of them."""
        match node:
            case Input():
                form = self.inputs[i]
            case Affine() if self.pure[i]:
                form = _sum([(m.apply(self.forms[j].low), m.apply(self.forms[j].high)) for j, m in zip(node.inputs, node.maps, strict=True)])
            case Affine():
                form = self._affine(state, node)
            case Elementwise():
                form = self._elementwise(state, i, node)
            case Product():
                form = self._product(state, node)
            case Maximum():
                form = self._maximum(state, i, node)
            case _:
                form, slack = self._flat(state.lower[i], state.upper[i]), None  # the interval, slack included
        self.forms.append(form if slack is None else _shifted(form, -slack, slack))
        return self._ends(self.forms[i])

    def _flat(self, low: Array, high: Array) -> Form:
        constant = np.repeat(np.eye(1 + len(self.varying), 1)[None], len(self.radius), 0)
        return Form(constant * low[:, None], constant * high[:, None])

    def _affine(self, state: State, node: Affine) -> Form:
        """With m, d half the sum and half the difference of an input's functions: W m - |W| d is W+ low + W- high."""
        ends, lost, n = list[tuple[Array, Array]](), np.zeros((1, node.size)), sum(m.products for m in node.maps)
        for j, m in zip(node.inputs, node.maps, strict=True):
            form, size = self.forms[j], self._size(self.forms[j])
            middle, spread = m.apply((form.low + form.high) / 2), m.magnitude((form.high - form.low) / 2)
            ends.append((middle - spread, middle + spread))
            lost = lost + arithmetic.G(n + 6 + len(node.maps)) * m.magnitude(size) + arithmetic.T(2 * n, size)[:, None]
            radius = m.radius(state.largest(j))
            lost = lost if radius is None else lost + (1 + arithmetic.G(n)) * radius
        lost = up(lost if node.bias_radius is None else lost + node.bias_radius)
        bias = np.zeros(node.size) if node.bias is None else node.bias
        return _shifted(_sum(ends), dn(bias - lost), up(bias + lost))

    def _elementwise(self, state: State, i: int, node: Elementwise) -> Form:
        planes, form = self.planes(state, i, node), self.forms[node.inputs[0]]
        size, parts = self._size(form), []
        for slope, ahead, behind in ((planes.slope_lower, form.low, form.high), (planes.slope_upper, form.high, form.low)):
            parts.append(np.where(slope >= 0, slope * ahead, slope * behind))
        lost = [arithmetic.G(2) * np.abs(slope[:, 0]) * size + arithmetic.T(2, size)[:, None] for slope in (planes.slope_lower, planes.slope_upper)]
        return _shifted(Form(parts[0], parts[1]), dn(planes.offset_lower[:, 0] - lost[0]), up(planes.offset_upper[:, 0] + lost[1]))

    def _product(self, state: State, node: Product) -> Form:
        """McCormick's planes, each factor's functions in the place of the factor."""
        x, y = node.inputs
        low_x, low_y, high_y = state.lower[x], state.lower[y], state.upper[y]
        size = self._size(self.forms[x]) * state.largest(y) + self._size(self.forms[y]) * np.abs(low_x)
        lost = arithmetic.G(4) * (size + arithmetic.FLOOR)
        below = _times(low_y, self.forms[x]).low + _times(low_x, self.forms[y]).low
        above = _times(high_y, self.forms[x]).high + _times(low_x, self.forms[y]).high
        return _shifted(Form(below, above), dn(dn(-(low_x * low_y)) - lost), up(up(-(low_x * high_y)) + lost))

    def _maximum(self, state: State, i: int, node: Maximum) -> Form:
        """That of its twin; above, a share of it, and its own upper bound for the rest."""
        _, twin, difference = node.inputs
        form, top = self.forms[twin], state.upper[i]
        share = np.clip(share_of_twin(state.lower[difference], state.upper[difference], state.lower[i], top), 0.0, 1.0)
        lost = up(arithmetic.G(4) * (self._size(form) + np.abs(top) + arithmetic.FLOOR))
        return _shifted(Form(form.low, share[:, None] * form.high), -lost, up((1 - share) * top + lost))

    def _size(self, form: Form) -> Array:
        """At least |low| + |high| anywhere in the box, term by term [B, size]."""
        return np.asarray((self.weight.mT @ (np.abs(form.low) + np.abs(form.high)))[:, 0])

    def _ends(self, form: Form) -> tuple[Array, Array]:
        """Bounds of the form over the box."""
        reach, unit = self.weight[:, 1:].mT, arithmetic.G(len(self.varying) + 4)
        down, rise = ((reach @ np.abs(end[:, 1:]))[:, 0] for end in (form.low, form.high))
        tiny = arithmetic.T(len(self.varying) + 1, self.radius)[:, None]
        least = form.low[:, 0] - down - unit * (np.abs(form.low[:, 0]) + down) - tiny
        most = form.high[:, 0] + rise + unit * (np.abs(form.high[:, 0]) + rise) + tiny
        return dn(least), up(most)


def _sum(ends: list[tuple[Array, Array]]) -> Form:
    return Form(*(sum(sides[1:], sides[0]) for sides in zip(*ends, strict=True)))


def _times(slope: Array, form: Form) -> Form:
    """slope h for h between the functions of a form."""
    a = slope[:, None]
    return Form(np.where(a >= 0, a * form.low, a * form.high), np.where(a >= 0, a * form.high, a * form.low))


def _shifted(form: Form, down: Array, rise: Array) -> Form:
    """The form with its constants moved by `down` and `rise`, outwards."""
    low, high = form.low.copy(), form.high.copy()
    low[:, 0], high[:, 0] = dn(low[:, 0] + down), up(high[:, 0] + rise)
    return Form(low, high)
