"""Policies are read strictly, and survive a trip through JSON."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import pytest

from benchmarks.certify import gates, policy
from benchmarks.certify.errors import UsageError
from benchmarks.certify.gates import Answered
from benchmarks.certify.policy import Policy

WHOLE = """
gates = ["certified_accuracy >= 0.9 at linf 2/255"]
[model]
output = "scores"
[data]
label = "y"
classes = ["no", "yes"]
samples = 7
[preprocess]
scale = 0.1
mean = [0.5]
std = ["1/3"]
layout = "HWC->CHW"
range = [0, 1.5]
[[check]]
region = "linf"
radius = ["2/255", 0.01]
[[check]]
name = "largest"
region = "linf"
radius = 1
bisect = 5
"""


def read(tmp_path: Path, text: str) -> Policy:
    path = tmp_path / "p.toml"
    path.write_text(text, encoding="utf-8")
    return policy.read(path)


def test_a_policy_survives_json(tmp_path: Path) -> None:
    asked = read(tmp_path, WHOLE)
    assert asked.checks[0].radii == (Fraction(2, 255), Fraction(1, 100)) and asked.checks[1].bisect == 5 and asked.most == 7
    assert asked.preprocess.scale == Fraction(1, 10) and asked.preprocess.std == (Fraction(1, 3),) and asked.preprocess.high == Fraction(3, 2)
    assert policy.from_plain(json.loads(policy.canonical(policy.to_plain(asked))), "again") == asked


@pytest.mark.parametrize(("text", "message"), [
    ("[preproces]\n", "did you mean 'preprocess'"), ("[preprocess]\nscal = 1\n", "did you mean 'scale'"), ("gatess = []\n", "did you mean 'gates'"),
    ("[[check]]\nregion = 'linf'\nradii = 1\n", "unknown key 'radii'; did you mean 'radius'"), ("[[check]]\nregion = 'l3'\n", "known: point, linf"),
    ("[[check]]\nregion = 'linf'\nradius = [-1]\n", "0 or more"), ("[[check]]\nregion = 'linf'\nradius = [1, 1.0]\n", "each once"),
    ("[[check]]\nregion = 'linf'\nradius = nan\n", "no number"), ("[[check]]\nregion = 'linf'\nradius = [1, 2]\nbisect = 3\n", "one positive radius"),
    ("[[check]]\nregion = 'linf'\nname = '../x'\n", "must be of letters"), ("[[check]]\nregion='linf'\n[[check]]\nregion='linf'\n", "two checks"),
    ("[preprocess]\nstd = [0]\n", "must be positive"), ("[preprocess]\nrange = [1, 0]\n", "lowest, highest"), ("x = [", "p.toml"),
    ("[preprocess]\nlayout = 'WHC'\n", "HWC->CHW"), ("[data]\nshape = [0]\n", "whole number, 1 or more"), ("schema = 2\n", "schema 2"),
    ("check = 3\n", "expected a list"), ("data = 3\n", "must be a table"),
])
def test_policies_that_mean_nothing(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        read(tmp_path, text)


def test_options_become_checks() -> None:
    made = policy.completed(Policy(()), ["linf:1/255, 2/255"], "top1", None)
    assert [c.radii for c in made.checks] == [(Fraction(1, 255), Fraction(2, 255))]
    made = policy.completed(Policy(()), ["linf:0.1"], "top1", "0.5:4")
    assert [(c.name, c.bisect, c.radii) for c in made.checks] == [("linf-radius", 4, (Fraction(1, 2),)), ("linf", 0, (Fraction(1, 10),))]
    for regions, prop, radius in ((["linf:a"], "top1", None), (["linf:1"], "topp", None), (["linf"], "top1", "1:x"), (["linf:1"], "top1:3", None)):
        with pytest.raises(UsageError):
            policy.completed(Policy(()), regions, prop, radius)


def test_options_become_preprocessing(tmp_path: Path) -> None:
    given = ["scale=0.1", "mean=0.5", "std=1/3", "layout=HWC->CHW", "range=0, 1.5"]
    asked = read(tmp_path, WHOLE)
    assert policy.prepared(Policy(()), given).preprocess == asked.preprocess == policy.prepared(asked, []).preprocess
    assert policy.prepared(asked, ["scale=1/255"]).preprocess.scale == Fraction(1, 255)
    for wrong, message in (("scale", "expected KEY=VALUE"), ("scal=1", "did you mean 'scale'"), ("std=0,1", "must be positive"),
                           ("range=1", "lowest, highest"), ("scale=1,2", "no number"), ("layout=CWH", "known: HWC->CHW")):
        with pytest.raises(UsageError, match=message):
            policy.prepared(asked, [wrong])


def judged(tmp_path: Path, text: str, outcomes: list[str], radius: Fraction = Fraction(2, 255)) -> bool:
    asked = read(tmp_path, WHOLE)
    return gates.judge(gates.read(text, asked), [Answered("linf", radius, i, o) for i, o in enumerate(outcomes)], Fraction(9, 10)).passed


@pytest.mark.parametrize(("text", "outcomes", "passed"), [
    ("certified_accuracy >= 0.5 at linf 2/255", ["certified", "unknown"], True),
    ("certified_accuracy > 0.5 at linf 2/255", ["certified", "misclassified"], False),
    ("certified_accuracy >= 0.5 at linf 2/255", [], False),
    ("no falsified sample within 0.01", ["certified", "unknown", "misclassified"], True),
    ("no falsified sample within 0.01", ["certified", "falsified"], False),
    ("no falsified sample within 0.01", ["open"], False),
    ("no falsified sample within 0.001", ["falsified"], True),
    ("no unknown sample at linf 2/255", ["falsified"], True),
    ("no unknown sample", ["unknown"], False),
    ("all certified at linf", ["certified"], True),
    ("all certified", ["certified", "misclassified"], False),
    ("accuracy >= 0.9", [], True),
    ("accuracy > 0.9", [], False),
])
def test_gates(tmp_path: Path, text: str, outcomes: list[str], passed: bool) -> None:
    assert judged(tmp_path, text, outcomes) is passed


@pytest.mark.parametrize("text", ["all is well", "certified_accuracy >= 0.9 at l2 1", "certified_accuracy >= 0.9 at linf 3/255",
                                  "monotone in feature 3", "certified_accuracy >= 1/0 at linf 2/255", "certified_accuracy >= 0.9 at linf"])
def test_gates_that_mean_nothing(tmp_path: Path, text: str) -> None:
    with pytest.raises(UsageError):
        gates.read(text, read(tmp_path, WHOLE))
