"""Bounds as a library: names, shapes, both methods, gradients against finite differences, and clear errors."""

from __future__ import annotations

import math
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from benchmarks import strategies
from bounds import BoundedNetwork, parameters
from bounds.library import outward
from graph.core import Affine, Bilinear, Constant, Elementwise, Graph, Input, Node, Origin, check
from graph.evaluate import evaluate
from graph.functions import build
from graph.linear_map import Composition, Conv, Dense, Gather, Scale, Transposed
from graph.load import load
from tests.effort import examples
from tests.maxima import with_maximum

Array = Any
FROM = Origin(("test",))
METHODS = ["interval", "crown"]


def network(seed: int = 0) -> Graph:
    """Two inputs, a convolution and a transposed one, a scale, a constant, a product, a maximum, two outputs; 10 inputs in all."""
    rng = np.random.default_rng(seed)
    conv = Conv((1, 1, 3, 3), (1, 2, 2, 2), rng.normal(size=(2, 1, 2, 2)) / 2, (1, 1), (0, 0), (0, 0), (1, 1))
    back = Transposed((1, 2, 2, 2), (1, 1, 3, 3), Conv((1, 1, 3, 3), (1, 2, 2, 2), rng.normal(size=(2, 1, 2, 2)) / 2, (1, 1), (0, 0), (0, 0), (1, 1)))
    scaled = Composition((9,), (9,), (Scale((9,), (9,), rng.normal(size=9)), Gather((9,), (9,), rng.permutation(9))))
    nodes: list[Node] = with_maximum([
        Input((1, 1, 3, 3), (), FROM, "image"),
        Input((1,), (), FROM, "gain"),
        Affine((1, 2, 2, 2), (0,), FROM, (conv,), rng.normal(size=8) / 4),
        Elementwise((1, 2, 2, 2), (2,), FROM, build("relu")),
        Affine((1, 1, 3, 3), (3, 1), FROM, (back, Dense((1,), (9,), rng.normal(size=(9, 1)))), None),
        Elementwise((1, 1, 3, 3), (4,), FROM, build("tanh")),
        Constant((9,), (), FROM, rng.normal(size=9)),
        Affine((9,), (5, 6), FROM, (scaled, Gather((9,), (9,), np.arange(9))), None),
        Bilinear((9,), (7, 5), FROM, "mul"),
    ], np.array([[0, 1, 2], [3, 4, -1], [8, 5, 6]]), (3,))  # fmt: skip
    nodes.append(Affine((2,), (len(nodes) - 1,), FROM, (Dense((3,), (2,), rng.normal(size=(2, 3))),), rng.normal(size=2)))
    names = {"image": 0, "gain": 1, "hidden": 4, "logits": len(nodes) - 1, "product": 8}
    return check(Graph(tuple(nodes), (0, 1), (len(nodes) - 1, 8), ("logits", "product"), names))


