"""Queries of several networks, hidden tensors and products: three readings against the meaning, two compositions against onnxruntime, verdicts."""

from __future__ import annotations

import re
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from composed import VERSION, Asked, box, deep_file, equalities, file_of, formulas, network, text_of, values
from hypothesis import given, settings
from hypothesis import strategies as st

from graph.compose import Composed
from graph.core import Bilinear, Elementwise
from graph.errors import ModelError
from specs.errors import PropertyError
from specs.evaluate import violated_case
from specs.vnnlib import parse
from tests.effort import examples
from tests.specs import queries
from verifier.checker import compose, read_model, read_property2
from verifier.checker.refusal import Rejected
from verifier.judge import Point, violates
from verifier.replay import Running

F, G, SHARP = file_of(1), file_of(2), file_of(3, sharp=True)
corners = st.lists(st.integers(-4, 4).map(lambda k: k / 4), min_size=4, max_size=4)


@settings(max_examples=examples(60))
@given(st.lists(formulas, min_size=1, max_size=2), equalities, st.lists(corners, min_size=1, max_size=3), st.booleans())
def test_three_readings_have_the_meaning(asserted: list[Any], equal: list[tuple[str, str]], points: list[list[float]], by_hand: bool) -> None:
    text = text_of(asserted, equal)
    try:
        found = parse(text)
    except PropertyError as error:
        assert re.search("more than (8 variables|4096 terms)", str(error)), error
        return
    query, theirs = found.query, read_property2.read(text.encode())
    assert query is not None and isinstance(theirs, read_property2.Query)
    assert (query.source, len(query.products)) == (theirs.source, len(theirs.products))
    assert (len(found.cases), found.vacuous) == (len(theirs.cases), theirs.cases.dropped)
    for drawn in points:
        x = np.array(drawn, np.float32)
        if by_hand:  # a point that meets the equalities is seldom drawn
            places = {"X[0,0]": 0, "X[0,1]": 1, "A[0,0]": 2, "A[0,1]": 3}
            for _ in equal:
                for a, b in equal:
                    x[places[b]] = x[places[a]]
        point = values([F, G], x)
        flat = list(point.values())
        wanted = all(queries.evaluate(f, point) for f in (*asserted, *(("==", list(pair)) for pair in equal)))
        y = np.array([float(v) for v in (*flat[2:6], flat[8])])
        assert violates(text.encode(), Point(x, y, exact=True)) == wanted
        inputs = [Fraction(float(v)) for v in x]
        if query.source:
            free = [inputs[query.source.index(k)] for k in range(max(query.source) + 1)]
            if [free[k] for k in query.source] != inputs:
                assert not wanted
                continue
            inputs = free
        assert engine_says(found, inputs, y) == wanted
        closed = wanted or all(queries.evaluate(with_ends(f), point) for f in asserted)
        assert wanted <= checker_says(theirs, inputs, [Fraction(float(v)) for v in y]) <= closed


def with_ends(node: Any) -> Any:
    """The formula with strict comparisons made weak, as the checker reads them: `a != b` is a < b or a > b, and always holds then."""
    if isinstance(node, str):
        return node
    if node[0] == "!=":
        return "or", [("<=", node[1]), (">=", node[1])]
    return {"<": "<=", ">": ">="}.get(node[0], node[0]), [with_ends(part) for part in node[1]]


def engine_says(found: Any, inputs: list[Fraction], y: Any) -> bool:
    ends = np.cumsum([0, *(v.size for v in found.inputs)])
    given = {v.name: inputs[a:b] for v, a, b in zip(found.inputs, ends, ends[1:], strict=False)}
    outputs = {"H": y[:3], "Y": y[3:4], "B": y[4:], "*": np.zeros(len(found.query.products))}  # products are not taken from what is given
    return violated_case(found, given, outputs, exact_box=True) is not None


def checker_says(query: read_property2.Query, x: list[Fraction], y: list[Fraction]) -> bool:
    """Whether a case of the list holds; its thresholds are rounded outwards, so they are compared where they are exact."""
    cases, keys = query.cases, dict(enumerate(y)) | {read_property2.INPUTS + i: v for i, v in enumerate(x)}
    products = [np.prod([keys[k] for k in factors]) for factors in query.products]
    places = [*y, *products, *x]
    for k in range(len(cases)):
        b = cases.box(k)
        inside = all(Fraction(float(low)) <= v <= Fraction(float(high)) for low, v, high in zip(cases.lower[b], x, cases.upper[b], strict=True))
        atoms = range(int(cases.atom_start[k]), int(cases.atom_start[k + 1]))
        totals = [(sum((c * places[i] for i, c in cases.rows[int(cases.row[a])]), Fraction(0)), Fraction(float(cases.threshold[a]))) for a in atoms]
        if inside and all(total <= threshold for total, threshold in totals):
            return True
    return False


