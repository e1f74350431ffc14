"""Forged certificates are never accepted: a sample of the campaign (`make bench-forgery`), and proof that the campaign has teeth."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import helper, numpy_helper

from benchmarks.forgery import attempts, campaign, subjects
from benchmarks.forgery.attempts import Plan, Tally, forge, mutate_all
from benchmarks.forgery.broken import Lie, LyingChecker, wrong_pad
from benchmarks.forgery.judge import Judge
from benchmarks.forgery.models import KINDS
from benchmarks.forgery.proof import Node, Proof, Record, Tree, leaf
from benchmarks.forgery.subjects import Subject
from verifier.checker import arithmetic, bounds, read_model, read_property, slack, walk
from verifier.checker import main as checker_main
from verifier.checker.arithmetic import Array
from verifier.checker.network import Affine

FEW = Plan(broken=8, engine=0, mutated=3, climbed=1, nodes=10, steps=8)
SEEDS = range(2 * len(KINDS))


@pytest.fixture(autouse=True)
def _quiet() -> None:
    np.seterr(all="ignore")


def _planted(seed: int) -> Subject:
    found = subjects.planted(seed)
    assert found is not None
    return found


def _last(subject: Subject, folder: Path, plan: Plan, seed: int) -> Tally:
    safe = subjects.safe(seed)
    donors = [] if safe is None else [attempts.honest(safe, np.random.default_rng(seed), 10)]
    return list(forge(subject, Judge(folder), plan, seed, donors, folder))[-1]


@pytest.mark.parametrize("seed", [pytest.param(seed, marks=pytest.mark.slow if seed >= len(KINDS) else ()) for seed in SEEDS])
def test_nothing_forged_is_accepted(seed: int, tmp_path: Path) -> None:
    tally = _last(_planted(seed), tmp_path, FEW, seed)
    assert not tally.forged, tally.forged[0][0]
    assert sum(tally.made.values()) == 12 and tally.best <= 0
    assert tally.rules["leaf"] + tally.rules["threshold"] >= 3, tally.rules  # most look like certificates, and fail where it matters


@pytest.mark.parametrize("seed", (1002, 1004, 1008, 1010, 1012, 1018))
def test_what_mutation_leaves_accepted_the_exact_twin_accepts(seed: int, tmp_path: Path) -> None:
    subject = subjects.safe(seed)
    assert subject is not None
    found = mutate_all(subject, Judge(tmp_path), Judge(tmp_path, "exact"), 6, seed)
    assert not found.disputed, found.disputed[0][0]


def test_a_process_of_its_own_says_the_same(tmp_path: Path) -> None:
    subject, safe = _planted(3), subjects.safe(1004)
    assert safe is not None
    random = np.random.default_rng(0)
    made = [(problem, attempts.packed(problem, "real", attempts.honest(problem, random, 40))) for problem in (subject, safe)]
    here, apart = ([judge(problem, data) for problem, data in made] for judge in (Judge(tmp_path), Judge(tmp_path).apart))
    assert here == apart
    assert [verdict.accepted for verdict in here] == [False, True]


# ---------------------------------------------------------------- the campaign has teeth: broken checkers accept what it makes


def _no_error_terms(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(arithmetic, "G", lambda m: 0.0)
    patch.setattr(arithmetic, "T", lambda m, magnitude: np.zeros(magnitude.shape[:-1]))
    patch.setattr(bounds, "dn", lambda x: x)


def _no_slack(patch: pytest.MonkeyPatch) -> None:
    def step(self: slack.Run, i: int, lower: Array, upper: Array) -> Array:
        self.note(lower, upper)
        return np.zeros(lower.shape)

    patch.setattr(slack.Run, "step", step)


def _tight_planes(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(checker_main, "Checker", lambda network, loss: LyingChecker(network, Lie("tight", planes=0.5)))


def _tight_intervals(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(checker_main, "Checker", lambda network, loss: LyingChecker(network, Lie("tight", shrink=0.3)))


def _no_bias(patch: pytest.MonkeyPatch) -> None:
    def affine(self: bounds._Backward, i: int, node: Affine, d: Array) -> None:
        for j, m in zip(node.inputs, node.maps, strict=True):
            self._pass_on(j, m.adjoint(d))

    patch.setattr(bounds._Backward, "_affine", affine)


def _wrong_pads(patch: pytest.MonkeyPatch) -> None:
    read = read_model.read
    patch.setattr(read_model, "read", lambda data, *rest: read(wrong_pad(data, np.random.default_rng(0)), *rest))


def _one_child(patch: pytest.MonkeyPatch) -> None:
    def split(self: walk.Walk, part: walk.Chunk) -> list[walk.Chunk]:
        self.visited += int((self.forest.depth > 0).sum())
        self.closed += int((self.forest.ending != 0).sum())
        return []

    patch.setattr(walk.Walk, "_split", split)


def _any_leaf(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(walk.Walk, "_count", lambda self, part, closed, best: setattr(self, "closed", self.closed + len(part)))


def _free_betas(patch: pytest.MonkeyPatch) -> None:
    """The constant of a beta is left out."""
    original = walk.Walk._betas

    def betas(self: walk.Walk, part: walk.Chunk, *given: Any) -> tuple[Array, Array]:
        *others, constant, error = given
        return original(self, part, *others, constant.copy(), error)[0] * 0 + constant + 1e-3, error

    patch.setattr(walk.Walk, "_betas", betas)


def _high_planes(patch: pytest.MonkeyPatch) -> None:
    """What the atoms leave of a box is taken for less than it is."""
    original = walk.Walk._within

    def within(self: walk.Walk, part: walk.Chunk, records: Array) -> walk.Chunk:
        with pytest.MonkeyPatch.context() as inner:
            forms = self.checker.forms
            lift = lambda *given: dataclasses.replace(made := forms(*given), constant=made.constant + 0.2 * np.abs(made.constant))  # noqa: E731
            inner.setattr(self.checker, "forms", lift)
            return original(self, part, records)

    patch.setattr(walk.Walk, "_within", within)


BROKEN: dict[str, tuple[Callable[[pytest.MonkeyPatch], None], range]] = {
    "no error terms": (_no_error_terms, range(37, 90, 9)),
    "no float32": (_no_slack, range(100, 210)),
    "relaxations too tight": (_tight_planes, range(0, 30)),
    "intervals too tight": (_tight_intervals, range(0, 30)),
    "no bias": (_no_bias, range(8, 30)),
    "wrong pads": (_wrong_pads, range(3, 90, 9)),
    "a child dropped": (_one_child, range(0, 30)),
    "any leaf is closed": (_any_leaf, range(0, 10)),
    "betas for nothing": (_free_betas, range(0, 90)),
    "planes too high": (_high_planes, range(0, 90)),
}
ALL = Plan(broken=18, engine=0, mutated=0, climbed=2, nodes=30, steps=10)


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_checker_is_found_out(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    break_it, seeds = BROKEN[name]
    for seed in seeds:
        subject = _planted(seed)
        if name == "no float32" and subject.real:
            continue
        with monkeypatch.context() as patch:
            break_it(patch)
            if _is_accepted(subject, seed, tmp_path):
                return
    pytest.fail("no certificate is accepted by a checker with this defect")


def _is_accepted(subject: Subject, seed: int, folder: Path) -> bool:
    seen = dataclasses.replace(subject, network=read_model.read(subject.model))
    return any(tally.forged for tally in forge(seen, Judge(folder), ALL, seed, [], folder))


def test_the_campaign_continues_where_it_stopped(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(campaign, "BUILD", tmp_path)
    monkeypatch.setattr(campaign, "_published", lambda: [])
    monkeypatch.setattr(campaign, "APART", 0)
    monkeypatch.setattr(campaign, "Plan", lambda: Plan(broken=2, engine=0, mutated=1, climbed=1, nodes=5, steps=2))
    out = tmp_path / "table.csv"
    for expected in (2, 0):
        assert campaign.main(["--out", str(out), "--planted", "1", "--safe", "1"]) == 0
        assert capsys.readouterr().out.count("subject=") == expected
    assert len(out.read_text().splitlines()) == 3




@pytest.mark.parametrize(("operator", "at"), [("Sigmoid", 41.0), ("Tanh", 21.0), ("Erf", 6.5)])
def test_a_saturated_activation_reaches_its_limit_in_float32(operator: str, at: float, tmp_path: Path) -> None:
    """onnxruntime computes exactly 1, the reals stay below: `Y >= 1` is violated by the deployed program, so no float32 proof may pass. A table of
    activations that says 0 for errors below its reference's lets the exact twin accept one."""
    value = helper.make_tensor_value_info
    graph = helper.make_graph([helper.make_node(operator, ["x"], ["y"])], "g", [value("x", 1, [1, 1])], [value("y", 1, [1, 1])])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()
    text = f"(declare-const X_0 Real)(declare-const Y_0 Real)(assert (>= X_0 {at}))(assert (<= X_0 {at}))(assert (>= Y_0 1.0))".encode()
    network = read_model.read(model)
    cases = read_property.bind(read_property.read(text), network)
    subject = Subject("saturated", "saturated", model, text, network, cases, np.array([at]), 0, False)
    assert subjects.violated_case(cases, subjects.run_outputs(model, network, subject.witness), subject.witness) == 0
    data = attempts.packed(subject, "float32", Proof(trees=[Tree([0], 0, leaf())]))
    assert not Judge(tmp_path)(subject, data).accepted
    assert not Judge(tmp_path, "exact")(subject, data).accepted