def box(seed: int, batch: int = 2, width: float = 0.4) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    lower = torch.randn(batch, 10, generator=generator, dtype=torch.float64)
    return lower, lower + width * torch.rand(batch, 10, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("seed", range(4))
def test_every_tensor_of_every_box_is_bounded(method: Any, dtype: torch.dtype, seed: int) -> None:
    graph, rng = network(seed), np.random.default_rng(seed)
    lower, upper = box(seed)
    bounded = BoundedNetwork(graph, method=method, dtype=dtype)
    rows, constant = rng.normal(size=(5, 11)), rng.normal(size=5)
    margin = bounded.lower_bound(lower, upper, rows, constant)
    assert margin.shape == (2, 5) and margin.dtype == dtype and margin.isfinite().all()
    per_box = bounded.lower_bound(lower, upper, np.stack([rows, -rows]), np.stack([constant, -constant]))
    assert torch.allclose(per_box[0], margin[0])
    found = [bounded.bounds(lower, upper, i) for i in range(len(graph.nodes))]
    for mix in [*rng.random((20, 10)), *rng.integers(0, 2, (20, 10))]:
        x = np.clip(lower.numpy() + mix * (upper - lower).numpy(), lower.numpy(), upper.numpy())
        values = evaluate(graph, [x[:, :9], x[:, 9:]], np.float64)
        for value, (low, high) in zip(values, found, strict=True):
            assert low.shape == value.shape and (low.numpy() <= value + 1e-12).all() and (value <= high.numpy() + 1e-12).all()
        outputs = np.concatenate([values[graph.names["logits"]], values[8]], axis=1)
        assert (outputs @ rows.T + constant >= margin.numpy() - 1e-12).all()
        assert (-(outputs[1] @ rows.T) - constant >= per_box[1].numpy() - 1e-12).all()


@settings(max_examples=examples(40))
@given(st.data(), st.sampled_from(METHODS))
def test_any_network_of_the_strategies(data: Any, method: Any) -> None:
    drawn = data.draw(strategies.networks())
    limits = data.draw(strategies.boxes(math.prod(drawn.input_shape)))
    graph = load(drawn.model.SerializeToString()).graph
    bounded = BoundedNetwork(graph, method=method, dtype=torch.float64)
    low, high = bounded.bounds(limits.lower[None], limits.upper[None])
    margin = bounded.lower_bound(limits.lower[None], limits.upper[None], np.concatenate([np.eye(low.shape[1]), -np.eye(low.shape[1])]))
    point = data.draw(strategies.points(limits))
    value = evaluate(graph, [point[None]], np.float64)[graph.outputs[0]]
    slack = 1e-9 * (1 + np.abs(value))
    assert (low.numpy() <= value + slack).all() and (value <= high.numpy() + slack).all()
    assert (margin.numpy() <= np.concatenate([value, -value], axis=1) + np.tile(slack, 2)).all()


def test_crown_is_tighter_where_it_matters_and_names_find_their_tensors() -> None:
    graph = network(3)
    lower, upper = box(3)
    crown, interval = (BoundedNetwork(graph, method=m, dtype=torch.float64) for m in METHODS[::-1])
    for name, index in graph.names.items():
        for one, two in zip(crown.bounds(lower, upper, name), crown.bounds(lower, upper, index), strict=True):
            assert torch.equal(one, two)
        (low, high), (wide_low, wide_high) = crown.bounds(lower, upper, name), interval.bounds(lower, upper, name)
        assert (low >= wide_low).all() and (high <= wide_high).all()
    assert ((high - low) < 0.95 * (wide_high - wide_low)).any()


# ---------------------------------------------------------------- gradients


def loss(bounded: BoundedNetwork, lower: Tensor, upper: Tensor, tensor: str, weight: Tensor) -> Tensor:
    low, high = bounded.bounds(lower, upper, tensor)
    return (low * weight).sum() + (high * weight.flip(-1)).sum() + bounded.lower_bound(lower, upper, torch.ones(1, 11)).sum()


@pytest.mark.parametrize("tensor", ["hidden", "logits"])
@pytest.mark.parametrize("method", METHODS)
def test_gradients_are_the_finite_differences(method: Any, tensor: str) -> None:
    """With respect to both ends of the box and to every constant of the network, along random directions."""
    graph = network(1)
    originals = parameters(graph)
    assert len(originals) == 8
    generator = torch.Generator().manual_seed(graph.names[tensor])
    lower, upper = (x.requires_grad_() for x in box(7))
    weights = {key: torch.tensor(array, requires_grad=True) for key, array in originals.items()}
    bounded = BoundedNetwork(graph, method=method, dtype=torch.float64, weights=weights)
    combination = torch.rand(graph.nodes[graph.names[tensor]].size, generator=generator, dtype=torch.float64)
    value = loss(bounded, lower, upper, tensor, combination)
    variables = [lower, upper, *weights.values()]
    gradients = torch.autograd.grad(value, variables)
    for variable, gradient in zip(variables, gradients, strict=True):
        direction = torch.randn(variable.shape, generator=generator, dtype=torch.float64)
        ends = []
        for step in (1e-6, -2e-6):  # in place: a training loop's optimiser does the same
            with torch.no_grad():
                variable += step * direction
                ends.append(loss(bounded, lower, upper, tensor, combination))
        with torch.no_grad():
            variable += 1e-6 * direction
        difference = float((ends[0] - ends[1]) / 2e-6)
        assert float((gradient * direction).sum()) == pytest.approx(difference, rel=1e-4, abs=1e-5)
        assert gradient.abs().sum() > 0


def test_replaced_weights_are_the_ones_that_are_bounded() -> None:
    graph = network(2)
    weights = {key: torch.tensor(-2 * array) for key, array in parameters(graph).items()}
    lower, upper = box(2)
    new = BoundedNetwork(graph, dtype=torch.float64, weights=weights)
    low, high = new.bounds(lower, upper, "logits")
    value = new.net.evaluate(lower)[graph.names["logits"]]
    old = torch.from_numpy(evaluate(graph, [lower[:, :9].numpy(), lower[:, 9:].numpy()], np.float64)[graph.names["logits"]])
    assert (low <= value).all() and (value <= high).all() and not torch.allclose(old, value)


# ---------------------------------------------------------------- rounding, errors


@settings(max_examples=examples(200))
@given(st.floats(-1e300, 1e300), st.sampled_from([torch.float32, torch.float64]), st.sampled_from([-1, 1]))
def test_boxes_are_rounded_outwards(x: float, dtype: torch.dtype, side: int) -> None:
    rounded = float(outward(torch.tensor([x], dtype=torch.float64), dtype, side))
    if math.isfinite(rounded):
        assert side * rounded >= side * x and rounded == pytest.approx(x, rel=1e-6, abs=1e-44)
    else:
        assert abs(x) > 3e38 and dtype == torch.float32


def test_what_overflows_or_has_no_value_is_infinite() -> None:
    wide = (Scale((1,), (1,), np.array([1e200])),)
    nodes: tuple[Node, ...] = (Input((1,), (), FROM, "x"), Affine((1,), (0,), FROM, wide), Affine((1,), (1,), FROM, wide))
    overflow = check(Graph(nodes, (0,), (2,), ("y",), {"y": 2}))
    pole = check(Graph((nodes[0], Elementwise((1,), (0,), FROM, build("reciprocal"))), (0,), (1,), ("y",), {"y": 1}))
    for graph in (overflow, pole):
        for method in METHODS:
            bounded = BoundedNetwork(graph, method=method, dtype=torch.float64)  # type: ignore[arg-type]
            low, high = bounded.bounds(np.array([[-1.0]]), np.array([[1.0]]))
            assert low.item() == -math.inf and high.item() == math.inf
            assert bounded.lower_bound(np.array([[-1.0]]), np.array([[1.0]]), np.array([[1.0], [-1.0]])).tolist() == [[-math.inf] * 2]


def test_mistakes_are_named() -> None:
    graph = network()
    bounded = BoundedNetwork(graph)
    lower, upper = box(0)
    with pytest.raises(ValueError, match="no tensor 'nothing'"):
        bounded.bounds(lower, upper, "nothing")
    with pytest.raises(ValueError, match="no node 99"):
        bounded.bounds(lower, upper, 99)
    with pytest.raises(ValueError, match="2 outputs; name one of logits, product"):
        bounded.bounds(lower, upper)
    with pytest.raises(ValueError, match="10 inputs"):
        bounded.bounds(lower[:, :9], upper[:, :9], "logits")
    with pytest.raises(ValueError, match="empty or not a number"):
        bounded.bounds(upper, lower, "logits")
    with pytest.raises(ValueError, match="empty or not a number"):
        bounded.bounds(torch.full_like(lower, torch.nan), upper, "logits")
    with pytest.raises(ValueError, match="11 outputs"):
        bounded.lower_bound(lower, upper, np.ones((1, 2)))
    with pytest.raises(ValueError, match="unknown method 'ibp'"):
        BoundedNetwork(graph, method="ibp")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="float16"):
        BoundedNetwork(graph, dtype=torch.float16)
    key, array = next(iter(parameters(graph).items()))
    with pytest.raises(ValueError, match="no constant of the graph has the key"):
        BoundedNetwork(graph, weights={-1: torch.tensor(array)})
    with pytest.raises(ValueError, match="in place of one of shape"):
        BoundedNetwork(graph, weights={key: torch.zeros(1)})


def test_importing_bounds_does_not_import_torch() -> None:
    code = "import sys; import bounds; print('torch' in sys.modules, bounds.BoundedNetwork.__name__, 'torch' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert run.stdout.split() == ["False", "BoundedNetwork", "True"]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_cuda_gives_the_bounds_of_the_cpu(dtype: torch.dtype) -> None:
    graph = network(4)
    lower, upper = box(4)
    for method in METHODS:
        there, here = (BoundedNetwork(graph, method=method, dtype=dtype, device=d) for d in ("cuda", "cpu"))  # type: ignore[arg-type]
        for i in range(len(graph.nodes)):
            for a, b in zip(there.bounds(lower, upper, i), here.bounds(lower, upper, i), strict=True):
                assert torch.allclose(a.cpu(), b, rtol=1e-4 if dtype == torch.float32 else 1e-11, atol=1e-5)
