"""Complete clipping in the neuron search: what it claims holds for every violation, it reaches the certificate, and the checker follows it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from exact_relu import Question, questions
from hypothesis import given, settings
from onnx import helper
from proofs import checked
from small_networks import onnx_file, vnnlib_file
from test_certificate import grown
from test_search import searching, slow

from graph.core import Elementwise
from graph.evaluate import evaluate
from graph.load import load
from specs.vnnlib import parse
from tests.effort import examples
from verifier import engine, neuron_search, portfolio
from verifier.certificate import Recorder
from verifier.checker import tree
from verifier.events import Begun, Chosen, Closed, Crossed, Event, Places, Roots, Split, Within
from verifier.options import Options
from verifier.problem import compile_problem
from verifier.result import Result
from verifier.self_check import BoundExcludesRun
from verifier.watchdog import supervise

WIDE = 8


def network_file(seed: int, *widths: int) -> bytes:
    """Random ReLU layers of these widths on 8 inputs, y of 1."""
    random = np.random.default_rng(seed)
    nodes, at, weights, width = [], "x", {}, WIDE
    for k, wide in enumerate(widths):
        weights |= {f"w{k}": random.normal(size=(width, wide)) / np.sqrt(width), f"b{k}": random.normal(size=wide) / 4}
        nodes += [helper.make_node("Gemm", [at, f"w{k}", f"b{k}"], [f"h{k}"]), helper.make_node("Relu", [f"h{k}"], [f"r{k}"])]
        at, width = f"r{k}", wide
    weights |= {"w": random.normal(size=(width, 1)) / np.sqrt(width), "b": np.zeros(1)}
    return onnx_file([*nodes, helper.make_node("Gemm", [at, "w", "b"], ["y"])], WIDE, 1, **weights)


def least(model: bytes) -> tuple[float, float]:
    """The least and the greatest value that random points and corners reach, the least after descent."""
    net, random = load(model).graph, np.random.default_rng(5)

    def values(points: np.ndarray) -> np.ndarray:
        return np.asarray(evaluate(net, [points.astype(np.float32)])[net.outputs[0]])[:, 0]

    points = np.clip(random.normal(size=(20000, WIDE)), -1, 1)
    best = points[np.argsort(values(points))[:50]]
    for scale in (0.5, 0.2, 0.1, 0.05, 0.02):
        for _ in range(10):
            near = np.clip(best[:, None] + scale * random.normal(size=(50, 40, WIDE)), -1, 1).reshape(-1, WIDE)
            best = np.concatenate([best, near])
            best = best[np.argsort(values(best))[:50]]
    return float(values(best).min()), float(values(points).max())


def question(seed: int, room: float, *widths: int) -> tuple[bytes, str]:
    """A network, and the property that y is above a threshold; `room`: how far this is below the least value known, in parts of all values."""
    model = network_file(seed, *widths)
    low, high = least(model)
    return model, vnnlib_file([("-1", "1")] * WIDE, 1, f"(<= Y_0 {low - room * (high - low):.6f})")


@contextmanager
def rounds(count: int) -> Iterator[None]:
    """Neurons are split, with so many rounds of complete clipping at most."""
    with searching("neurons"), pytest.MonkeyPatch.context() as patch:
        patch.setattr(portfolio, "CONSTANTS", dataclasses.replace(portfolio.CONSTANTS, close_rounds=count))
        yield


class Watch:
    """Counts events, and passes them on."""

    def __init__(self, *observers: Recorder) -> None:
        self.observers, self.within, self.splits = observers, 0, 0

    def __call__(self, event: Event) -> None:
        for observer in self.observers:
            observer(event)
        self.within += len(event.ids) if isinstance(event, Within) else 0
        self.splits += len(event.ids) if isinstance(event, Split) else 0


def run(model: bytes, prop: str, watch: Watch, nodes: int = 3000, self_check: bool = False) -> str:
    options = Options("", "", timeout=60.0, nodes=nodes, no_attack=True, threads=1, self_check=self_check)
    return engine.run(load(model), parse(prop, "p"), options, watch).verdict


@pytest.mark.parametrize("widths", [(24,), (16, 12)])
def test_fewer_sub_problems_are_needed(widths: tuple[int, ...]) -> None:
    model, prop = question(1, 0.02, *widths)
    counts = []
    for most in (0, 3):
        watch = Watch()
        with rounds(most):
            assert run(model, prop, watch) == "unsat"
        assert bool(watch.within) == bool(most)
        counts.append(watch.splits)
    assert counts[1] < 0.7 * counts[0]


@pytest.mark.parametrize("widths", [(24,), (16, 12)])
def test_what_is_violated_is_never_verified(widths: tuple[int, ...]) -> None:
    """The threshold is a value that the network reaches, or lies just above one."""
    for seed in range(examples(3, 1)):
        model, prop = question(seed, -0.002 * seed, *widths)
        watch = Watch()
        with rounds(3):
            assert run(model, prop, watch, nodes=60) == "unknown"
        assert watch.within


@settings(slow, max_examples=examples(12))
@given(questions())
def test_executions_contradict_nothing(question: Question) -> None:
    """The self-check follows executions into what the case leaves of a box."""
    options = Options("", "", timeout=60.0, nodes=30, no_attack=True, threads=1, self_check=True)
    with rounds(3):
        found = engine.run(question.layers.onnx(), question.property(), options)
    assert found.verdict == "unknown" or not question.truth()


def test_bounds_that_are_too_tight_are_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    model, prop = question(2, -0.3, 24)
    clip = neuron_search.clip_layers

    def greedy(*arguments):  # type: ignore[no-untyped-def]
        return {j: (low + 0.4 * (high - low), high) for j, (low, high) in clip(*arguments).items()}

    with rounds(3):
        assert run(model, prop, Watch(), nodes=30, self_check=True) == "unknown"
        monkeypatch.setattr(neuron_search, "clip_layers", greedy)
        with pytest.raises(BoundExcludesRun):
            run(model, prop, Watch(), nodes=30, self_check=True)


@pytest.mark.parametrize(("seed", "room", "widths"), [(1, 0.02, (24,)), (1, 0.02, (16, 12)), (3, 0.01, (12, 8, 8))])
def test_the_checker_follows(seed: int, room: float, widths: tuple[int, ...], tmp_path: Path) -> None:
    model, prop = question(seed, room, *widths)
    recorder = Recorder(str(tmp_path))
    watch = Watch(recorder)
    with rounds(3):
        assert run(model, prop, watch, nodes=20000) == "unsat"
    assert watch.within and watch.splits
    assert checked(tmp_path, recorder, model, prop).startswith("ACCEPTED")


def test_a_contradiction_at_a_root_can_be_written(tmp_path: Path) -> None:
    """It takes two planes that leave different parts of a box: too rare to wait for."""
    model, prop = question(1, 0.02, 12)
    net, asked = load(model), parse(prop, "p")
    problem = compile_problem(net.graph, asked)
    (site,) = (node.inputs[0] for node in net.graph.nodes if isinstance(node, Elementwise))
    places = Places(((site + 1, 0, np.array([2, 5])),))
    one, none = np.zeros(1, np.int64), np.zeros(0, np.float32)
    first, second = (Within("neurons", one, one, places, np.array([[k, 1 / 2]], np.float16), one, none) for k in (0, 1))
    recorder = Recorder(str(tmp_path))
    for event in (
        Begun(problem), Chosen("neurons"), Roots("neurons", one, one[:, None], inherit=True), first, second,
        Closed("neurons", one, np.ones((1, 1), bool), "empty"), Crossed("neurons", one, one + site, one + 5),
    ):  # fmt: skip
        recorder(event)
    found, forest = grown(net, asked, recorder, tmp_path)
    recorder.close()
    assert found.op.tolist() == [tree.REFINE, tree.WITHIN, tree.WITHIN, tree.EMPTY] and found.arg.tolist() == [0, 0, 0, 5]
    assert (found.slope.tolist(), found.gamma.tolist(), found.beta.tolist()) == ([0.0, 0.5, 1.0, 0.5], [1.0, 1.0], [])
    assert len(forest.ending) == 1


def test_the_command_certifies_it(tmp_path: Path) -> None:
    model, prop = question(1, 0.02, 24)
    paths = [tmp_path / name for name in ("m.onnx", "p.vnnlib")]
    paths[0].write_bytes(model)
    paths[1].write_text(prop)
    found = supervise(Options(str(paths[0]), str(paths[1]), timeout=50, threads=1, no_attack=True), [].append)
    assert isinstance(found, Result) and (found.verdict, found.assurance) == ("unsat", "certified")


def test_cases_on_one_box_do_not_share_what_one_leaves() -> None:
    """One case can be refuted, the other is violated: what the first leaves of the box must not refute the second."""
    model = network_file(1, 24)
    low, high = least(model)
    for order in (1, -1):
        atoms = [f"(and (<= Y_0 {low - 0.02 * (high - low):.6f}))", f"(and (>= Y_0 {high - 0.01 * (high - low):.6f}))"][::order]
        watch = Watch()
        with rounds(3):
            options = Options("", "", timeout=60.0, nodes=150, no_attack=True, threads=1)
            found = engine.run(load(model), parse(vnnlib_file([("-1", "1")] * WIDE, 1, f"(or {' '.join(atoms)})"), "p"), options, watch)
        assert (found.verdict, found.cases.open) == ("unknown", 1) and watch.within
