"""Optimised slopes (alpha-CROWN, Xu et al. 2021) and split multipliers (beta-CROWN, Wang et al. 2021) by gradient ascent.

Any finite slope and any beta >= 0 give a valid bound, so nothing here can affect soundness: the values found are handed
to a rigorous pass.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from bounds import relaxation
from bounds.functions import torch_function
from bounds.linear import NEAR_ZERO, Betas, Functional, LinearBounds, Lower, State
from bounds.relaxation import Planes
from graph.core import Elementwise
from graph.functions.facts import Function, Pieces, Smooth
from graph.functions.relu import relu
from verifier.adam import RATE_DECAY, Moments

RELU = relu()
SMOOTH_SHARE = 0.1  # of the rate, for multipliers of splits of smooth functions: larger steps throw their slopes off


@dataclass(frozen=True)
class Multipliers:
    """What is optimised, for B boxes and R rows.

    `slopes[i]`, used where elementwise node i is not linear on its interval, each [B, R, size]: of a piecewise-linear
    function the lower slope and None (the upper one is the default); of one that jumps, and of a smooth one, both. They are slopes and not
    positions among those of an interval: over a part of the interval the same slopes bound no worse, so that a sub-problem that starts with
    its parent's starts with a margin no smaller than its parent's.
    `betas[j]` [B, R, size]: multipliers of the splits of node j, positive where h_j <= t pays, negative where h_j >= t does.
    """

    slopes: dict[int, tuple[Tensor, Tensor | None]]
    betas: dict[int, Tensor]

    def select(self, keep: Tensor) -> Multipliers:
        """Those of the boxes `keep`."""
        return Multipliers(
            {i: (low[keep], None if high is None else high[keep]) for i, (low, high) in self.slopes.items()},
            {j: beta[keep] for j, beta in self.betas.items()},
        )


@dataclass(frozen=True)
class Sides:
    """What splits say of B sub-problems: h_j >= `floor[j]` and h_j <= `ceiling[j]` [B, size], infinite where nothing is said."""

    floor: dict[int, Tensor]
    ceiling: dict[int, Tensor]

    def nodes(self) -> list[int]:
        """Nodes of which something is said."""
        return [j for j, floor in self.floor.items() if bool((floor.isfinite() | self.ceiling[j].isfinite()).any())]


UNSPLIT = Sides({}, {})


def relaxed_nodes(bounds: LinearBounds, state: State) -> list[int]:
    """Elementwise nodes that are not linear on their interval in every box."""
    return [
        i for i, node in bounds.graph
        if isinstance(node, Elementwise)
        and not bool(relaxation.is_linear(node.function, state.lower[node.inputs[0]], state.upper[node.inputs[0]]).all())
    ]


def initial(bounds: LinearBounds, state: State, rows: int, nodes: Iterable[int]) -> Multipliers:
    """The default slopes of elementwise `nodes`, one copy per row, and no betas."""
    slopes: dict[int, tuple[Tensor, Tensor | None]] = {}
    for i in nodes:
        node = bounds.graph.nodes[i]
        if isinstance(node, Elementwise):
            low, high = state.lower[node.inputs[0]], state.upper[node.inputs[0]]
            shape = (low.shape[0], rows, low.shape[1])
            below, above = (slope.unsqueeze(1).expand(shape) for slope in relaxation.default_slopes(node.function, low, high))
            slopes[i] = (below, None if isinstance(node.function, Pieces) and not node.function.jumps() else above)
    return Multipliers(slopes, {})


Slopes = dict[int, tuple[Tensor, Tensor | None]]  # elementwise node -> lower and upper slopes [B, R, size]; None: the default ones
Build = Callable[[Tensor, Tensor | None], Planes]  # what is optimised at one node -> its planes


def builders(bounds: LinearBounds, state: State, nodes: Iterable[int]) -> dict[int, Build]:
    """Per elementwise node, how planes follow from what is optimised; all that does not depend on it is computed here, once."""
    result: dict[int, Build] = {}
    for i in nodes:
        node = bounds.graph.nodes[i]
        if isinstance(node, Elementwise):
            j = node.inputs[0]
            low, high = state.lower[j].unsqueeze(1), state.upper[j].unsqueeze(1)
            result[i] = _relu(low, high) if node.function == RELU else _any(node.function, low, high)
    return result


def planes_of(build: dict[int, Build], slopes: dict[int, tuple[Tensor, Tensor | None]]) -> dict[int, Planes]:
    """The planes of these slopes where a node is not linear, and the exact line where it is."""
    return {i: build[i](lower, upper) for i, (lower, upper) in slopes.items()}


def planes_with(bounds: LinearBounds, state: State, slopes: Slopes) -> dict[int, Planes]:
    """The planes of these slopes in this state."""
    return planes_of(builders(bounds, state, slopes), slopes)


def storable(bounds: LinearBounds, found: Multipliers) -> tuple[Slopes, dict[int, Tensor]]:
    """Slopes and betas as a certificate stores them: slopes of piecewise-linear functions rounded to float16, all else to float32.

    What is confirmed with these is what is written.
    """
    slopes: Slopes = {}
    for i, (low, high) in found.slopes.items():
        node = bounds.graph.nodes[i]
        few = torch.float16 if isinstance(node, Elementwise) and isinstance(node.function, Pieces) else torch.float32
        slopes[i] = (low.to(few).to(low.dtype), None if high is None else high.to(few).to(high.dtype))
    return slopes, {j: beta.float().to(beta.dtype) for j, beta in found.betas.items()}


def _relu(low: Tensor, high: Tensor) -> Build:
    """relu(x) >= a x for every a in [0, 1], with offset 0; the upper plane is the chord whatever a is."""
    default = relaxation.relax(RELU, low, high)
    bent = ((low < 0) & (high > 0)).to(low.dtype)
    fixed = default.slope_lower * (1 - bent)
    return lambda chosen, _: Planes(torch.addcmul(fixed, bent, chosen.clamp(0, 1)), None, default.slope_upper, default.offset_upper)


def _any(function: Function, low: Tensor, high: Tensor) -> Build:
    """Slopes count where f is not one straight piece in every box; all else has its planes made once."""
    default = relaxation.relax(function, low, high, *relaxation.default_slopes(function, low, high))
    linear = relaxation.is_linear(function, low, high)
    bent = torch.nonzero(~linear.flatten(0, -2).all(0)).squeeze(-1)
    low, high, linear = (t.index_select(-1, bent) for t in (low, high, linear))
    (below, above), usual = relaxation.offsets(function, low, high), default.at(bent)

    def build(chosen: Tensor, chosen_upper: Tensor | None) -> Planes:
        lower = torch.where(linear, usual.slope_lower, chosen.index_select(-1, bent))
        upper = usual.slope_upper if chosen_upper is None else torch.where(linear, usual.slope_upper, chosen_upper.index_select(-1, bent))
        return default.but(bent, Planes(lower, below(lower), upper, above(upper)))

    return build


@dataclass(frozen=True)
class Range:
    """Where slopes of a smooth function over an interval are searched: within `spread` of the default ones, each [B, 1, size]."""

    lower: Tensor
    upper: Tensor
    spread: Tensor

    def project(self, lower: Tensor, upper: Tensor) -> None:
        """Move these slopes to the nearest ones that are searched."""
        for slope, default in ((lower, self.lower), (upper, self.upper)):
            slope.copy_(torch.minimum(torch.maximum(slope, default - self.spread), default + self.spread))


def ranges(bounds: LinearBounds, state: State, nodes: Iterable[int]) -> dict[int, Range]:
    """Of those of `nodes` that are smooth: as far as the derivative is spread over the interval."""
    found: dict[int, Range] = {}
    for i in nodes:
        node = bounds.graph.nodes[i]
        if isinstance(node, Elementwise) and isinstance(node.function, Smooth):
            low, high = (end[node.inputs[0]].unsqueeze(1) for end in (state.lower, state.upper))
            derivative = torch_function(node.function).derivative
            steepness = torch.stack([derivative(x) for x in (low, (low + high) / 2, high)]).detach()
            spread = steepness.amax(0) - steepness.amin(0)
            spread = torch.where(torch.isfinite(spread) & (low < high), spread, torch.zeros_like(spread))
            found[i] = Range(*relaxation.default_slopes(node.function, low, high), spread)
    return found


Price = Callable[[Tensor], tuple[Tensor, Tensor | None]]  # multipliers of one node -> those that its splits allow, and their thresholds


def prices(sides: Sides, nodes: Iterable[int]) -> dict[int, Price]:
    """Per node how multipliers enter a backward pass (`Betas`); all that does not depend on them is computed here, once."""
    return {j: _price(sides.floor[j].unsqueeze(1), sides.ceiling[j].unsqueeze(1)) for j in nodes}


def paid(sides: Sides, betas: Mapping[int, Tensor]) -> Betas:
    """What these multipliers add to a backward pass."""
    return {j: price(betas[j]) for j, price in prices(sides, [j for j in sides.nodes() if j in betas]).items()}


def _price(floor: Tensor, ceiling: Tensor) -> Price:
    """Where both sides of an element are split and its multiplier is 0, the middle between them is a slope of the bound in it."""
    below, above = floor.isfinite(), ceiling.isfinite()
    least, most = torch.where(below, -torch.inf, torch.zeros_like(floor)), torch.where(above, torch.inf, torch.zeros_like(floor))
    low, high = torch.where(below, floor, 0.0), torch.where(above, ceiling, 0.0)
    if bool((torch.maximum(low.abs(), high.abs()) <= NEAR_ZERO).all()):
        return lambda multiplier: (multiplier.clamp(least, most), None)
    tie = torch.where(below & above, (low + high) / 2, low + high)

    def price(multiplier: Tensor) -> tuple[Tensor, Tensor | None]:
        m = multiplier.clamp(least, most)
        return m, torch.where(m > 0, high, torch.where(m < 0, low, tie))

    return price


def optimise(
    bounds: LinearBounds,
    state: State,
    functional: Functional,
    constant: Tensor,
    start: Multipliers,
    sides: Sides,
    *,
    steps: int,
    rate: float,
    done: Callable[[Tensor], Tensor] | None = None,
    stretches: int = 0,
) -> Multipliers:
    """Maximise the lower bound of every row; returns the best multipliers met, per box and row.

    `done(values [B, R])` says for which boxes more is of no use [B]. In the end the best ones are doubled `stretches` times: where the splits
    contradict each other, a bound grows without limit along such a ray, and steps find its direction long before they are far along it.
    """
    if not start.slopes and not start.betas:
        return start
    build = builders(bounds, state, start.slopes)
    scale = _coefficient_scale(bounds, bounds.lower_bound(
        state, functional, constant, planes=planes_of(build, start.slopes), betas=paid(sides, start.betas), rigorous=False, record=(Elementwise,)
    ))
    slopes = {i: (low.clone().requires_grad_(), None if high is None else high.clone().requires_grad_()) for i, (low, high) in start.slopes.items()}
    shares = {j: (start.betas[j] / scale[j]).requires_grad_() for j in sides.nodes() if j in start.betas and j in scale}
    price = prices(sides, shares)
    if not (slopes or shares):
        return start
    free = ranges(bounds, state, slopes)
    ascent = _Ascent(bounds, slopes, shares, free, rate)
    best = _Best(start)
    for step in range(steps + 1):
        with torch.enable_grad():
            betas = {j: share * scale[j] for j, share in shares.items()}
            priced = {j: price[j](beta) for j, beta in betas.items()}
            low = bounds.lower_bound(state, functional, constant, planes=planes_of(build, dict(slopes)), betas=priced, rigorous=False)
            best.update(low.value.detach(), slopes, betas)
            finished = None if done is None else done(best.value)
            if step == steps or (finished is not None and bool(finished.all())) or not low.value.requires_grad:
                break  # the last: nothing that is relaxed lies below the functional
            useful = low.value if finished is None else low.value[~finished]
            ascent.step(useful.sum())
        with torch.no_grad():
            for i, (lower, upper) in slopes.items():
                _project(bounds.graph.nodes[i], free.get(i), lower, upper)
            for j, share in shares.items():
                share.copy_(price[j](share)[0])
    for _ in range(stretches):
        longer = _doubled(bounds, best.multipliers())
        low = bounds.lower_bound(
            state, functional, constant, planes=planes_of(build, longer.slopes), betas=paid(sides, longer.betas), rigorous=False
        )
        best.update(low.value.detach(), longer.slopes, longer.betas)
    return best.multipliers()


class _Ascent:
    """Adam over all of these, from `rate` on with less from step to step."""

    def __init__(self, bounds: LinearBounds, slopes: Slopes, shares: dict[int, Tensor], free: dict[int, Range], rate: float) -> None:
        smooth = {n.inputs[0] for _, n in bounds.graph if isinstance(n, Elementwise) and isinstance(n.function, Smooth)}
        rates = [(t, rate) for pair in slopes.values() for t in pair if t is not None]
        rates += [(share, rate * SMOOTH_SHARE if j in smooth else rate) for j, share in shares.items()]
        self._tensors, self._rates = [t for t, _ in rates], [r for _, r in rates]
        self._units = [free[i].spread if i in free else None for i, pair in slopes.items() for t in pair if t is not None]
        self._units += [None] * len(shares)
        self._moments = [Moments.at_start(t) for t in self._tensors]

    def step(self, value: Tensor) -> None:
        """Move all tensors towards a larger `value` [], which was computed from them."""
        gradients = torch.autograd.grad(value, self._tensors, allow_unused=True)
        with torch.no_grad():
            for k, gradient in enumerate(gradients):
                if gradient is not None:
                    direction, unit = self._moments[k].direction(gradient), self._units[k]
                    self._tensors[k].add_(direction if unit is None else direction.mul_(unit), alpha=self._rates[k])
        self._rates = [RATE_DECAY * rate for rate in self._rates]


def _doubled(bounds: LinearBounds, found: Multipliers) -> Multipliers:
    """Twice the betas, and twice the slopes of what jumps: beside a jump they act as multipliers."""
    slopes = dict(found.slopes)
    for i, (lower, upper) in found.slopes.items():
        node = bounds.graph.nodes[i]
        if isinstance(node, Elementwise) and isinstance(node.function, Pieces) and upper is not None:
            slopes[i] = _gentle(2 * lower), _gentle(2 * upper)
    return Multipliers(slopes, {j: 2 * beta for j, beta in found.betas.items()})


def _gentle(slope: Tensor) -> Tensor:
    return slope.clamp(-relaxation.STEEPEST, relaxation.STEEPEST)


def _coefficient_scale(bounds: LinearBounds, low: Lower) -> dict[int, Tensor]:
    """Per pre-activation node the largest coefficient that meets its function [B, R, 1]: the unit in which betas are searched."""
    scale: dict[int, Tensor] = {}
    for i, d in low.at.items():
        j = bounds.graph.nodes[i].inputs[0]
        here = d.detach().abs().amax(-1, keepdim=True).clamp(min=1e-12)
        scale[j] = torch.maximum(scale[j], here) if j in scale else here
    return scale


def _project(node: object, free: Range | None, lower: Tensor, upper: Tensor | None) -> None:
    """Keep slopes of pieces among those of the pieces (and of lines across a jump), and of a smooth function where they are searched."""
    if isinstance(node, Elementwise) and isinstance(node.function, Pieces):
        steep = relaxation.STEEPEST if node.function.jumps() else 0.0
        for slope in (lower,) if upper is None else (lower, upper):
            slope.clamp_(min=min(*node.function.slopes, -steep), max=max(*node.function.slopes, steep))
    elif free is not None and upper is not None:
        free.project(lower, upper)


class _Best:
    """The best value seen per box and row, and the multipliers that gave it."""

    def __init__(self, start: Multipliers) -> None:
        self._slopes, self._betas = dict(start.slopes), dict(start.betas)
        self.value = torch.empty(0)

    def update(self, value: Tensor, slopes: dict[int, tuple[Tensor, Tensor | None]], betas: dict[int, Tensor]) -> None:
        if self.value.numel() == 0:
            self.value = value
            return
        better = value > self.value
        self.value = torch.where(better, value, self.value)
        pick = better.unsqueeze(-1)
        for i, (low, high) in slopes.items():
            old_low, old_high = self._slopes[i]
            new_high = None if high is None or old_high is None else torch.where(pick, high.detach(), old_high)
            self._slopes[i] = (torch.where(pick, low.detach(), old_low), new_high)
        for j, beta in betas.items():
            self._betas[j] = torch.where(pick, beta.detach(), self._betas[j])

    def multipliers(self) -> Multipliers:
        return Multipliers(self._slopes, self._betas)
