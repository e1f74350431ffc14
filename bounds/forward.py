"""Forward linear bounds (Weng et al. 2018; Xu et al. 2020, LiRPA's forward mode): cheap where few inputs vary.

Every node gets two linear functions of the varying inputs, carried from the inputs to the outputs, so that one pass bounds
all nodes at a cost of (number of varying inputs + 1) evaluations; a backward pass costs one per neuron. It guides a search:
a certificate holds backward passes. Its bounds are nevertheless rigorous over the reals, rounding included, in the manner
of ARITHMETIC 4: every step lowers or raises the constant by a bound of what its own arithmetic may have lost.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from bounds import relaxation
from bounds.linear import LinearBounds, State
from bounds.rounding import unit_error
from graph.core import Affine, Bilinear, Elementwise, Input, Max

NEGLIGIBLE = 2.0**-12  # an input whose interval is this much narrower than the widest (a decimal's rounding) enters as an interval


@dataclass(frozen=True)
class Form:
    """low[0] + sum_k low[k] t_k <= h <= high[0] + sum_k high[k] t_k, with t the varying inputs' distances from the centre.

    `low`, `high` [B, 1 + n_varying, size]: row 0 holds the constants, row k the coefficients of the box's k-th varying input.
    """

    low: Tensor
    high: Tensor


@dataclass(frozen=True)
class Forward:
    """The forms of all nodes and the state they imply, intersected with interval bounds.

    `varying` [B, n_varying]: flat indices of the inputs that vary more than negligibly in each box (as many as in the box with the most of
    them; elsewhere others make up the number); `centre` [B, n_varying]; |t| <= `radius` [B, n_varying] over the box.
    """

    forms: list[Form]
    state: State
    varying: Tensor
    centre: Tensor
    radius: Tensor


def forward(bounds: LinearBounds, lower: Tensor, upper: Tensor, narrow: int = 0) -> Forward:
    """Forms and bounds of every node over the boxes [lower, upper] ([B, n_in], already outward in the network's dtype).

    Nodes of at most `narrow` elements that feed a non-linear node get backward bounds as well, which are tighter, before it goes on.

    lower_i <= h_i <= upper_i of the returned state for every real execution with its input in the box, and never wider
    than intervals. Products of matrices go on from their interval bounds.
    """
    return _Pass(bounds, lower, upper, narrow).run()


class _Pass:
    def __init__(self, bounds: LinearBounds, lower: Tensor, upper: Tensor, narrow: int) -> None:
        self.bounds, self.net, self.narrow = bounds, bounds.net, narrow
        self.varying = _varying(upper - lower)
        low, high = lower.gather(-1, self.varying), upper.gather(-1, self.varying)
        self.centre = low / 2 + high / 2
        self.radius = torch.maximum(high - self.centre, self.centre - low) * (1 + unit_error(0, self.net.dtype)) + self._tiny
        self.low, self.high = self._identity(lower), self._identity(upper)
        ends = zip(lower.split(self.net.input_sizes, -1), upper.split(self.net.input_sizes, -1), strict=True)
        self.given = dict(zip(bounds.graph.inputs, ends, strict=True))
        self.forms: list[Form] = []
        self.sizes: list[Tensor] = []
        self.state = State(crossed=torch.zeros(lower.shape[0], dtype=torch.bool, device=lower.device))

    @property
    def _tiny(self) -> float:
        return float(torch.finfo(self.net.dtype).tiny) * 2**20

    def _identity(self, end: Tensor) -> dict[int, Tensor]:
        """One side of the inputs' forms: the centre and one row with a one for a varying input, `end` for any other."""
        whole = torch.zeros(end.shape[0], 1 + self.varying.shape[-1], end.shape[1], dtype=self.net.dtype, device=self.net.device)
        whole[:, 0] = end.scatter(-1, self.varying, self.centre)
        whole[:, 1:].scatter_(-1, self.varying.unsqueeze(-1), 1.0)
        return dict(zip(self.bounds.graph.inputs, whole.split(self.net.input_sizes, -1), strict=True))

    def run(self) -> Forward:
        for i, _ in self.bounds.graph:
            low, high = self.bounds.interval_step(self.state, i, self.given)
            form = self._form(i, low, high)
            least, most, size = self._ends(form)
            usable = least.isfinite() & most.isfinite()
            if not bool(usable.all()):  # an overflow or an undefined function: go on from the interval
                flat, keep = self._constant(low, high), usable.unsqueeze(1)
                form = Form(torch.where(keep, form.low, flat.low), torch.where(keep, form.high, flat.high))
                size = torch.where(usable, size, low.abs() + high.abs())
            self.forms.append(form)
            self.sizes.append(size)
            self.state.lower.append(low)
            self.state.upper.append(high)
            self.bounds._intersect(self.state, i, (torch.where(usable, least, low), torch.where(usable, most, high)))
            if low.shape[-1] <= self.narrow and i in self.bounds.targets and i not in self.bounds.exact_interval:
                self.bounds.refine(self.state, i)
        return Forward(self.forms, self.state, self.varying, self.centre, self.radius)

    def _form(self, i: int, low: Tensor, high: Tensor) -> Form:
        match self.bounds.graph.nodes[i]:
            case Input():
                return Form(self.low[i], self.high[i])
            case Affine() as node:
                return self._affine(i, node)
            case Elementwise(inputs=(j,), function=function):
                return self._by_planes(j, relaxation.relax(function, self.state.lower[j], self.state.upper[j]))
            case Max(inputs=(_, twin, difference)):
                return self._by_planes(twin, relaxation.of_maximum(self.state.lower[difference], self.state.upper[difference], low, high))
            case Bilinear(kind="mul") as node:
                return self._product(node)
            case _:
                return self._constant(low, high)

    def _constant(self, low: Tensor, high: Tensor) -> Form:
        """The interval as a form without slopes: right for every node type."""
        rows = torch.zeros(low.shape[0], self.varying.shape[-1], low.shape[1], dtype=low.dtype, device=low.device)
        return Form(torch.cat([low.unsqueeze(1), rows], 1), torch.cat([high.unsqueeze(1), rows], 1))

    def _affine(self, i: int, node: Affine) -> Form:
        """With m, d half the sum and half the difference of an input's forms: W m -+ |W| d, that is W+ and W- at once."""
        middle: Tensor | float = 0.0
        spread: Tensor | float = 0.0
        size: Tensor | float = 0.0
        terms = 0
        for j, m in zip(node.inputs, self.net.maps[i], strict=True):
            form = self.forms[j]
            middle = middle + m.apply((form.low + form.high).mul_(0.5))
            spread = spread + m.abs_apply((form.high - form.low).mul_(0.5))
            size = size + m.abs_apply(self.sizes[j])
            terms += m.source.fan_in() + 1
        bias = self.net.bias[i]
        if not isinstance(middle, Tensor) or not isinstance(spread, Tensor) or not isinstance(size, Tensor):
            raise NotImplementedError("an affine node without inputs")
        shift = torch.zeros_like(size) if bias is None else bias.expand_as(size)
        error = unit_error(terms + 4, self.net.dtype) * (size + shift.abs()) + self._tiny
        return Form(_raise(middle - spread, shift - error), _raise(middle + spread, shift + error))

    def _by_planes(self, j: int, planes: relaxation.Planes) -> Form:
        """Of what lies between two functions of node j."""
        form = self.forms[j]
        low, high = _times(planes.slope_lower, form.low, form.high), _times(planes.slope_upper, form.high, form.low)
        below, above = planes.slope_lower.abs() * self.sizes[j], planes.slope_upper.abs() * self.sizes[j]
        return self._enclose(low, planes.offset_lower, below, high, planes.offset_upper, above)

    def _product(self, node: Bilinear) -> Form:
        """McCormick planes (McCormick 1976), each factor's form in the place of the factor.

        They are those of a backward pass. Their offsets are exact but for one rounding, which `_enclose` pays for.
        """
        x, y = node.inputs
        low_x, low_y, high_y = self.state.lower[x], self.state.lower[y], self.state.upper[y]
        of_x, of_y, share = self.forms[x], self.forms[y], low_x.abs() * self.sizes[y]
        low = _times(low_y, of_x.low, of_x.high).add_(_times(low_x, of_y.low, of_y.high))
        high = _times(high_y, of_x.high, of_x.low).add_(_times(low_x, of_y.high, of_y.low))
        below, above = low_y.abs() * self.sizes[x] + share, high_y.abs() * self.sizes[x] + share
        return self._enclose(low, -(low_x * low_y), below, high, -(low_x * high_y), above)

    def _enclose(self, low: Tensor, offset_low: Tensor | None, size_low: Tensor, high: Tensor, offset_high: Tensor | None, size_high: Tensor) -> Form:
        """Add the offsets and move both ends outwards by the rounding of the step. `low` and `high` are overwritten."""
        below = torch.zeros_like(size_low) if offset_low is None else offset_low
        above = torch.zeros_like(size_high) if offset_high is None else offset_high
        unit = unit_error(6, self.net.dtype)
        return Form(
            _raise(low, below - unit * (size_low + below.abs()) - self._tiny), _raise(high, above + unit * (size_high + above.abs()) + self._tiny)
        )

    def _ends(self, form: Form) -> tuple[Tensor, Tensor, Tensor]:
        """Bounds of the form over the box, and at least |low| + |high| anywhere in it, term by term: [B, size] each."""
        reach = self.radius.unsqueeze(1)
        down, up = (torch.bmm(reach, end[:, 1:].abs()).squeeze(1) for end in (form.low, form.high))
        first, last = form.low[:, 0].abs(), form.high[:, 0].abs()
        unit = unit_error(self.varying.shape[-1] + 2, self.net.dtype)
        low = form.low[:, 0] - down - unit * (first + down) - self._tiny
        high = form.high[:, 0] + up + unit * (last + up) + self._tiny
        return low, high, first + last + down + up


def _times(slope: Tensor, ahead: Tensor, behind: Tensor) -> Tensor:
    """One side of slope h [B, 1 + n_varying, size], from the form of h on this side, and on the other one where the slope is negative."""
    if not bool((slope < 0).any()):
        return slope.unsqueeze(1) * ahead
    return (slope.clamp(min=0).unsqueeze(1) * ahead).addcmul_(slope.clamp(max=0).unsqueeze(1), behind)


def _raise(form: Tensor, by: Tensor) -> Tensor:
    """The form with `by` added to its constants, in place."""
    form[:, 0] += by
    return form


def _varying(width: Tensor) -> Tensor:
    """Flat indices [B, n_varying] of the inputs of boxes of this width [B, n_in] that get a row of their own: boxes that vary in different
    inputs share rows."""
    many = width > NEGLIGIBLE * width.amax(-1, keepdim=True)
    most = int(many.sum(-1).amax())
    return many.to(torch.uint8).sort(dim=-1, descending=True, stable=True).indices[:, :most]
