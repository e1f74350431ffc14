"""Atoms that only compare outputs of one softmax: over the reals they say the same of its arguments.

For y_i = exp(s_i) / sum_k exp(s_k), all over one row, and a > 0:  a (y_j - y_k) <= 0  exactly where  a (s_j - s_k) <= 0, since the sum is
positive and exp rises. So where every functional that reads an output reads two elements of one row of it, times a and -a, and nothing else,
and its threshold is 0, the cases are the same with s, in the order of the output, in the place of that output.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from verifier.checker.arithmetic import Array
from verifier.checker.lowering.elementwise import clipping
from verifier.checker.maps import Index, Transposed
from verifier.checker.network import Affine, Elementwise, Network, Product, Smooth, without_the_unread
from verifier.checker.read_property import Cases

CLIP = clipping(0.0, 1.0)  # of what is between 0 and 1


def by_arguments(network: Network, cases: Cases) -> Network:
    """The network with arguments of softmaxes in the place of outputs where that changes no case."""
    outputs, nodes, start = list(network.outputs), list(network.nodes), 0
    for k, o in enumerate(network.outputs):
        size, found = network.nodes[o].size, _argument(network, o)
        if found is not None and _only_orders(cases, start, size, found[2]):
            nodes.append(Affine(network.nodes[o].place, (found[0],), network.nodes[o].shape, None, (Index(found[1], size),)))
            outputs[k] = len(nodes) - 1
        start += size
    if outputs == list(network.outputs):
        return network
    changed = replace(network, nodes=tuple(nodes), outputs=tuple(outputs))
    return without_the_unread(changed, (softmax.node for softmax in network.softmaxes))


def _argument(network: Network, o: int) -> tuple[int, Array, Array] | None:
    """A softmax's x - c, which of its elements those of node o are the values at, and the row of each of these; None if there is none."""
    nodes, order = network.nodes, np.arange(network.nodes[o].size)
    while isinstance(node := nodes[o], Affine):
        (m, *others) = node.maps
        if others or node.bias is not None or not isinstance(m, Index) or bool((m.source < 0).any()):
            return None
        order, o = m.source[order], node.inputs[0]
    if isinstance(node, Elementwise) and node.function == CLIP:
        node = nodes[node.inputs[0]]
    for softmax in network.softmaxes if isinstance(node, Product) else ():
        weight, inverse = nodes[node.inputs[0]], nodes[node.inputs[1]]
        if not (isinstance(weight, Elementwise) and weight.function == Smooth("exp") and weight.inputs == (softmax.node,)):
            continue
        if isinstance(inverse, Affine) and _only(inverse, Index) and np.array_equal(_source(inverse), softmax.row_of):
            divided = nodes[inverse.inputs[0]]
            total = nodes[divided.inputs[0]] if isinstance(divided, Elementwise) and divided.function == Smooth("reciprocal") else None
            sums = isinstance(total, Affine) and total.inputs == node.inputs[:1] and _only(total, Transposed)
            if isinstance(total, Affine) and sums and np.array_equal(_source(total), softmax.row_of):
                return softmax.node, order, softmax.row_of[order]
    return None


def _only(node: Affine, kind: type) -> bool:
    return len(node.maps) == 1 and isinstance(node.maps[0], kind) and node.bias is None


def _source(node: Affine) -> Array:
    m = node.maps[0].of if isinstance(node.maps[0], Transposed) else node.maps[0]
    return m.source if isinstance(m, Index) else np.zeros(0, dtype=np.int64)


def _only_orders(cases: Cases, start: int, size: int, row_of: Array) -> bool:
    """Whether all functionals that read the output at places `start`, ... read it as an order within a row, with thresholds of 0."""
    orders = set[int]()
    for k, functional in enumerate(cases.rows):
        places, factors = [p for p, _ in functional], [c for _, c in functional]
        inside = [p - start for p in places if start <= p < start + size]
        if not inside:
            continue
        orders.add(k)
        if len(inside) != 2 or len(places) != 2 or sum(factors) != 0 or inside[0] == inside[1] or row_of[inside[0]] != row_of[inside[1]]:
            return False
    asked = np.isin(cases.row, sorted(orders))
    return len(orders) > 0 and bool((cases.threshold[asked] == 0).all())