@pytest.mark.slow
def test_a_sample_of_the_long_campaign(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Published instances too, where they are there."""
    monkeypatch.setattr(campaign, "BUILD", tmp_path)
    assert campaign.main(["--out", str(tmp_path / "table.csv"), "--every", "30", "--seconds", "20"]) == 0


def _written(model: bytes, text: str, point: list[float]) -> Subject:
    network = read_model.read(model)
    cases = read_property.bind(read_property.read(text.encode()), network)
    return Subject("written", "written", model, text.encode(), network, cases, np.array(point), 0, True)


def _deep(weights: list[float]) -> bytes:
    """x [1, 1] -> Gemm, Relu, Gemm, Relu ... -> y: one weight each."""
    nodes, constants, at = list[Any](), list[Any](), "x"
    for k, weight in enumerate(weights):
        constants.append(numpy_helper.from_array(np.full((1, 1), weight, np.float32), f"w{k}"))
        nodes.append(helper.make_node("Gemm", [at, f"w{k}"], [f"h{k}"]))
        nodes.append(helper.make_node("Relu" if k < len(weights) - 1 else "Identity", [f"h{k}"], [at := f"r{k}"]))
    value = helper.make_tensor_value_info
    graph = helper.make_graph(nodes, "g", [value("x", 1, [1, 1])], [value(at, 1, [1, 1])], constants)
    return bytes(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString())


X_IS_1 = "(declare-const X_0 Real)(declare-const Y_0 Real)(assert (>= X_0 1))(assert (<= X_0 1))"


def test_a_coefficient_that_rounds_to_0_is_paid_for_where_its_tensor_is_large(tmp_path: Path) -> None:
    """Accepted once: multipliers forgot tensors all of whose coefficients round to 0. Y_0 = -2^1000, so 2e-324 Y_0 = -2e-23 beats 1e-30 X_0."""
    subject = _written(_deep([2.0**120] * 8 + [-(2.0**40)]), f"{X_IS_1}(assert (<= (+ (* 1e-30 X_0) (* 2e-324 Y_0)) 0))", [1.0])
    assert subjects.violated_case(subject.cases, subjects.exact_outputs(subject.network, subject.witness), subject.witness) == 0
    for node in (leaf(), Node(Record(1, [2, 0], gamma=[1.0]))):
        assert not Judge(tmp_path)(subject, attempts.packed(subject, "real", Proof(trees=[Tree([0], 0, node)], sets=[[]]))).accepted


@pytest.mark.parametrize("atom", ["(assert (<= X_0 1))", "(assert (>= (* 1e-400 Y_0) 1))"])
@pytest.mark.parametrize("gammas", [None, 1])
def test_cases_that_say_nothing_of_the_outputs_are_refused_and_crash_nothing(atom: str, gammas: int | None, tmp_path: Path) -> None:
    subject = _written(_deep([1.0, 1.0]), X_IS_1 + atom, [1.0])
    node = leaf() if gammas is None else Node(Record(1, [2, 0], gamma=[1.0] * subject.cases.atoms(0)))
    Judge(tmp_path)(subject, attempts.packed(subject, "real", Proof(trees=[Tree([0], 0, node)], sets=[[]])))