@pytest.mark.parametrize("equal", [[], [("X[0,0]", "A[0,0]")], [("X[0,0]", "A[0,0]"), ("A[0,1]", "X[0,1]")]])
def test_both_compositions_are_the_files(equal: list[tuple[str, str]], tmp_path: Path) -> None:
    product = ("*", ["X[0,0]", "X[0,0]", "Y[0,0]", "B[0,0]"])
    asked = Asked(tmp_path, text_of([("<=", [("+", [product, ("*", ["H[0,1]", "H[0,1]"]), ("*", ["H[0,1]"] * 5)]), "1.0"])], equal), f=F, g=G)
    model = asked.model
    assert isinstance(model, Composed) and len(model.products) == 3
    draw = np.random.default_rng(0)
    free = draw.uniform(-1, 1, (5, sum(info.size for info in model.inputs))).astype(np.float32)
    running = Running(model)
    for x in free:
        point = values([F, G], x[model.source])
        flat, y = list(point.values()), running(x)
        assert y[:5].tolist() == [float(v) for v in (*flat[2:6], flat[8])]
        power = {"X[0,0]^2 Y B": point["X[0,0]"] ** 2 * point["Y[0,0]"] * point["B[0,0]"], "H^2": point["H[0,1]"] ** 2, "H^5": point["H[0,1]"] ** 5}
        assert sorted(y[5:]) == pytest.approx(sorted(map(float, power.values())), rel=1e-12)
    query = read_property2.read(asked.text.encode())
    network = compose.network_of(query, [read_model.read(F, ("inner",)), read_model.read(G)])
    ours = {node.origin.site: node for node in model.graph.nodes if isinstance(node, Elementwise | Bilinear)}
    assert ours.keys() == network.sites.keys() and ("*", 0) in ours
    assert all(ours[site].size == network.nodes[i].size for site, i in network.sites.items())
    assert [network.nodes[i].size for i in network.outputs] == [info.size for info in model.outputs]


DECIDED = {  # text, files, verdict, what the second program says
    "a hidden tensor stays in its range": (network("f", "X", "Y", hidden="H") + box("X") + "(assert (>= (* H[0,0] H[0,1]) 1.5))", "unsat"),
    "a hidden tensor and an output": (network("f", "X", "Y", hidden="H") + box("X") + "(assert (>= (+ H[0,0] (* 0.0 Y[0,0])) 0.0))", "sat"),
    "one network, two runs of equal inputs": (
        network("f", "X", "Y") + network("g", "A", "B", "(equal-to f)") + box("X", "A") + "(assert (== X[0,0] A[0,0]))(assert (== X[0,1] A[0,1]))"
        "(assert (>= (- Y[0,0] B[0,0]) 0.5))", "unsat",
    ),
    "a difference of two runs": (
        network("f", "X", "Y") + network("g", "A", "B", "(equal-to f)") + box("X", "A") + "(assert (== X[0,0] A[0,0]))"
        "(assert (>= (- Y[0,0] B[0,0]) 0.25))", "sat",
    ),
    "an input of one is an output of the other": (
        network("f", "X", "Y") + network("g", "A", "B", "(equal-to f)") + box("X", "A") + "(assert (>= (- Y[0,0] A[0,0]) 0.0))"
        "(assert (<= (* Y[0,0] Y[0,0] B[0,0]) -60.0))", "unsat",
    ),
    "two networks apart": (
        network("f", "X", "Y") + network("g", "A", "B", "(isomorphic-to f)") + box("X") + "(assert (== X[0,0] A[0,0]))(assert (== X[0,1] A[0,1]))"
        "(assert (>= (- Y[0,0] B[0,0]) 8.0))", "unsat",
    ),
    "a square is not negative": (network("f", "X", "Y") + box("X") + "(assert (<= (* Y[0,0] Y[0,0]) -0.001))", "unsat"),
    "a polynomial with a root": (network("f", "X", "Y") + box("X") + "(assert (<= (- (* X[0,0] X[0,0] X[0,1]) 0.25) 0.0))", "sat"),
}  # fmt: skip


