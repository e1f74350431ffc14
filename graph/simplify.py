"""Passes graph -> graph. Each leaves the function unchanged over the reals, and ends in `core.check`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graph.core import Affine, Bilinear, Constant, Graph, Max, Node, Origin, check
from graph.evaluate import input_values, node_value
from graph.linear_map import LinearMap, Reshape
from graph.map_algebra import add, addable, chain, cost, is_zero

Array = NDArray[Any]
Terms = list[tuple[LinearMap, int]]
MANY_TERMS = 16  # a node of more takes in no sums, nor do several take in such a sum: of the steps of a loop terms would be their square


def simplify(graph: Graph) -> Graph:
    """All passes, until no node reads from anywhere else than before (every change moves a read to an earlier node)."""
    graph = drop_dead(graph)
    while True:
        simpler = drop_dead(skip_identities(fuse_affine(graph)))
        if [node.inputs for node in simpler.nodes] == [node.inputs for node in graph.nodes]:
            return simpler
        graph = simpler


def drop_dead(graph: Graph) -> Graph:
    """Without the nodes that no output depends on. Inputs stay."""
    alive = set(graph.outputs) | set(graph.inputs)
    for i in range(len(graph.nodes) - 1, -1, -1):
        if i in alive:
            alive.update(graph.nodes[i].inputs)
    kept = sorted(alive)
    place = {old: new for new, old in enumerate(kept)}
    nodes = [replace(graph.nodes[i], inputs=tuple(place[j] for j in graph.nodes[i].inputs)) for i in kept]
    return _renumbered(graph, nodes, place)


def skip_identities(graph: Graph) -> Graph:
    """Consumers of a node that only reshapes read its input instead (a matrix product needs the shape, and keeps it)."""
    place: dict[int, int] = {}
    shaped = {j for node in graph.nodes if isinstance(node, Bilinear) and node.kind == "matmul" for j in node.inputs}
    for i, node in graph:
        place[i] = i
        if isinstance(node, Affine) and i not in graph.shifts and _is_identity(node):
            source = node.inputs[0]
            if i not in shaped or node.shape == graph.nodes[source].shape:
                place[i] = place[source]
    nodes = [replace(node, inputs=tuple(place[j] for j in node.inputs)) for node in graph.nodes]
    return _renumbered(graph, nodes, place)


def _is_identity(node: Affine) -> bool:
    return len(node.maps) == 1 and isinstance(node.maps[0], Reshape) and (node.bias is None or not node.bias.any())


def fuse_affine(graph: Graph) -> Graph:
    """Affine nodes absorb the affine nodes (and constants) they read, where that needs no more arithmetic than before.

    So chains with one consumer become one node, BatchNorm and scalings move into the weights next to them, re-indexings
    merge, and a slice of a concatenation reads the part it needs.
    """
    uses = [len(readers) for readers in graph.consumers()]
    for i in graph.outputs:
        uses[i] += 1
    # what maxima read stays as it is, so that they and their twins are the same number whatever is put in the place of weights
    apart = {*graph.shifts, *(j for node in graph.nodes if isinstance(node, Max) for j in node.inputs)}
    twins = {j for node in graph.nodes if isinstance(node, Max) for j in node.inputs[1:]}
    nodes: list[Node] = []
    for i, node in graph:
        fused = _fused(node, nodes, uses, apart) if isinstance(node, Affine) and i not in twins else node
        nodes.append(node if i in graph.shifts and isinstance(fused, Constant) else fused)  # a certificate has a shift for every softmax that is read
    return check(replace(graph, nodes=tuple(nodes)))


def _fused(node: Affine, nodes: Sequence[Node], uses: Sequence[int], apart: set[int]) -> Node:
    terms: Terms = []
    bias = np.zeros(node.size) if node.bias is None else node.bias
    operators: dict[str, None] = {}
    for m, j in _merged([(chain([m]), j) for m, j in zip(node.maps, node.inputs, strict=True)]):
        producer = nodes[j]
        absorbed = _absorbed(m, producer, single=uses[j] == 1, many=len(node.maps) > MANY_TERMS) if j not in apart else None
        if absorbed is None:
            terms.append((m, j))
            continue
        terms += absorbed
        offset = producer.value if isinstance(producer, Constant) else producer.bias if isinstance(producer, Affine) else None
        bias = bias if offset is None else bias + m.apply(offset)
        operators.update(dict.fromkeys(producer.origin.operators))
    operators.update(dict.fromkeys(node.origin.operators))
    origin = Origin(tuple(operators), node.origin.element_type)
    terms = _merged(terms)
    if not terms:
        return Constant(node.shape, (), origin, bias)
    return Affine(node.shape, tuple(j for _, j in terms), origin, tuple(m for m, _ in terms), bias if bias.any() else None)


def _merged(terms: Terms) -> Terms:
    """The same sum with at most one term per input where that is cheap (x - x / 2 has tighter bounds as x / 2), zeros left out."""
    kept: Terms = []
    mates: dict[tuple[int, str], list[int]] = {}  # places of what can be added to each other
    for m, j in terms:
        kind = addable(m)
        places = mates.setdefault((j, kind), []) if kind else []
        for k in places:
            total = add(kept[k][0], m)
            if total is not None:
                kept[k] = (total, j)
                break
        else:
            places.append(len(kept))
            kept.append((m, j))
    return [(m, j) for m, j in kept if not is_zero(m)]


def _absorbed(m: LinearMap, producer: Node, *, single: bool, many: bool) -> Terms | None:
    """The terms of `m` after `producer`, or None where the producer stays a node of its own. `single`: nobody else reads it; `many`: the node
    that reads it has many terms already."""
    match producer:
        case Constant():
            return []
        case Affine(maps=maps, inputs=inputs):
            if (many and len(maps) > 1) or (len(maps) > MANY_TERMS and not single):
                return None
            terms = [(chain([before, m]), j) for before, j in zip(maps, inputs, strict=True)]
            allowed = cost(m) + (sum(cost(before) for before in maps) if single else 0)
            return terms if sum(cost(t) for t, _ in terms) <= allowed else None
        case _:
            return None


def recentre_softmax(graph: Graph, point: Mapping[str, Array] | Sequence[Array]) -> Graph:
    """The same function with every softmax row shifted so that its largest argument at `point` is 0.

    `point` is one input (batch size 1). Exp then neither overflows near the point nor makes a row vanish. A row whose largest
    argument is not finite there stays as it is.
    """
    arrays, batch = input_values(graph, point, np.float64)
    nodes, centres = list(graph.nodes), dict(zip(graph.shifts, graph.centres, strict=False))
    values: list[Array] = []
    for i, node in enumerate(nodes):
        value = arrays[i] if i in arrays else node_value(graph, node, [values[j] for j in node.inputs], batch)
        if i in graph.shifts and isinstance(node, Affine):
            rows = value.reshape(-1, node.shape[-1])
            largest = rows.max(axis=-1)
            centre = np.where(np.isfinite(largest), largest, 0.0)
            centres[i] = centres.get(i, 0.0) + centre
            shift = np.repeat(-centre, rows.shape[-1])
            nodes[i] = replace(node, bias=shift if node.bias is None else node.bias + shift)
            value = value + shift
        values.append(value)
    return check(replace(graph, nodes=tuple(nodes), centres=tuple(centres[i] for i in graph.shifts)))


def _renumbered(graph: Graph, nodes: Sequence[Node], place: Mapping[int, int]) -> Graph:
    """`graph` with new nodes; `place` gives the new index of every old node that is still there."""
    return check(
        replace(
            graph,
            nodes=tuple(nodes),
            inputs=tuple(place[i] for i in graph.inputs),
            outputs=tuple(place[i] for i in graph.outputs),
            names={name: place[i] for name, i in graph.names.items() if i in place},
            shifts=tuple(place[i] for i in graph.shifts if i in place),
        )
    )
