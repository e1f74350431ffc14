"""The family `trained`: what is shipped is what was trained and violates where it says; the recipe trains, resumes and exports."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from fractions import Fraction
from math import prod
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from benchmarks import table
from benchmarks.instances import DataError
from benchmarks.soundness import decided, intervals, rational
from benchmarks.soundness.families import trained
from benchmarks.soundness.hidden import COLUMNS, DECIDED, HIDDEN, PAGE, key
from benchmarks.soundness.hidden_page import hidden, page
from benchmarks.soundness.instance import Instance, SuiteError, write
from benchmarks.soundness.recheck import recheck
from benchmarks.soundness.suite import run_suite
from benchmarks.soundness.train import attacks, measure
from benchmarks.soundness.train.__main__ import run
from benchmarks.soundness.train.architectures import ARCHITECTURES
from benchmarks.soundness.train.budgets import ATTACKS, CHOICE, PUBLISHED
from benchmarks.soundness.train.data import GRID, draw
from benchmarks.soundness.train.export import export
from benchmarks.soundness.train.network import Network
from benchmarks.soundness.train.recipe import MODELS, RecipeError, read, shipped
from benchmarks.soundness.train.search import LENGTH, Searches
from benchmarks.soundness.train.training import Knobs, Trainer
from benchmarks.soundness.traps import executed
from tests.effort import thorough

RECIPES = sorted(MODELS.glob("*.json"))


@pytest.fixture(scope="module")
def suite() -> list[Instance]:
    return list(trained.instances(0))


def test_every_architecture_is_shipped_and_small() -> None:
    assert {path.stem.rpartition("_")[0] for path in RECIPES} <= set(ARCHITECTURES)
    assert {path.suffix for path in MODELS.iterdir()} == {".json", ".onnx"}
    assert sum(path.stat().st_size for path in MODELS.iterdir()) <= 15 << 20
    for model in shipped():
        size = sum(prod(t.dims) for t in model.model.graph.initializer if t.data_type == onnx.TensorProto.FLOAT)
        assert model.made["parameters"] <= size <= 60_000
        assert [repr(layer) for layer in ARCHITECTURES[model.name].layers] == model.made["layers"]


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_boxes_are_disjoint_and_hold_their_points(path: Path) -> None:
    boxes = read(path).boxes
    assert (np.abs(boxes.planted - boxes.centres[: len(boxes.planted)]) <= boxes.radius).all()
    for i, centre in enumerate(boxes.centres):
        assert all(np.abs(centre - other).max() > 2 * boxes.radius for other in boxes.centres[:i])


def test_another_file_is_not_taken_for_the_trained_one(tmp_path: Path) -> None:
    for suffix in (".json", ".onnx"):
        (tmp_path / f"m{suffix}").write_bytes(RECIPES[0].with_suffix(suffix).read_bytes())
    assert read(tmp_path / "m.json").name
    (tmp_path / "m.onnx").write_bytes(RECIPES[-1].with_suffix(".onnx").read_bytes())
    with pytest.raises(RecipeError, match="not the model"):
        read(tmp_path / "m.json")


def test_every_truth_is_confirmed(suite: list[Instance]) -> None:
    """Planted points: exactly, and in onnxruntime, by 1e-3 of the outputs; `unsat`: interval arithmetic on the files."""
    for instance in suite if thorough() else suite[::4]:
        recheck(instance)
        trained.check(instance)
    planted = [instance for instance in suite if instance.planted is not None]
    assert len(planted) >= 3 * len(RECIPES) and len(suite) - len(planted) == trained.SMALL_BOXES * len(RECIPES)
    assert all(i.planted is not None and i.planted.real >= trained.LEAST and i.planted.runtime >= 0.01 for i in planted)


@pytest.mark.parametrize("seed", [1, pytest.param(7, marks=pytest.mark.slow)])
def test_another_seed_has_other_files_and_the_same_truth(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    models = list(shipped())[:: 1 if thorough() else 6]
    monkeypatch.setattr(trained, "shipped", lambda: models)
    suite, others = (list(trained.instances(k)) for k in (0, seed))
    margins = [sorted(i.planted.real for i in some if i.planted is not None and i.real == "sat") for some in (suite, others)]
    exact = [[float(m) for m in some] for some in margins]
    assert exact[0] == pytest.approx(exact[1], rel=1e-12)
    assert not {i.model.SerializeToString() for i in suite} & {i.model.SerializeToString() for i in others}
    for instance in others[:: len(others) // 8 or 1]:
        recheck(instance)
        trained.check(instance)


def test_a_false_unsat_is_refused(suite: list[Instance]) -> None:
    """The whole box of a planted point, given out as unsat."""
    false = next(i for i in suite if i.planted is not None)
    with pytest.raises(SuiteError, match="does not prove"):
        trained.check(replace(false, real="unsat", float32="unknown", planted=None, proof="theorem"))


# --- intervals ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_intervals_enclose_every_point(path: Path) -> None:
    """A random box: its outputs enclose those of its points, exactly and (piecewise linear networks) in onnxruntime; a larger box's are wider."""
    model, random = read(path), np.random.default_rng(5)
    centre, radius = model.boxes.centres[0], 2.0**-7
    sides = [[(Fraction(float(c)) - Fraction(r), Fraction(float(c)) + Fraction(r)) for c in centre] for r in (radius, 2 * radius)]
    small, large = (intervals.enclose(model.model, box) for box in sides)
    smooth = {"Tanh", "Sigmoid", "Softmax", "Mul"} & {node.op_type for node in model.model.graph.node}
    if smooth:
        with pytest.raises(rational.UnknownOperator, match="in float32"):
            intervals.enclose(model.model, sides[0], float32=True)
    for _ in range(2):
        point = [Fraction(float(v)) for v in (centre + radius * random.choice([-1, 1, 0.5], len(centre))).astype(np.float32)]
        for (low, high), (a, b), (wide, far) in zip(small, rational.enclose(model.model, point), large, strict=True):
            assert wide <= low <= a <= b <= high <= far
        if not smooth:
            inside = intervals.enclose(model.model, sides[0], float32=True)
            assert all(a < Fraction(y) < b for y, (a, b) in zip(executed(model.model, point), inside, strict=True))


