"""Composed networks compute what was asked for, and regions hold exactly what they say: against numpy and brute force."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from benchmarks.certify import compose, properties, regions, seen
from benchmarks.certify.compose import Draft, Recipe
from benchmarks.certify.data import Samples
from benchmarks.certify.errors import InputError, UsageError
from benchmarks.certify.policy import Check, Policy, Preprocess
from benchmarks.certify.question import Key, Subjects
from benchmarks.certify.regions import Norm, Region, Subject
from specs import vnnlib
from specs.evaluate import violated_case
from tests.benchmarks.certify import campaigns

HALF = Fraction(1, 2)


def run(content: bytes, x: np.ndarray) -> np.ndarray:
    onnx.checker.check_model(onnx.load_model_from_string(content), full_check=True)
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: x.astype(np.float32)})[0]


def network(tmp_path: Path, model: onnx.ModelProto) -> compose.Network:
    onnx.save(model, tmp_path / "m.onnx")
    return compose.read(tmp_path / "m.onnx")


def identity(n: int, shape: tuple[int, ...]) -> onnx.ModelProto:
    return campaigns.network([(np.eye(n), np.zeros(n))], shape)


@pytest.mark.parametrize(("preprocess", "shape", "expected"), [
    (Preprocess(), (3, 2, 2), lambda x: x.ravel()),
    (Preprocess(scale=HALF), (3, 2, 2), lambda x: x.ravel() / 2),
    (Preprocess(mean=(Fraction(1), Fraction(2), Fraction(3)), std=(HALF, Fraction(2), Fraction(1)), layout="HWC->CHW"), (2, 2, 3),
     lambda x: ((x - [1, 2, 3]) / [0.5, 2, 1]).transpose(2, 0, 1).ravel()),
    (Preprocess(scale=HALF, mean=(Fraction(1), Fraction(2), Fraction(3)), std=(HALF,)), (3, 2, 2),
     lambda x: ((x / 2 - np.asarray([1, 2, 3])[:, None, None]) / 0.5).ravel()),
    (Preprocess(layout="CHW->HWC"), (2, 3, 2), lambda x: x.transpose(1, 2, 0).ravel()),
    (Preprocess(mean=tuple(map(Fraction, range(12)))), (12,), lambda x: x - np.arange(12)),
])
def test_preprocessing_is_part_of_the_network(tmp_path: Path, preprocess: Preprocess, shape: tuple[int, ...], expected: Any) -> None:
    network_ = network(tmp_path, identity(12, (3, 2, 2)))
    compose.check_shapes(tmp_path, network_, shape, preprocess)
    x = np.arange(12.0).reshape(shape)
    assert np.allclose(run(compose.composed(network_, shape, preprocess, Recipe(12, 12)), x.ravel()), expected(x))


def test_composition_is_one_function_of_its_arguments(tmp_path: Path) -> None:
    one = network(tmp_path, campaigns.larger_wins())
    assert len({compose.composed(one, (2,), Preprocess(scale=HALF), Recipe(2, 2)) for _ in range(3)}) == 1


def test_two_copies_share_weights_and_not_names(tmp_path: Path) -> None:
    one = network(tmp_path, campaigns.larger_wins())

    def twice(draft: Draft, x: str) -> Sequence[str]:
        return x, draft.op("Add", x, draft.constant([1.0, 0.0]))

    def both(draft: Draft, results: Sequence[str], x: str) -> str:
        return draft.op("Concat", *results, axis=0)

    content = compose.composed(one, (2,), Preprocess(), Recipe(2, 4, twice, both))
    assert run(content, np.asarray([0.25, 0.5])).tolist() == [0.25, 0.5, 1.25, 0.5]
    assert sum(t.name == "w0" for t in onnx.load_model_from_string(content).graph.initializer) == 1


def double(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.DOUBLE


def second_input(model: onnx.ModelProto) -> None:
    model.graph.input.append(onnx.helper.make_tensor_value_info("more", onnx.TensorProto.FLOAT, [1]))


def second_output(model: onnx.ModelProto) -> None:
    model.graph.output.append(onnx.helper.make_tensor_value_info("h1", onnx.TensorProto.FLOAT, [1, 2]))


def free_shape(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_param = "n"


@pytest.mark.parametrize(("change", "text"), [(double, "of type double"), (second_input, "2 inputs"), (second_output, "2 outputs, scores, h1"),
                                              (free_shape, "no fixed shape")])
def test_models_that_cannot_be_composed(tmp_path: Path, change: Any, text: str) -> None:
    model = campaigns.larger_wins()
    change(model)
    with pytest.raises(InputError, match=text):
        network(tmp_path, model)
    (tmp_path / "m.onnx").write_bytes(b"no")
    with pytest.raises(InputError, match="not an ONNX model"):
        compose.read(tmp_path / "m.onnx")


def image(low: Fraction | None = Fraction(0), high: Fraction | None = Fraction(1)) -> Subject:
    draw = np.random.default_rng(1).integers(0, 9, 16) / 8
    return Subject(tuple(Fraction(float(v)) for v in draw), (4, 4), (), low, high)


def made(kind: str, subject: Subject, radius: object = None, settings: Mapping[str, Any] | None = None) -> Region:
    return regions.region(kind, subject, None if radius is None else Fraction(str(radius)), settings or {}, "check")


def transformed(region: Region, x: Sequence[float], size: int) -> np.ndarray:
    """What the region's transformation makes of x, in onnxruntime."""
    assert region.transform is not None
    made = seen.sample(region.transform, np.asarray(x))
    assert made.shape == (size,)
    return made


