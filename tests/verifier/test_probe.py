"""Probe: centres, corners and a few random points, run in the file itself."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from small_networks import distance_net, linear, relu_net, text

from graph.load import Model
from specs.canonical import Property
from verifier.probe import Probe, probe
from verifier.problem import compile_problem
from verifier.replay import Replayer, Witness


def probed(net: Model, prop: Property, seed: int = 0) -> Witness | None:
    return probe(compile_problem(net.graph, prop), Replayer(net, prop), seed)


def test_the_centre_is_tried_first() -> None:
    prop = text([("-1", "1")] * 4, 1, "(<= Y_0 0.01)")
    net = distance_net(np.zeros(4))
    replayer = Replayer(net, prop)
    witness = probe(compile_problem(net.graph, prop), replayer)
    assert witness is not None
    assert witness.inputs.tolist() == [0, 0, 0, 0]
    assert replayer.runs == 2  # the probe and its replay


@pytest.mark.parametrize("corner", [(-1, -1, -1), (1, -1, 1), (1, 1, -1)])
def test_every_corner_of_few_varying_inputs_is_tried(corner: tuple[int, ...]) -> None:
    prop = text([("-1", "1")] * 3 + [("0.5", "0.5")] * 20, 1, "(<= Y_0 0.01)")
    witness = probed(distance_net(np.array([*corner, *[0.5] * 20], dtype=float)), prop)
    assert witness is not None
    assert witness.inputs.tolist() == [*corner, *[0.5] * 20]


def test_random_points_find_what_is_common() -> None:
    net = relu_net(np.ones((8, 1)), np.zeros(1), np.ones((1, 1)), np.zeros(1))
    assert probed(net, text([("-1", "1")] * 8, 1, "(and (>= Y_0 0.3) (<= Y_0 3.0))")) is not None


@pytest.mark.parametrize("unsafe", ["(<= Y_0 -0.001)", "(< Y_0 0.0)", "(and (<= Y_0 0.5) (>= Y_0 40.0))"])
def test_nothing_is_found_where_nothing_is(unsafe: str) -> None:
    assert probed(distance_net(np.zeros(6)), text([("-1", "1")] * 6, 1, unsafe)) is None


def test_each_case_has_its_own_box() -> None:
    low = "(and (>= X_0 0) (<= X_0 1) (>= Y_0 1.5))"
    high = "(and (>= X_0 2) (<= X_0 3) (<= Y_0 1.5))"
    safe = text([("0", "3")], 1, f"(or {low} {high})")
    assert probed(linear([[1.0]]), safe) is None
    unsafe = text([("0", "3")], 1, f"(or {low} {high} (and (>= X_0 2) (<= X_0 3) (>= Y_0 2.25)))")
    witness = probed(linear([[1.0]]), unsafe)
    assert witness is not None
    assert (witness.case, 2 <= witness.inputs[0] <= 3) == (2, True)


def test_a_case_without_atoms_over_outputs_is_the_whole_box() -> None:
    assert probed(linear([[1.0]]), text([("0", "1")], 1, "(>= X_0 0.25)")) is not None


def test_the_recorded_margin_was_reached() -> None:
    net = distance_net(np.array([0.3, -0.4]))
    prop = text([("-1", "1")] * 2, 1, "(or (and (<= Y_0 -0.5)) (and (>= Y_0 5.0) (<= Y_0 6.0)))")
    search = Probe(compile_problem(net.graph, prop), Replayer(net, prop))
    assert search.run(60.0) is None
    grid = np.stack(np.meshgrid(*[np.linspace(-1, 1, 81)] * 2), axis=-1).reshape(-1, 2)
    y = np.abs(grid - [0.3, -0.4]).sum(axis=1)
    assert (search.best_margin >= [(y + 0.5).min() - 1e-5, np.maximum(5 - y, y - 6).min() - 1e-5]).all()
    corners = np.maximum(5 - 2.7, 2.7 - 6)
    assert search.best_margin[1] == pytest.approx(corners, abs=1e-5)


def test_a_seed_fixes_the_points() -> None:
    net, prop = distance_net(np.full(12, 0.1)), text([("-1", "1")] * 12, 1, "(<= Y_0 -1)")
    margins = []
    for seed in (1, 1, 2):
        search = Probe(compile_problem(net.graph, prop), Replayer(net, prop), seed)
        search.run(60.0)
        margins.append(search.best_margin.tolist())
    assert margins[0] == margins[1]


@pytest.mark.parametrize("seed", range(5))
def test_a_planted_needle_is_reached_by_descent(seed: int) -> None:
    """No corner and no random point is near it."""
    target = np.random.default_rng(seed).uniform(-0.9, 0.9, 16)
    witness = probed(distance_net(target), text([("-1", "1")] * 16, 1, "(<= Y_0 0.7)"), seed)
    assert witness is not None and np.abs(witness.inputs - target).sum() <= 0.7 + 1e-5


def test_descents_reach_atoms_over_inputs_and_over_outputs_at_once() -> None:
    net, box = distance_net(np.full(12, 0.75)), [("-1", "1")] * 12
    witness = probed(net, text(box, 1, "(and (<= Y_0 1.5) (<= X_3 0.125))"))
    assert witness is not None and witness.inputs[3] <= 0.125 and witness.outputs[0] <= 1.5


def test_descents_are_of_the_cases_that_are_nearest() -> None:
    net = distance_net(np.full(12, 0.3))
    prop = text([("-1", "1")] * 12, 1, "(or (and (<= Y_0 -9.0)) (and (<= Y_0 0.5)) (and (>= Y_0 99.0)))")
    search = Probe(compile_problem(net.graph, prop), Replayer(net, prop))
    witness = search.run(60.0)
    assert witness is not None and witness.case == 1
    assert set(search._starts().tolist()) == {0, 1, 2}  # fewer cases than starts: all of them


def test_a_large_network_is_left_to_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    net, prop = distance_net(np.zeros(8)), text([("-1", "1")] * 8, 1, "(<= Y_0 -1)")
    search = Probe(compile_problem(net.graph, prop), Replayer(net, prop))
    assert len(search._starts()) == 32
    monkeypatch.setattr("verifier.probe.DESCENT_WORK", 100_000)
    assert not len(search._starts()) and search.run(60.0) is None


def test_a_probe_does_not_import_torch() -> None:
    code = "import sys, verifier.probe; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
