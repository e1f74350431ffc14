"""Backward bounds of hidden neurons through those alone that bend in some box of a batch: small boxes leave most neurons linear in all of them.

What is linear in every box folds into the maps around it, once for the whole batch: every node is an affine function of the inputs and of the
values of those neurons that are not, its *generators*, and a backward pass goes from one layer's generators to those below. With the planes that
`LinearBounds` uses the bounds are the same as there, but for rounding, which is charged in the same way. For networks of affine maps and functions
that bend at 0 alone.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bounds import relaxation
from bounds.rounding import dot, floor, underflow, unit_error
from graph.core import Affine, Constant, Elementwise, Graph, Input

if TYPE_CHECKING:
    from bounds.linear import LinearBounds, State

Array = NDArray[Any]
LEAST_BOXES = 16  # of a batch
ELEMENT = 16  # products that take as long as what is done to one coefficient at a function
LEAST_GAIN = 1.5  # times the work that it must save
SHARED = 20  # rows of all boxes for each generator: making the maps must cost little beside using them


@dataclass(frozen=True, eq=False)
class Block:
    """Generators `start` to `stop`: the `elements` of node `node`, a function of node `source`. Of the others `active` tells which are above 0."""

    node: int
    source: int
    elements: Tensor
    active: Tensor
    start: int
    stop: int


@dataclass(frozen=True, eq=False)
class Expression:
    """h = matrix^T generators + constant, [G, size] and [size] in float64, G generators of those that there are; computed by sums of `terms`
    products or fewer, all in all, whose sizes `sizes` [G, size] and `most` [size] add up."""

    matrix: Array
    constant: Array
    sizes: Array
    most: Array
    terms: int

    def wide(self, count: int) -> tuple[Array, Array]:
        """Matrix and sizes with `count` generators."""
        more = [(0, count - len(self.matrix)), (0, 0)]
        return np.pad(self.matrix, more), np.pad(self.sizes, more)


@dataclass(frozen=True, eq=False)
class Rows:
    """Some elements of a node: `matrix` [G, R], `constant` [R] in the dtype of the bounds; and of what every coefficient of 1 at them costs in
    rounding, `matrix_cost` [G, R] for each unit of the largest absolute values of the generators, and `cost` [R]."""

    matrix: Tensor
    constant: Tensor
    matrix_cost: Tensor
    cost: Tensor


@dataclass
class Folded:
    """The nodes of a network over the boxes of a state, which keeps this, as far as their bounds are known.

    `largest`: the largest absolute values of the inputs, and then of every block [B, elements]."""

    bounds: LinearBounds
    largest: list[Tensor]
    blocks: list[Block] = field(default_factory=list)
    _expressions: list[Expression] = field(default_factory=list)
    _seen: int = 0  # nodes whose generators are known

    @property
    def size(self) -> int:
        """Generators."""
        return self.blocks[-1].stop if self.blocks else self.bounds.net.input_size

    def saves(self, state: State, i: int, rows: int) -> bool:
        """Whether `rows` of node i are bounded faster this way."""
        for k in range(self._seen, i):
            node = self.bounds.graph.nodes[k]
            if isinstance(node, Elementwise):
                self._look(state, k, node)
        self._seen = max(self._seen, i)
        mine = sum((b.stop - b.start) * (b.start + ELEMENT) for b in self.blocks) + ELEMENT * self.size
        return self.fits() and mine * LEAST_GAIN < int(self.bounds.work[i]) and self.size * SHARED < rows * len(state.lower[0])

    def fits(self) -> bool:
        """Whether the maps of two nodes take no more memory than a block of coefficients."""
        return 4 * self.size * self.bounds.widest * 8 <= self.bounds.memory

    def _look(self, state: State, k: int, node: Elementwise) -> None:
        """What bends in some box, as the bounds stand now: they only get tighter."""
        (j,) = node.inputs
        active = (state.lower[j] >= 0).all(0)
        elements = torch.nonzero(~(active | (state.upper[j] <= 0).all(0))).squeeze(-1)
        self.blocks.append(Block(k, j, elements, active, self.size, self.size + len(elements)))
        self.largest.append(state.largest(k).index_select(-1, elements))

    def rows(self, i: int, elements: Tensor, adding: int) -> Rows:
        """Elements of node i; `adding`: how many sums their coefficients enter before the last."""
        for k in range(len(self._expressions), i + 1):
            self._expressions.append(self._expression(k))
        e, at, dtype = self._expressions[i], elements.cpu().numpy(), self.bounds.net.dtype
        unit, composed = unit_error(adding, dtype), unit_error(e.terms, torch.float64)

        def held(x: Array) -> Tensor:
            return torch.from_numpy(x).to(dtype=dtype, device=self.bounds.net.device)

        matrix, constant, sizes, most = e.matrix[:, at], e.constant[at], e.sizes[:, at], e.most[at]
        return Rows(held(matrix), held(constant), held(unit * np.abs(matrix) + composed * sizes), held(unit * np.abs(constant) + composed * most))

    def _expression(self, k: int) -> Expression:
        match self.bounds.graph.nodes[k]:
            case Input() as node:
                before = sum(self.bounds.net.input_sizes[: self.bounds.graph.inputs.index(k)])
                unit = np.eye(self.bounds.net.input_size, node.size, -before)
                return Expression(unit, np.zeros(node.size), unit, np.zeros(node.size), 0)
            case Constant() as node:
                value = node.value.astype(np.float64)
                return Expression(np.zeros((0, node.size)), value, np.zeros((0, node.size)), np.abs(value), 0)
            case Affine() as node:
                return self._affine(node)
            case Elementwise() as node:
                return self._elementwise(k, node)
            case node:
                raise NotImplementedError(f"no expression for node type {type(node).__name__}")

    def _affine(self, node: Affine) -> Expression:
        inputs = [self._expressions[j] for j in node.inputs]
        count = max(len(e.matrix) for e in inputs)
        matrix, sizes = np.zeros((2, count, node.size))
        constant = np.zeros(node.size) if node.bias is None else node.bias.astype(np.float64)
        most = np.abs(constant)
        for m, e in zip(node.maps, inputs, strict=True):
            wide, weights = e.wide(count)
            matrix, constant = matrix + m.apply(wide), constant + m.apply(e.constant)
            sizes, most = sizes + m.abs_apply(weights), most + m.abs_apply(e.most)
        terms = max(e.terms for e in inputs) + sum(m.fan_in() + 1 for m in node.maps) + 1
        return Expression(matrix, constant, sizes, most, terms)

    def _elementwise(self, k: int, node: Elementwise) -> Expression:
        """What bends is a generator; the rest is on one of the two pieces in every box."""
        block = next(b for b in self.blocks if b.node == k)
        e, at, kink = self._expressions[block.source], block.elements.cpu().numpy(), relaxation.kink(node.function)
        if kink is None:
            raise NotImplementedError(f"no expression for the function {node.function}")
        slope = np.where(block.active.cpu().numpy(), kink[1], kink[0])
        slope[at] = 0.0
        wide, weights = e.wide(block.stop)
        matrix, sizes = wide * slope, weights * np.abs(slope)
        matrix[np.arange(block.start, block.stop), at] = sizes[np.arange(block.start, block.stop), at] = 1.0
        return Expression(matrix, e.constant * slope, sizes, e.most * np.abs(slope), e.terms + 1)


def of(bounds: LinearBounds, state: State, i: int, count: int) -> Folded | None:
    """The network as it is folded in a state, for `lower_bounds` of so many rows of node i; None where that gains little."""
    own_numbers = not bounds.net.replaced and not state.lower[i].requires_grad  # expressions are made without torch
    if len(state.lower[0]) < LEAST_BOXES or not count or not own_numbers or not bounds.folds:
        return None
    if state.folded is None:
        state.folded = Folded(bounds, [state.largest(k) for k in bounds.graph.inputs])
    return state.folded if state.folded.saves(state, i, count) else None


def lower_bounds(folded: Folded, state: State, i: int, elements: Tensor, sign: Tensor) -> Tensor:
    """Lower bounds [B, R] of sign h over some elements of node i."""
    run = _Backward(folded, state, i, elements, sign)
    for block in reversed(folded.blocks):
        if block.start < block.stop <= run.d.shape[-1]:
            run.eliminate(block)
    return run.least()


class _Backward:
    """One elimination: coefficients `d` [B R, G] of the generators, constant and rounding error so far [B, R]."""

    def __init__(self, folded: Folded, state: State, i: int, elements: Tensor, sign: Tensor) -> None:
        self.folded, self.state, self.dtype = folded, state, folded.bounds.net.dtype
        self.batch, self.sums = len(state.lower[0]), len(folded.blocks) + 2
        start = folded.rows(i, elements, self.sums)
        self.largest = torch.cat(folded.largest, -1)[:, : len(start.matrix)]
        self.d = (start.matrix * sign).T.repeat(self.batch, 1)
        self.constant = (start.constant * sign).expand(self.batch, -1)
        self.lost = underflow(self.dtype) * (1 + self.largest.sum(-1, keepdim=True))  # for each time that coefficients are added
        self.error = self.largest @ start.matrix_cost + start.cost + self.sums * self.lost

    def _add(self, term: Tensor) -> None:
        """constant += term; every partial sum rounds."""
        self.constant = self.constant + term
        self.error = self.error + unit_error(1, self.dtype) * self.constant.abs()

    def eliminate(self, block: Block) -> None:
        """Put planes in place of the generators of a block."""
        below = self.folded.rows(block.source, block.elements, block.stop - block.start + self.sums + 2)
        planes = self.folded.bounds.planes(self.state, block.node).at(block.elements)
        d = self.d[:, block.start : block.stop].reshape(self.batch, -1, block.stop - block.start)
        negative, low, high = d.clamp(max=0), planes.slope_lower, planes.slope_upper
        largest = self.state.largest(block.source).index_select(-1, block.elements)
        cost = unit_error(3, self.dtype) * largest + below.cost + self.largest[:, : len(below.matrix)] @ below.matrix_cost
        weight = torch.maximum(low.abs(), high.abs()) * (cost + self.lost + floor(self.dtype))
        for offset, mine in ((planes.offset_upper, negative), (planes.offset_lower, d)):
            if offset is not None:
                self._add(dot(mine if mine is negative else d - negative, offset))
                weight = weight + unit_error(d.shape[-1], self.dtype) * offset.abs().clamp(min=2.0**-80)
        weight = weight + floor(self.dtype)
        self.error = self.error + (dot(d, weight) - 2 * dot(negative, weight))  # |d| . weight
        passed = (low.unsqueeze(1) * d).addcmul_((high - low).unsqueeze(1), negative)
        self._add(dot(passed, below.constant.unsqueeze(0)))
        self.d[:, : len(below.matrix)].addmm_(passed.flatten(0, 1), below.matrix.T)

    def least(self) -> Tensor:
        """The bounds, once only the inputs are left."""
        graph = self.folded.bounds.graph
        low, high = (torch.cat([end[i] for i in graph.inputs], -1) for end in (self.state.lower, self.state.upper))
        size = low.shape[-1]
        d = self.d[:, :size].reshape(self.batch, -1, size)
        sizes, middle, half = d.abs(), (low + high) / 2, (high - low) / 2
        value = self.constant + dot(d, middle) - dot(sizes, half)
        weight = unit_error(2 * size + 2 * len(graph.inputs) + 4, self.dtype) * self.largest[:, :size] + floor(self.dtype)
        tiny = torch.finfo(self.dtype).tiny * 2**20
        error = self.error + dot(sizes, weight) + unit_error(len(graph.inputs) + 4, self.dtype) * (self.constant.abs() + value.abs()) + tiny
        return value - error


def foldable(graph: Graph) -> bool:
    """Whether a network is made of affine maps and of functions that bend at 0 alone."""
    return all(
        isinstance(node, Input | Constant | Affine) or (isinstance(node, Elementwise) and relaxation.kink(node.function) is not None)
        for node in graph.nodes
    )


def work(graph: Graph) -> Array:
    """What a row of each node takes without: products at all nodes up to there, and what is done to coefficients at functions."""
    each = [
        node.size * sum(m.fan_in() for m in node.maps) if isinstance(node, Affine) else ELEMENT * node.size if isinstance(node, Elementwise) else 0
        for node in graph.nodes
    ]
    return np.cumsum(each)
