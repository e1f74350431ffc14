"""What a tile of an image depends on, as a graph of its own: away from the tile all coefficients of its backward bounds are 0.

Patch-wise backward bounds (as in auto_LiRPA's patches mode, Xu et al. 2020), for any graph of convolutions, re-indexings, functions and maxima: every
node of a part holds some elements of one node of the whole graph, with all that these read and the same weights. So they are the same functions
of the inputs, and what is proven of them over the part is proven.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bounds.torch_graph import TorchGraph
from graph.core import Affine, Constant, Elementwise, Graph, Input, Max, Node
from graph.errors import MalformedGraph
from graph.linear_map import Composition, Conv, Gather, LinearMap, Reshape, Scale

if TYPE_CHECKING:
    from bounds.linear import LinearBounds, State

Array = NDArray[Any]
Window = tuple[slice, ...]  # a slice for each axis of a node's shape, of images all channels
PLACES = 16  # of a tile
LEAST_WORK = 1 << 25  # coefficients of all rows at all nodes; parts take longer to make than fewer to compute
LEAST_GAIN = 1.25  # times the elements of a part that the whole graph must have


@dataclass(frozen=True, eq=False)
class Part:
    """Node k of `graph` holds the elements `kept[k]` of node `source[k]` of the whole, the last one the tile; `copies` hold some elements of another
    node of the part once more."""

    graph: Graph
    source: list[int]
    kept: list[Array]
    copies: set[int]

    def state(self, whole: State) -> State:
        """What a state of the whole graph says of these elements."""
        held = [(i, torch.from_numpy(kept).to(whole.lower[0].device)) for i, kept in zip(self.source, self.kept, strict=True)]
        lower, upper = ([end[i].index_select(-1, kept) for i, kept in held] for end in (whole.lower, whole.upper))
        magnitude = {
            k: torch.maximum(lower[k].abs(), upper[k].abs()) if k in self.copies else whole.magnitude[i].index_select(-1, kept)
            for k, (i, kept) in enumerate(held) if isinstance(self.graph.nodes[k], Affine)
        }
        return replace(whole, lower=lower, upper=upper, magnitude=magnitude, planes={}, folded=None, _sums={})


def ends(bounds: LinearBounds, state: State, i: int, below: Tensor, above: Tensor) -> tuple[Tensor, Tensor] | None:
    """Lower bounds of the elements `below` of node i and upper ones of `above`, tile by tile; None where that gains little."""
    if bounds.net.replaced:  # a part is made of the graph's own numbers
        return None
    asked, batch = [below.cpu().numpy(), above.cpu().numpy()], len(state.lower[i])
    low, high = (torch.full((batch, len(x)), worst, dtype=bounds.net.dtype, device=x.device) for x, worst in ((below, -math.inf), (above, math.inf)))
    made = False
    for part in parts(bounds.graph, i, np.concatenate(asked), batch):
        if part is None:
            return None
        made = True
        mine = [np.flatnonzero(np.isin(x, part.kept[-1])) for x in asked]
        at = [torch.from_numpy(np.searchsorted(part.kept[-1], x[m])).to(below.device) for x, m in zip(asked, mine, strict=True)]
        net = TorchGraph(part.graph, bounds.net.dtype, bounds.net.device)
        of_tile = type(bounds)(net, bounds.memory).ends(part.state(state), len(part.kept) - 1, *at)
        for side, places, values in zip((low, high), mine, of_tile, strict=True):
            side[:, torch.from_numpy(places).to(side.device)] = values
    return (low, high) if made else None


def parts(graph: Graph, i: int, elements: Array, boxes: int = 1) -> Iterator[Part | None]:
    """Parts whose tiles hold all `elements` of node i, each in one of them; None for a tile that has none. Nothing where that gains little."""
    shape, size = graph.nodes[i].shape, sum(node.size for node in graph.nodes[: i + 1])
    if len(shape) < 3 or elements.size * size * boxes < LEAST_WORK:
        return
    edge = math.ceil(PLACES ** (1 / (len(shape) - 2)))
    sides = [[slice(0, n)] if axis < 2 else [slice(a, a + edge) for a in range(0, n, edge)] for axis, n in enumerate(shape)]
    middle = crop(graph, i, tuple(side[len(side) // 2] for side in sides))
    if middle is None or sum(node.size for node in middle.graph.nodes) * LEAST_GAIN > size:
        return
    tiles, tile_of = list(product(*sides)), np.zeros(shape, np.int64)
    for k, tile in enumerate(tiles):
        tile_of[tile] = k
    for k in np.unique(tile_of.reshape(-1)[elements]).tolist():
        yield crop(graph, i, tiles[k])


def crop(graph: Graph, i: int, tile: Window) -> Part | None:
    """What the elements `tile` of node i depend on, or None where there is no rule for some node on the way."""
    windows = {i: tile}
    for j in range(i, -1, -1):
        for p, k in enumerate(graph.nodes[j].inputs if j in windows else ()):
            read = _read(graph, j, p, _flat(graph.nodes[j], windows[j]))
            if read is None or not read.size:
                return None
            read = read if k not in windows else np.concatenate([read, _flat(graph.nodes[k], windows[k])])
            windows[k] = _hull(read, graph.nodes[k].shape)
    return _Maker(graph, {j: _flat(graph.nodes[j], window) for j, window in windows.items()}).part()


def _flat(node: Node, window: Window) -> Array:
    """The flat elements of a window of a node."""
    return np.arange(node.size).reshape(node.shape)[window].reshape(-1)


def _hull(elements: Array, shape: tuple[int, ...]) -> Window:
    """The smallest window that holds the elements."""
    at = np.unravel_index(elements, shape) if shape else ()
    return tuple(
        slice(0, n) if axis < 2 < len(shape) else slice(int(x.min()), int(x.max()) + 1) for axis, (n, x) in enumerate(zip(shape, at, strict=True))
    )


def _read(graph: Graph, j: int, p: int, kept: Array) -> Array | None:
    """What the elements `kept` of node j read of its input p; None without a rule."""
    match graph.nodes[j]:
        case Elementwise():
            return kept
        case Max(windows=windows) if p == 0:
            read = windows[kept].reshape(-1)
            return read[read >= 0]
        case Max():
            return kept
        case Affine(maps=maps):
            cropped = crop_map(maps[p], kept)
            return None if cropped is None else cropped[0]
    return None


def crop_map(m: LinearMap, kept: Array) -> tuple[Array, LinearMap] | None:
    """The elements that the outputs `kept` of a map read, in order, and the map from these to them; None without a rule."""
    n = kept.size
    match m:
        case Reshape():
            return kept, Reshape((n,), (n,))
        case Scale(factor=factor):
            return kept, Scale((n,), (n,), factor if factor.size == 1 else factor[kept])
        case Gather(index=index):
            read = np.unique(index[kept][index[kept] >= 0])
            return read, Gather((read.size,), (n,), np.where(index[kept] >= 0, np.searchsorted(read, index[kept]), -1))
        case Conv():
            return _crop_conv(m, kept)
        case Composition(maps=maps):
            chain: list[LinearMap] = []
            for part in reversed(maps):
                cropped = crop_map(part, kept) if kept.size else None
                if cropped is None:
                    return None
                kept = cropped[0]
                chain.insert(0, cropped[1])
            return kept, Composition((kept.size,), (n,), tuple(chain))
    return None


def _crop_conv(m: Conv, kept: Array) -> tuple[Array, LinearMap]:
    """Of the smallest window of the convolution's image that holds `kept`, and then, of this, what is kept."""
    window = _hull(kept, m.out_shape)
    inside, before, after = [slice(None), slice(None)], [], []
    along = zip(window[2:], m.in_shape[2:], m.kernel, m.strides, m.dilations, m.pads_begin, strict=True)
    for side, size, taps, stride, dilation, pad in along:
        first, stop = side.start * stride - pad, (side.stop - 1) * stride - pad + dilation * (taps - 1) + 1
        start = min(max(first, 0), size)
        inside.append(slice(start, max(start, min(stop, size))))  # empty where only padding is read
        before.append(inside[-1].start - first)
        after.append(stop - inside[-1].stop)
    read = np.arange(m.in_size).reshape(m.in_shape)[tuple(inside)]
    image = np.arange(m.out_size).reshape(m.out_shape)[window]
    own: LinearMap = replace(m, in_shape=read.shape, out_shape=image.shape, pads_begin=tuple(before), pads_end=tuple(after))
    if image.size != kept.size:
        own = Composition((read.size,), (kept.size,), (own, Gather((image.size,), (kept.size,), np.searchsorted(image.reshape(-1), kept))))
    return read.reshape(-1), own


