"""The family `regress`: every question is checked again, also for other seeds, and our own engine does not lie about it."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.soundness import build
from benchmarks.soundness.families import regress
from benchmarks.soundness.instance import read
from benchmarks.soundness.mutants.play import Limits, lie, options_for, trusted


@pytest.mark.parametrize("seed", [0, 1, 7])
def test_every_question_has_the_truth_that_it_says(seed: int, tmp_path: Path) -> None:
    entries = build.build(tmp_path, seed, ["regress"])
    assert len(entries) == len(regress.QUESTIONS) == len(read(tmp_path))
    assert {entry.real for entry in entries} == {"sat", "unsat"}


def test_another_seed_moves_the_inputs() -> None:
    first, second = (next(regress.instances(seed)) for seed in (0, 1))
    assert first.name == second.name and first.property != second.property


@pytest.mark.slow
def test_our_engine_does_not_lie_about_any(tmp_path: Path) -> None:
    for entry in build.build(tmp_path, 0, ["regress"]):
        for attack in (False, True):
            assert lie(entry, trusted(options_for(entry, Limits(20.0, 60), attack=attack))) == "", entry.name
