"""What a query of VNN-LIB 2 says about several networks, hidden tensors and products, as one network (FORMAT.md, "Queries").

Networks stand side by side; tensor t of network p is called `p/t` where there are several. A network that is equal to another one is that one,
with inputs of its own. Inputs that have to be equal in every case are one element of the only input "=", from which the networks' are gathered.
Outputs are, network by network, hidden tensors and outputs as declared, then the vector "*" of the query's products.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from verifier.checker.maps import Index
from verifier.checker.network import Affine, Elementwise, Input, Network, Node, Product, Rounding, Smooth, Softmax
from verifier.checker.read_property import INPUTS, RULE, PropertyText
from verifier.checker.read_property2 import Declared, Factors, Query
from verifier.checker.refusal import Rejected

FREE, PRODUCTS = "=", "*"
Element = tuple[int, int]  # node, and its element


@dataclass(frozen=True)
class File:
    """A model that is needed: the network's name ("" where the text says none), and the tensors that are outputs besides those of the file."""

    name: str
    hidden: tuple[str, ...] = ()


def files(prop: PropertyText | Query) -> tuple[File, ...]:
    """The models that a property is about, in the order of declaration."""
    if not isinstance(prop, Query):
        return (File(""),)
    asked: dict[str, dict[str, None]] = {}
    for network in prop.networks:
        asked.setdefault(_own(network), {}).update(dict.fromkeys(name for name, _ in network.hidden))
    return tuple(File(name, tuple(hidden)) for name, hidden in asked.items())


def network_of(prop: PropertyText | Query, models: Sequence[Network]) -> Network:
    """The network that the property is about, from those of its `files`, their hidden tensors being their last outputs."""
    if not isinstance(prop, Query) or not prop.composed:
        return models[0]
    needed = files(prop)
    if len(models) != len(needed):
        raise Rejected(RULE, f"{len(models)} models for {len(needed)} networks")
    there, hidden = dict(zip([file.name for file in needed], models, strict=True)), {file.name: file.hidden for file in needed}
    frame, placed = _Frame(prop.source), []
    for declared in prop.networks:
        model, own = there[_own(declared)], hidden[_own(declared)]
        if declared.relation == b"isomorphic-to" and _structure(model) != _structure(there[declared.other]):
            raise Rejected(RULE, f"{declared.name} and {declared.other} are not isomorphic")
        prefix = f"{declared.name}/" if len(prop.networks) > 1 else ""
        placed.append((declared, model, prefix, _hidden(declared, model, own), frame.open(model, prefix)))
    for part in placed:
        frame.add(*part)
    return replace(frame.network(prop.products), rewritten=" ".join(model.rewritten for model in models).strip())


def _own(network: Declared) -> str:
    """The name that its file has."""
    return network.other if network.relation == b"equal-to" else network.name


def _structure(network: Network) -> list[object]:
    return [(type(node), node.shape, node.inputs) for node in network.nodes]


def _hidden(declared: Declared, model: Network, hidden: tuple[str, ...]) -> tuple[int, ...]:
    """The hidden tensors as they are declared, which the model has behind its outputs; all shapes have to be as declared."""
    own = len(model.outputs) - len(hidden)
    of_hidden = dict(zip(hidden, model.outputs[own:], strict=True))
    stated = (declared.inputs, tuple(shape for _, shape in declared.hidden), declared.outputs)
    named = tuple(of_hidden[name] for name, _ in declared.hidden)
    there = [tuple(model.nodes[i].shape for i in part) for part in (model.inputs, named, model.outputs[:own])]
    if list(stated) != there:
        raise Rejected(RULE, f"{declared.name} declares the shapes {list(stated)}, the network has {there}")
    return named