class _Maker:
    """Nodes of a part, one after the other, of the elements `kept` of the nodes of a graph."""

    def __init__(self, graph: Graph, kept: dict[int, Array]) -> None:
        self.graph, self.kept, self.place = graph, kept, dict[int, int]()
        self.nodes, self.source, self.held, self.copies = list[Node](), list[int](), list[Array](), set[int]()

    def part(self) -> Part:
        for j in sorted(self.kept):
            self.place[j] = self._add(j, self._node(j), self.kept[j])
        inputs = tuple(k for k, node in enumerate(self.nodes) if isinstance(node, Input))
        return Part(Graph(tuple(self.nodes), inputs, (len(self.nodes) - 1,), ("tile",), {}), self.source, self.held, self.copies)

    def _add(self, j: int, node: Node, kept: Array) -> int:
        self.nodes.append(node)
        self.source.append(j)
        self.held.append(kept)
        return len(self.nodes) - 1

    def _node(self, j: int) -> Node:
        kept = self.kept[j]
        match self.graph.nodes[j]:
            case Input() as node:
                return replace(node, shape=kept.shape)
            case Constant(value=value) as node:
                return replace(node, shape=kept.shape, value=value[kept])
            case Elementwise(inputs=(k,)) as node:
                return replace(node, shape=kept.shape, inputs=(self._holding(k, kept),))
            case Max(inputs=(k, *others), windows=windows) as node:
                inputs = (self.place[k], *(self._holding(other, kept) for other in others))
                return replace(node, shape=kept.shape, inputs=inputs, windows=self._within(k, windows[kept]))
            case Affine(inputs=inputs, maps=maps, bias=bias) as node:
                places = tuple(self.place[k] for k in inputs)
                cropped = tuple(self._map(k, m, kept) for k, m in zip(inputs, maps, strict=True))
                return replace(node, shape=kept.shape, inputs=places, maps=cropped, bias=None if bias is None else bias[kept])
        raise NotImplementedError(f"no part of node type {type(self.graph.nodes[j]).__name__}")

    def _map(self, k: int, m: LinearMap, kept: Array) -> LinearMap:
        cropped = crop_map(m, kept)
        if cropped is None:
            raise NotImplementedError(f"no part of linear map {type(m).__name__}")
        read, own = cropped
        if np.array_equal(read, self.kept[k]):
            return own
        return Composition((self.kept[k].size,), (kept.size,), (self._selected(k, read), own))

    def _within(self, k: int, elements: Array) -> Array:
        """Elements of node k of the graph as places in what is kept of it; -1 stays."""
        if not np.isin(elements[elements >= 0], self.kept[k]).all():
            raise MalformedGraph(f"part of a graph: an element of node {k} is missing that is read")
        return np.where(elements >= 0, np.searchsorted(self.kept[k], elements), -1)

    def _selected(self, k: int, elements: Array) -> Gather:
        return Gather((self.kept[k].size,), (elements.size,), self._within(k, elements))

    def _holding(self, k: int, elements: Array) -> int:
        """A node of the part that holds just these elements of node k of the graph: its own, or a copy of some of them."""
        if np.array_equal(self.kept[k], elements):
            return self.place[k]
        self.copies.add(len(self.nodes))
        copy = Affine(elements.shape, (self.place[k],), self.graph.nodes[k].origin, (self._selected(k, elements),), None)
        return self._add(k, copy, elements)
