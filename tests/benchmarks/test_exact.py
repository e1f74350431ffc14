"""The oracle itself: its linear programs, its reading of files, its truth; and that the campaign notices a lie."""

from __future__ import annotations

import itertools
import json
from fractions import Fraction
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from benchmarks import formula
from benchmarks.exact import campaign, engines, network
from benchmarks.exact.enumerate import TooManyPatterns, decide, float32_near, unsafe_cases, violates
from benchmarks.exact.instances import ACTIVATIONS, SMALL, Instance, Sizes, decimal, draw, seeded
from benchmarks.exact.judge import judge
from benchmarks.exact.network import UnknownModel
from benchmarks.exact.simplex import UnboundedProgram, maximise
from benchmarks.runtime import Runtime
from specs import vnnlib
from specs.evaluate import violated_case

Q = Fraction
HALF = Q(1, 2)
SERIES, QUICK = range(40), Sizes(patterns=12)


# ---------------------------------------------------------------- linear programs


def vertices(rows: list[tuple[int, ...]], n: int) -> list[tuple[Fraction, ...]]:
    """Every vertex of a y <= b, y >= 0, by brute force."""
    sides = [*rows, *((*(-int(i == j) for j in range(n)), 0) for i in range(n))]
    found = [solution(chosen, n) for chosen in itertools.combinations(sides, n)]
    return [y for y in found if y is not None and all(sum(a * v for a, v in zip(s, y, strict=False)) <= s[-1] for s in sides)]


def solution(rows: tuple[tuple[int, ...], ...], n: int) -> tuple[Fraction, ...] | None:
    """The one point on all these planes, by elimination."""
    table = [[Q(a) for a in row] for row in rows]
    for i in range(n):
        pivot = next((k for k in range(i, n) if table[k][i]), None)
        if pivot is None:
            return None
        table[i], table[pivot] = table[pivot], table[i]
        table[i] = [a / table[i][i] for a in table[i]]
        table = [row if k == i else [a - row[i] * b for a, b in zip(row, table[i], strict=True)] for k, row in enumerate(table)]
    return tuple(row[-1] for row in table)


def test_programs_against_all_vertices() -> None:
    random, feasible = np.random.default_rng(0), 0
    for _ in range(400):
        n, m = int(random.integers(1, 4)), int(random.integers(0, 7))
        rows = [tuple(map(int, random.integers(-5, 6, n + 1))) for _ in range(m)]
        rows += [(*(int(i == j) for j in range(n)), int(random.integers(0, 4))) for i in range(n)]
        objective = tuple(map(int, random.integers(-3, 4, n)))
        expected = [sum((c * v for c, v in zip(objective, y, strict=True)), Q(0)) for y in vertices(rows, n)]
        found = maximise(objective, rows)
        assert (found is None) == (not expected)
        if found is not None:
            feasible += 1
            point = [Q(v, found.denominator) for v in found.point]
            assert found.value == max(expected) == sum(c * v for c, v in zip(objective, point, strict=True))
            assert all(v >= 0 for v in point) and all(sum(a * v for a, v in zip(r, point, strict=False)) <= r[-1] for r in rows)
    assert 100 < feasible < 350


def test_a_program_that_cycles_without_blands_rule() -> None:
    """Beale's example, in whole numbers."""
    rows = [(25, -6000, -4, 900, 0), (50, -9000, -2, 300, 0), (0, 0, 1, 0, 1)]
    found = maximise((75, -15000, 2, -600), rows)
    assert found is not None and found.value == 5


def test_an_unbounded_program_is_refused() -> None:
    with pytest.raises(UnboundedProgram):
        maximise((1, 0), [(-1, 1, 1)])


# ---------------------------------------------------------------- files


def file(nodes: list[onnx.NodeProto], n_in: int, **weights: np.ndarray) -> bytes:
    """A model from `x` [1, n_in] to `y` [1, ?]."""
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, size]) for name, size in (("x", n_in), ("y", None))]
    graph = helper.make_graph(nodes, "test", ends[:1], ends[1:], [numpy_helper.from_array(w, name) for name, w in weights.items()])
    return bytes(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8).SerializeToString())


def single(kind: str, *more: str, n_in: int = 1, **attributes: object) -> network.Network:
    """One operator on x."""
    return network.parse(file([helper.make_node(kind, ["x", *more], ["y"], **attributes)], n_in, lo=np.float32(-1), hi=np.float32(0.5)))


def property_of(box: list[tuple[str, str]], outputs: int, *asserts: str) -> formula.Violation:
    lines = [f"(declare-const X_{i} Real)" for i in range(len(box))] + [f"(declare-const Y_{j} Real)" for j in range(outputs)]
    lines += [f"(assert (and (>= X_{i} {low}) (<= X_{i} {high})))" for i, (low, high) in enumerate(box)]
    return formula.parse("\n".join([*lines, *(f"(assert {a})" for a in asserts)]))


