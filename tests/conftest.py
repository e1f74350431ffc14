"""What every room's tests share: how Hypothesis draws, the folder of real VNN-COMP instances, and a count of the tests that read it."""

from __future__ import annotations

import os
from pathlib import Path

import hypothesis
import pytest

from tests.effort import examples


def draw_as_the_tests_do() -> None:
    """Examples have no deadline: a busy machine is no failure. A profile that somebody has loaded on purpose stays (tests/fork_server.py)."""
    name = hypothesis.settings.get_current_profile_name()
    if name in ("default", "ci"):  # Hypothesis's own; "ci" where the environment has CI
        given = hypothesis.settings.get_profile(name)
        hypothesis.settings.register_profile("tests", given, deadline=None, max_examples=examples(given.max_examples))
        hypothesis.settings.load_profile("tests")


draw_as_the_tests_do()


@pytest.fixture(scope="session")
def vnncomp_dir() -> Path:
    """The data folder. Absent: the test fails under SOUNDPROOF_REQUIRE_DATA=1, and is skipped otherwise."""
    folder = Path(os.environ.get("SOUNDPROOF_VNNCOMP") or Path(__file__).resolve().parents[2] / "shared" / "vnncomp")
    if folder.is_dir():
        return folder
    message = f"no VNN-COMP data at {folder}; set SOUNDPROOF_VNNCOMP"
    if os.environ.get("SOUNDPROOF_REQUIRE_DATA") == "1":
        pytest.fail(message)
    pytest.skip(message)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say how many tests read real instances: a run without them proves less."""
    outcomes = {
        outcome: sum(
            "vnncomp" in report.keywords for report in terminalreporter.stats.get(outcome, []) if report.when == "call" or outcome == "skipped"
        )
        for outcome in ("passed", "failed", "skipped")
    }
    ran = outcomes["passed"] + outcomes["failed"]
    terminalreporter.write_line(f"{ran} tests read the VNN-COMP data ({outcomes['skipped']} such tests were skipped)")