def test_brightness_and_contrast() -> None:
    subject = image()
    region = made("brightness", subject, "0.5", {"contrast": "0.2"})
    assert region.boxes == (((Fraction(-1, 10), -HALF), (Fraction(1, 10), HALF)),)
    values = np.asarray([float(v) for v in subject.values])
    assert np.allclose(transformed(region, [0.1, -0.25], 16), np.clip(values * 1.1 - 0.25, 0, 1), atol=1e-6)


def bilinear(values: np.ndarray, degrees: float, down: float, right: float) -> np.ndarray:
    """Written from the definition, pixel by pixel."""
    h, w = values.shape
    cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    out = np.zeros((h, w))
    for i, j in itertools.product(range(h), range(w)):
        y, x = i - (h - 1) / 2, j - (w - 1) / 2
        u, v = cos * y - sin * x + (h - 1) / 2 + down, sin * y + cos * x + (w - 1) / 2 + right
        for k, m in itertools.product(range(int(np.floor(u)), int(np.floor(u)) + 2), range(int(np.floor(v)), int(np.floor(v)) + 2)):
            if 0 <= k < h and 0 <= m < w:
                out[i, j] += (1 - abs(u - k)) * (1 - abs(v - m)) * values[k, m]
    return out


@pytest.mark.parametrize("place", [(0, 0, 0), (90, 0, 0), (7.5, 0, 0), (0, 1, 0), (0, 0.25, -0.5), (-20, 0.7, 1.2)])
def test_geometry(place: tuple[float, float, float]) -> None:
    subject = image()
    values = np.asarray([float(v) for v in subject.values]).reshape(4, 4)
    region = made("geometry", subject, 1, {"rotation": 90, "shift": 2})
    assert np.allclose(transformed(region, place, 16).reshape(4, 4), bilinear(values, *place), atol=2e-6)


def test_geometry_of_colours_in_either_layout() -> None:
    values = np.random.default_rng(2).integers(0, 9, (4, 5, 3)) / 8
    for shape, array in (((4, 5, 3), values), ((3, 4, 5), values.transpose(2, 0, 1))):
        subject = Subject(tuple(Fraction(float(v)) for v in array.ravel()), shape, (), Fraction(0), Fraction(1))
        out = transformed(made("geometry", subject, 1, {"rotation": 10, "shift": 1}), [8, 0.5, -0.25], 60).reshape(shape)
        out = out if shape[2] == 3 else out.transpose(1, 2, 0)
        for channel in range(3):
            assert np.allclose(out[:, :, channel], bilinear(values[:, :, channel], 8, 0.5, -0.25), atol=2e-6)


def test_patches_are_every_square_and_nothing_else() -> None:
    subject = image()
    region = made("patch", subject, 2)
    assert len(region.boxes) == 9
    squares = [{4 * (i + a) + j + b for a in (0, 1) for b in (0, 1)} for i in range(3) for j in range(3)]
    assert [{k for k in range(16) if low[k] != high[k] or low[k] != subject.values[k]} for low, high in region.boxes] == squares
    with pytest.raises(UsageError, match="does not fit"):
        made("patch", subject, 5)
    with pytest.raises(UsageError, match="needs the range"):
        made("patch", image(None, None), 2)


def test_l0_is_every_choice_of_elements() -> None:
    subject = Subject(tuple(map(Fraction, (0, 1, 2))), (3,), ("a", "b", "c"), Fraction(0), Fraction(4))
    assert [[(int(a), int(b)) for a, b in zip(*box, strict=True)] for box in made("l0", subject, 2).boxes] == [
        [(0, 4), (0, 4), (2, 2)], [(0, 4), (1, 1), (0, 4)], [(0, 0), (0, 4), (0, 4)]]
    assert len(made("l0", subject, 1, {"features": ["b"]}).boxes) == 1
    for radius in ("0.5", 0):
        with pytest.raises(UsageError, match="whole number"):
            made("l0", subject, radius)