@pytest.mark.parametrize("name", DECIDED)
def test_verdicts_are_known_and_checked(name: str, tmp_path: Path) -> None:
    declared, verdict = DECIDED[name]
    needed = {"f": F} | ({"g": G} if "network g" in declared and "equal-to" not in declared else {})
    found = Asked(tmp_path, VERSION + declared, **needed).decide()
    assert found[0] == verdict and found[1].startswith("ACCEPTED" if verdict == "unsat" else "confirmed"), found


@pytest.mark.parametrize("relation", ["(equal-to f)", "(isomorphic-to f)"])
def test_inputs_of_a_later_network_are_there_when_an_earlier_one_is_bounded(relation: str, tmp_path: Path) -> None:
    """Two runs at nearby inputs, in so many boxes that networks are folded: bounds of the first one's layers are functions of all inputs."""
    near = "".join(f"(assert (<= (- {a}[0,{i}] {b}[0,{i}]) 0.05))" for a, b in (("X", "A"), ("A", "X")) for i in range(2))
    text = VERSION + network("f", "X", "Y") + network("g", "A", "B", relation) + box("X", "A") + near + "(assert (>= (- Y[0,0] B[0,0]) 1.0))"
    asked = Asked(tmp_path, text, **{name: deep_file(1) for name in ("f", "g")[: 1 + ("iso" in relation)]})
    assert asked.decide() == ("unsat", "ACCEPTED")


@pytest.mark.parametrize("exact", [False, True])
def test_float32_is_proven_where_it_is_declared(exact: bool, tmp_path: Path) -> None:
    kind = "float32"
    text = VERSION + network("f", "X", "Y", hidden="H", kind=kind) + network("g", "A", "B", "(equal-to f)", kind=kind) + box("X", "A")
    text += "(assert (== X[0,0] A[0,0]))(assert (>= (+ (* H[0,0] H[0,0]) (* Y[0,0] B[0,0] X[0,1])) 100.0))"
    asked = Asked(tmp_path, text, f=SHARP)
    assert asked.property.asks_for_float32
    assert asked.decide("float32") == ("unsat", "ACCEPTED")
    assert "element-type" in asked.decide("real")[1]


TWO = VERSION + network("f", "X", "Y") + network("g", "A", "B", "(isomorphic-to f)") + box("X", "A") + "(assert (<= Y[0,0] B[0,0]))"
INSIDE = VERSION + network("f", "X", "Y", hidden="H") + box("X") + "(assert (<= Y[0,0] H[0,0]))"
UNFIT = {
    "no file": (TWO, {"f": F}, "no file is given for g"),
    "another name": (TWO, {"f": F, "h": G}, "no file is given for g"),
    "a file too many": (TWO, {"f": F, "g": G, "h": G}, "files are given for h"),
    "two files for one network": (INSIDE, {"f": F, "g": G}, "one network with a file of its own"),
    "another structure": (TWO, {"f": F, "g": SHARP}, "another structure"),
    "no such tensor": (INSIDE.replace('"inner"', '"outer"'), {"f": F}, "no node of the network makes a tensor 'outer'"),
    "an output as hidden": (INSIDE.replace('"inner"', '"y"').replace("H real [1,3]", "H real [1,1]"), {"f": F}, "is an output of the network"),
    "another shape": (INSIDE.replace("H real [1,3]", "H real [3,1]"), {"f": F}, "declares the hidden tensor H as real"),
}


@pytest.mark.parametrize("name", UNFIT)
def test_files_that_do_not_fit_are_refused(name: str, tmp_path: Path) -> None:
    text, files, message = UNFIT[name]
    with pytest.raises((PropertyError, ModelError), match=re.escape(message)):
        Asked(tmp_path, text, **files)


@pytest.mark.parametrize("text", [UNFIT["no such tensor"][0], UNFIT["another shape"][0]])
def test_the_checker_refuses_them_too(text: str) -> None:
    query = read_property2.read(text.encode())
    with pytest.raises(Rejected):
        compose.network_of(query, [read_model.read(F, file.hidden) for file in compose.files(query)])


def test_the_checker_compares_structures() -> None:
    query = read_property2.read(TWO.encode())
    with pytest.raises(Rejected, match="not isomorphic"):
        compose.network_of(query, [read_model.read(F), read_model.read(file_of(4, hidden=4))])