def test_float32_is_charged_for_its_roundings() -> None:
    """A degenerate box: exact over the reals, an interval that holds every order of the sum in float32."""
    weights = np.array([[1.0], [2.0**24], [-(2.0**24)]], dtype=np.float32)
    node = onnx.helper.make_node("MatMul", ["X", "w"], ["Y"])
    values = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1, n]) for name, n in (("X", 3), ("Y", 1))]
    graph = onnx.helper.make_graph([node], "g", values[:1], values[1:], [onnx.numpy_helper.from_array(weights, "w")])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)])
    box = [(Fraction(1), Fraction(1))] * 3
    assert intervals.enclose(model, box) == [(1, 1)]
    ((low, high),) = intervals.enclose(model, box, float32=True)
    assert low <= 0 and high >= 2


# --- training ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", list(ARCHITECTURES))
def test_the_exported_file_computes_what_was_trained(name: str) -> None:
    architecture = ARCHITECTURES[name]
    network = Network.fresh(architecture, 3)
    x = torch.rand(4, prod(architecture.shape)) * 2 - 1
    model = export(architecture, [p.detach().numpy() for p in network.parameters])
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    rows = [session.run(None, {"X": row.reshape(1, *architecture.shape).numpy()})[0][0] for row in x]
    expected = network.outputs(x).detach().numpy()
    assert np.abs(np.stack(rows) - expected).max() <= 1e-5 * (1 + np.abs(expected).max())


def trainer(steps: int = 20, seed: int = 4) -> Trainer:
    architecture = ARCHITECTURES["mlp_a"]
    boxes = draw(prod(architecture.shape), 2, architecture.radius, seed)
    return Trainer(architecture, boxes, Knobs(steps=steps, rate=architecture.rate), seed)


def test_a_run_continues_exactly_where_it_stopped(tmp_path: Path) -> None:
    whole, first, second = trainer(), trainer(), trainer()
    losses = [whole.step() for _ in range(20)]
    before = [first.step() for _ in range(10)]
    torch.save(first.state(), tmp_path / "state.pt")
    second.restore(torch.load(tmp_path / "state.pt", weights_only=True))
    assert losses == before + [second.step() for _ in range(10)]
    assert losses[-1] < losses[0]
    assert all(torch.equal(a, b) for a, b in zip(whole.network.parameters, second.network.parameters, strict=True))


def test_twenty_steps_make_a_model_and_its_recipe(tmp_path: Path) -> None:
    path = run("mlp_a", 3, tmp_path, tmp_path / "work", steps=20)
    made = read(path)
    assert (made.name, made.seed, made.made["steps"]) == ("mlp_a", 3, 20)
    assert json.loads(path.read_text())["bytes"] == path.with_suffix(".onnx").stat().st_size
    assert not list((tmp_path / "work").iterdir())


def test_boxes_of_every_architecture_are_on_the_grid() -> None:
    assert all((architecture.radius * GRID).is_integer() for architecture in ARCHITECTURES.values())


def test_random_searches_descend_among_corners_and_leave_what_is_infinite() -> None:
    """On a sum they reach the least corner; where that is infinite, none stays."""
    centres, random = torch.full((40, 6), 2.0), torch.Generator().manual_seed(1)
    searches = Searches(centres, 0.5, random)
    for _ in range(3 * LENGTH // 2):
        searches.step(lambda x: x.sum(dim=1))
    assert torch.equal((searches.places - centres).abs(), torch.full((40, 6), 0.5))
    assert int((searches.places.sum(dim=1) == 9.0).sum()) >= 20
    for _ in range(2):
        searches.step(lambda x: x.sum(dim=1).masked_fill(x.sum(dim=1) < 10.5, torch.inf))
    assert int((searches.places.sum(dim=1) == 9.0).sum()) < 20


# --- attacks -----------------------------------------------------------------------------------------------------------------------


def target(threshold: float) -> attacks.Target:
    """y = (3 - x_0 - x_1 + x_2, 0) over [-1, 1]^3, lowered by `threshold`: the least margin is -threshold."""
    weights = np.array([[-1.0, 0.0], [-1.0, 0.0], [1.0, 0.0]], dtype=np.float32)
    bias = np.array([3.0 - threshold, 0.0], dtype=np.float32)
    node = onnx.helper.make_node("Gemm", ["X", "w", "b"], ["Y"])
    values = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1, n]) for name, n in (("X", 3), ("Y", 2))]
    constants = [onnx.numpy_helper.from_array(value, name) for name, value in (("w", weights), ("b", bias))]
    graph = onnx.helper.make_graph([node], "g", values[:1], values[1:], constants)
    content = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8).SerializeToString()
    return attacks.Target(content, torch.full((3,), -1.0), torch.ones(3), torch.tensor([1.0, -1.0]))


