"""Parser traps: what a text says, what it is misread as, and its twin in VNN-LIB 2.0, by readings of this file's own."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from benchmarks import formula
from benchmarks.exact import enumerate as patterns
from benchmarks.exact import network
from benchmarks.soundness import rational
from benchmarks.soundness.families import parsing, parsing_texts
from benchmarks.soundness.instance import SuiteError
from benchmarks.soundness.traps import executed

Values = dict[str, Fraction]
COMPARE = {"<=": lambda a, b: a <= b, "<": lambda a, b: a < b, ">=": lambda a, b: a >= b, ">": lambda a, b: a > b}
EVERY = [pytest.param(text, i, id=f"{text.name}_{text.sat}") for i, text in enumerate(parsing_texts.TEXTS)]


def evaluate(text: str, values: Values) -> bool:
    """All asserts at `values`, by recursion over parentheses. For both versions of VNN-LIB: names are given as they are written."""
    words = iter(re.findall(r"[()]|[^\s()]+", re.sub(r";[^\n]*", "", text).replace(", ", ",")))
    return all(_value(command[1], values) for command in _lists(words) if command[0] == "assert")


def _lists(words: Iterator[str]) -> Iterator[Any]:
    for word in words:
        if word == ")":
            return
        yield list(_lists(words)) if word == "(" else word


def _value(node: Any, values: Values) -> Any:
    if isinstance(node, str):
        return values[node] if node in values else Fraction(Decimal(node))
    head, *rest = node
    parts = [_value(part, values) for part in rest]
    match head:
        case "and":
            return all(parts)
        case "or":
            return any(parts)
        case "+":
            return sum(parts, Fraction(0))
        case "*":
            return parts[0] * parts[1]
        case "-":
            return -parts[0] if len(parts) == 1 else parts[0] - sum(parts[1:], Fraction(0))
    return COMPARE[head](*parts)


@pytest.mark.parametrize(("text", "number"), EVERY)
def test_the_misreading_has_the_other_truth(text: parsing.Text, number: int) -> None:
    probe, right, wrong = parsing.drawn(text, number, seed=1)
    net = network.parse(probe.model().SerializeToString())
    truths = [patterns.decide(net, formula.parse(one)).verdict for one in (right, wrong)]
    assert truths == (["sat", "unsat"] if text.sat else ["unsat", "sat"])


@pytest.mark.parametrize(("text", "number"), EVERY)
def test_both_versions_say_the_same(text: parsing.Text, number: int) -> None:
    """At points of the network's graph, and at outputs that it does not have."""
    probe, right, _ = parsing.drawn(text, number, seed=1)
    later, violation = parsing.second(right, text.outputs), formula.parse(right)
    rng = np.random.default_rng(number)
    seen = Counter[bool]()
    places = [*([witness(probe, violation)] if text.sat else []), *rng.integers(-1, 18, (60, 2)).tolist()]
    for k, place in enumerate(places):
        point = [probe.place(v) for v in place]
        outputs = [probe.output(j, probe.place(int(rng.integers(17))) if k % 2 else point[j % 2]) for j in range(text.outputs)]
        said = violation.formula.holds(point, outputs, exact_box=True)
        seen[said] += 1
        for written, pattern in ((right, "{}_{}"), (later, "{}[0,{}]")):
            names = {pattern.format(t, i): v for t, some in (("X", point), ("Y", outputs)) for i, v in enumerate(some)}
            assert evaluate(written, names) == said
    assert seen[False] and (seen[True] or not text.sat)


def witness(probe: parsing.Probe, violation: formula.Violation) -> tuple[int, int]:
    """Places that violate."""
    for k in np.ndindex(17, 17):
        point = [probe.place(i) for i in k]
        if violation.formula.holds(point, [probe.output(j, point[j % 2]) for j in range(violation.outputs)], exact_box=True):
            return k
    raise ValueError("no place violates")


def test_the_second_version_has_no_exponents_and_no_other_names() -> None:
    for number, text in enumerate(parsing_texts.TEXTS):
        _, right, _ = parsing.drawn(text, number, seed=1)
        later = parsing.second(right, text.outputs)
        assert later.startswith("(vnnlib-version <2.0>)\n(declare-network N\n") and later.count("declare-") == 3
        code = re.sub(r";[^\n]*", "", later)
        assert not re.search(r"[XY]_\d|\d[eE][-+]?\d|\(\s", code), text.name


@pytest.mark.parametrize("outputs", [4, 12])
def test_the_network_is_what_it_says(outputs: int) -> None:
    """Against onnxruntime (equal: the values are short) and exact rationals; ranges, order and the equal pair as the family promises."""
    probe = parsing.Probe.draw(np.random.default_rng(3), outputs)
    model = probe.model()
    for k in np.ndindex(17, 17):
        if sum(k) % 5 == 0:
            point = tuple(probe.place(i) for i in k)
            expected = [probe.output(j, point[j % 2]) for j in range(outputs)]
            assert rational.exact(model, point) == expected and executed(model, point) == [float(v) for v in expected]
    for j in range(outputs):
        values = [probe.output(j, probe.place(k)) for k in range(17)]
        low = (10, -20, 10, 10)[j] if j < 4 else 20 * j - 70
        assert sorted(set(values)) == values and low <= values[0] and values[-1] < low + 10
    assert all(probe.output(2, probe.place(k)) == probe.output(3, probe.place(k)) for k in range(17))


def test_numbers_are_written_exactly() -> None:
    probe = parsing.Probe.draw(np.random.default_rng(3), 4)
    value = probe.output(0, probe.place(12))
    for style in ("", "|e", "|E", "|e-", "|zeros"):
        assert formula.number(probe.filled(f"{{Y0 12{style}}}")) == value
    assert formula.number(probe.filled("{Y0 12|above}")) - value == value - formula.number(probe.filled("{Y0 12|below}")) == Fraction(1, 10**30)
    assert formula.number(probe.filled("{2 Y0 12 - Y1 4 + 1.5}")) == 2 * value - probe.output(1, probe.place(4)) + Fraction(3, 2)


@pytest.mark.parametrize("written", ["{Y0}", "{Y0 12 |none}", "{2 3 Y0 1}", "{Z0 1}"])
def test_what_is_no_number_is_refused(written: str) -> None:
    with pytest.raises(SuiteError):
        parsing.Probe.draw(np.random.default_rng(3), 4).filled(written)


def test_a_wrong_truth_is_refused() -> None:
    text = parsing_texts.TEXTS[0]
    lie = parsing.Text(text.name, not text.sat, text.misreading, text.right, text.wrong)
    with pytest.raises(SuiteError, match="the enumeration says"):
        parsing.instance(lie, 1, seed=1)


@pytest.mark.slow  # all of them are drawn, one of each kind above
def test_enough_of_them_of_both_truths() -> None:
    made = list(parsing.instances(seed=2))
    truths = Counter(i.real for i in made)
    assert len(made) == len(parsing_texts.TEXTS) >= 80 and min(truths.values()) >= 50
    assert len({i.name for i in made}) == len(made)
    assert sum(bool(i.knobs["edge"]) for i in made) >= 12
    for i in made:
        if i.planted is not None and not i.knobs["edge"]:
            assert i.planted.real > Fraction(1, 50) and i.planted.runtime == float(i.planted.real)
