"""Bounds tile by tile are those of the whole network, and no tile is left out."""

from __future__ import annotations

import numpy as np
import pytest

from tests.images import NETWORKS, residual
from verifier.checker import crop, read_model
from verifier.checker.bounds import BACKWARD, Checker
from verifier.checker.maps import Convolution, Dense, Diagonal, Index
from verifier.checker.network import Affine, Constant, Elementwise, Input, Maximum, Network, Product
from verifier.checker.refusal import Rejected
from verifier.checker.state import State


def bounded(network: Network, boxes: int = 2) -> State:
    n = sum(network.nodes[i].size for i in network.inputs)
    rng = np.random.default_rng(0)
    centre, radius = rng.standard_normal((boxes, n)), rng.random((boxes, n)) / 4
    return Checker(network, None).state(boxes, centre - radius, centre + radius, {}, {}, BACKWARD)


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("places", [1, 4])
def test_tiles_have_the_bounds_of_the_whole(name: str, places: int, monkeypatch: pytest.MonkeyPatch) -> None:
    network = read_model.read(NETWORKS[name]())
    whole, made = bounded(network), list[crop.Part]()
    monkeypatch.setattr(crop, "LEAST_WORK", 0)
    monkeypatch.setattr(crop, "LEAST_GAIN", 0)
    monkeypatch.setattr(crop, "PLACES", places)
    make = crop.crop

    def kept(network: Network, i: int, tile: crop.Window) -> crop.Part | None:
        part = make(network, i, tile)
        made.extend([] if part is None else [part])
        return part

    monkeypatch.setattr(crop, "crop", kept)
    tiled = bounded(network)
    assert len(made) > 8
    for a, b in zip(whole.lower + whole.upper, tiled.lower + tiled.upper, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_part_computes_what_the_network_computes(name: str) -> None:
    """Point by point, through the maps of the part: every element of every node of it."""
    network = read_model.read(NETWORKS[name]())
    node = max(i for i, n in enumerate(network.nodes) if len(n.shape) > 2 and isinstance(n, Affine))
    shape = network.nodes[node].shape
    part = crop.crop(network, node, tuple(slice(0, n) if axis < 2 else slice(n // 2, n // 2 + 1) for axis, n in enumerate(shape)))
    if name == "upsampled":  # behind a layer that reads everything
        assert part is None
        return
    assert part is not None and part.source[-1] == node and part.network.outputs == (len(part.source) - 1,)
    whole = bounded(network, 1)
    own = Checker(part.network, None)
    for k, n in enumerate(part.network.nodes):  # intervals: a reading that is wrong, or missing, gives others
        if isinstance(n, Affine | Elementwise | Maximum):
            low, high = own._interval(part.state(whole), k, n, {})
            again = Checker(network, None)._interval(whole, part.source[k], network.nodes[part.source[k]], {}) if k not in part.copies else None
            for a, b in zip((low, high), (whole.lower[part.source[k]], whole.upper[part.source[k]]) if again is None else again, strict=True):
                np.testing.assert_allclose(a, b[:, part.kept[k]], rtol=1e-9, atol=1e-9)


def test_parts_are_made_only_where_they_save_work(monkeypatch: pytest.MonkeyPatch) -> None:
    network = read_model.read(residual())
    i = next(i for i, n in enumerate(network.nodes) if n.shape == (1, 6, 6, 6))
    every = np.arange(network.nodes[i].size)
    assert not list(crop.parts(network, i, every))
    monkeypatch.setattr(crop, "LEAST_WORK", every.size * sum(node.size for node in network.nodes[: i + 1]))
    tiles = [part.kept[-1] for part in crop.parts(network, i, every) if part is not None]
    assert len(tiles) == 9 and sorted(np.concatenate(tiles).tolist()) == every.tolist()
    assert not list(crop.parts(network, i, every[1:]))
    monkeypatch.setattr(crop, "LEAST_WORK", 0)
    assert len(list(crop.parts(network, i, every[:1]))) == 1
    monkeypatch.setattr(crop, "LEAST_GAIN", 50)
    assert not list(crop.parts(network, i, every))


def test_tiles_along_one_axis_have_four_places(monkeypatch: pytest.MonkeyPatch) -> None:
    network = read_model.read(NETWORKS["sequence"]())
    monkeypatch.setattr(crop, "LEAST_WORK", 0)
    i = max(i for i, node in enumerate(network.nodes) if isinstance(node, Affine))
    sizes = [part.kept[-1].size for part in crop.parts(network, i, np.arange(60)) if part is not None]
    assert sizes == [8] * 7 + [4]


def test_what_roundings_cost_is_that_of_the_elements() -> None:
    """Nodes that hold elements once more cost nothing: they move numbers."""
    network = read_model.read(residual())
    whole = bounded(network)
    part = crop.crop(network, len(network.nodes) - 1, (slice(0, 1), slice(0, 3), slice(2, 4), slice(2, 4)))
    assert part is not None and part.copies and whole.charge
    own = part.state(whole)
    assert own.charge.keys() == {k for k, i in enumerate(part.source) if i in whole.charge} - part.copies
    for k, (i, kept) in enumerate(zip(part.source, part.kept, strict=True)):
        np.testing.assert_array_equal(own.lower[k], whole.lower[i][:, kept])
        np.testing.assert_array_equal(own.upper[k], whole.upper[i][:, kept])
        if k in own.charge:
            np.testing.assert_array_equal(own.charge[k], whole.charge[i][:, kept])


def test_a_convolution_is_cut_only_where_it_is_of_the_shapes_of_its_nodes() -> None:
    conv = Convolution(np.ones((1, 1, 1, 3)), (1, 1, 6, 6), (1, 1), (1, 1), (0, 1, 0, 1), 1)
    for before, after, cut in (((1, 1, 6, 6), (1, 1, 6, 6), True), ((1, 1, 4, 9), (1, 1, 6, 6), False), ((1, 1, 6, 6), (1, 1, 9, 4), False)):
        nodes = (Input("x", (), before, None, "x"), Affine("y", (0,), after, None, (conv,)))
        network = Network(nodes, (0,), (1,), ("x",), ("y",), {}, ())
        assert (crop.crop(network, 1, (slice(0, 1), slice(0, 1), slice(1, 3), slice(0, 2))) is not None) == cut


def test_a_tile_without_a_part_is_bounded_with_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    network = read_model.read(residual())
    whole = bounded(network)
    monkeypatch.setattr(crop, "LEAST_WORK", 0)
    make, calls = crop.parts, list[int]()

    def some(network: Network, i: int, elements: np.ndarray) -> object:
        for k, part in enumerate(make(network, i, elements)):
            calls.append(k)
            yield part if k < 3 else None

    monkeypatch.setattr(crop, "parts", some)
    tiled = bounded(network)
    assert max(calls) == 3
    for a, b in zip(whole.lower + whole.upper, tiled.lower + tiled.upper, strict=True):
        np.testing.assert_array_equal(a, b)


def test_what_reads_only_padding_has_no_part() -> None:
    network = read_model.read(residual())
    i = next(i for i, n in enumerate(network.nodes) if isinstance(n, Affine) and len(n.inputs) == 1 and n.shape == (1, 4, 12, 12))
    node = network.nodes[i]
    assert isinstance(node, Affine)
    far = type(node.maps[0])(np.ones((1, 2, 1, 1)), (1, 2, 12, 12), (1, 1), (1, 1), (3, 3, 3, 3), 1)  # type: ignore[call-arg, arg-type]
    padded = Affine(node.place, node.inputs, far.out_shape, None, (far,))  # type: ignore[attr-defined]
    nodes = (*network.nodes[:i], padded)
    small = Network(nodes, network.inputs, (i,), network.input_names, ("y",), {}, ())
    window = (slice(0, 1), slice(0, 1))
    assert crop.crop(small, i, (*window, slice(0, 2), slice(0, 2))) is None
    assert crop.crop(small, i, (*window, slice(2, 4), slice(2, 4))) is not None


def test_constants_are_cut_and_products_have_no_part() -> None:
    rng, shape = np.random.default_rng(0), (1, 2, 6, 6)
    whole = Index(np.arange(72), 72)
    value, scale = rng.standard_normal(72), Diagonal(rng.standard_normal(72))
    nodes = (
        Input("x", (), shape, None, "x"), Constant("c", (), shape, None, value, np.abs(value) / 8),
        Affine("not read", (0,), shape, None, (whole,)), Affine("s", (0, 1), shape, None, (whole, scale)), Product("p", (3, 3), shape, None),
    )
    network = Network(nodes, (0,), (4,), ("x",), ("p",), {}, ())
    tile = (slice(0, 1), slice(0, 2), slice(2, 4), slice(0, 1))
    part = crop.crop(network, 3, tile)
    assert part is not None and [type(node) for node in part.network.nodes] == [Input, Constant, Affine]
    constant = part.network.nodes[1]
    assert isinstance(constant, Constant) and (constant.value == value[part.kept[1]]).all() and (constant.radius == np.abs(constant.value) / 8).all()
    assert crop.crop(network, 4, tile) is None


def test_a_map_without_a_rule_is_refused() -> None:
    network = read_model.read(residual())
    i = next(i for i, n in enumerate(network.nodes) if isinstance(n, Affine))
    maker = crop._Maker(network, {network.nodes[i].inputs[0]: np.arange(3), i: np.arange(2)})
    with pytest.raises(Rejected, match="Dense"):
        maker._map(Dense(np.ones((2, 3))), i, 0)
    with pytest.raises(Rejected, match="missing"):
        maker._within(i, np.array([0, 1, 2]))
    with pytest.raises(Rejected, match="missing"):
        crop._Maker(network, {i: np.array([1, 2])})._within(i, np.array([0]))
    assert maker._within(i, np.array([1, -1, 0])).tolist() == [1, -1, 0]
