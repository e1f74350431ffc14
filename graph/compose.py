"""Several networks as one: side by side, over shared inputs, with hidden tensors and products of elements as further outputs.

What a query of VNN-LIB 2 says about networks is said about the composed one: its inputs are those of all parts, one after the other (or one
tensor of the free ones), its outputs the tensors asked for, part by part, and the products. FORMAT.md states the same for the checker, which
composes for itself; tensor t of the part `p` is called `p/t`, where there are several parts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graph.core import Affine, Bilinear, Elementwise, Graph, Input, Max, Node, Origin, check
from graph.errors import ModelError
from graph.functions import build
from graph.linear_map import Gather
from graph.load import Model, TensorInfo, joint_hash
from graph.simplify import simplify

Array = NDArray[Any]
Product = tuple[int, ...]  # places of its factors: first elements of outputs, then of inputs
FREE, PRODUCTS = "=", "*"  # names of the tensors that no file has


@dataclass(frozen=True, eq=False)
class Part:
    """A network under a name; `outputs`: which of its outputs are asked for, in this order."""

    name: str
    model: Model
    outputs: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Composed(Model):
    """`source` [elements of all parts' inputs]: the element of the composed network's input; `products`: of the last output, if any.
    There are no `onnx_bytes`: runtimes run the parts."""

    parts: tuple[Part, ...] = field(kw_only=True)
    source: Array = field(kw_only=True, repr=False)
    products: tuple[Product, ...] = field(kw_only=True, repr=False)


def compose(parts: Sequence[Part], source: Sequence[int], products: Sequence[Product]) -> Composed:
    """The composed network. `source`: see Composed, or empty for inputs that stay apart. Raises ModelError for parts that do not fit."""
    frame = _Frame(len(parts) > 1)
    starts = np.cumsum([0, *(info.size for part in parts for info in part.model.inputs)])
    if source:
        frame.share(np.asarray(source, np.int64), max(source) + 1)
    at, placed = 0, []
    for part in parts:
        count = len(part.model.inputs)
        placed.append(frame.open(part, [np.asarray(source[a:b], np.int64) for a, b in zip(starts[at : at + count], starts[at + 1 :], strict=False)]))
        at += count
    for part, place in zip(parts, placed, strict=True):
        frame.add(part, place)
    if products:
        frame.multiply(tuple(products))
    lowered, first = frame.graph(), parts[0].model
    declared = [[TensorInfo(frame.prefix(part) + i.name, i.shape, i.element_type) for part in parts for i in _asked(part, kind)] for kind in (0, 1)]
    inputs = [TensorInfo(FREE, (max(source) + 1,), "float32")] if source else declared[0]
    outputs = [*declared[1], *([TensorInfo(PRODUCTS, (len(products),), "float32")] if products else [])]
    return Composed(
        graph=simplify(lowered), lowered=lowered, sha256=joint_hash([part.model.sha256 for part in _with_files(parts)]),
        external=tuple(entry for part in _with_files(parts) for entry in part.model.external), onnx_bytes=b"", path=first.path, opset=first.opset,
        inputs=tuple(inputs), outputs=tuple(outputs), notes=tuple(dict.fromkeys(note for part in parts for note in part.model.notes)),
        parts=tuple(parts), source=np.asarray(source, np.int64) if source else np.arange(int(starts[-1])), products=tuple(products),
    )


def _with_files(parts: Sequence[Part]) -> list[Part]:
    """Each model once (parts may be equal)."""
    return list({id(part.model): part for part in parts}.values())


def _asked(part: Part, kind: int) -> list[TensorInfo]:
    """Inputs (0), or the outputs that are asked for (1)."""
    outputs = {info.name: info for info in part.model.outputs}
    return [outputs[name] for name in part.outputs] if kind else list(part.model.inputs)


class _Frame:
    """The composed graph as it grows."""

    def __init__(self, several: bool) -> None:
        self.several = several
        self.nodes: list[Node] = []
        self.inputs: list[int] = []
        self.outputs: list[tuple[str, int]] = []
        self.names: dict[str, int] = {}
        self.shifts: list[int] = []
        self.opset = 0
        self.free = 0  # elements of FREE

    def prefix(self, part: Part) -> str:
        return f"{part.name}/" if self.several else ""

    def share(self, source: Array, size: int) -> None:
        """One input for all."""
        self.free = size
        self.inputs.append(self._append(Input((size,), (), Origin(("input",)), FREE)))
        self.names[FREE] = self.inputs[0]

    def open(self, part: Part, sources: Sequence[Array]) -> dict[int, int]:
        """Where the inputs of a part are now; they read `sources` of FREE, if that is the input. Those of all parts come before everything else:
        a bound of any node is a function of all inputs."""
        graph, prefix, place = part.model.lowered, self.prefix(part), dict[int, int]()
        for number, i in enumerate(graph.inputs):
            node = graph.nodes[i]
            if not isinstance(node, Input):
                raise ModelError(f"{part.name}: an input is no input")
            if self.free:
                gather = Gather((self.free,), node.shape, sources[number])
                place[i] = self._append(Affine(node.shape, (self.inputs[0],), replace(node.origin, site=None), (gather,)))
            else:
                place[i] = self._append(replace(node, name=prefix + node.name))
                self.inputs.append(place[i])
        return place

    def add(self, part: Part, place: dict[int, int]) -> None:
        """A part whose inputs are at `place`, behind what is there."""
        graph, prefix = part.model.lowered, self.prefix(part)
        self.opset = max(self.opset, graph.opset)
        for i, node in graph:
            if i not in place:
                site = None if node.origin.site is None else (prefix + node.origin.site[0], node.origin.site[1])
                moved = replace(node, inputs=tuple(place[j] for j in node.inputs), origin=replace(node.origin, site=site))
                place[i] = self._append(moved)
        self.names |= {prefix + name: place[i] for name, i in graph.names.items()}
        self.shifts += [place[i] for i in graph.shifts]
        self.outputs += [(prefix + name, self.names[prefix + name]) for name in part.outputs]

    def multiply(self, products: tuple[Product, ...]) -> None:
        """The output PRODUCTS, by squares and products of two, level by level."""
        if PRODUCTS in self.names or any(node.origin.site is not None and node.origin.site[0] == PRODUCTS for node in self.nodes):
            raise ModelError(f"the network has a tensor called {PRODUCTS!r}, the name of the products of a query")
        tensors = [*(i for _, i in self.outputs), *self.inputs]
        where: dict[Product, tuple[int, int]] = {}  # node and element
        starts = np.cumsum([0, *(self.nodes[i].size for i in tensors)])
        for product in factors_of(products):
            if len(product) == 1:
                which = int(np.searchsorted(starts, product[0], side="right")) - 1
                where[product] = tensors[which], product[0] - int(starts[which])
        sites = 0
        for level in levels(products):
            for square in (True, False):
                made = [product for product in level if is_square(product) == square]
                if not made:
                    continue
                operands = [self._collect([where[split(product)[k]] for product in made]) for k in range(1 if square else 2)]
                shape, origin = (len(made),), Origin(("a product in the property",), site=(PRODUCTS, sites))
                node = self._append(
                    Elementwise(shape, tuple(operands), origin, build("pow", 2.0)) if square else Bilinear(shape, tuple(operands), origin, "mul")
                )
                where |= {product: (node, k) for k, product in enumerate(made)}
                sites += 1
        self.names[PRODUCTS] = self._collect([where[product] for product in products])
        self.outputs.append((PRODUCTS, self.names[PRODUCTS]))

    def _collect(self, places: Sequence[tuple[int, int]]) -> int:
        """A vector of elements of nodes."""
        sources = list(dict.fromkeys(node for node, _ in places))
        index = {node: np.array([i if n == node else -1 for n, i in places], np.int64) for node in sources}
        maps = tuple(Gather(self.nodes[node].shape, (len(places),), index[node]) for node in sources)
        return self._append(Affine((len(places),), tuple(sources), Origin(("elements in the property",)), maps))

    def _append(self, node: Node) -> int:
        self.nodes.append(node)
        return len(self.nodes) - 1

    def graph(self) -> Graph:
        return check(Graph(
            tuple(self.nodes), tuple(self.inputs), tuple(i for _, i in self.outputs), tuple(name for name, _ in self.outputs), self.names,
            self.opset, (), tuple(self.shifts),
        ))  # fmt: skip


def is_square(product: Product) -> bool:
    """Whether every factor occurs an even number of times."""
    return all(product.count(factor) % 2 == 0 for factor in product)


def split(product: Product) -> tuple[Product, ...]:
    """What a product is made of: a square of its root; any other of the last factor that occurs an odd number of times, behind the rest."""
    if is_square(product):
        return (product[::2],)  # in order: equal factors stand together
    last = max(k for k, factor in enumerate(product) if product.count(factor) % 2)
    return product[:last] + product[last + 1 :], (product[last],)


def factors_of(products: Sequence[Product]) -> set[Product]:
    """The products and everything that they are made of, single factors included."""
    found: set[Product] = set()
    left = list(products)
    while left:
        product = left.pop()
        if product not in found:
            found.add(product)
            left += split(product) if len(product) > 1 else ()
    return found


def levels(products: Sequence[Product]) -> list[list[Product]]:
    """All that has to be made, sorted: what is made of single factors, then what is made of these, and so on."""
    depth: dict[Product, int] = {}
    for product in sorted(factors_of(products), key=len):  # parts are shorter
        depth[product] = 0 if len(product) == 1 else 1 + max(depth[part] for part in split(product))
    return [sorted(p for p, d in depth.items() if d == level) for level in range(1, max(depth.values(), default=0) + 1)]


def isomorphic(left: Graph, right: Graph) -> bool:
    """Whether two lowered graphs have the same structure: nodes of the same kinds and shapes that read the same nodes; weights may differ."""
    return [_structure(node) for node in left.nodes] == [_structure(node) for node in right.nodes] and left.inputs == right.inputs


def _structure(node: Node) -> tuple[Any, ...]:
    facts: tuple[Any, ...] = ()
    match node:
        case Affine(maps=maps):
            facts = tuple((type(m), m.in_shape, m.out_shape) for m in maps)
        case Elementwise(function=function):
            facts = (function.name,)
        case Bilinear(kind=kind):
            facts = (kind,)
        case Max(windows=windows):
            facts = (windows.tobytes(),)
    return type(node), node.shape, node.inputs, *facts