def test_ranges_and_one_hot_groups() -> None:
    subject = Subject(tuple(map(Fraction, (10, -4, 1, 0, 0))), (5,), ("age", "pay", "red", "blue", "green"))
    region = made("ranges", subject, None, {"ranges": {"age": "10%", "pay": [0, 5]}, "groups": [["red", "blue", "green"]]})
    assert [tuple(map(int, low)) for low, _ in region.boxes] == [(9, 0, 1, 0, 0), (9, 0, 0, 1, 0), (9, 0, 0, 0, 1)]
    assert all(tuple(map(int, high[:2])) == (11, 5) for _, high in region.boxes)
    assert made("ranges", subject, 2, {"ranges": {"age": 3, "pay": "50%"}}).boxes[0][0][:2] == (Fraction(4), Fraction(-8))
    for settings, text in (({}, "at least one"), ({"ranges": {"size": 1}}, "no feature 'size'"), ({"ranges": {"age": [2, 1]}}, "more than"),
                           ({"ranges": {"age": -1}}, "negative"), ({"ranges": {"age": "x%"}}, "no number")):
        with pytest.raises(UsageError, match=text):
            made("ranges", subject, None, settings)


def test_words_are_every_sentence_once() -> None:
    subject = Subject(tuple(map(Fraction, (1, 1, 2, 2, 1, 1))), (3, 2))
    settings = {"words": [[1, 1], [2, 2], [3, 3]], "synonyms": [[2], [], [0]]}
    found = [tuple(int(v) for v in low[::2]) for low, _ in made("words", subject, 2, settings).boxes]
    assert sorted(found) == [(1, 2, 1), (1, 2, 3), (3, 2, 1), (3, 2, 3)]
    assert len(made("words", subject, 1, settings).boxes) == 3


@pytest.mark.parametrize("p", [1, 2])
def test_the_margin_of_a_norm_covers_float32(p: int) -> None:
    """Every point of the exact ball has a computed norm below the limit, in any precision and order that we can try."""
    draw = np.random.default_rng(p)
    for n in (1, 3, 50, 784):
        centre = draw.random(n).astype(np.float32)
        norm = Norm(p, tuple(Fraction(float(v)) for v in centre), Fraction(1, 3))
        limit = regions.norm_limit(norm)
        assert float(limit) < float(norm.radius**p) * (1 + 2e-4)
        direction = draw.normal(size=n)
        x = (centre + direction / np.linalg.norm(direction, p) / 3 * (1 - 1e-7)).astype(np.float32)
        while not norm.contains([Fraction(float(v)) for v in x]):
            x = (centre + (x - centre) * np.float32(0.999999)).astype(np.float32)
        d = (x - centre).astype(np.float32)
        parts = np.abs(d) if p == 1 else (d * d).astype(np.float32)
        for order in (np.arange(n), np.argsort(parts), np.argsort(-parts)):
            total = np.float32(0)
            for v in parts[order]:
                total = np.float32(total + v)
            assert Fraction(float(total)) <= limit


def test_what_a_norm_asks_is_the_ball(tmp_path: Path) -> None:
    """By points: unsafe in the ball is unsafe in the query, and the query adds no more than the margin."""
    onnx.save(campaigns.larger_wins(), tmp_path / "m.onnx")
    samples = Samples(("s",), np.asarray([[0.75, 0.5]], np.float32), np.asarray([0]))
    subjects = Subjects(compose.read(tmp_path / "m.onnx"), samples, Policy((Check("l2", "l2", "top1", (HALF,)),)))
    question = subjects.question(Key("l2", HALF, 0))
    parsed, draw = vnnlib.parse(question.text), np.random.default_rng(0)
    counted = 0
    for x in (draw.random((200, 2)) * 1.2 + [0.15, -0.1]).astype(np.float32):
        y = run(question.model, x)
        unsafe = violated_case(parsed, {"X": x}, {"Y": y}) is not None
        distance = float(np.hypot(*(x.astype(np.float64) - [0.75, 0.5])))
        wins = max(x[0], 0) <= max(x[1], 0)
        assert unsafe == (distance <= 0.5 and wins) or abs(distance - 0.5) < 1e-5
        counted += unsafe
    assert counted > 10


def asked(prop: str, settings: Mapping[str, Any], outputs: int, label: int | None = 0) -> list[tuple[Any, ...]]:
    subject = Subject((HALF, HALF), (2,), ("a", "b"))
    return properties.judge(Check("c", "point", prop, (), 0, settings), subject, made("point", subject), label, outputs, "check c")[2]


