"""The families needles, theorems and rounding: what is built, that it can be built again, and that a changed file is not believed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from benchmarks.exact import enumerate as patterns
from benchmarks.exact import network
from benchmarks.formula import parse
from benchmarks.soundness.__main__ import main
from benchmarks.soundness.build import FAMILIES, Family, instances
from benchmarks.soundness.families import needles, rounding, theorems
from benchmarks.soundness.families.forms import exactly
from benchmarks.soundness.instance import Instance, SuiteError, read
from benchmarks.soundness.rational import bound
from specs import vnnlib

OWN = {"needles": 140, "theorems": 100, "rounding": 160}


def family(name: str) -> Family:
    return next(f for f in FAMILIES if f.name == name)


@pytest.fixture(scope="module")
def built() -> dict[str, list[Instance]]:
    """As they are made; each checked itself while it was made."""
    return {name: list(family(name).instances(1)) for name in OWN}


@pytest.mark.parametrize("name", OWN)
def test_there_are_enough_of_either_truth(built: dict[str, list[Instance]], name: str) -> None:
    truths = Counter(i.real for i in built[name])
    assert sum(truths.values()) >= OWN[name] and min(truths["sat"], truths["unsat"]) >= OWN[name] / 4
    assert len({i.name for i in built[name]}) == len(built[name])
    assert max(len(i.property) for i in built[name]) < 20_000


def test_both_texts_say_the_same(built: dict[str, list[Instance]]) -> None:
    """By the product's reader: the same boxes and the same atoms from VNN-LIB 1.0 and 2.0."""
    for instance in [i for name in OWN for i in built[name]][::5]:
        first, second = (vnnlib.parse(text) for text in (instance.property, instance.property2))
        assert len(first.cases) == len(second.cases), instance.name


@pytest.mark.parametrize("name", OWN)
def test_a_seed_gives_the_same_files_again_and_another_other_ones_of_the_same_truth(built: dict[str, list[Instance]], name: str) -> None:
    def few(seed: int) -> Iterator[Instance]:
        return islice(family(name).instances(seed), 60 if name == "rounding" else 12)

    again, other = list(few(1)), list(few(2))
    for a, b, c in zip(built[name], again, other, strict=False):
        assert a.model.SerializeToString(deterministic=True) == b.model.SerializeToString(deterministic=True) and a.property == b.property
        assert (a.name, a.real) == (c.name, c.real)
    assert any(a.model.SerializeToString() != c.model.SerializeToString() for a, c in zip(again, other, strict=True))


def changed(instance: Instance, factor: float) -> Instance:
    """The same with its longest constant multiplied."""
    model = onnx.ModelProto()
    model.CopyFrom(instance.model)
    floats = [t for t in model.graph.initializer if t.data_type == onnx.TensorProto.FLOAT]
    longest = max(floats, key=lambda t: int(np.prod(t.dims)))
    longest.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(longest) * np.float32(factor), longest.name))
    return replace(instance, model=model)


@pytest.mark.parametrize(("name", "check"), [("theorems", theorems.check), ("rounding", rounding.check)])
def test_a_changed_file_is_not_believed(built: dict[str, list[Instance]], name: str, check: object) -> None:
    assert callable(check)
    with_weights = [i for i in built[name] if any(t.data_type == onnx.TensorProto.FLOAT for t in i.model.graph.initializer)]
    some = [i for i in with_weights if i.proof == "theorem"][::20]
    for instance in some:
        check(instance)
        with pytest.raises(SuiteError, match=r"not the file|not the same"):
            check(changed(instance, 1.5))


def test_a_needle_that_is_too_high_is_not_believed(built: dict[str, list[Instance]]) -> None:
    """The twin whose needle is high enough, called unsat."""
    high = [i for i in built["needles"] if i.real == "sat"][::8]
    for instance in high:
        with pytest.raises(SuiteError, match="not proven"):
            needles.check(replace(instance, real="unsat", float32="unsat", proof="theorem", planted=None))


def test_needles_are_flat_almost_everywhere(built: dict[str, list[Instance]]) -> None:
    """At 200 random points of each box, the score of a single needle that is high enough is nowhere near the threshold, but for a few."""
    near = Counter()
    for instance in [i for i in built["needles"] if i.real == "sat" and i.knobs["needles"] == 1][::4]:
        runs = np.random.default_rng(5)
        box = patterns.unsafe_cases(parse(instance.property))[0].box
        low, high = (np.array([float(v) for v in side]) for side in (box.lower, box.upper))
        for _ in range(20):
            x = (low + (high - low) * runs.random(low.size)).astype(np.float32)
            y = bound(instance.model, [(v, v) for v in exactly(x)])
            near[instance.name] += parse(instance.property).formula.holds(exactly(x), [a for a, _ in y], False)
    assert len(near) >= 8 and sum(near.values()) <= 1, near


def test_theorems_that_enumeration_can_decide_are_confirmed_by_it(built: dict[str, list[Instance]]) -> None:
    """Constructions of few neurons, against the walk over all activation patterns: another proof of the same truth."""
    confirmed = 0
    for instance in built["theorems"]:
        if instance.proof != "enumeration" and instance.knobs.get("inputs", 9) <= 3:
            try:
                found = patterns.decide(network.parse(instance.model.SerializeToString()), parse(instance.property), most=400)
            except (network.UnknownModel, patterns.TooManyPatterns):
                continue
            assert found.verdict == instance.real, instance.name
            confirmed += 1
    assert confirmed >= 5


def test_rounding_has_traps_of_every_kind(built: dict[str, list[Instance]]) -> None:
    truths = Counter((i.real, i.float32) for i in built["rounding"])
    assert truths["unsat", "sat"] >= 50 and truths["sat", "sat"] >= 30 and truths["unsat", "unsat"] >= 12 and truths["unsat", "unknown"] >= 15


def test_the_command_writes_a_suite(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["build", "--out", str(tmp_path), "--seed", "3", "--family", "scales"]) == 0
    entries = read(tmp_path)
    assert f"{len(entries)} instances" in capsys.readouterr().out
    assert {e.family for e in entries} == {"scales"} and all(e.model.exists() and e.property2.exists() for e in entries)
    assert all((e.planted() is not None) == ("sat" in (e.real, e.float32)) for e in entries)


def test_an_unknown_family_is_an_error() -> None:
    with pytest.raises(SuiteError, match="no family 'nothing'"):
        list(instances(1, ["nothing"]))