def test_the_reader_computes_what_onnxruntime_computes(tmp_path: Path) -> None:
    random, seen = np.random.default_rng(1), set()
    for number in SERIES:
        instance = seeded(3, number, QUICK)
        seen |= set(instance.activations)
        model, _ = instance.write(tmp_path)
        runtime, net = Runtime(model), network.read(model)
        for x in random.integers(-64, 64, (4, net.size)).astype(np.float32) / 32 + np.float32(2**-9):
            exact = [float(y) for y in net.evaluate([Q(float(v)) for v in x])]
            assert np.allclose(runtime.run(x), exact, rtol=1e-5, atol=1e-4), (number, x)
    assert seen == set(ACTIVATIONS)


@pytest.mark.parametrize(
    "node",
    [
        helper.make_node("Sin", ["x"], ["y"]), helper.make_node("MaxPool", ["x"], ["y"], kernel_shape=[2], auto_pad="SAME_UPPER"),
        helper.make_node("Gemm", ["x", "w"], ["y"], transA=1), helper.make_node("LeakyRelu", ["x"], ["y"], beta=1.0),
    ],
)  # fmt: skip
def test_what_the_reader_does_not_know_it_refuses(node: onnx.NodeProto) -> None:
    net = network.parse(file([node], 2, w=np.eye(2, dtype=np.float32)))
    with pytest.raises(UnknownModel):
        net.evaluate([Q(0), Q(0)])


@pytest.mark.parametrize("value", [Q(0), Q(-3), Q(7, 8), Q(-1, 1024), Q(3, 10), Q(2**40), Q(-1, 5)])
def test_decimals_are_exact(value: Fraction) -> None:
    assert formula.number(decimal(value)) == value


# ---------------------------------------------------------------- truth


@pytest.mark.parametrize(
    ("net", "box", "asserts", "verdict", "margin"),
    [
        (single("Abs"), [("-1", "1")], ["(<= Y_0 0.0)"], "sat", 0),
        (single("Abs"), [("-1", "1")], ["(< Y_0 0.0)"], "unsat", 0),
        (single("Abs"), [("0.25", "1")], ["(<= Y_0 0.0)"], "unsat", Q(1, 4)),
        (single("Relu"), [("-1", "1")], ["(>= Y_0 1.0)"], "sat", 0),
        (single("Relu"), [("-1", "1")], ["(> Y_0 1.0)"], "unsat", 0),
        (single("Relu"), [("-1", "1")], ["(= Y_0 0.5)"], "sat", 0),
        (single("LeakyRelu", alpha=0.25), [("-1", "1")], ["(<= Y_0 -0.25)"], "sat", 0),
        (single("LeakyRelu", alpha=0.25), [("-1", "1")], ["(<= Y_0 -0.5)"], "unsat", Q(1, 4)),
        (single("Clip", "lo", "hi"), [("-9", "9")], ["(>= Y_0 0.75)"], "unsat", Q(1, 4)),
        (single("Clip", "lo", "hi"), [("-9", "9")], ["(>= Y_0 0.5)", "(> X_0 8.0)"], "sat", 0),
        (single("Sign"), [("-1", "1")], ["(>= Y_0 0.5)", "(<= Y_0 0.75)"], "unsat", Q(1, 4)),
        (single("Sign"), [("-1", "1")], ["(= Y_0 0.0)"], "sat", 0),
        (single("Sign"), [("-1", "1")], ["(>= Y_0 1.0)", "(<= (+ X_0 Y_0) 1.0)"], "unsat", 0),  # only the closure of the step has it
        (single("Sign"), [("-1", "1")], ["(>= Y_0 1.0)", "(<= (+ X_0 Y_0) 1.5)"], "sat", 0),
        (single("Sign"), [("-1", "0")], ["(>= Y_0 1.0)"], "unsat", 1),
        (single("Sign"), [("-1", "1")], ["(>= Y_0 0.0)", "(<= X_0 0.0)"], "sat", 0),
        (single("Sign"), [("-1", "1")], ["(<= Y_0 0.0)", "(< X_0 0.0)"], "sat", -1),
        (single("Max", "x", n_in=2), [("0", "1"), ("0", "1")], ["(<= (+ Y_0 Y_1) 0.0)"], "sat", 0),
        (single("Identity", n_in=2), [("0", "1"), ("0", "1")], ["(or (< Y_0 0.0) (> Y_1 1.0))"], "unsat", 0),
        (single("Identity", n_in=2), [("0", "1"), ("0", "1")], ["(or (< Y_0 0.0) (>= (+ Y_0 Y_1) 1.5))"], "sat", -HALF),
        (single("Identity"), [("0.1", "0.1")], ["(<= Y_0 0.1)"], "sat", 0),
    ],
)
def test_known_cases(net: network.Network, box: list[tuple[str, str]], asserts: list[str], verdict: str, margin: Fraction) -> None:
    violation = property_of(box, net.size, *asserts)
    truth = decide(net, violation)
    assert (truth.verdict, truth.margin) == (verdict, margin)
    assert (truth.witness is not None) == (verdict == "sat")
    if truth.witness is not None:
        assert violates(net, unsafe_cases(violation), truth.witness)
        assert violation.formula.holds(list(truth.witness), net.evaluate(truth.witness), True)