def unsafe(cases: list[tuple[Any, ...]], y: Sequence[float]) -> bool:
    from specs.canonical import atom_holds

    values = {"Y": [Fraction(v) for v in y]}
    return any(all(atom_holds(atom, values) for atom in atoms) for atoms in cases)


def test_properties_by_their_meaning() -> None:
    points = list(itertools.product((-1, 0, 0.5, 2), repeat=3))
    for y in points:
        assert unsafe(asked("top1", {}, 3), y) == (y[0] <= max(y[1:]))
        assert unsafe(asked("topk", {"k": 2}, 3), y) == (y[0] <= min(y[1:]))
        assert unsafe(asked("targeted", {"target": 2}, 3), y) == (y[0] <= y[2])
        assert unsafe(asked("range", {"lower": 0, "upper": ["1", "", "0.5"]}, 3), y) == (min(y) < 0 or y[0] > 1 or y[2] > 0.5)
        assert unsafe(asked("vnnlib", {"unsafe": "(or (and (>= Y_0 Y_1)) (and (<= Y_2 -0.5)))"}, 3), y) == (y[0] >= y[1] or y[2] <= -0.5)
    for value in (-1, 0.25, 0.5, 1):
        assert unsafe(asked("top1", {"threshold": "0.5"}, 1, 1), [value]) == (value <= 0.5)
        assert unsafe(asked("top1", {"threshold": "0.5"}, 1, 0), [value]) == (value >= 0.5)


@pytest.mark.parametrize(("prop", "settings", "text"), [
    ("topk", {"k": 3}, "k must be"), ("targeted", {"target": "cat"}, "target must be"), ("range", {}, "lower, upper or both"),
    ("range", {"lower": [1]}, "1 numbers in lower"), ("monotone", {"feature": "a", "step": 1}, "tolerance"),
    ("monotone", {"feature": "z", "step": 1, "tolerance": 1}, "no feature 'z'"),
    ("monotone", {"feature": "a", "step": 1, "tolerance": 1}, "output must"),
    ("fairness", {"feature": "a", "tolerance": 0}, "tolerance must be positive"), ("vnnlib", {"unsafe": "(<= X_0 Y_1)"}, "speak of Y alone"),
    ("vnnlib", {"unsafe": "(<= X_0 1)"}, "must be a formula over Y_0"),
    ("vnnlib", {"unsafe": "(<= Y_7 1)"}, "unsafe"), ("vnnlib", {}, "unsafe"),
])
def test_properties_that_mean_nothing(prop: str, settings: Mapping[str, Any], text: str) -> None:
    with pytest.raises(UsageError, match=text):
        asked(prop, settings, 3)


def test_monotone_and_fairness_compare_two_copies(tmp_path: Path) -> None:
    """y = score(raised) - score, and y = score(b = 1) - score(b = 0), by running the composed files."""
    w = np.asarray([[1.0, -2.0], [0.5, 3.0]])
    onnx.save(campaigns.network([(w, np.zeros(2))], (2,)), tmp_path / "m.onnx")
    samples = Samples(("s",), np.asarray([[0.25, 0.5]], np.float32), None, ("a", "b"))
    checks = (Check("m", "point", "monotone", (), 0, {"feature": "a", "step": "2", "tolerance": "0.1"}),
              Check("f", "point", "fairness", (), 0, {"feature": "b", "tolerance": "0.1"}))
    subjects = Subjects(compose.read(tmp_path / "m.onnx"), samples, Policy(checks, Preprocess(low=Fraction(0), high=Fraction(1))))
    raised, fair = (subjects.question(Key(name, None, 0)) for name in ("m", "f"))
    for step in (0.0, 0.5, 2.0):
        moved = min(0.25 + step, 1.0) - 0.25  # cut to the declared range
        assert np.allclose(run(raised.model, np.asarray([0.25, 0.5, step])), [moved * (-2.0 - 1.0)], atol=1e-6)
    assert np.allclose(run(fair.model, np.asarray([0.25, 0.5])), [3.0 - 0.5], atol=1e-6)
    assert len(raised.region.boxes[0][0]) == 3 and raised.region.boxes[0][1][2] == 2


def test_a_model_may_call_its_tensors_x_and_y(tmp_path: Path) -> None:
    model = identity(2, (2,))
    for node in model.graph.node:
        for names in (node.input, node.output):
            names[:] = [{"image": "x", "scores": "y"}.get(name, name) for name in names]
    model.graph.input[0].name, model.graph.output[0].name = "x", "y"
    assert run(compose.composed(network(tmp_path, model), (2,), Preprocess(), Recipe(2, 2)), np.asarray([1.0, 2.0])).tolist() == [1.0, 2.0]
