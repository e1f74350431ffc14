"""Reduced networks say of a sub-problem what a pass through the whole network says, their gradient is that of the bound, and what they guide
is confirmed: nothing false is verified, and the checker follows."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from exact_relu import Question, questions
from hypothesis import given, settings
from onnx import helper
from proofs import checked
from small_networks import onnx_file
from test_search import searching, slow
from test_within import Watch, network_file, question
from torch import Tensor

from bounds.linear import LinearBounds, State
from bounds.torch_graph import TorchGraph
from graph.core import Elementwise
from graph.load import load
from specs.vnnlib import parse
from tests.effort import examples
from verifier import engine, guide, portfolio
from verifier.budget import Budget
from verifier.certificate import Recorder
from verifier.optimise import planes_with
from verifier.options import Options
from verifier.reduced import Neurons, Reduced, Rows, reduce, reducible
from verifier.tighten import tighten


def convolutions(seed: int) -> bytes:
    """Two convolutions with a way around the second, and a layer: 3 x 6 x 6 inputs, y of 2."""
    random = np.random.default_rng(seed)
    weights = {"k0": random.normal(size=(4, 3, 3, 3)) / 5, "c0": random.normal(size=4) / 4, "k1": random.normal(size=(4, 4, 3, 3)) / 6,
               "c1": random.normal(size=4) / 4, "w": random.normal(size=(144, 2)) / 12, "b": np.zeros(2)}
    nodes = [
        helper.make_node("Constant", [], ["s"], value_ints=[1, 3, 6, 6]), helper.make_node("Reshape", ["x", "s"], ["i"]),
        helper.make_node("Conv", ["i", "k0", "c0"], ["h0"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["h0"], ["r0"]), helper.make_node("Conv", ["r0", "k1", "c1"], ["h1"], pads=[1, 1, 1, 1]),
        helper.make_node("Add", ["h1", "r0"], ["a"]), helper.make_node("Relu", ["a"], ["r1"]), helper.make_node("Flatten", ["r1"], ["f"]),
        helper.make_node("Gemm", ["f", "w", "b"], ["y"]),
    ]  # fmt: skip
    return onnx_file(nodes, 108, 2, **weights)


def prepared(model: bytes, width: float, seed: int = 0) -> tuple[LinearBounds, State, Reduced, Rows, dict[int, Tensor]]:
    """The network on a box around a random point, one input of which is fixed; what is left of it; the functionals that are its outputs."""
    net = TorchGraph(load(model).graph, torch.float32, "cpu")
    bounds, size = LinearBounds(net), net.input_sizes[0]
    centre = torch.rand(1, size, generator=torch.Generator().manual_seed(seed)) * 2 - 1
    room = torch.full((1, size), width).index_fill(1, torch.tensor([size // 2]), 0.0)
    state = bounds.propagate(centre - room, centre + room)
    reduction, reduced = reduce(bounds, state)
    output = net.graph.outputs[0]
    functional = {output: torch.eye(net.graph.nodes[output].size).unsqueeze(0)}
    return bounds, state, reduced, reduction.rows(state, functional, torch.full((1, net.graph.nodes[output].size), 0.25)), functional


def some_splits(net: Reduced, state: State, count: int, seed: int) -> tuple[Neurons, Tensor, Tensor]:
    """`count` sub-problems, in which a quarter of the neurons is split; slopes and multipliers at random."""
    random = torch.Generator().manual_seed(seed)
    low, high = (torch.cat([end[b.source][:, b.elements] for b in net.blocks], -1).repeat(count, 1) for end in (state.lower, state.upper))
    signs = torch.randint(0, 8, low.shape, generator=random)
    signs = (signs == 0).float() - (signs == 1).float()
    low, high = torch.where(signs > 0, torch.zeros_like(low), low), torch.where(signs < 0, torch.zeros_like(high), high)
    return Neurons(low, high, signs), torch.rand(low.shape, generator=random), torch.rand(low.shape, generator=random) * signs.abs() / 4


MODELS = {"dense": (network_file(1, 24, 16), 0.4), "convolutions": (convolutions(1), 0.15)}


@pytest.mark.parametrize("name", MODELS)
def test_the_bound_is_that_of_the_whole_network(name: str) -> None:
    bounds, state, net, rows, functional = prepared(*MODELS[name])
    count = len(rows.constant)
    known, alpha, beta = some_splits(net, state, count, 3)
    wide = state.select(torch.zeros(count, dtype=torch.long))
    slopes, betas = {}, {}
    for b in net.blocks:
        here, size = slice(b.start, b.stop), bounds.graph.nodes[b.source].size
        wide.lower[b.source][:, b.elements], wide.upper[b.source][:, b.elements] = known.lower[:, here], known.upper[:, here]
        slopes[b.node] = (torch.zeros(count, 1, size).index_copy(-1, b.elements, alpha[:, here].unsqueeze(1)), None)
        betas[b.source] = torch.zeros(count, 1, size).index_copy(-1, b.elements, -(known.signs * beta)[:, here].unsqueeze(1)), None
    each = {i: d.transpose(0, 1) for i, d in functional.items()}  # one row for each sub-problem
    whole = bounds.lower_bound(
        wide, each, torch.full((count, 1), 0.25), planes=planes_with(bounds, wide, slopes), betas=betas, rigorous=False
    )
    value, _, inputs = net.backward(rows, net.planes(known, alpha, beta))
    assert len(net) > 10 and len(net.blocks) == 2 and bool((known.signs != 0).any())
    torch.testing.assert_close(value, whole.value[:, 0], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(inputs, whole.coefficients[:, 0][:, net.varying], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", MODELS)
def test_steps_follow_the_gradient(name: str) -> None:
    """What the ascent takes for the gradient is that of the bound, by differences in float64."""
    _, state, net, rows, _ = prepared(*MODELS[name])
    known, alpha, beta = (part.select(torch.arange(1)) if isinstance(part, Neurons) else part[:1] for part in some_splits(net, state, 2, 4))
    rows, known = (type(part)(*(t.double() for t in vars(part).values())) for part in (rows.select(torch.arange(1)), known))
    net = dataclasses.replace(net, **{f: getattr(net, f).double() for f in ("weight", "inputs", "bias", "middle", "half")})
    alpha, beta, size, step = alpha.double() * 0.8 + 0.1, beta.double() + 0.1 * known.signs.abs(), len(net), 1e-7
    planes = net.planes(known, alpha, beta)
    value, meets, inputs = net.backward(rows, planes)
    z, each = net.forward(planes, meets, inputs), torch.zeros(size, dtype=torch.long)
    for change, told in (
        (alpha, meets.clamp(min=0) * z * ((known.lower < 0) & (known.upper > 0))), (beta, -known.signs * z)
    ):  # fmt: skip
        moved = change + step * torch.eye(size, dtype=torch.float64)
        ways = (moved, beta[each]) if change is alpha else (alpha[each], moved)
        ahead, *_ = net.backward(rows.select(each), net.planes(known.select(each), *ways))
        assert bool((told != 0).any())
        torch.testing.assert_close((ahead - value) / step, told[0], rtol=1e-4, atol=1e-4)


def test_the_best_is_kept_and_what_suffices_is_left_alone() -> None:
    _, state, net, rows, _ = prepared(*MODELS["convolutions"])
    rows = rows.select(torch.arange(2).repeat(8))
    known, alpha, beta = some_splits(net, state, 16, 5)
    before = net.maximise(rows, known, alpha, beta, 0, 0.1)
    after = net.maximise(rows, known, alpha, beta, 40, 0.1)
    assert bool((after.value >= before.value).all()) and float((after.value - before.value).mean()) > 0.01
    torch.testing.assert_close(net.backward(rows, net.planes(known, after.alpha, after.beta))[0], after.value, rtol=1e-4, atol=1e-4)
    enough = net.maximise(rows, known, alpha, beta, 40, 0.1, before.value.index_fill(0, torch.arange(8), -1e9))
    assert torch.equal(enough.value[:8], before.value[:8]) and bool((enough.value[8:] > before.value[8:]).all())
    torch.testing.assert_close(net.backward(rows, net.planes(known, enough.alpha, enough.beta))[0], enough.value, rtol=1e-4, atol=1e-4)


def test_what_is_not_a_relu_network_is_not_reduced() -> None:
    smooth = [helper.make_node("Gemm", ["x", "w"], ["h"]), helper.make_node("Sigmoid", ["h"], ["y"])]
    shared = [helper.make_node("Relu", ["x"], ["a"]), helper.make_node("Relu", ["x"], ["b"]), helper.make_node("Sub", ["a", "b"], ["y"])]
    for nodes, weights in ((smooth, {"w": np.eye(2)}), (shared, {})):
        assert not reducible(LinearBounds(TorchGraph(load(onnx_file(nodes, 2, 2, **weights)).graph, torch.float32, "cpu")))
    assert reducible(LinearBounds(TorchGraph(load(network_file(1, 4)).graph, torch.float32, "cpu")))


# ---------------------------------------------------------------- the search that it guides


@contextmanager
def guided() -> Iterator[list[object]]:
    """Neurons are split, guided by a reduced network; yields the guides."""
    made: list[object] = []
    with searching("neurons"), pytest.MonkeyPatch.context() as patch:
        patch.setattr(portfolio, "CONSTANTS", dataclasses.replace(portfolio.CONSTANTS, close_work=0, refine_rows=0))
        init = guide.Guide.__init__

        def noted(self, *arguments):  # type: ignore[no-untyped-def]
            init(self, *arguments)
            made.append(self)

        patch.setattr(guide.Guide, "__init__", noted)
        yield made


def run(model: bytes, prop: str, nodes: int, watch: Watch | None = None, self_check: bool = False) -> str:
    options = Options("", "", timeout=60.0, nodes=nodes, no_attack=True, threads=1, self_check=self_check)
    return engine.run(load(model), parse(prop, "p"), options, Watch() if watch is None else watch).verdict


def test_what_is_violated_is_never_verified() -> None:
    """The threshold is a value that the network reaches, or lies just above one."""
    for seed in range(2):
        with guided() as made:
            assert run(*question(seed, -0.002 * seed, 16, 12), nodes=100, self_check=True) == "unknown"
        assert made


@settings(slow, max_examples=examples(12))
@given(questions())
def test_verdicts_are_those_of_exact_arithmetic(asked: Question) -> None:
    with guided():
        found = engine.run(asked.layers.onnx(), asked.property(), Options("", "", timeout=60.0, nodes=30, no_attack=True, threads=1, self_check=True))
    assert found.verdict == "unknown" or not asked.truth()


@pytest.mark.parametrize(("seed", "room", "widths"), [(1, 0.02, (24,)), (3, 0.05, (12, 8, 8))])
def test_the_checker_follows(seed: int, room: float, widths: tuple[int, ...], tmp_path: Path) -> None:
    model, prop = question(seed, room, *widths)
    recorder = Recorder(str(tmp_path))
    watch = Watch(recorder)
    with guided() as made:
        assert run(model, prop, 20000, watch) == "unsat"
    assert made and watch.splits and not watch.within
    assert checked(tmp_path, recorder, model, prop).startswith("ACCEPTED")


def test_a_guide_that_lies_is_not_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Estimates that everything is closed: what cannot be confirmed stays open."""
    backward = Reduced.backward

    def boastful(self, rows, planes):  # type: ignore[no-untyped-def]
        value, *rest = backward(self, rows, planes)
        return (value + 1000, *rest)

    model, prop = question(1, -0.01, 16, 12)
    with guided() as made:
        monkeypatch.setattr(Reduced, "backward", boastful)
        assert run(model, prop, 100) == "unknown"
    assert made


def test_hidden_bounds_are_as_good_as_those_of_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same layers are bounded again, with the same slopes told, by a reduced network and through the whole one."""
    widths = []
    told: list[int] = []
    for whole in (False, True):
        bounds, state, *_ = prepared(network_file(2, 24, 16, 12), 0.4)
        if whole:
            monkeypatch.setattr("verifier.tighten.reducible", lambda _: False)
        budget = Budget(float("inf"))
        found = tighten(bounds, state, steps=20, rate=0.15, most_work=10**9, budget=budget, tell=lambda j, *_: told.append(j))
        hidden = [node.inputs[0] for node in bounds.graph.nodes if isinstance(node, Elementwise)]
        assert told == hidden[1:] * (1 + whole)
        widths.append(torch.stack([(found.upper[j] - found.lower[j]).sum() for j in hidden]))
        assert float(widths[-1][2]) < float((state.upper[hidden[2]] - state.lower[hidden[2]]).sum())
    torch.testing.assert_close(*widths, rtol=0.01, atol=0.0)