@pytest.mark.parametrize("name", [name for name in ATTACKS if name != "own"])
def test_every_attack_finds_what_gradients_lead_to_and_invents_nothing(name: str) -> None:
    random = torch.Generator().manual_seed(0)
    found = measure.run(name, target(0.25), random)
    assert -0.25 <= found.margins.min() <= (-0.05 if name == "fab" else -0.25)
    assert (found.points.abs() <= 1).all()
    assert torch.equal(found.margins, target(0.25).margins(found.points).detach())
    assert measure.run(name, target(-0.25), random).margins.min() == 0.25


def test_attacks_of_another_seed_are_other_attacks(suite: list[Instance]) -> None:
    first = next(i for i in suite if i.planted is not None)
    points = [next(measure.attacks(first.model.SerializeToString(), first.property, seed))[1].points for seed in (CHOICE, CHOICE, PUBLISHED)]
    assert np.array_equal(points[0], points[1]) and not np.array_equal(points[0], points[2])
    assert key(first, CHOICE) != key(first, PUBLISHED)


def test_the_published_table_is_of_what_is_shipped(suite: list[Instance]) -> None:
    """Every planted instance, by attacks that no model was chosen by; two models of a kind at least, 70% hide; the page is the table's."""
    lines = table.read(HIDDEN, COLUMNS)
    assert [line["key"] for line in lines] == [key(i, PUBLISHED) for i in suite if i.planted is not None]
    models = {model.name for model in shipped()}
    assert {line["model"] for line in lines} == models
    kinds = Counter(name.rpartition("_")[0] for name in models)
    assert set(kinds) == {name.rpartition("_")[0] for name in ARCHITECTURES} and min(kinds.values()) >= 2
    assert sum(hidden(line) for line in lines) >= 0.7 * len(lines)
    assert PAGE.read_text(encoding="utf-8") == page(lines, table.read(DECIDED, decided.COLUMNS))


def test_the_page_counts_what_resists() -> None:
    line = dict.fromkeys(COLUMNS, "0") | {"model": "m_a", "instance": "a", "planted_margin": "0.5", "parameters": "7"}
    text = page([line, line | {"instance": "b", "square": "1"}, line | {"instance": "c", "own": "1", "model": "m_b"}])
    assert "**2 of 3 instances (67%) resist" in text and "; 1 resist our engine's own attack too" in text
    assert "| m | 2 | 3 | 2 (67%) |" in text and "Decided" not in text


def test_the_page_says_what_is_decided() -> None:
    told = [dict(zip(decided.COLUMNS, row, strict=True)) for row in
             (("trained", "m_a", "4", "1", "5"), ("trained", "m_b", "4", "2", "5"), ("needles", "relu", "2", "2", "5"))]
    line = dict.fromkeys(COLUMNS, "0") | {"model": "m_a", "instance": "a", "planted_margin": "0.5", "parameters": "7"}
    text = page([line], told)
    assert "it decides 3 of 8 within 5 s" in text and "it decides 2 of 2 within 5 s" in text and "| m_b | 4 | 2 |" in text


def test_what_is_decided_is_counted_from_a_finished_run(suite: list[Instance], tmp_path: Path) -> None:
    """A verifier that knows the planted points of two instances of the family, and gives up on the third; an unfinished run is refused."""
    chosen = [i for i in suite if i.planted is not None][:3]
    entries = write(tmp_path / "suite", chosen, 0)
    known = {i.property: i.planted.point.tolist() for i in chosen[:2] if i.planted is not None}

    def verify(model: str, prop: str, timeout: float) -> tuple[str, list[float] | None]:
        point = known.get(Path(prop).read_text())
        return ("unknown", None) if point is None else ("sat", point)

    run_suite(verify, tmp_path / "suite", results=tmp_path / "r.csv", timeout=20.0)
    found = decided.summary(tmp_path / "r.csv", entries)
    assert [sum(int(line[name]) for line in found) for name in ("asked", "sat")] == [3, 2]
    written = (tmp_path / "r.csv").read_text().splitlines(keepends=True)
    (tmp_path / "r.csv").write_text("".join(written[:-1]))
    with pytest.raises(DataError, match="not finished"):
        decided.summary(tmp_path / "r.csv", entries)
