"""What a tile of an image depends on, as a network of its own: away from the tile all coefficients of its backward bounds are 0.

Every node of a part holds some elements of one node of the whole network, with all that these read and the same weights. So they are the same
functions of the inputs, and what is proven of them over the part is proven. Which parts are made changes no bound but by roundings.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np

from verifier.checker.arithmetic import Array
from verifier.checker.maps import Convolution, Diagonal, Index, Map
from verifier.checker.network import Affine, Constant, Elementwise, Input, Maximum, Network, Node
from verifier.checker.refusal import Rejected
from verifier.checker.state import State

if TYPE_CHECKING:
    from verifier.checker.bounds import Checker

Window = tuple[slice, ...]  # a slice for each axis of a node's shape, of images all channels
PLACES = 4  # of a tile
LEAST_WORK = 1 << 25  # coefficients of all rows at all nodes; parts take longer to make than fewer to compute
LEAST_GAIN = 1.25  # times the elements of a part that the whole network must have


@dataclass(frozen=True, eq=False)
class Part:
    """Node k of `network` holds the elements `kept[k]` of node `source[k]` of the whole, the last one the tile; `copies` hold some elements of
    another node of the part once more."""

    network: Network
    source: list[int]
    kept: list[Array]
    copies: set[int]

    def state(self, whole: State) -> State:
        """What a state of the whole network says of these elements."""
        held = list(zip(self.source, self.kept, strict=True))
        charge = {k: whole.charge[i][:, kept] for k, (i, kept) in enumerate(held) if k not in self.copies and i in whole.charge}
        lower, upper = ([end[i][:, kept] for i, kept in held] for end in (whole.lower, whole.upper))
        return State(whole.crossed, lower, upper, charge=charge)


def rows(checker: Checker, state: State, i: int, codes: Array) -> Array | None:
    """`checker.rows` of these codes [B, R], tile by tile; None where that gains little."""
    value = None
    for part in parts(checker.network, i, np.unique(codes // 2)):
        if part is None:
            return None
        value = np.full((len(state.crossed), len(codes)), -np.inf) if value is None else value
        mine = np.flatnonzero(np.isin(codes // 2, tile := part.kept[-1]))
        at = 2 * np.searchsorted(tile, codes[mine] // 2) + codes[mine] % 2
        value[:, mine] = type(checker)(part.network, checker.slack, checker.block).rows(part.state(state), len(part.kept) - 1, at, {})
    return value


def parts(network: Network, i: int, elements: Array) -> Iterator[Part | None]:
    """Parts whose tiles hold all `elements` of node i, each in one of them; None for a tile that has none. Nothing where that gains little."""
    shape, size = network.nodes[i].shape, sum(node.size for node in network.nodes[: i + 1])
    if len(shape) < 3 or elements.size * size < LEAST_WORK:
        return
    edge = int(np.ceil(PLACES ** (1 / (len(shape) - 2))))
    sides = [[slice(0, n)] if axis < 2 else [slice(a, a + edge) for a in range(0, n, edge)] for axis, n in enumerate(shape)]
    middle = crop(network, i, tuple(side[len(side) // 2] for side in sides))
    if middle is None or sum(node.size for node in middle.network.nodes) * LEAST_GAIN > size:
        return
    tiles, tile_of = list(product(*sides)), np.zeros(shape, np.int64)
    for k, tile in enumerate(tiles):
        tile_of[tile] = k
    for k in np.unique(tile_of.reshape(-1)[elements]).tolist():
        yield crop(network, i, tiles[k])


def crop(network: Network, i: int, tile: Window) -> Part | None:
    """What the elements `tile` of node i depend on, or None where there is no rule for some node on the way."""
    windows = {i: tile}
    for j in range(i, -1, -1):
        for p, k in enumerate(network.nodes[j].inputs if j in windows else ()):
            read = _read(network, j, p, _flat(network.nodes[j], windows[j]))
            if read is None or not (read := read[read >= 0]).size:
                return None
            read = read if k not in windows else np.concatenate([read, _flat(network.nodes[k], windows[k])])
            shape = network.nodes[k].shape
            windows[k] = tuple(
                slice(0, n) if axis < 2 < len(shape) else slice(int(at.min()), int(at.max()) + 1)
                for axis, (n, at) in enumerate(zip(shape, np.unravel_index(read, shape) if shape else (), strict=True))
            )
    return _Maker(network, {j: _flat(network.nodes[j], window) for j, window in windows.items()}).part()


def _flat(node: Node, window: Window) -> Array:
    """The flat elements of a window of a node."""
    return np.arange(node.size).reshape(node.shape)[window].reshape(-1)


def _read(network: Network, j: int, p: int, kept: Array) -> Array | None:
    """What the elements `kept` of node j read of its input p, -1 for padding; None without a rule."""
    node = network.nodes[j]
    match node:
        case Elementwise():
            return kept
        case Maximum():
            return kept if p else node.windows[kept].reshape(-1)
        case Affine():
            match node.maps[p]:
                case Index() as m:
                    return m.source[kept]
                case Diagonal():
                    return kept
                case Convolution() as m if m.out_shape == node.shape and m.in_shape == network.nodes[node.inputs[p]].shape:
                    return _flat(network.nodes[node.inputs[p]], (slice(None), slice(None), *(side[0] for side in _sides(m, kept))))
    return None


def _sides(m: Convolution, kept: Array) -> list[tuple[slice, int, int]]:
    """Along each spatial axis the places of the input that the outputs `kept`, a window, read, and how many zeros they read before and after."""
    found = []
    for axis, places in enumerate(np.unravel_index(kept, m.out_shape)[2:]):
        first = int(places.min()) * m.strides[axis] - m.before[axis]
        stop = int(places.max()) * m.strides[axis] - m.before[axis] + m.dilations[axis] * m.taps[-1][axis] + 1
        start = int(np.clip(first, 0, m.spatial[axis]))
        inside = slice(start, int(np.clip(stop, start, m.spatial[axis])))  # empty where only padding is read
        found.append((inside, inside.start - first, stop - inside.stop))
    return found


class _Maker:
    """Nodes of a part, one after the other, of the elements `kept` of the nodes of a network."""

    def __init__(self, network: Network, kept: dict[int, Array]) -> None:
        self.network, self.kept, self.place = network, kept, dict[int, int]()
        self.nodes, self.made = list[Node](), Part(network, [], [], set())

    def part(self) -> Part:
        for j in sorted(self.kept):
            self.place[j] = self._add(j, self._node(j), self.kept[j])
        inputs = tuple(k for k, node in enumerate(self.nodes) if isinstance(node, Input))
        network = replace(self.network, nodes=tuple(self.nodes), inputs=inputs, outputs=(len(self.nodes) - 1,), sites={}, softmaxes=())
        return replace(self.made, network=network)

    def _add(self, j: int, node: Node, kept: Array) -> int:
        self.nodes.append(node)
        self.made.source.append(j)
        self.made.kept.append(kept)
        return len(self.nodes) - 1

    def _node(self, j: int) -> Node:
        node, kept = self.network.nodes[j], self.kept[j]
        changed: dict[str, Any] = {"shape": kept.shape}
        match node:
            case Constant():
                changed |= {"value": node.value[kept], "radius": node.radius[kept]}
            case Elementwise():
                changed["inputs"] = tuple(self._holding(k, kept) for k in node.inputs)
            case Maximum():
                inputs = (self.place[node.inputs[0]], *(self._holding(k, kept) for k in node.inputs[1:]))
                changed |= {"inputs": inputs, "windows": self._within(node.inputs[0], node.windows[kept])}
            case Affine():
                cropped = [self._map(m, j, p) for p, m in enumerate(node.maps)]
                changed |= {"inputs": tuple(k for k, _ in cropped), "maps": tuple(m for _, m in cropped)}
                changed |= {name: None if x is None else x[kept] for name, x in (("bias", node.bias), ("bias_radius", node.bias_radius))}
        return replace(node, **changed)

    def _map(self, m: Map, j: int, p: int) -> tuple[int, Map]:
        """Input p of node j in the part, and the map of it."""
        k, kept = self.network.nodes[j].inputs[p], self.kept[j]
        match m:
            case Index():
                return self.place[k], Index(self._within(k, m.source[kept]), self.kept[k].size)
            case Diagonal():
                return self._holding(k, kept), Diagonal(m.weight[kept], None if m.error is None else m.error[kept])
            case Convolution():
                sides, (groups, _, per_group, outs) = _sides(m, kept), m.weight.shape
                inside, before, after = zip(*sides, strict=True)
                read = _flat(self.network.nodes[k], (slice(None), slice(None), *inside))
                weight = m.weight.transpose(0, 3, 2, 1).reshape(groups * outs, per_group, *(t + 1 for t in m.taps[-1]))
                shape = (*m.in_shape[:2], *(side.stop - side.start for side in inside))
                return self._holding(k, read), Convolution(weight, shape, m.strides, m.dilations, (*before, *after), groups)
        raise Rejected("no-rule", f"part of {type(m).__name__}, {self.network.nodes[j].place}")

    def _within(self, k: int, elements: Array) -> Array:
        """Elements of node k of the network as places in what is kept of it; -1 stays."""
        if not np.isin(elements[elements >= 0], self.kept[k]).all():
            raise Rejected("part", f"of {self.network.nodes[k].place} an element is missing that is read")
        return np.where(elements >= 0, np.searchsorted(self.kept[k], elements), -1)

    def _holding(self, k: int, elements: Array) -> int:
        """A node of the part that holds just these elements of node k of the network: its own, or a copy of some of them."""
        if np.array_equal(self.kept[k], elements):
            return self.place[k]
        index = Index(self._within(k, elements), self.kept[k].size)
        copy = Affine(self.network.nodes[k].place, (self.place[k],), elements.shape, None, (index,))
        self.made.copies.add(len(self.nodes))
        return self._add(k, copy, elements)
