"""The mutants: every one fits the code as it is and is gone afterwards; a few of them lie on tiny instances, and the checker stops them."""

from __future__ import annotations

import subprocess
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from benchmarks.soundness.instance import Entry, Instance, Planted, write
from benchmarks.soundness.mutants import forging
from benchmarks.soundness.mutants.campaign import Budget, Row, Suite, engine_row, rows
from benchmarks.soundness.mutants.campaign import write as write_table
from benchmarks.soundness.mutants.checking import MUTANTS as CHECKERS
from benchmarks.soundness.mutants.edit import Edit, EditError, Mutant, Setting, applied, changed_code, found, function, touched
from benchmarks.soundness.mutants.engine import command
from benchmarks.soundness.mutants.play import Limits, checked, lie, options_for, trusted
from benchmarks.soundness.mutants.registry import ENGINES, SETUPS, changes
from benchmarks.soundness.mutants.report import page
from benchmarks.soundness.net import Net
from benchmarks.soundness.property import Atom, Property, vnnlib1, vnnlib2

ALL = [*ENGINES.values(), *CHECKERS]
LIMITS = Limits(seconds=20.0, nodes=60)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Entry:
    """y = relu(x_0 - 2 x_1) over [0, 1]^2, unsafe from 0.75 on: violated at (1, 0), and not at (0, 1)."""
    net = Net(np.random.default_rng(0))
    output = net.node("Relu", net.node("Gemm", "x", net.constant([[1.0], [-2.0]]), net.constant([0.0])))
    ends = (Decimal(0), Decimal(0)), (Decimal(1), Decimal(1))
    prop = Property(*ends, ((Atom((Decimal(-1),), Decimal("-0.75")),),))
    planted = Planted(np.array([1, 0], dtype=np.float32), Fraction(1, 4), 0.25)
    instance = Instance(
        "tiny", "tiny", net.model(output, (1, 2), 1), vnnlib1(prop), vnnlib2(prop, (1, 2), (1, 1)), "sat", "sat", "planted", "by hand", ("Relu",),
        planted=planted,
    )  # fmt: skip
    return write(tmp_path_factory.mktemp("suite"), [instance], 0)[0]


def test_there_are_enough_and_each_is_named_after_a_row() -> None:
    assert len(ENGINES) >= 40 and len(CHECKERS) >= 40
    assert len({mutant.name for mutant in ALL}) == len(ALL)
    assert sum(mutant.row == "invented" for mutant in ENGINES.values()) >= 10
    for area in ("lowering", "parsing", "bounds", "search", "witness"):
        assert sum(mutant.area == area for mutant in ENGINES.values()) >= 8
    assert all(mutant.about and mutant.row and mutant.changes for mutant in ALL)
    assert all(place.startswith("verifier.checker.") for mutant in CHECKERS for place in mutant.places)
    assert not any(place.startswith("verifier.checker.") for mutant in ENGINES.values() for place in mutant.places)


def _state(mutant: Mutant) -> list[object]:
    return [found(where)[2] if isinstance(change, Setting) else function(where).__code__ for change in mutant.changes for where in [change.where]]


@pytest.mark.parametrize("mutant", ALL, ids=lambda mutant: mutant.name)
def test_every_patch_fits_changes_the_code_and_is_undone(mutant: Mutant) -> None:
    before = _state(mutant)
    for guards in (True, False):
        with applied(changes(mutant, guards=guards)):
            assert all(new != old for new, old in zip(_state(mutant), before, strict=True))
        assert _state(mutant) == before


@pytest.mark.parametrize("setup", SETUPS)
def test_a_setup_breaks_nothing(setup: str, tiny: Entry) -> None:
    with applied(SETUPS[setup]):
        assert trusted(options_for(tiny, LIMITS, attack=False)).verdict == "unknown"


