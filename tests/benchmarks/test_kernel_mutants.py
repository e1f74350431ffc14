"""Mutants of the checker's kernel: what is changed, how a mutant is known again, and what the committed table says of the tests."""

from __future__ import annotations

import ast
from collections import Counter
from pathlib import Path

import pytest

from benchmarks import mutants
from benchmarks.mutants import TESTED_BY, Mutant, equivalent, fit, read_table
from tests.architecture.test_checker import CHECKER, kernel

ENOUGH = 25  # mutants that the table has of each file, or all there are
LEAST_KILLED = 0.95
SOURCE = '''
def clip(x: int, least: int = 0) -> int:
    """At least `least`, below 10."""
    if x < least:
        raise Rejected("shape", "1 < 2")
    return min(x, 9)
'''


@pytest.fixture
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Another kernel, of one file."""
    (tmp_path / "verifier/checker").mkdir(parents=True)
    monkeypatch.setattr(mutants, "ROOT", tmp_path)
    (tmp_path / "verifier/checker/walk.py").write_text(SOURCE)
    return tmp_path / "verifier/checker/walk.py"


def test_mutants_change_what_is_computed_and_nothing_that_is_only_said(scratch: Path) -> None:
    found = mutants.mutants("walk")
    assert sorted(mutant.mutation for mutant, _ in found) == sorted([
        "0 -> 1", "0 -> -1", "x < least -> x <= least", "x < least -> x >= least", "if x < least: raise Rejected('shape', '1 < 2') -> "
        "if not x < least: raise Rejected('shape', '1 < 2')", "raise Rejected('shape', '1 < 2') -> pass", "min -> max", "9 -> 10", "9 -> 8",
    ])  # fmt: skip
    texts = {ast.dump(ast.parse(text())) for _, text in found}
    assert len(texts) == len(found) and ast.dump(ast.parse(SOURCE)) not in texts
    assert {mutant.place for mutant, _ in found} == {"clip"}


def test_a_mutant_is_known_again_after_changes_elsewhere(scratch: Path) -> None:
    rows = {mutant.key: mutant for mutant, _ in mutants.mutants("walk")}
    scratch.write_text("MORE = 3\n" + SOURCE.replace("9)", "8)"))
    assert {key[3] for key in rows} - {mutant.mutation for mutant, _ in fit("walk", rows)} == {"9 -> 10", "9 -> 8"}
    assert sorted(row.mutation for row in rows.values()) == sorted(m.mutation for m, _ in mutants.mutants("walk") if m.line in (3, 5, 6))
    assert all(row.line == (3 if row.mutation.startswith("0") else 5 if row.code.startswith("if") else 6) for row in rows.values())


@pytest.mark.parametrize("name", TESTED_BY)
def test_no_two_mutants_of_a_file_have_one_key(name: str) -> None:
    times = Counter(mutant.key for mutant, _ in mutants.mutants(name))
    assert times and set(times.values()) == {1}


def test_every_file_of_the_kernel_is_tested() -> None:
    assert {source.name.removeprefix(CHECKER).removesuffix(".py") for source in kernel()} == TESTED_BY.keys()


def test_the_committed_table_covers_the_kernel_and_most_mutants_are_killed() -> None:
    """At least 95% of the sample, those that survive but change nothing not counted as killed."""
    rows = read_table()
    for name in TESTED_BY:
        assert sum(row.file == name for row in rows.values()) >= min(ENOUGH, len(mutants.mutants(name))), name
    killed = sum(bool(row.killed_by) for row in rows.values())
    assert killed >= LEAST_KILLED * len(rows), f"{killed} of {len(rows)}"


def test_what_is_called_equivalent_survived() -> None:
    survivors: dict[mutants.Key, Mutant] = {key: row for key, row in read_table().items() if not row.killed_by}
    assert equivalent().keys() <= survivors.keys()
    assert all(survivors[key].note == f"equivalent: {why}" for key, why in equivalent().items())