def test_a_witness_that_no_float32_number_is() -> None:
    """x = 1/10 exactly, and nothing beside it."""
    net, violation = single("Identity"), property_of([("0", "1")], 1, "(<= (* 10.0 Y_0) 1.0)", "(>= (* 10.0 Y_0) 1.0)")
    truth = decide(net, violation)
    assert truth.witness == (Q(1, 10),) and truth.float32 is None
    below = unsafe_cases(property_of([("0", "1")], 1, "(<= (* 10.0 Y_0) 1.0)"))
    assert float32_near(net, below, (Q(1, 10),)) == (Q(float(np.nextafter(np.float32(0.1), np.float32(0)))),)


@pytest.mark.parametrize("sizes", [SMALL, Sizes(inputs=2)])
def test_truth_against_grids(sizes: Sizes) -> None:
    """No point of a grid violates what is unsat, or lies below the margin; what is sat has a witness."""
    seen = set()
    for number in range(25):
        random = np.random.default_rng([7, number])
        instance = draw(lambda low, high, random=random: int(random.integers(low, high + 1)), sizes)
        net, violation = network.parse(instance.model), formula.parse(instance.text)
        truth, cases = decide(net, violation), unsafe_cases(violation)
        seen.add((truth.verdict, instance.place))
        assert (truth.witness is not None) == (truth.verdict == "sat") and truth.margin is not None
        assert truth.witness is None or violates(net, cases, truth.witness)
        assert not (truth.margin < 0 and truth.verdict == "unsat") and not (truth.margin > 0 and truth.verdict == "sat")
        assert instance.place != "exact" or truth.margin == 0
        for case in cases:
            sides = [[low + (high - low) * Q(k, 6) for k in range(7)] for low, high in zip(case.box.lower, case.box.upper, strict=True)]
            for point in itertools.product(*sides):
                outputs = [(*[Q(0)] * net.size, y) for y in net.evaluate(point)]
                assert max(network.at(half.form, point) for half in case.halves(outputs)) >= truth.margin
                assert truth.verdict == "sat" or not violates(net, cases, point)
    assert len(seen) == 6


def test_more_patterns_than_allowed() -> None:
    net = network.parse(file([helper.make_node("Abs", ["x"], ["y"])], 3))
    violation = property_of([("-1", "1")] * 3, 3, "(<= Y_0 0.0)")
    assert decide(net, violation, 8).patterns == 8 and decide(net, violation).unstable == 3
    with pytest.raises(TooManyPatterns):
        decide(net, violation, 7)


# ---------------------------------------------------------------- instances


def test_the_series_is_valid_balanced_and_repeatable() -> None:
    series = [seeded(0, number, QUICK) for number in SERIES]
    assert series[:5] == [seeded(0, number, QUICK) for number in SERIES[:5]]
    words = []
    for instance in series:
        onnx.checker.check_model(onnx.load_model_from_string(instance.model), full_check=True)
        assert instance.pieces <= QUICK.pieces
        if instance.pieces <= 9:
            words.append(decide(network.parse(instance.model), formula.parse(instance.text)).verdict)
    assert len(words) > 10 and 0.25 < words.count("sat") / len(words) < 0.75
    assert {instance.place for instance in series} == {"exact", "near", "far"}
    text = "".join(instance.text for instance in series)
    assert all(f"({sign} " in text for sign in ("<", "<=", ">", ">=", "or", "and"))


def test_two_readings_of_the_drawn_properties() -> None:
    random = np.random.default_rng(5)
    for number in SERIES:
        instance = seeded(0, number, QUICK)
        net, violation, prop = network.parse(instance.model), formula.parse(instance.text), vnnlib.parse(instance.text)
        for case in unsafe_cases(violation):
            steps = [Q(int(k), 8) for k in random.integers(0, 9, net.size)]
            x = [low + (high - low) * t for low, high, t in zip(case.box.lower, case.box.upper, steps, strict=True)]
            y = net.evaluate(x)
            assert violation.formula.holds(x, y, True) == (violated_case(prop, {"X": x}, {"Y": y}, exact_box=True) is not None)


# ---------------------------------------------------------------- the campaign