def test_an_edit_that_does_not_fit_says_so() -> None:
    for edit in (Edit("verifier.clip:clip", "not there", ""), Edit("verifier.clip:nothing", "", ""), Edit("verifier.clip:MOST_SLOTS", "", "")):
        with pytest.raises(EditError), applied([edit]):
            pass
    with pytest.raises(EditError):
        changed_code("verifier.clip:clip", [Edit("verifier.clip:clip", "def clip(", "def clip(((")])


def test_what_is_called_is_noticed() -> None:
    with touched(["verifier.probe:_clip", "verifier.probe:_work"]) as called:
        from_probe = function("verifier.probe:_clip")(np.zeros(1), np.zeros(1), np.ones(1))
    assert called == {"verifier.probe:_clip"} and from_probe.size == 1


def test_the_engine_itself_does_not_lie(tiny: Entry) -> None:
    for attack in (False, True):
        for run in (trusted, checked):
            assert lie(tiny, run(options_for(tiny, LIMITS, attack=attack))) == ""


TOLD = [("box_shrunk", "false unsat"), ("radius_with_signs", "false unsat"), ("wrong_witness_printed", "invalid witness")]


@pytest.mark.parametrize(("name", "told"), TOLD)
def test_three_mutants_are_killed_and_the_second_lines_stop_them(name: str, told: str, tiny: Entry) -> None:
    mutant = ENGINES[name]
    with applied(changes(mutant, guards=False)):
        assert lie(tiny, trusted(options_for(tiny, LIMITS, attack=mutant.attack))) == told
        behind = lie(tiny, checked(options_for(tiny, LIMITS, attack=mutant.attack)))
    assert behind == ""


def test_the_campaign_writes_a_row(tiny: Entry, tmp_path: Path) -> None:
    suite = Suite(tiny.folder, tmp_path / "cache.json")
    suite.measure()
    row = engine_row(ENGINES["box_shrunk"], suite, Budget(10.0, LIMITS))
    assert (row.killed, row.lie, row.families, row.leak) == ("yes", "false unsat", "tiny:tiny", "")
    untouched = engine_row(ENGINES["max_pool_pads_with_zero"], suite, Budget(10.0, LIMITS))
    assert untouched.killed == "no" and untouched.seen == 0
    write_table(tmp_path / "table.csv", {row.mutant: row, untouched.mutant: untouched})
    assert rows(tmp_path / "table.csv") == {row.mutant: row, untouched.mutant: untouched}


def test_a_broken_checker_accepts_a_forgery(tmp_path: Path) -> None:
    mutant = next(mutant for mutant in CHECKERS if mutant.name == "checker_interval_half_as_wide")
    row = forging.checker_row(mutant, [], 30.0)
    assert row.killed == "yes" and row.checked.startswith("REJECTED")


def test_a_mutant_as_processes(tiny: Entry) -> None:
    files = [str(tiny.model), str(tiny.property)]
    run = [*command("box_shrunk"), *files, "--no-attack", "--timeout", "60", "--trust", "engine", "--nodes", "60"]
    assert subprocess.run(run, capture_output=True, text=True, timeout=120, check=False).stdout == "unsat\n"


def test_the_page_counts_kills_and_tells_what_came_out_with_the_checker_on() -> None:
    facts = {"killed": "yes", "families": "regress:a needles:b", "tried": "regress needles", "seen": 2}
    table = {
        "one": Row("one", "engine", "bounds", "invented", "wrong", lie="false unsat", **facts),
        "two": Row("two", "engine", "witness", "invented", "wrong", lie="invalid witness", leak="a: invalid witness", **facts),
        "three": Row("three", "engine", "bounds", "invented", "wrong", tried="regress", seen=7),
    }
    text = page(table)
    assert "| engine: **all** | 2 of 3 | 1 | 1 | 1 |" in text and "| regress | 3 | 2 | 0 |" in text
    assert "- `two`: wrong (a: invalid witness)." in text and "- `three` (7 runs): wrong. Not explained yet." in text