@dataclass
class _Frame:
    """The network as it grows; `results` are its outputs so far."""

    source: tuple[int, ...]
    nodes: list[Node] = field(default_factory=list)
    inputs: list[int] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    results: list[int] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)
    sites: dict[tuple[str, int], int] = field(default_factory=dict)
    softmaxes: list[Softmax] = field(default_factory=list)
    gathered: int = 0  # elements of networks' inputs so far

    def add(self, declared: Declared, model: Network, prefix: str, named: tuple[int, ...], moved: dict[int, int]) -> None:
        """A network whose inputs are where `moved` says, behind what is there. `named`: its nodes for the hidden tensors as declared."""
        own = len(declared.outputs)
        for i, node in enumerate(model.nodes):
            if i not in moved:
                moved[i] = self._put(_moved(node, moved, prefix))
        self.results += [moved[i] for i in (*named, *model.outputs[:own])]
        self.labels += [prefix + name for name in (*(n for n, _ in declared.hidden), *model.output_names[:own])]
        self.sites.update({(prefix + tensor, k): moved[i] for (tensor, k), i in model.sites.items()})
        self.softmaxes += [replace(softmax, node=moved[softmax.node]) for softmax in model.softmaxes]

    def open(self, model: Network, prefix: str) -> dict[int, int]:
        """Where the inputs of a network are. Those of all networks come first: every bound ends at all of them."""
        moved = dict[int, int]()
        if self.source and not self.inputs:
            self.inputs.append(self._put(Input("free inputs", (), (len(set(self.source)),), None, FREE)))
            self.names.append(FREE)
        for i, name in zip(model.inputs, model.input_names, strict=True):
            node = model.nodes[i]
            if self.source:
                index = np.array(self.source[self.gathered : self.gathered + node.size], np.int64)
                moved[i] = self._gather(f"input {prefix}{name}", [self.inputs[0]], [index], node.shape)
            else:
                moved[i] = self._put(Input(prefix + node.place, (), node.shape, None, prefix + name))
                self.inputs.append(moved[i])
                self.names.append(prefix + name)
            self.gathered += node.size
        return moved

    def network(self, products: tuple[Factors, ...]) -> Network:
        if products:
            if any(tensor == PRODUCTS for tensor, _ in self.sites) or PRODUCTS in self.labels:
                raise Rejected(RULE, f"a tensor of the network is called {PRODUCTS}")
            self.results.append(self._products(products))
            self.labels.append(PRODUCTS)
        return Network(
            tuple(self.nodes), tuple(self.inputs), tuple(self.results), tuple(self.names), tuple(self.labels), self.sites, tuple(self.softmaxes)
        )

    def _products(self, products: tuple[Factors, ...]) -> int:
        """Level by level, what is made of factors first: one node for all squares, one for all products of two, each in order."""
        at: dict[Factors, Element] = {}
        for base, nodes in ((0, self.results), (INPUTS, self.inputs)):
            sizes = [self.nodes[i].size for i in nodes]
            at.update({(base + sum(sizes[:k]) + e,): (i, e) for k, i in enumerate(nodes) for e in range(sizes[k])})
        depth: dict[Factors, int] = {}
        for product in products:
            _measure(product, depth)
        count = 0
        for level in range(1, 1 + int(np.max(list(depth.values())))):
            now = sorted(p for p, d in depth.items() if d == level)
            for group in ([p for p in now if len(_made_of(p)) == 1], [p for p in now if len(_made_of(p)) == 2]):
                if not group:
                    continue
                place, shape = f"products of the property, {count}", (len(group),)
                operands = [self._collect([at[_made_of(p)[k]] for p in group]) for k in range(len(_made_of(group[0])))]
                if len(operands) == 1:
                    rounding = Rounding("gate", (operands[0], operands[0]), 1, drift=((), ()))
                    node = self._put(Elementwise(place, (operands[0],), shape, rounding, Smooth("pow", 2.0)))
                else:
                    node = self._put(Product(place, (operands[0], operands[1]), shape, Rounding("product", tuple(dict.fromkeys(operands)), 1)))
                self.sites[PRODUCTS, count] = node
                count += 1
                at.update({p: (node, e) for e, p in enumerate(group)})
        return self._collect([at[p] for p in products])

    def _collect(self, elements: Sequence[Element]) -> int:
        sources = list(dict.fromkeys(i for i, _ in elements))
        return self._gather(
            "elements in the property", sources, [np.array([e if i == source else -1 for i, e in elements], np.int64) for source in sources],
            (len(elements),),
        )  # fmt: skip

    def _gather(self, place: str, sources: Sequence[int], index: Sequence[np.ndarray], shape: tuple[int, ...]) -> int:
        maps = tuple(Index(part, self.nodes[i].size) for i, part in zip(sources, index, strict=True))
        return self._put(Affine(place, tuple(sources), shape, Rounding("moves", tuple(sources)), maps))

    def _put(self, node: Node) -> int:
        self.nodes.append(node)
        return len(self.nodes) - 1


def _moved(node: Node, place: dict[int, int], prefix: str) -> Node:
    """The node, reading what it read where that is now."""
    inputs, rounding = tuple(place[i] for i in node.inputs), node.rounding
    if rounding is not None:
        drift = tuple(tuple((place[i], times) for i, times in part) for part in rounding.drift)
        divisor = place[rounding.divisor] if rounding.divisor >= 0 else -1
        rounding = replace(rounding, sources=tuple(place[i] for i in rounding.sources), divisor=divisor, drift=drift)
    return replace(node, place=prefix + node.place, inputs=inputs, rounding=rounding)


def _made_of(product: Factors) -> tuple[Factors, ...]:
    """A square: its root. Anything else: the rest, and the last factor that it has an odd number of times."""
    odd = [k for k, factor in enumerate(product) if product.count(factor) % 2]
    return (product[: odd[-1]] + product[odd[-1] + 1 :], (product[odd[-1]],)) if odd else (product[::2],)


def _measure(product: Factors, depth: dict[Factors, int]) -> int:
    """How many levels a product needs; single factors, which need none, are not noted."""
    if len(product) == 1:
        return 0
    if product not in depth:
        depth[product] = 1 + int(np.max([_measure(part, depth) for part in _made_of(product)]))
    return depth[product]
