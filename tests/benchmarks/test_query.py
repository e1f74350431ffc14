"""The judges' reader of whole queries: against the meaning of formulas, against the judges' first reader, and the replay on several files."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from benchmarks import formula, query, replay
from benchmarks.formula import FormulaError
from tests.effort import examples
from tests.specs import queries
from tests.specs.queries import INPUTS, OUTPUTS, SHAPES
from tests.specs.test_vnnlib2 import ATOMS, BAD, DECLARATIONS, HEAD
from tests.verifier import composed
from tests.vnnlib2.make import CORPUS, NETWORKS
from verifier import engine

POINTS = st.lists(st.integers(-8, 8), min_size=9, max_size=9).map(lambda ks: [Fraction(k, 4) for k in ks])


@settings(max_examples=examples(100))
@given(st.lists(queries.formulas, min_size=1, max_size=3), st.lists(queries.points, min_size=1, max_size=4), queries.gaps)
def test_one_network(asserted: list[object], points: list[dict[str, Fraction]], gap: str) -> None:
    text = queries.asserted(asserted, 2, gap)
    whole, first = query.parse(text), formula.parse(text)
    for point in points:
        values = {tensor: np.array([float(v) for v in queries.flat(tensor, {**INPUTS, **OUTPUTS}, point)]) for tensor in SHAPES}
        x, y = (np.array([float(point[name]) for name in names]) for names in (INPUTS, OUTPUTS))
        wanted = all(queries.evaluate(f, point) for f in asserted) and all(-2 <= v <= 2 for v in x)
        assert whole.holds(values, exact_box=True) == wanted == first.holds(x, y, exact_box=True)
        assert whole.holds(values) == first.holds(x, y)


@settings(max_examples=examples(100))
@given(st.lists(composed.formulas, min_size=1, max_size=2), composed.equalities, POINTS, st.booleans())
def test_several_networks(asserted: list[Any], equal: list[tuple[str, str]], drawn: list[Fraction], by_hand: bool) -> None:
    text = composed.text_of(asserted, equal)
    try:
        found = query.parse(text)
    except FormulaError as error:
        assume("4096" not in str(error))
        raise
    point = dict(zip(composed.NAMES, drawn, strict=True))
    for a, b in [*equal, *equal] if by_hand else []:
        point[b] = point[a]
    values = {name: np.array([float(v) for key, v in point.items() if key[0] == name]) for name in "XHYAB"}
    inside = all(-1 <= point[name] <= 1 for name in ("X[0,0]", "X[0,1]", "A[0,0]", "A[0,1]"))
    wanted = inside and all(queries.evaluate(f, point) for f in (*asserted, *(("==", list(pair)) for pair in equal)))
    assert found.holds(values, exact_box=True) == wanted


def test_bounds_of_inputs_are_those_of_float32_unless_strict() -> None:
    text = HEAD + "(assert (<= X[0] 0.1))(assert (>= Y[0,0] 0.1))"
    above, below = float(np.float32(0.1)), float(np.nextafter(np.float32(0.1), np.float32(0)))
    for x, y, rounded, exact in ((above, above, True, False), (below, above, True, True), (below, below, False, False)):
        values = {"X": np.array([x, 0.0]), "Y": np.array([y, 0.0])}
        assert (query.parse(text).holds(values), query.parse(text).holds(values, exact_box=True)) == (rounded, exact)
        assert not query.parse(text.replace("<= X[0] 0.1", "< X[0] 0.1")).holds(values) or x == below
    assert not query.parse(text).holds({"X": np.array([below, 0.0]), "Y": np.array([np.inf, 0.0])})
    with pytest.raises(FormulaError, match="other values are given"):
        query.parse(text).holds({"X": np.zeros(2)})


@pytest.mark.parametrize("text", [f"{HEAD}(assert {f})" for f, _ in ATOMS.values()] + [
    f"(vnnlib-version <2.0>){d}(assert (and (<= Y[0] 1.0) (<= X 1.0)))" for d in DECLARATIONS.values()], ids=lambda t: t[-50:])  # fmt: skip
def test_what_the_engine_reads_is_read(text: str) -> None:
    assert len(list(query.parse(text).tensors)) >= 2


# what is no matter of reading: bounds of all inputs, sizes, limits; and relations are held against the tensors' types by the engine
LENIENT = ("no lower", "more than 8 variables", "too large", "their inputs differ", "outputs differ")


@pytest.mark.parametrize("text", [t for t, (_, why) in BAD.items() if not any(w in why for w in LENIENT)], ids=lambda t: t[-50:])
def test_what_the_engine_refuses_is_refused(text: str) -> None:
    with pytest.raises(FormulaError):
        query.parse(text)


@pytest.mark.parametrize("name", [n for n, e in CORPUS.items() if not e.by_file and not any(w in e.answer for w in LENIENT)])
def test_the_corpus_is_read_where_the_engine_reads_it(name: str) -> None:
    if CORPUS[name].refused:
        with pytest.raises(FormulaError):
            query.parse(CORPUS[name].text)
    else:
        assert query.parse(CORPUS[name].text).networks


REPLAYED = ("HiddenDef, several", "MENET: equal networks", "MNET, apart", "POLY, of inputs and outputs", "ScalarDims, ScalarVarExpr", "Equal")


@pytest.mark.parametrize("name", REPLAYED)
def test_witnesses_are_replayed_on_the_files(name: str, tmp_path: Path) -> None:
    entry = CORPUS[name]
    asked = composed.Asked(tmp_path, entry.text, **{network: NETWORKS[file] for network, file in entry.models.items()})
    results = asked.told(engine.run(asked.model, asked.property, asked.options())).to_competition()
    models = {network: tmp_path / f"{network}.onnx" for network in entry.models}
    assert replay.judge_query(models, tmp_path / "q.vnnlib", results).text == "VIOLATED (inside the exact decimal box)"
    lines = results.splitlines()
    value = next(i for i, line in enumerate(lines) if i > 1 and " " not in line)
    moved = "\n".join([*lines[:value], "7.0", *lines[value + 1 :]])
    assert not replay.judge_query(models, tmp_path / "q.vnnlib", moved).violated
    assert "no line" in replay.judge_query(models, tmp_path / "q.vnnlib", results.replace(lines[1], "Z real []")).text
    arguments = [str(tmp_path / "q.vnnlib"), str(tmp_path / "results"), *(f"{network}={path}" for network, path in models.items())]
    (tmp_path / "results").write_text(results)
    assert replay.main(arguments) == 0
    (tmp_path / "results").write_text(moved)
    assert replay.main(arguments) == 1 and replay.main([*arguments[:2], "nobody=nowhere.onnx"]) == 3


@pytest.mark.parametrize("name", ["HiddenDef", "EqualTo", "POLY: products", "MNET: any networks"])
def test_the_first_reader_says_who_reads_the_rest(name: str) -> None:
    with pytest.raises(FormulaError, match=r"benchmarks\.query"):
        formula.parse(CORPUS[name].text)


@settings(max_examples=examples(100))
@given(st.data())
def test_damaged_texts_are_refused_or_read(data: st.DataObject) -> None:
    text = composed.text_of([data.draw(composed.formulas)], [])
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(text) - 1))
        text = text[:at] + data.draw(st.sampled_from(["", "(", ")", "[", "]", " ", "-", '"', ";", "\0", "é", "1", "\n", "<"])) + text[at + 1 :]
    try:
        assert query.parse(text).networks
    except FormulaError as error:
        assert str(error)
