"""Backward linear bounds (CROWN; Zhang et al. 2018, Xu et al. 2020) over the core graph, batched over boxes and rows.

A *functional* is sum_k D_k h_k + c over node values h_k. Nodes are eliminated from the last to the first by linear
relaxations; what remains is linear in the inputs and is minimised over the box. Every result carries the rounding of
its own arithmetic (ARITHMETIC 4 and 5, with the unit of the dtype in use), so that

    functional(h) >= value    for every real execution h whose input lies in the box (and meets the state's constraints).

The error terms make float32 results usable; the certificate, not this file, is what a proof rests on.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from bounds import crop, folded, relaxation
from bounds.relaxation import Planes
from bounds.rounding import dot, floor, underflow, unit_error
from bounds.torch_graph import TorchGraph, gather_windows
from graph import linear_map as lm
from graph.core import Affine, Bilinear, Constant, Elementwise, Graph, Input, Max, Node
from graph.functions.facts import Pieces, Smooth, Steps

CACHED, LEAST_ROWS = 1 << 22, 128  # bytes of a block of one box's coefficients, and the fewest rows that are worth a pass
NEAR_ZERO = 2.0**-125  # how far from 0 a split may be that multipliers speak of: float32 may flush smaller numbers to 0
Functional = dict[int, Tensor]  # node -> coefficients [B or 1, R, size]
Relaxations = Mapping[int, Planes]  # elementwise node -> planes [B, size] or [B, 1 or R, size], used instead of the default ones
# node -> multipliers of splits and the thresholds these are at, [B, size] or [B, R, size] each; None: all within NEAR_ZERO of 0
Betas = Mapping[int, tuple[Tensor, Tensor | None]]


@dataclass
class State:
    """What is known of every node over a batch of boxes: lower <= h <= upper, [B, size] each.

    `magnitude` holds |W| H of affine nodes (H the largest absolute input values), `planes` the relaxations in use.
    `crossed` marks boxes for which some rigorous lower bound exceeds its upper bound: no execution exists there; `where` [B, 2]
    is the first (node, element) for which it does.
    """

    lower: list[Tensor] = field(default_factory=list)
    upper: list[Tensor] = field(default_factory=list)
    magnitude: dict[int, Tensor] = field(default_factory=dict)
    planes: dict[int, Planes] = field(default_factory=dict)
    crossed: Tensor | None = None
    where: Tensor | None = None
    folded: folded.Folded | None = None
    _sums: dict[int, Tensor] = field(default_factory=dict)

    def largest(self, i: int) -> Tensor:
        """H of node i: max(|lower|, |upper|) [B, size]."""
        return torch.maximum(self.lower[i].abs(), self.upper[i].abs())

    def sum_of_largest(self, i: int) -> Tensor:
        """1 + the sum of H over node i [B, 1]. Kept: bounds only get tighter."""
        if i not in self._sums:
            self._sums[i] = 1 + self.largest(i).sum(-1, keepdim=True)
        return self._sums[i]

    def contradict(self, i: int, bad: Tensor, rows: Tensor | None = None) -> None:
        """Remember that the bounds of node i cross where `bad` [B, elements]; the elements are `rows`, by default all."""
        if self.crossed is None or not bool(bad.any()):
            return
        element = bad.to(torch.uint8).argmax(-1)
        place = torch.stack([torch.full_like(element, i), element if rows is None else rows[element]], -1)
        new = (bad.any(-1) & ~self.crossed).unsqueeze(-1)
        self.where = torch.where(new, place, -1 if self.where is None else self.where)
        self.crossed = self.crossed | bad.any(-1)

    def select(self, keep: Tensor) -> State:
        """The state of the boxes `keep` (indices or mask)."""
        return State(
            [x[keep] for x in self.lower],
            [x[keep] for x in self.upper],
            {i: m[keep] for i, m in self.magnitude.items()},
            {},
            None if self.crossed is None else self.crossed[keep],
            None if self.where is None else self.where[keep],
        )

    def to(self, dtype: torch.dtype) -> State:
        """The same bounds in a wider dtype."""
        return State(
            [x.to(dtype) for x in self.lower],
            [x.to(dtype) for x in self.upper],
            {i: m.to(dtype) for i, m in self.magnitude.items()},
            {},
            self.crossed,
            self.where,
        )


@dataclass(frozen=True)
class Lower:
    """A lower bound of R functionals over B boxes.

    functional >= coefficients . x + constant over the box (coefficients [B, R, n_in]), and `value` [B, R] is the
    minimum of the right-hand side less `error` [B, R], the rounding of this computation. `at` holds the coefficients that
    met each recorded node.
    """

    value: Tensor
    coefficients: Tensor
    constant: Tensor
    error: Tensor
    at: dict[int, Tensor]

    def at_boxes(self, keep: Tensor) -> Lower:
        """The bounds over the boxes `keep`, without recorded coefficients."""
        return Lower(self.value[keep], self.coefficients[keep], self.constant[keep], self.error.expand(self.value.shape)[keep], {})


class LinearBounds:
    """Interval and backward linear bounds of the nodes and functionals of one network.

    `memory` is the number of bytes that one block of backward coefficients may take; for one box it is less, and stays in the cache.
    """

    def __init__(self, net: TorchGraph, memory: int = 1 << 26) -> None:
        self.net = net
        self.graph: Graph = net.graph
        self.memory = memory
        self.targets = _targets(self.graph)
        self.exact_interval = _exact_interval(self.graph)
        self.flat_below = _flat_below(self.graph)
        self.read_once = _read_once(self.graph)
        self.folds, self.work = folded.foldable(self.graph), folded.work(self.graph)
        self.rounded_constants = _rounded_constants(self.graph, net.dtype)
        self.widest = max(node.size for node in self.graph.nodes)

    # ---------------------------------------------------------------- interval step

    def interval_step(self, state: State, i: int, given: Mapping[int, tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
        """Bounds of node i from the bounds of its inputs in `state`; `given` holds the input boxes. Infinite where nothing is known."""
        low, high = self._interval(state, i, given)
        # An overflow in a bound says nothing: +inf is no lower bound, and NaN is none at all.
        return torch.where(low.isfinite(), low, -torch.inf), torch.where(high.isfinite(), high, torch.inf)

    def _interval(self, state: State, i: int, given: Mapping[int, tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
        node = self.graph.nodes[i]
        match node:
            case Input():
                return given[i]
            case Constant():
                value = self.net.values[i].expand(given[self.graph.inputs[0]][0].shape[0], -1)
                lost = torch.finfo(self.net.dtype).eps * value.abs() if i in self.rounded_constants else 0.0
                return value - lost, value + lost
            case Affine():
                return self._affine_interval(state, i, node)
            case Elementwise(function=function):
                j = node.inputs[0]
                return relaxation.interval(function, state.lower[j], state.upper[j])
            case Bilinear():
                return self._bilinear_interval(state, node)
            case Max():
                j = node.inputs[0]
                windows = self.net.windows[i]
                low = gather_windows(state.lower[j], windows, float("-inf")).amax(-1)
                return low, gather_windows(state.upper[j], windows, float("-inf")).amax(-1)
            case _:
                raise NotImplementedError(f"no interval rule for node type {type(node).__name__}")

    def _affine_interval(self, state: State, i: int, node: Affine) -> tuple[Tensor, Tensor]:
        centre: Tensor | float = 0.0
        radius: Tensor | float = 0.0
        magnitude: Tensor | float = 0.0
        fan_in = 0
        for j, m, source in zip(node.inputs, self.net.maps[i], node.maps, strict=True):
            low, high = state.lower[j], state.upper[j]
            middle = (low + high) / 2
            centre = centre + m.apply(middle)
            radius = radius + m.abs_apply(torch.maximum(high - middle, middle - low))
            magnitude = magnitude + m.abs_apply(state.largest(j))
            fan_in += source.fan_in()
        bias = self.net.bias[i]
        if not isinstance(centre, Tensor) or not isinstance(radius, Tensor) or not isinstance(magnitude, Tensor):
            raise NotImplementedError("an affine node without inputs")
        state.magnitude[i] = magnitude
        if bias is not None:
            centre = centre + bias
            magnitude = magnitude + bias.abs()
        if all(m.is_exact for m in node.maps) and len(node.maps) == 1 and bias is None:
            return _exact_affine(state, node, self.net.maps[i][0].apply)
        lost, tiny = 2 * unit_error(fan_in + 4, self.net.dtype), torch.finfo(self.net.dtype).tiny
        radius = radius + lost * magnitude + tiny
        if self.net.replaced or not all(m.adds for m in node.maps):  # of the file's weights, which others may stand in for
            return centre - radius, centre + radius
        # A sum of what is small where it is least loses little there, however large it may be: the sum of a softmax stays above 0.
        least = size = torch.zeros_like(centre)
        for j, m in zip(node.inputs, self.net.maps[i], strict=True):
            least, size = least + m.apply(state.lower[j]), size + m.apply(state.lower[j].abs())
        if bias is not None:
            least, size = least + bias, size + bias.abs()
        least = least - lost * size - fan_in * tiny
        return torch.where(least > centre - radius, least, centre - radius), centre + radius

    def _bilinear_interval(self, state: State, node: Bilinear) -> tuple[Tensor, Tensor]:
        low_x, high_x, low_y, high_y = self.factors(state, node)
        if node.kind == "mul":
            corners = torch.stack([low_x * low_y, low_x * high_y, high_x * low_y, high_x * high_y])
            low, high = corners.amin(0), corners.amax(0)
            error = unit_error(1, self.net.dtype) * torch.maximum(low.abs(), high.abs())
        else:
            # Centre and radius (Rump): [x][y] lies within cx cy +- (|cx| ry + rx (|cy| + ry)).
            cx, rx = (low_x + high_x) / 2, (high_x - low_x) / 2
            cy, ry = (low_y + high_y) / 2, (high_y - low_y) / 2
            centre = cx @ cy
            radius = cx.abs() @ ry + rx @ (cy.abs() + ry)
            largest = torch.maximum(low_x.abs(), high_x.abs()) @ torch.maximum(low_y.abs(), high_y.abs())
            error = unit_error(low_x.shape[-1] + 4, self.net.dtype) * largest
            low, high = centre - radius - error, centre + radius
        error = error + torch.finfo(self.net.dtype).tiny
        return (low - error).reshape(-1, node.size), (high + error).reshape(-1, node.size)

    def factors(self, state: State, node: Bilinear) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        x, y = node.inputs
        shapes = (self.graph.nodes[x].shape, self.graph.nodes[y].shape) if node.kind == "matmul" else ((node.size,), (node.size,))
        return (
            state.lower[x].reshape(-1, *shapes[0]), state.upper[x].reshape(-1, *shapes[0]),
            state.lower[y].reshape(-1, *shapes[1]), state.upper[y].reshape(-1, *shapes[1]),
        )

    # ---------------------------------------------------------------- intermediate bounds

    def propagate(
        self,
        lower: Tensor,
        upper: Tensor,
        *,
        refine: bool = True,
        known: Mapping[int, tuple[Tensor, Tensor]] | None = None,
        constraints: Mapping[int, tuple[Tensor, Tensor]] | None = None,
        last: int | None = None,
    ) -> State:
        """Bounds of every node (up to node `last`) over the boxes [lower, upper] ([B, n_in], already outward in this dtype).

        With `refine`, nodes that feed a non-linear node get backward bounds where intervals leave them undecided.
        `known` holds bounds that are valid already (a parent's), `constraints` the splits of the sub-domain: the state
        then speaks of the executions that meet them.
        """
        split = [x for x in zip(self.graph.inputs, lower.split(self.net.input_sizes, -1), upper.split(self.net.input_sizes, -1), strict=True)]
        given = {i: (low, high) for i, low, high in split}
        state = State(crossed=torch.zeros(lower.shape[0], dtype=torch.bool, device=lower.device))
        for i in range(len(self.graph.nodes) if last is None else last + 1):
            low, high = self.interval_step(state, i, given)
            state.lower.append(low)
            state.upper.append(high)
            if known is not None and i in known:
                self._intersect(state, i, known[i])
            if refine and i in self.targets and i not in self.exact_interval:
                self.refine(state, i)
            if constraints is not None and i in constraints:
                self._intersect(state, i, constraints[i])
        return state

    def _intersect(self, state: State, i: int, other: tuple[Tensor, Tensor]) -> None:
        low, high = torch.maximum(state.lower[i], other[0]), torch.minimum(state.upper[i], other[1])
        bad = low > high
        state.contradict(i, bad)
        state.lower[i] = torch.where(bad, high, low)  # keeps arithmetic finite; the box is closed by `crossed`
        state.upper[i] = high

    def refine(self, state: State, i: int) -> None:
        """Replace the bounds of the elements of node i that are undecided in a box by backward bounds where those are tighter (in place).

        Those of a box do not depend on the batch it is in: what only other boxes need is left as it is there. Where it may decide an element
        (`_flat_below`), the upper bound comes first: half of ReLUs that intervals leave undecided are idle, and nobody asks how far.
        """
        nothing = torch.zeros(0, dtype=torch.long, device=self.net.device)
        for above_first in (True, False) if i in self.flat_below else (None,):
            matter = self.matter(state, i)
            rows = torch.nonzero(matter.any(0)).squeeze(-1)
            if rows.numel() == 0:
                return
            low, high = self.ends(state, i, nothing if above_first else rows, nothing if above_first is False else rows)
            mine = matter.index_select(-1, rows)
            self._meet(
                state, i, rows,
                torch.where(mine, low, -torch.inf) if low.shape[-1] else None, torch.where(mine, high, torch.inf) if high.shape[-1] else None,
            )

    def _meet(self, state: State, i: int, rows: Tensor, low: Tensor | None, high: Tensor | None) -> None:
        """Intersect bounds of the elements `rows` of node i (in place)."""
        old_low, old_high = state.lower[i].index_select(-1, rows), state.upper[i].index_select(-1, rows)
        new_low = old_low if low is None else torch.maximum(old_low, low)
        new_high = old_high if high is None else torch.minimum(old_high, high)
        bad = new_low > new_high
        state.contradict(i, bad, rows)
        state.lower[i] = state.lower[i].index_copy(-1, rows, torch.where(bad, new_high, new_low))
        state.upper[i] = state.upper[i].index_copy(-1, rows, new_high)

    def backward(self, state: State, i: int, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Both `ends` of the elements `rows` of node i."""
        return self.ends(state, i, rows, rows)

    def ends(self, state: State, i: int, below: Tensor, above: Tensor) -> tuple[Tensor, Tensor]:
        """Backward lower bounds [B, len(below)] of the elements `below` of node i and upper ones [B, len(above)] of `above`; where that takes less,
        of images tile by tile (`bounds.crop`), and of small networks by way of what bends alone (`bounds.folded`). Infinite where nothing is
        proven. Memory is bounded."""
        by_tiles = crop.ends(self, state, i, below, above)
        if by_tiles is not None:
            return by_tiles
        element = torch.cat([below, above])
        batch, fold = state.lower[i].shape[0], folded.of(self, state, i, element.numel())
        row = (self.widest if fold is None else fold.size) * state.lower[i].element_size()
        block = max(2, min(self.memory // batch, max(CACHED, 2 * LEAST_ROWS * row)) // row)
        sign = torch.ones(element.shape, dtype=self.net.dtype, device=self.net.device)
        sign[below.numel() :] = -1.0
        found = [torch.zeros(batch, 0, dtype=self.net.dtype, device=self.net.device)]
        for part in torch.arange(element.numel(), device=self.net.device).split(block):
            if fold is not None:
                found.append(folded.lower_bounds(fold, state, i, element[part], sign[part]))
                continue
            unit = torch.zeros(part.numel(), self.graph.nodes[i].size, dtype=self.net.dtype, device=self.net.device)
            unit[torch.arange(part.numel(), device=self.net.device), element[part]] = sign[part]
            found.append(self.lower_bound(state, {i: unit.unsqueeze(0)}, None).value)
        value = torch.cat(found, -1)
        low, high = value[:, : below.numel()], -value[:, below.numel() :]
        return torch.where(low.isfinite(), low, -torch.inf), torch.where(high.isfinite(), high, torch.inf)

    def undecided(self, state: State, i: int) -> Tensor:
        """Flat indices of the elements of node i whose bounds matter to a non-linear reader in some box."""
        return torch.nonzero(self.matter(state, i).any(0)).squeeze(-1)

    def matter(self, state: State, i: int) -> Tensor:
        """For which elements of node i bounds matter to a non-linear reader [B, size], and backward bounds may say more than the interval does."""
        low, high = state.lower[i], state.upper[i]
        matter = torch.zeros(low.shape, dtype=torch.bool, device=low.device)
        for reader in self.targets[i]:
            match self.graph.nodes[reader]:
                case Elementwise(function=function):
                    matter = matter | ~relaxation.is_linear(function, low, high)
                case _:
                    matter = matter | (high > low)
        node = self.graph.nodes[i]
        if isinstance(node, Elementwise) and node.inputs[0] not in self.exact_interval:  # see `_exact_interval`
            j = node.inputs[0]
            matter = matter & relaxation.is_linear(node.function, state.lower[j], state.upper[j])
        return matter

    # ---------------------------------------------------------------- backward pass

    def planes(self, state: State, i: int) -> Planes:
        """The default planes of node i in a state: of an elementwise one over its argument, of a maximum over its twin."""
        planes = state.planes.get(i)
        if planes is None:
            match self.graph.nodes[i]:
                case Elementwise(inputs=(j,), function=function):
                    planes = relaxation.relax(function, state.lower[j], state.upper[j])
                case Max(inputs=(_, _, difference)):
                    planes = relaxation.of_maximum(state.lower[difference], state.upper[difference], state.lower[i], state.upper[i])
                case node:
                    raise NotImplementedError(f"planes of node type {type(node).__name__}")
            state.planes[i] = planes
        return planes

    def lower_bound(
        self,
        state: State,
        functional: Functional,
        constant: Tensor | None,
        *,
        planes: Relaxations | None = None,
        betas: Betas | None = None,
        record: tuple[type[Node], ...] = (),
        rigorous: bool = True,
    ) -> Lower:
        """Lower bounds of sum_k D_k h_k + constant over the boxes of `state`.

        With `betas[i]` = (m, t), sum m (h_i - t) is added, which is not positive where splits hold: m >= 0 where one says h_i <= t, m <= 0 where
        one says h_i >= t, else 0 (beta-CROWN, Wang et al. 2021). `record` keeps the coefficients that meet nodes of these types (for branching).
        Without `rigorous` the rounding is not accounted for (for optimisers' steps).
        """
        run = _Backward(self, state, dict(functional), constant, planes, betas, record, rigorous)
        return run.eliminate()


class _Backward:
    """One elimination: coefficients per node, the constant and the rounding error so far."""

    def __init__(
        self,
        bounds: LinearBounds,
        state: State,
        functional: Functional,
        constant: Tensor | None,
        planes: Relaxations | None,
        betas: Betas | None,
        record: tuple[type[Node], ...],
        rigorous: bool,
    ) -> None:
        self.bounds, self.state, self.coefficients = bounds, state, functional
        self.net, self.graph = bounds.net, bounds.graph
        self.planes, self.betas = planes or {}, betas or {}
        self.record, self.rigorous = record, rigorous
        batch = state.lower[0].shape[0]
        rows = next(iter(functional.values())).shape[1]
        zero = torch.zeros(batch, rows, dtype=self.net.dtype, device=self.net.device)
        self.constant = zero if constant is None else constant.expand(batch, rows)
        self.error = unit_error(2, self.net.dtype) * self.constant.abs()
        self.inputs: dict[int, Tensor] = {}
        self.at: dict[int, Tensor] = {}
        self.charged: set[int] = set()  # affine nodes whose rounding was charged for already, to the coefficients of what reads them
        for i, d in functional.items():  # the caller's coefficients were rounded to this dtype, perhaps to 0
            largest = state.largest(i)
            self._charge(unit_error(2, self.net.dtype) * largest, d)
            if rigorous:
                self.error = self.error + underflow(self.net.dtype) * largest.sum(-1, keepdim=True)

    def eliminate(self) -> Lower:
        for i in range(max(self.coefficients), -1, -1):
            d = self.coefficients.pop(i, None)
            if i in self.betas:
                d = self._pay(i, d, *self.betas[i])
            if d is not None:
                self._step(i, self.graph.nodes[i], d)
        return self._concretise()

    def _pay(self, i: int, d: Tensor | None, multiplier: Tensor, threshold: Tensor | None) -> Tensor:
        """Add multiplier (h_i - threshold) to the functional: the coefficients of node i after that."""
        m = _rows(multiplier)
        total = m if d is None else d + m
        self._charge(unit_error(1, self.net.dtype) * self.state.largest(i), total)
        if threshold is None:
            if self.rigorous:
                self.error = self.error + NEAR_ZERO * m.abs().sum(-1)
        else:
            self._shift(-m, _rows(threshold))
        return total

    def _step(self, i: int, node: Node, d: Tensor) -> None:
        if isinstance(node, self.record):
            self.at[i] = d.expand(self.state.lower[i].shape[0], -1, -1)
        match node:
            case Input():
                self.inputs[i] = d
            case Constant():
                self._shift(d, self.net.values[i].unsqueeze(0))
            case Affine():
                self._affine(i, node, d)
            case Elementwise(inputs=(j,)):
                self._by_planes(i, j, d)
            case Max(inputs=(_, twin, _)):
                self._by_planes(i, twin, d)
            case Bilinear(kind="mul"):
                self._product(node, d)
            case Bilinear():
                self._matmul(node, d)
            case _:
                raise NotImplementedError(f"no backward rule for node type {type(node).__name__}")

    def _pass_on(self, j: int, d: Tensor) -> None:
        """Add coefficients `d`, which are products, to node j: they may have underflowed, and a sum of two contributions rounds."""
        if self.rigorous:
            self.error = self.error + underflow(self.net.dtype) * self.state.sum_of_largest(j)
        held = self.coefficients.get(j)
        if held is None:
            self.coefficients[j] = d
            return
        self.coefficients[j] = total = held + d
        self._charge(unit_error(1, self.net.dtype) * self.state.largest(j), total)

    def _charge(self, weight: Tensor, d: Tensor) -> None:
        """error += |d| . weight"""
        if self.rigorous:
            self._charge_size(weight, d.abs())

    def _charge_size(self, weight: Tensor, size: Tensor) -> None:
        self.error = self.error + dot(size, weight + floor(self.net.dtype))

    def _shift(self, d: Tensor, value: Tensor) -> None:
        """constant += d . value, and its rounding."""
        self._charge(unit_error(d.shape[-1], self.net.dtype) * value.abs(), d)
        self._add(dot(d, value))

    def _add(self, term: Tensor) -> None:
        """constant += term. Every partial sum rounds: a constant that later cancels has still lost its last digits."""
        self.constant = self.constant + term
        if self.rigorous:
            self.error = self.error + unit_error(1, self.net.dtype) * self.constant.abs()

    def _affine(self, i: int, node: Affine, d: Tensor) -> None:
        bias, weight = self.net.bias[i], self._affine_weight(i, node)
        if bias is not None:
            self._add(dot(d, bias.unsqueeze(0)))
        if weight is not None and i not in self.charged:
            self._charge(weight, d)
        for j, m in zip(node.inputs, self.net.maps[i], strict=True):
            self._pass_on(j, m.adjoint(d))

    def _affine_weight(self, i: int, node: Affine) -> Tensor | None:
        """Rounding per unit of |d| at an affine node [B, size]: G(terms) |W| H, and of the constant; None where there is none."""
        bias = self.net.bias[i]
        if bias is None and all(m.is_exact for m in node.maps):
            return None
        terms = max(m.fan_out() for m in node.maps) + len(node.maps)
        weight = unit_error(terms, self.net.dtype) * self.state.magnitude[i]
        return weight if bias is None else weight + unit_error(node.size, self.net.dtype) * bias.abs()

    def _by_planes(self, i: int, j: int, d: Tensor) -> None:
        """Node i lies between two functions of node j."""
        planes = self.planes[i] if i in self.planes else self.bounds.planes(self.state, i)
        negative = d.clamp(max=0)
        low, high = _rows(planes.slope_lower), _rows(planes.slope_upper)
        if planes.offset_upper is not None:
            self._add(dot(negative, _rows(planes.offset_upper)))
        if planes.offset_lower is not None:
            self._add(dot(d - negative, _rows(planes.offset_lower)))
        if self.rigorous:
            weight = self._elementwise_weight(planes, j, d.shape[-1])
            self.error = self.error + (dot(d, weight) - 2 * dot(negative, weight))  # |d| . weight
        self._pass_on(j, (low * d).addcmul_(high - low, negative))

    def _elementwise_weight(self, planes: Planes, j: int, size: int) -> Tensor:
        """Rounding per unit of |d|: G(3) max|slope| H for the coefficients, G(size) max|offset| for the constant; and what the affine node below
        will cost, where it gets its coefficients, at most max|slope| |d|, from here alone."""
        largest = torch.maximum(_rows(planes.slope_lower).abs(), _rows(planes.slope_upper).abs())
        weight = unit_error(3, self.net.dtype) * self.state.largest(j)
        below = self.graph.nodes[j]
        if isinstance(below, Affine) and j in self.bounds.read_once and j not in self.coefficients and j not in self.betas:
            cost = self._affine_weight(j, below)
            weight = weight if cost is None else weight + cost + floor(self.net.dtype)
            self.charged.add(j)
        weight = largest * weight.unsqueeze(1)
        for offset in (planes.offset_lower, planes.offset_upper):
            if offset is not None:
                # The floor keeps subnormal numbers, which are a hundred times slower, out of the products.
                weight = weight + unit_error(size, self.net.dtype) * _rows(offset).abs().clamp(min=2.0**-80)
        return weight + floor(self.net.dtype)

    def _product(self, node: Bilinear, d: Tensor) -> None:
        """x y >= y_low x + x_low y - x_low y_low, and x y <= y_high x + x_low y - x_low y_high (McCormick 1976)."""
        low_x, high_x, low_y, high_y = self.bounds.factors(self.state, node)
        positive, negative = d.clamp(min=0), d.clamp(max=0)
        x, y = node.inputs
        self._pass_on(x, positive * low_y.unsqueeze(1) + negative * high_y.unsqueeze(1))
        self._pass_on(y, d * low_x.unsqueeze(1))
        self._add(-dot(positive, low_x * low_y) - dot(negative, low_x * high_y))
        product = torch.maximum(low_x.abs(), high_x.abs()) * torch.maximum(low_y.abs(), high_y.abs())
        self._charge(unit_error(d.shape[-1] + 4, self.net.dtype) * product, d)

    def _matmul(self, node: Bilinear, d: Tensor) -> None:
        """The same planes, contracted like the product: coefficients stay two tensors, never a list of products."""
        low_x, high_x, low_y, high_y = (t.unsqueeze(1) for t in self.bounds.factors(self.state, node))
        x, y = node.inputs
        shaped = d.reshape(*d.shape[:2], *node.shape)
        positive, negative = shaped.clamp(min=0), shaped.clamp(max=0)
        to_x = positive @ low_y.mT + negative @ high_y.mT
        to_y = low_x.mT @ shaped
        offset = positive * (low_x @ low_y) + negative * (low_x @ high_y)
        self._add(-offset.flatten(2).sum(-1))
        largest = torch.maximum(low_x.abs(), high_x.abs()) @ torch.maximum(low_y.abs(), high_y.abs())
        terms = node.size + low_x.shape[-1] + max(node.shape[-2:]) + 4
        self._charge(unit_error(terms, self.net.dtype) * largest.flatten(2).squeeze(1), d)
        self._pass_on(x, to_x.flatten(2))
        self._pass_on(y, to_y.flatten(2))

    def _concretise(self) -> Lower:
        parts, value = [], self.constant
        batch, rows = self.constant.shape
        for i in self.graph.inputs:
            d = self.inputs.get(i)
            size = self.graph.nodes[i].size
            if d is None:  # an input that is not read, or that comes later in the graph
                parts.append(torch.zeros(batch, rows, size, dtype=self.net.dtype, device=self.net.device))
                continue
            low, high = self.state.lower[i], self.state.upper[i]
            middle, half, sizes = (low + high) / 2, (high - low) / 2, d.abs()
            value = value + dot(d, middle) - dot(sizes, half)
            if self.rigorous:
                self._charge_size(unit_error(2 * size + 2 * len(self.graph.inputs) + 4, self.net.dtype) * self.state.largest(i), sizes)
            parts.append(d.expand(batch, rows, size))
        tiny = torch.finfo(self.net.dtype).tiny * 2**20
        error = self.error + unit_error(len(self.graph.inputs) + 4, self.net.dtype) * (self.constant.abs() + value.abs()) + tiny
        return Lower(value - error, torch.cat(parts, -1), self.constant - error, error, self.at)


def _rows(t: Tensor) -> Tensor:
    return t if t.ndim == 3 else t.unsqueeze(1)


def _exact_affine(state: State, node: Affine, apply: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
    j = node.inputs[0]
    a, b = apply(state.lower[j]), apply(state.upper[j])
    return torch.minimum(a, b), torch.maximum(a, b)


def _targets(graph: Graph) -> dict[int, tuple[int, ...]]:
    """Nodes whose bounds a relaxation reads, with the non-linear nodes that read them."""
    readers: dict[int, list[int]] = {}
    for i, node in graph:
        if isinstance(node, Elementwise | Bilinear):
            for j in dict.fromkeys(node.inputs):
                readers.setdefault(j, []).append(i)
    return {j: tuple(r) for j, r in readers.items()}


def _rounded_constants(graph: Graph, dtype: torch.dtype) -> frozenset[int]:
    """Constants that are not numbers of `dtype` (the result of folding in float64)."""
    if dtype == torch.float64:
        return frozenset()
    return frozenset(i for i, node in graph if isinstance(node, Constant) and bool((node.value.astype(np.float32) != node.value).any()))


def _read_once(graph: Graph) -> frozenset[int]:
    """Nodes that one other node reads, once."""
    times = Counter(j for _, node in graph for j in node.inputs)
    return frozenset(j for j, count in times.items() if count == 1)


def _flat_below(graph: Graph) -> frozenset[int]:
    """Nodes that only functions read which have one value below some number (ReLU): of what is small enough, nobody asks how small."""
    functions = {i: node.function for i, node in graph if isinstance(node, Elementwise)}
    flat = {i for i, function in functions.items() if isinstance(function, Pieces) and function.slopes[0] == 0}
    asked = {j for i, node in graph if i not in flat for j in (node.inputs[:1] if isinstance(node, Max) else node.inputs)}
    return frozenset({j for i in flat for j in graph.nodes[i].inputs} - asked - {*graph.outputs})


def _exact_interval(graph: Graph) -> frozenset[int]:
    """Nodes whose interval is already as tight as a backward bound: inputs, one linear map of one input, and smooth functions.

    A plane below f over the bounds of its argument is nowhere above f there, so its least value over them is at most f's: where the argument
    has its backward bounds, the interval of f is as good, and so are those of what takes its elements one by one. (A function of straight
    pieces is different: where it is linear, nobody asks for backward bounds of its argument; `LinearBounds.matter` tells the elements apart.)
    """
    exact, smooth = set(graph.inputs), set[int]()
    for i, node in graph:
        if isinstance(node, Constant):
            exact.add(i)
        if isinstance(node, Affine) and len(node.inputs) == 1:
            if isinstance(graph.nodes[node.inputs[0]], Input) and _mixing(node.maps[0]) <= 1:
                exact.add(i)
            if node.inputs[0] in smooth and node.maps[0].fan_in() <= 1:
                smooth.add(i)
        if isinstance(node, Elementwise) and node.inputs[0] in exact and isinstance(graph.nodes[node.inputs[0]], Affine | Input):
            exact.add(i)
        if isinstance(node, Elementwise) and isinstance(node.function, Smooth) and not isinstance(node.function, Steps):
            smooth.add(i)
    return frozenset(exact | smooth)


def _mixing(m: lm.LinearMap) -> int:
    """How many of the maps that `m` is composed of read an element twice or add several."""
    parts = m.maps if isinstance(m, lm.Composition) else (m,)
    return sum(not isinstance(p, lm.Reshape | lm.Scale) and not (isinstance(p, lm.Gather) and p.multiplicity <= 1) for p in parts)
