"""Bounds of a property's rows over many boxes at once: float32 first, float64 where only rounding stands in the way."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bounds.forward import forward
from bounds.linear import Betas, Functional, LinearBounds, Lower, Relaxations, State
from bounds.rounding import unit_error
from bounds.torch_graph import TorchGraph
from graph.core import Node
from verifier.groups import Groups
from verifier.optimise import Slopes, planes_with
from verifier.portfolio import narrow_layers, prefers_forward
from verifier.problem import Problem

Array = NDArray[Any]


class CrossedBounds(Exception):
    """Bounds contradict each other where executions exist. Always a defect of ours, never a proof. Exit code 4."""


@dataclass(frozen=True)
class Margins:
    """What one bounding pass proved of B boxes.

    `margin` [B, R]: functional - bound >= margin over the box, for the rows `rows` (indices into the groups' rows) that
    some open slot still needs. `closed` [B, C]: the slots refuted here, rounding included. `lower` and `state` are those
    of the float32 pass.
    """

    rows: Tensor
    margin: Tensor
    closed: Tensor
    lower: Lower
    state: State


@dataclass(frozen=True)
class Pass:
    """A bounding pass as it was made, for `--self-check`: the boxes of the batch (None: all), and the planes used instead of the default ones."""

    found: Margins
    planes: Relaxations | None
    boxes: Tensor | None = None


class Bounder:
    """Bounds the rows of `groups` over boxes of `net`'s inputs. `doubles`: float64 is tried where float32's own rounding hides a margin.

    Without, what is closed has a margin of at least this rounding, which is far more than what the checker loses for float32 executions.
    `watched`: the passes of the last batch are kept in `passes`. A case counts as refuted where its margin exceeds its `reserve` [cases]: what
    the checker loses, where that is known; then it is also followed in what it bounds.
    """

    def __init__(
        self, problem: Problem, groups: Groups, net: TorchGraph, memory: int, doubles: bool = True, watched: bool = False,
        reserve: Array | None = None,
    ) -> None:
        least = np.zeros(groups.case.shape) if reserve is None else np.where(groups.case >= 0, reserve[groups.case], 0.0)
        self.reserve = torch.from_numpy(least.max(1, initial=0.0)).to(dtype=net.dtype, device=net.device)  # [G]
        self.watched = watched
        self.passes: tuple[Pass, ...] = ()
        self.retried = 0  # boxes of the last batch that were bounded again in float64
        self._reserve = reserve
        self.doubles = doubles and net.dtype != torch.float64
        self.problem, self.groups, self.net = problem, groups, net
        self.linear = LinearBounds(net, memory)
        self._memory = memory
        self.forward = prefers_forward(self.linear, problem.varying(groups.box))
        self.narrow = narrow_layers(self.linear) if self.forward else 0
        used, place = np.unique(groups.row, return_inverse=True)
        outputs, inputs = problem.functionals.dense(used[used >= 0])
        if used.size and used[0] < 0:  # padding rows are the zero functional, with bound +inf: never refuted
            outputs, inputs = (np.concatenate([np.zeros((1, a.shape[1])), a]) for a in (outputs, inputs))
        self._outputs, self._inputs = torch.from_numpy(outputs), torch.from_numpy(inputs)
        self._place = torch.from_numpy(place.reshape(groups.row.shape))
        self._bound = torch.from_numpy(groups.bound)
        self.member = torch.from_numpy(groups.member).to(net.device)

    @cached_property
    def _double(self) -> Bounder:
        net = TorchGraph(self.net.graph, torch.float64, self.net.device)
        return Bounder(self.problem, self.groups, net, self._memory, watched=self.watched, reserve=self._reserve)

    def in_double(self) -> Bounder:
        """The same in float64."""
        return self if self.net.dtype == torch.float64 else self._double

    def functional(self, group: Tensor, rows: Tensor) -> tuple[Functional, Tensor]:
        """The coefficients per graph node and the constants (minus the bounds) of `rows`, for boxes of these groups."""
        group, rows = group.cpu(), rows.cpu()
        group = group[:1] if len(self.groups) == 1 else group
        place = self._place[group][:, rows]
        out = self._to(self._outputs)[place]
        graph = self.problem.graph
        parts: Functional = {}
        for i, d in zip(graph.outputs, out.split([graph.nodes[i].size for i in graph.outputs], -1), strict=True):
            parts[i] = parts[i] + d if i in parts else d
        if self.problem.functionals.reads_inputs:
            sizes = [graph.nodes[i].size for i in graph.inputs]
            for i, d in zip(graph.inputs, self._to(self._inputs)[place].split(sizes, -1), strict=True):
                parts[i] = parts[i] + d if i in parts else d
        return parts, -self._to(self._bound[group][:, rows])

    def _to(self, t: Tensor) -> Tensor:
        return t.to(dtype=self.net.dtype, device=self.net.device)

    def needed_rows(self, group: Tensor, is_open: Tensor) -> Tensor:
        """Rows that an open slot of these boxes reads."""
        if len(self.groups) > 1:
            return torch.arange(self.member.shape[-1], device=self.net.device)
        needed = torch.nonzero(self.member[0][is_open.any(0)].any(0)).squeeze(-1)
        return needed if needed.numel() else torch.arange(1, device=self.net.device)  # cases without atoms: nothing refutes them

    def closes(self, margin: Tensor, group: Tensor, rows: Tensor) -> Tensor:
        """Slots [B, C] that some row of theirs refutes: an explicit comparison, false for NaN."""
        proven = margin > self.reserve[group if len(self.groups) > 1 else group[:1] * 0].unsqueeze(-1)
        member = self.member[:, :, rows]
        if len(self.groups) == 1:
            return (proven.to(margin.dtype) @ member[0].to(margin.dtype).T) > 0
        return (proven.unsqueeze(1) & member[group]).any(-1)

    def bound(
        self,
        lower: Tensor,
        upper: Tensor,
        group: Tensor,
        is_open: Tensor,
    ) -> Margins:
        """One bounding pass over the boxes [lower, upper] [B, n_in] with their groups [B] and open slots [B, C]."""
        return self.bound_in(self.root_state(lower, upper), group, is_open)

    @property
    def refined(self) -> bool:
        """Whether bounds of layers are made backwards, of all or of the narrow ones."""
        return not self.forward or self.narrow > 0

    def root_state(self, lower: Tensor, upper: Tensor) -> State:
        """Bounds of every node over boxes without further constraints. Raises CrossedBounds where a lower exceeds an upper one."""
        state = self._forward_state(lower, upper) if self.forward else self.linear.propagate(lower, upper)
        raise_if_crossed(state)
        return state

    def _forward_state(self, lower: Tensor, upper: Tensor) -> State:
        """Forward bounds of all layers, and backward bounds, which are tighter, of the narrow ones."""
        return forward(self.linear, lower, upper, self.narrow).state

    def bound_in(
        self,
        state: State,
        group: Tensor,
        is_open: Tensor,
        *,
        planes: Relaxations | None = None,
        betas: Betas | None = None,
        record: tuple[type[Node], ...] = (),
    ) -> Margins:
        """The rows' bounds in a state that is there already."""
        rows = self.needed_rows(group, is_open)
        functional, constant = self.functional(group, rows)
        low = self.linear.lower_bound(state, functional, constant, planes=planes, betas=betas, record=record)
        margin = torch.where(low.value.isfinite(), low.value, -torch.inf)  # an overflow proves nothing
        closed = self.closes(margin, group, rows)
        if state.crossed is not None:
            closed = closed | state.crossed.unsqueeze(-1)
        found = Margins(rows, margin, closed & is_open, low, state)
        if self.watched:
            self.passes = (Pass(found, planes),)
        return found

    def _keep_retry(self, boxes: Tensor) -> None:
        """Add the last pass in float64, about these boxes of the batch, to the passes."""
        if self.watched:
            self.passes += tuple(replace(one, boxes=boxes) for one in self._double.passes)

    def retry_in_double(
        self, found: Margins, lower: Tensor, upper: Tensor, group: Tensor, is_open: Tensor, hidden: bool = True
    ) -> tuple[Tensor, Lower]:
        """Closed slots [B, C], with float64 tried on the boxes where float32's own rounding is what keeps them open; and the rows' linear
        bounds, those of float64 where they are better: the checker cuts a box by such, and may not cut off where it is halved next.

        First the last pass alone, in the state that was found; with `hidden`, where that does not do, all of it.
        """
        self.retried = 0
        closed, linear = found.closed, found.lower
        if not self.doubles:
            return closed, linear
        rescued = self.closes(found.margin + 4 * found.lower.error, group, found.rows) & is_open & ~found.closed
        for whole in (False, True) if hidden else (False,):
            retry = torch.nonzero((rescued & ~closed).any(-1)).squeeze(-1)
            if retry.numel() == 0:
                break
            if whole:
                self.retried = len(retry)
                again = self._bound_in_double(lower, upper, group, is_open, retry)
            else:
                again = self._double.bound_in(found.state.select(retry).to(torch.float64), group[retry], is_open[retry])
            self._keep_retry(retry)
            closed = closed.index_copy(0, retry, closed[retry] | again.closed)
            linear = _improved(linear, found.rows, again, retry, torch.maximum(-lower, upper)[retry])
        return closed, linear

    def sharpened(
        self, linear: Lower, rows: Tensor, lower: Tensor, upper: Tensor, group: Tensor, is_open: Tensor, chosen: Tensor, place: Tensor
    ) -> Lower:
        """`linear`, about `rows` of these boxes, with what float64 says of the boxes `chosen`, where that is better. `place` is where those are
        in the last batch, to whose passes this one is added. (Of a bounder that has `doubles`.)"""
        again = self._bound_in_double(lower, upper, group, is_open, chosen)
        self._keep_retry(place)
        return _improved(linear, rows, again, chosen, torch.maximum(-lower, upper)[chosen])

    def _bound_in_double(self, lower: Tensor, upper: Tensor, group: Tensor, is_open: Tensor, chosen: Tensor) -> Margins:
        return self._double.bound(lower[chosen].double(), upper[chosen].double(), group[chosen], is_open[chosen])

    def confirm_in_double(
        self, found: Margins, group: Tensor, is_open: Tensor, slopes: Slopes, betas: Betas
    ) -> tuple[Tensor, Tensor]:
        """Like `retry_in_double`, in the state that was found: the last backward pass again, with the same multipliers.

        Also returns the margins [B, R] that show it.
        """
        margin = found.margin.double()
        if not self.doubles:
            return found.closed, margin
        rescued = self.closes(found.margin + 2 * found.lower.error, group, found.rows) & is_open & ~found.closed
        retry = torch.nonzero(rescued.any(-1)).squeeze(-1)
        if retry.numel() == 0:
            return found.closed, margin
        state = found.state.select(retry).to(torch.float64)
        chosen = {i: (low[retry].double(), None if high is None else high[retry].double()) for i, (low, high) in slopes.items()}
        planes = planes_with(self._double.linear, state, chosen)
        again = self._double.bound_in(
            state, group[retry], is_open[retry], planes=planes,
            betas={j: (m[retry].double(), None if t is None else t[retry].double()) for j, (m, t) in betas.items()},
        )
        self._keep_retry(retry)
        return found.closed.index_copy(0, retry, found.closed[retry] | again.closed), margin.index_copy(0, retry, again.margin)


def _improved(linear: Lower, rows: Tensor, again: Margins, boxes: Tensor, largest: Tensor) -> Lower:
    """`linear`, about `rows`, with `again`, about these `boxes`, where that bounds them better: rounded to the dtype of `linear`, downwards.

    `largest` [boxes, n_in]: at least |x| over the boxes. What the coefficients change by is taken off the constant.
    """
    at, better_bounds = (boxes.unsqueeze(-1), torch.searchsorted(rows, again.rows)), again.lower
    coefficients = better_bounds.coefficients.to(linear.value.dtype)
    changed = (coefficients.double() - better_bounds.coefficients).abs() @ largest.double().unsqueeze(-1)
    unit = unit_error(largest.shape[-1] + 2, better_bounds.value.dtype)
    constant = better_bounds.constant - changed.squeeze(-1) * (1 + unit) - unit * better_bounds.constant.abs()
    rounded = constant.to(linear.value.dtype)
    rounded = torch.where(rounded.double() > constant, torch.nextafter(rounded, torch.full_like(rounded, -torch.inf)), rounded)
    better = (better_bounds.value > linear.value[at]) & rounded.isfinite() & coefficients.isfinite().all(-1)
    merged = torch.where(better, rounded, linear.constant[at]), torch.where(better.unsqueeze(-1), coefficients, linear.coefficients[at])
    error = torch.where(better, better_bounds.error.to(linear.value.dtype), linear.error[at])
    return replace(
        linear, constant=linear.constant.index_put(at, merged[0]), coefficients=linear.coefficients.index_put(at, merged[1]),
        error=linear.error.index_put(at, error),
    )


def raise_if_crossed(state: State) -> None:
    """Raise CrossedBounds if some lower bound exceeds its upper bound in a state that no split constrains."""
    if state.crossed is not None and bool(state.crossed.any()):
        raise CrossedBounds("a lower bound exceeds its upper bound over a box that is not empty: the bounds are wrong")


def outward(lower: Array, upper: Array, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """float64 boxes as tensors of `dtype` that contain them."""
    low, high = torch.from_numpy(lower), torch.from_numpy(upper)
    rounded_low, rounded_high = low.to(dtype), high.to(dtype)
    infinity = torch.tensor(torch.inf, dtype=dtype)
    rounded_low = torch.where(rounded_low.double() > low, torch.nextafter(rounded_low, -infinity), rounded_low)
    rounded_high = torch.where(rounded_high.double() < high, torch.nextafter(rounded_high, infinity), rounded_high)
    return rounded_low, rounded_high