def written(folder: Path, *asserts: str) -> tuple[Path, Path]:
    """y = |x| on [-1, 1]."""
    text = "(declare-const X_0 Real)(declare-const Y_0 Real)(assert (and (>= X_0 -1) (<= X_0 1)))" + "".join(f"(assert {a})" for a in asserts)
    return Instance(file([helper.make_node("Abs", ["x"], ["y"])], 1), text, 1, ("Abs",), "exact").write(folder)


UNSAT, SAT = {"verdict": "unsat"}, {"verdict": "sat", "point": ["0"]}
REPLAYED = {"verdict": "sat", "point": ["0"], "inside_exact_box": True, "float32_only": False}


@pytest.mark.parametrize(
    ("answers", "contradictions", "off"),
    [
        ({"enumeration": SAT, "bab": REPLAYED, "smt": SAT, "milp": SAT}, 0, ()),
        ({"enumeration": SAT, "bab": {"verdict": "unknown"}, "milp": UNSAT}, 0, ("milp",)),
        ({"enumeration": SAT, "bab": UNSAT}, 1, ()),
        ({"enumeration": SAT, "bab": {"verdict": "unknown", "claimed": "unsat"}}, 1, ()),
        ({"smt": UNSAT, "bab": REPLAYED}, 1, ()),
        ({"smt": {"verdict": "sat", "point": ["1/3"]}, "bab": UNSAT, "milp-certified": UNSAT}, 1, ()),
        ({"milp-certified": UNSAT, "smt": SAT}, 1, ()),
        ({"enumeration": {"verdict": "sat", "point": ["1"]}}, 1, ()),
        ({"bab": {**REPLAYED, "float32_only": True}}, 1, ()),
        ({"bab": {**REPLAYED, "point": ["1"]}}, 2, ()),
        ({"milp": {"verdict": "sat", "point": ["1/1000000"]}, "smt": UNSAT}, 0, ("milp",)),
    ],
)
def test_contradictions_are_noticed(answers: dict[str, engines.Said], contradictions: int, off: tuple[str, ...], tmp_path: Path) -> None:
    found = judge(*written(tmp_path, "(<= Y_0 0.0)"), answers)
    assert (len(found.contradictions), found.off) == (contradictions, off)


def test_the_campaign_goes_on_where_it_was_and_ends_with_1_on_a_lie(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(campaign, "BUILD", tmp_path / "build")
    out = tmp_path / "exact.csv"
    run = ["--seed", "1", "--out", str(out), "--engines"]
    assert campaign.main(["--count", "3", *run, "enumeration"]) == 0
    lines = out.with_name("exact.csv.jsonl")
    before = lines.read_text().splitlines()
    assert [json.loads(line)["number"] for line in before] == [0, 1, 2] and len(out.read_text().splitlines()) == 4
    assert not list((tmp_path / "build").iterdir())
    lines.write_text("\n".join([*before, before[0][:20]]))

    def lie(model: Path, text: Path, effort: engines.Effort) -> engines.Said:
        return {"verdict": "unsat"}

    monkeypatch.setattr(campaign, "ENGINES", {"enumeration": None, "smt": lie})  # None: it would fail if it were asked again
    words = [json.loads(line)["verdict"] for line in before]
    assert "sat" in words and campaign.main(["--count", "3", *run, "enumeration,smt"]) == 1
    assert sorted(path.name for path in (tmp_path / "build").iterdir()) == [str(k) for k, word in enumerate(words) if word == "sat"]
    assert [json.loads(line)["engine"] for line in lines.read_text().splitlines()] == ["enumeration"] * 3 + ["smt"] * 3
    with pytest.raises(SystemExit, match="another seed"):
        campaign.main(["--count", "1", "--seed", "2", "--out", str(out)])


@pytest.mark.slow
def test_the_committed_campaign_is_found_again_on_a_sample(tmp_path: Path) -> None:
    """Complete engines say the same again; branch and bound does not contradict what it said."""
    answers: dict[int, dict[str, engines.Said]] = {}
    for line in Path(campaign.__file__).parents[1].joinpath("results/exact.csv.jsonl").read_text(encoding="utf-8").splitlines():
        said = json.loads(line)
        answers.setdefault(said["number"], {})[said["engine"]] = said
    assert sorted(answers) == list(range(2000)) and all(set(told) == set(engines.ENGINES) for told in answers.values())
    for number in range(7, 2000, 133):
        files = seeded(0, number).write(tmp_path)
        again = {name: engines.ENGINES[name](*files, engines.Effort(30.0)) for name in ("enumeration", "smt", "bab")}
        assert not judge(*files, {**answers[number], **again}).contradictions, number
        assert again["enumeration"]["verdict"] == answers[number]["enumeration"]["verdict"], number
        for name in ("smt", "bab"):
            words = {again[name]["verdict"], answers[number][name]["verdict"]} & {"sat", "unsat"}
            assert len(words) <= 1, (number, name, words)
