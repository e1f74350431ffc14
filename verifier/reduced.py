"""A ReLU network as a search over neurons sees it: only the neurons that the root's bounds leave non-linear, dense maps between them, the inputs.

Over the root's box most neurons of a trained network are linear, and what is linear folds into the maps around it. With U neurons left, each
reads z = bias + inputs x + weight relu(z'), z' those of earlier layers. A backward pass is then two matrix products for a whole batch, and its
gradient is known in closed form: of the slope of a neuron it is the coefficient that meets it times its pre-activation at the minimiser, of the
multiplier of a split that pre-activation (the pass forward of the minimising input along the planes in use).

Nothing here is rigorous: values are estimates that say where to split and which multipliers to hand to a rigorous pass.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from bounds import relaxation
from bounds.linear import Functional, LinearBounds, State
from bounds.relaxation import Planes
from graph.core import Affine, Constant, Elementwise, Input, Max
from graph.functions.relu import relu
from verifier.adam import RATE_DECAY, Moments

RELU = relu()
PRUNED = 0.25  # of a batch that must have finished before the rest goes on alone


@dataclass(frozen=True)
class Block:
    """Neurons `start` to `stop`: the `elements` of pre-activation `source`, which elementwise node `node` reads."""

    node: int
    source: int
    elements: Tensor
    start: int
    stop: int


@dataclass(frozen=True)
class Rows:
    """B functionals: sum activations . relu(z) + inputs . x + constant ([B, U], [B, n], [B])."""

    activations: Tensor
    inputs: Tensor
    constant: Tensor

    def select(self, keep: Tensor) -> Rows:
        """The rows `keep` (indices or mask)."""
        return Rows(self.activations[keep], self.inputs[keep], self.constant[keep])

    def negated(self) -> Rows:
        """Their negatives."""
        return Rows(-self.activations, -self.inputs, -self.constant)


@dataclass(frozen=True)
class Neurons:
    """What is known of B sub-problems [B, U]: bounds of the pre-activations, and `signs`: +1 where a split says z >= 0, -1 where z <= 0, else 0."""

    lower: Tensor
    upper: Tensor
    signs: Tensor

    def select(self, keep: Tensor) -> Neurons:
        """Those of the sub-problems `keep` (indices or mask)."""
        return Neurons(self.lower[keep], self.upper[keep], self.signs[keep])


@dataclass(frozen=True)
class Guess:
    """Of B sub-problems the estimated lower bound `value` [B], and what gave it: slopes `alpha` and multipliers of splits `beta` [B, U].

    `meets` [B, U]: the coefficients at the activations; `inputs` [B, n]: those at the inputs."""

    value: Tensor
    alpha: Tensor
    beta: Tensor
    meets: Tensor
    inputs: Tensor

    def put(self, at: Tensor, other: Guess) -> None:
        """Overwrite the rows `at` (indices) by those of `other`, in place."""
        for mine, new in zip(self.parts(), other.parts(), strict=True):
            mine[at] = new

    def parts(self) -> tuple[Tensor, ...]:
        """All tensors."""
        return self.value, self.alpha, self.beta, self.meets, self.inputs

    def better_of(self, other: Guess) -> Guess:
        """Per sub-problem the one of larger value."""
        better = other.value > self.value
        pick = better.unsqueeze(-1)
        value, *rest = (torch.where(better if mine.ndim == 1 else pick, new, mine) for mine, new in zip(self.parts(), other.parts(), strict=True))
        return Guess(value, *rest)


@dataclass(frozen=True)
class _Pass:
    """The planes of a batch: slopes below and above, the offset above, and what the splits add to the coefficients (None: nothing)."""

    below: Tensor
    above: Tensor
    offset: Tensor
    added: Tensor | None


@dataclass(frozen=True)
class Reduced:
    """The network: `weight` [U, U], strictly lower triangular by blocks, `inputs` [U, n], `bias` [U]; the n inputs that vary lie in
    middle +- half; `varying` are their places among all inputs."""

    blocks: tuple[Block, ...]
    weight: Tensor
    inputs: Tensor
    bias: Tensor
    middle: Tensor
    half: Tensor
    varying: Tensor

    def __len__(self) -> int:
        return int(self.bias.shape[0])

    def maximise(self, rows: Rows, known: Neurons, alpha: Tensor, beta: Tensor, steps: int, rate: float, least: Tensor | None = None) -> Guess:
        """The largest lower bounds that `steps` steps of Adam from `alpha`, `beta` find; those that exceed `least` [B] get no more."""
        ascent = _Ascent(self, rows, known, alpha, beta, rate)
        guess = Guess(*(part.clone(memory_format=torch.contiguous_format) for part in ascent.best.parts()))
        at = torch.arange(len(rows.constant))
        for _ in range(steps):
            if least is not None:
                left = ascent.best.value <= least[at]
                if not bool(left.any()):
                    break
                if float(left.double().mean()) <= 1 - PRUNED:
                    guess.put(at, ascent.best)
                    at, ascent = at[left], ascent.select(left)
            ascent.step()
        if len(at) == len(guess.value):
            return ascent.best
        guess.put(at, ascent.best)
        return guess

    def planes(self, known: Neurons, alpha: Tensor, beta: Tensor) -> _Pass:
        """The planes that these multipliers choose."""
        bent = (known.lower < 0) & (known.upper > 0)
        active = (known.lower >= 0).to(alpha.dtype)
        above = torch.where(bent, known.upper / (known.upper - known.lower), active)
        below = torch.where(bent, alpha, active)
        return _Pass(below, above, torch.where(bent, -above * known.lower, 0.0), -known.signs * beta)

    def backward(self, rows: Rows, planes: _Pass) -> tuple[Tensor, Tensor, Tensor]:
        """The bounds [B], the coefficients at activations [B, U] and those at inputs [B, n]."""
        meets, passed = rows.activations.clone(), torch.empty_like(planes.below)
        for block in reversed(self.blocks):
            here = slice(block.start, block.stop)
            d = meets[:, here]
            negative = d.clamp(max=0)
            e = torch.addcmul(d * planes.below[:, here], planes.above[:, here] - planes.below[:, here], negative)
            if planes.added is not None:
                e = e + planes.added[:, here]
            passed[:, here] = e
            if block.start:
                meets[:, : block.start].addmm_(e, self.weight[here, : block.start])
        inputs = torch.addmm(rows.inputs, passed, self.inputs)
        constant = rows.constant + (meets.clamp(max=0) * planes.offset).sum(-1) + passed @ self.bias
        return constant + inputs @ self.middle - inputs.abs() @ self.half, meets, inputs

    def forward(self, planes: _Pass, meets: Tensor, inputs: Tensor) -> Tensor:
        """The pre-activations [B, U] at the minimiser of the planes in use."""
        x = self.middle - inputs.sign() * self.half
        z = torch.addmm(self.bias, x, self.inputs.T)
        out = torch.empty_like(z)
        for block in self.blocks:
            here = slice(block.start, block.stop)
            if block.start:
                z[:, here].addmm_(out[:, : block.start], self.weight[here, : block.start].T)
            straight = planes.below[:, here] * z[:, here]
            out[:, here] = torch.where(meets[:, here] < 0, planes.above[:, here] * z[:, here] + planes.offset[:, here], straight)
        return z


class _Ascent:
    """Adam over slopes and multipliers, with the gradient in closed form. Multipliers are measured in the largest coefficient of their layer."""

    def __init__(self, net: Reduced, rows: Rows, known: Neurons, alpha: Tensor, beta: Tensor, rate: float) -> None:
        self._net, self._rows, self._known, self._rate = net, rows, known, rate
        self._alpha, self._beta = alpha, beta
        self._bent = ((known.lower < 0) & (known.upper > 0)).to(alpha.dtype)
        self._split = bool((known.signs != 0).any())
        self._moments = [Moments.at_start(alpha) for _ in range(2)]  # of slopes, of multipliers
        self._planes = net.planes(known, alpha, beta)
        self.best = self._now()
        self._unit = torch.cat([self.best.meets[:, b.start : b.stop].abs().amax(-1, keepdim=True).clamp(min=1e-12).expand(-1, b.stop - b.start)
                                for b in net.blocks], -1) if net.blocks else torch.ones_like(alpha)

    def _now(self) -> Guess:
        """The guess at the present multipliers, and what the gradient needs of it."""
        value, meets, inputs = self._net.backward(self._rows, self._planes)
        self._met, self._inputs = meets, inputs
        return Guess(value, self._alpha, self._beta, meets, inputs)

    def select(self, keep: Tensor) -> _Ascent:
        """The same ascent of the sub-problems `keep` (mask)."""
        rest = object.__new__(_Ascent)
        rest._net, rest._rate, rest._split = self._net, self._rate, self._split
        rest._rows, rest._known = self._rows.select(keep), self._known.select(keep)
        rest._alpha, rest._beta, rest._bent, rest._unit = self._alpha[keep], self._beta[keep], self._bent[keep], self._unit[keep]
        rest._met, rest._inputs = self._met[keep], self._inputs[keep]
        rest._moments = [moments.select(keep) for moments in self._moments]
        rest._planes = self._net.planes(rest._known, rest._alpha, rest._beta)
        rest.best = Guess(*(part[keep] for part in self.best.parts()))
        return rest

    def step(self) -> None:
        """One step, and its guess."""
        z = self._net.forward(self._planes, self._met, self._inputs)
        slope = self._met.clamp(min=0) * z * self._bent
        self._alpha = (self._alpha + self._rate * self._moments[0].direction(slope)).clamp(0, 1)
        if self._split:
            change = -self._known.signs * z * self._unit
            self._beta = (self._beta + self._rate * self._unit * self._moments[1].direction(change)).clamp(min=0)
        self._rate *= RATE_DECAY
        self._planes = self._net.planes(self._known, self._alpha, self._beta)
        self.best = self.best.better_of(self._now())


def reducible(bounds: LinearBounds) -> bool:
    """Whether a network is of the kind that reduces: affine maps, ReLUs, each of a pre-activation of its own, and maxima, which are made of these."""
    sources = [node.inputs[0] for _, node in bounds.graph if isinstance(node, Elementwise)]
    return len(set(sources)) == len(sources) and all(
        isinstance(node, Input | Constant | Affine | Max) or (isinstance(node, Elementwise) and node.function == RELU) for _, node in bounds.graph
    )


@dataclass
class Reduction:
    """Builds a reduced network in the state of one box (B = 1), layer by layer: `rows` are taken apart into what was added so far."""

    bounds: LinearBounds
    lower: Tensor  # [n_in]
    upper: Tensor
    blocks: list[Block] = field(default_factory=list)
    _parts: list[Rows] = field(default_factory=list)

    @property
    def varying(self) -> Tensor:
        """The inputs that vary."""
        return torch.nonzero(self.upper > self.lower).squeeze(-1)

    def rows(self, state: State, functional: Functional, constant: Tensor) -> Rows:
        """Functionals [1, R, size] plus constants [1, R], each neuron added so far kept, all others linear in `state`."""
        count = constant.shape[-1]
        size = max(1, self.bounds.memory // (4 * self.bounds.widest * self.lower.element_size()))
        parts = [self._rows(state, {i: d[:, part] for i, d in functional.items()}, constant[:, part]) for part in torch.arange(count).split(size)]
        return stacked(parts)

    def _rows(self, state: State, functional: Functional, constant: Tensor) -> Rows:
        kept = {block.node: block for block in self.blocks}
        planes = {}
        for i, node in self.bounds.graph:
            if isinstance(node, Elementwise):
                slope = (state.lower[node.inputs[0]] >= 0).to(self.lower.dtype)
                if i in kept:
                    slope = slope.index_fill(-1, kept[i].elements, 0.0)
                planes[i] = Planes(slope, None, slope, None)
            if isinstance(node, Max):  # its twin, nothing else
                one = torch.ones_like(state.lower[i])
                planes[i] = Planes(one, None, one, None)
        low = self.bounds.lower_bound(state, functional, constant, planes=planes, record=(Elementwise,), rigorous=False)
        none = constant.new_zeros(constant.shape[-1], 0)
        met = [low.at[b.node][0][:, b.elements] if b.node in low.at else none.new_zeros(len(none), len(b.elements)) for b in self.blocks]
        varying, middle = self.varying, (self.lower + self.upper) / 2
        fixed = middle.index_fill(0, varying, 0.0)
        return Rows(torch.cat([none, *met], -1), low.coefficients[0][:, varying], low.constant[0] + low.coefficients[0] @ fixed)

    def add(self, node: int, source: int, elements: Tensor, rows: Rows) -> None:
        """The neurons `elements` of `source`, taken apart into `rows`, are kept from here on."""
        start = self.blocks[-1].stop if self.blocks else 0
        self.blocks.append(Block(node, source, elements, start, start + len(elements)))
        self._parts.append(rows)

    def finished(self) -> Reduced:
        """The network so far."""
        size, varying = (self.blocks[-1].stop if self.blocks else 0), self.varying
        weight = self.lower.new_zeros(size, size)
        for block, rows in zip(self.blocks, self._parts, strict=True):
            weight[block.start : block.stop, : block.start] = rows.activations
        inputs = torch.cat([self.lower.new_zeros(0, len(varying)), *(rows.inputs for rows in self._parts)])
        bias = torch.cat([self.lower.new_zeros(0), *(rows.constant for rows in self._parts)])
        low, high = self.lower[varying], self.upper[varying]
        return Reduced(tuple(self.blocks), weight, inputs, bias, (low + high) / 2, (high - low) / 2, varying)


def stacked(parts: list[Rows]) -> Rows:
    """All rows, one after the other."""
    return Rows(torch.cat([p.activations for p in parts]), torch.cat([p.inputs for p in parts]), torch.cat([p.constant for p in parts]))


def units(bounds: LinearBounds, source: int, elements: Tensor) -> tuple[Functional, Tensor]:
    """The functionals that are the `elements` of node `source`, and their constants, which are 0."""
    unit = torch.zeros(1, len(elements), bounds.graph.nodes[source].size, dtype=bounds.net.dtype, device=bounds.net.device)
    unit[0, torch.arange(len(elements)), elements] = 1.0
    return {source: unit}, unit.new_zeros(1, len(elements))


def reduce(bounds: LinearBounds, state: State) -> tuple[Reduction, Reduced]:
    """The network in the state of one box (B = 1), and how more rows are taken apart."""
    lower, upper = (torch.cat([end[i][0] for i in bounds.graph.inputs]) for end in (state.lower, state.upper))
    reduction = Reduction(bounds, lower, upper)
    for i, node in bounds.graph:
        if isinstance(node, Elementwise):
            source = node.inputs[0]
            elements = torch.nonzero(~relaxation.is_linear(node.function, state.lower[source][0], state.upper[source][0])).squeeze(-1)
            if elements.numel():
                reduction.add(i, source, elements, reduction.rows(state, *units(bounds, source, elements)))
    return reduction, reduction.finished()
