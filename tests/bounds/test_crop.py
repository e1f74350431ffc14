"""Bounds tile by tile are those of the whole graph, and a part computes what the graph computes."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from bounds import crop
from bounds.linear import LinearBounds, State
from bounds.torch_graph import TorchGraph
from graph.core import Affine, Bilinear, Constant, Graph, Input, Node, Origin
from graph.errors import MalformedGraph
from graph.evaluate import evaluate
from graph.linear_map import Composition, Conv, Dense, Gather, LinearMap, Reshape, Scale
from graph.load import load
from tests.images import NETWORKS, residual

FROM = Origin(("test",))


def bounded(graph: Graph, boxes: int = 2) -> State:
    net = TorchGraph(graph, torch.float64)
    rng = torch.Generator().manual_seed(0)
    centre = torch.randn(boxes, net.input_size, dtype=torch.float64, generator=rng)
    radius = torch.rand(boxes, net.input_size, dtype=torch.float64, generator=rng) / 4
    return LinearBounds(net).propagate(centre - radius, centre + radius)


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("places", [1, 4])
def test_tiles_have_the_bounds_of_the_whole(name: str, places: int, monkeypatch: pytest.MonkeyPatch) -> None:
    graph = load(NETWORKS[name]()).graph
    whole = bounded(graph)
    monkeypatch.setattr(crop, "LEAST_WORK", 0)
    monkeypatch.setattr(crop, "LEAST_GAIN", 0)
    monkeypatch.setattr(crop, "PLACES", places)
    make, count = crop.crop, 0

    def counted(*args: object) -> crop.Part | None:
        nonlocal count
        count += 1
        return make(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(crop, "crop", counted)
    tiled = bounded(graph)
    assert count > 8
    for a, b in zip(whole.lower + whole.upper, tiled.lower + tiled.upper, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_part_computes_what_the_graph_computes(name: str) -> None:
    graph = load(NETWORKS[name]()).graph
    at = max(i for i, node in graph if len(node.shape) > 2 and isinstance(node, Affine))
    tile = tuple(slice(0, n) if axis < 2 else slice(n // 2, n // 2 + 1) for axis, n in enumerate(graph.nodes[at].shape))
    part = crop.crop(graph, at, tile)
    if name == "upsampled":  # behind a layer that reads everything
        assert part is None
        return
    assert part is not None and part.source[-1] == at
    x = [np.random.default_rng(0).standard_normal((3, graph.nodes[i].size)) for i in graph.inputs]
    own = evaluate(part.graph, [x[graph.inputs.index(part.source[k])][:, part.kept[k]] for k in part.graph.inputs])
    for value, i, kept in zip(own, part.source, part.kept, strict=True):
        np.testing.assert_allclose(value, evaluate(graph, x)[i][:, kept], rtol=1e-9, atol=1e-12)


def test_parts_are_made_only_where_they_save_work(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = load(residual()).graph
    i = next(i for i, node in graph if node.shape == (1, 6, 6, 6))
    every = np.arange(graph.nodes[i].size)
    assert not list(crop.parts(graph, i, every))
    monkeypatch.setattr(crop, "LEAST_WORK", 0)
    monkeypatch.setattr(crop, "PLACES", 4)
    tiles = [part.kept[-1] for part in crop.parts(graph, i, every) if part is not None]
    assert len(tiles) == 9 and sorted(np.concatenate(tiles).tolist()) == every.tolist()
    assert len(list(crop.parts(graph, i, every[:1]))) == 1
    monkeypatch.setattr(crop, "LEAST_GAIN", 50)
    assert not list(crop.parts(graph, i, every))


def test_a_tile_without_a_part_is_bounded_with_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = load(residual()).graph
    whole = bounded(graph)
    monkeypatch.setattr(crop, "parts", lambda *args: iter([None]))
    for a, b in zip(whole.lower, bounded(graph).lower, strict=True):
        assert torch.equal(a, b)


def test_weights_that_are_replaced_are_bounded_with_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """A part is made of the graph's own numbers, not of the tensors used in their place."""
    graph = load(residual()).graph
    monkeypatch.setattr(crop, "LEAST_WORK", 0)
    arrays = [m.weight for node in graph.nodes if isinstance(node, Affine) for m in node.maps if isinstance(m, Conv)]
    weights = {id(a): 2 * torch.from_numpy(a.copy()).double() for a in arrays}
    box = torch.zeros(1, 288, dtype=torch.float64) - 0.1, torch.zeros(1, 288, dtype=torch.float64) + 0.1
    replaced = LinearBounds(TorchGraph(graph, torch.float64, weights=weights)).propagate(*box)
    monkeypatch.setattr(crop, "LEAST_WORK", 1 << 60)
    for a, b in zip(replaced.lower, LinearBounds(TorchGraph(graph, torch.float64, weights=weights)).propagate(*box).lower, strict=True):
        assert torch.equal(a, b)


def test_what_roundings_cost_is_that_of_the_elements() -> None:
    graph = load(residual()).graph
    whole = bounded(graph)
    part = crop.crop(graph, len(graph.nodes) - 1, (slice(0, 1), slice(0, 3), slice(0, 1), slice(0, 1)))
    assert part is not None and part.copies
    own = part.state(whole)
    for k, (i, kept) in enumerate(zip(part.source, part.kept, strict=True)):
        assert torch.equal(own.lower[k], whole.lower[i][:, kept]) and torch.equal(own.upper[k], whole.upper[i][:, kept])
        if isinstance(part.graph.nodes[k], Affine):
            assert torch.equal(own.magnitude[k], own.largest(k) if k in part.copies else whole.magnitude[i][:, kept])


@pytest.mark.parametrize(
    ("m", "kept"),
    [
        (Reshape((2, 3), (6,)), [1, 4]),
        (Scale((6,), (6,), np.arange(6.0)), [0, 5]),
        (Scale((6,), (6,), np.array([3.0])), [2]),
        (Gather((6,), (5,), np.array([3, -1, 3, 0, 5])), [0, 1, 2, 3]),
        (Conv((1, 2, 6), (1, 4, 4), np.random.default_rng(0).standard_normal((4, 1, 3)), (2,), (2,), (2,), (1,), 2), [0, 1, 4, 5, 8, 9, 12, 13]),
        (Conv((1, 1, 6), (1, 1, 6), np.ones((1, 1, 3)), (1,), (1,), (1,), (1,)), [0, 1, 3]),  # no window
        (Composition((6,), (2,), (Scale((6,), (6,), np.arange(6.0)), Gather((6,), (2,), np.array([4, 1])))), [0]),
    ],
)
def test_a_cropped_map_is_the_map_between_these_elements(m: LinearMap, kept: list[int]) -> None:
    found = crop.crop_map(m, np.array(kept))
    assert found is not None
    read, own = found
    assert (np.diff(read) > 0).all()
    matrix = m.apply(np.eye(m.in_size)).T
    np.testing.assert_array_equal(own.apply(np.eye(read.size)).T, matrix[kept][:, read])
    assert not np.delete(matrix[kept], read, axis=1).any()


def test_what_has_no_rule_has_no_part() -> None:
    conv = Conv((1, 1, 6), (1, 1, 6), np.ones((1, 1, 3)), (1,), (1,), (1,), (1,))
    dense = Dense((6,), (6,), np.eye(6))
    assert crop.crop_map(dense, np.array([0])) is None
    assert crop.crop_map(Composition((6,), (6,), (dense, conv)), np.arange(6)) is None
    far = Conv((1, 1, 6), (1, 1, 12), np.ones((1, 1, 1)), (1,), (3,), (3,), (1,))
    nodes: tuple[Node, ...] = (Input((1, 1, 6), (), FROM, "x"), Affine((1, 1, 12), (0,), FROM, (far,)))
    graph = Graph(nodes, (0,), (1,), ("y",), {})
    assert crop.crop(graph, 1, (slice(0, 1), slice(0, 1), slice(0, 3))) is None  # reads padding only
    assert crop.crop(graph, 1, (slice(0, 1), slice(0, 1), slice(9, 12))) is None
    assert crop.crop(graph, 1, (slice(0, 1), slice(0, 1), slice(2, 4))) is not None
    product = Graph((nodes[0], Bilinear((1, 1, 6), (0, 0), FROM, "mul")), (0,), (1,), ("y",), {})
    assert crop.crop(product, 1, (slice(0, 1), slice(0, 1), slice(0, 3))) is None
    maker = crop._Maker(product, {0: np.arange(3), 1: np.arange(3)})
    with pytest.raises(NotImplementedError, match="Bilinear"):
        maker.part()
    with pytest.raises(NotImplementedError, match="Dense"):
        maker._map(0, dense, np.arange(3))
    with pytest.raises(MalformedGraph, match="missing"):
        maker._within(0, np.array([3]))


def test_constants_are_cut() -> None:
    value = np.arange(6.0)
    nodes = (Input((1, 1, 6), (), FROM, "x"), Constant((1, 1, 6), (), FROM, value), Affine((1, 1, 6), (0, 1), FROM, (Reshape((6,), (6,)),) * 2))
    part = crop.crop(Graph(nodes, (0,), (2,), ("y",), {}), 2, (slice(0, 1), slice(0, 1), slice(2, 4)))
    assert part is not None and [type(node) for node in part.graph.nodes] == [Input, Constant, Affine]
    assert evaluate(part.graph, [np.array([[10.0, 20.0]])])[-1].tolist() == [[12.0, 23.0]]
