"""Questions to a child process: whatever becomes of the child, there is an answer, and it is never a pass."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest

from graph.load import load
from specs import vnnlib
from tests.soundproof.networks import property_file, relu_network
from verifier.exact_engines import exact_engine
from verifier.exact_search import question
from verifier.problem import compile_problem
from verifier.solver import Answer, Question, ask


@pytest.fixture
def asked(tmp_path: Path) -> Question:
    problem = compile_problem(load(relu_network(tmp_path / "m")).graph, vnnlib.read(property_file(tmp_path / "p")))
    return question(problem, 0, 1 << 26)


def answers(asked: Question, seconds: float) -> Answer:
    return Answer("sat", np.zeros(asked.problem.lower.shape[1]), reason=f"{seconds > 0}")


def dies(asked: Question, seconds: float) -> Answer:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


def hangs(asked: Question, seconds: float) -> Answer:
    time.sleep(600)
    return Answer("unsat")


def fails(asked: Question, seconds: float) -> Answer:
    raise ValueError("a defect of the solver")


def grows(asked: Question, seconds: float) -> Answer:
    held = [np.ones(10_000_000) for _ in range(1_000)]
    return Answer("unsat", reason=str(len(held)))


def swells(asked: Question, seconds: float) -> Answer:
    held = []
    while True:
        held.append(np.ones(1_000_000))
        time.sleep(0.01)


def talks(asked: Question, seconds: float) -> Answer:
    return "unsat"  # type: ignore[return-value]


def test_the_answer_of_the_child_is_returned(asked: Question) -> None:
    found = ask(answers, asked, 60)
    assert found.verdict == "sat" and found.point is not None and found.point.tolist() == [0, 0] and found.reason == "True"


def test_a_child_that_is_killed_is_unknown(asked: Question) -> None:
    found = ask(dies, asked, 60)
    assert found.verdict == "unknown" and "exit code -9" in found.reason


def test_a_child_that_fails_is_unknown(asked: Question) -> None:
    found = ask(fails, asked, 60)
    assert found.verdict == "unknown" and "exit code 1" in found.reason


def test_a_child_that_hangs_is_killed_when_its_time_is_over(asked: Question) -> None:
    began = time.monotonic()
    found = ask(hangs, asked, 2)
    assert found.verdict == "unknown" and found.reason == "time" and time.monotonic() - began < 30


@pytest.mark.parametrize("solve", [grows, swells])
def test_a_child_that_takes_too_much_memory_is_unknown(asked: Question, solve: object) -> None:
    found = ask(solve, asked, 60, 600e6)  # type: ignore[arg-type]
    assert found.verdict == "unknown" and found.reason == "memory"


def test_only_answers_are_answers(asked: Question) -> None:
    with pytest.raises(TypeError, match="a solver answered 'unsat'"):
        ask(talks, asked, 60)


@pytest.mark.parametrize("name", ["smt", "milp"])
@pytest.mark.parametrize(("least", "verdict"), [("0.75", "sat"), ("1.25", "unsat")])
def test_the_engines_answer(tmp_path: Path, name: str, least: str, verdict: str) -> None:
    prop = vnnlib.read(property_file(tmp_path / "p", f"(assert (>= Y_0 {least}))"))
    problem = compile_problem(load(relu_network(tmp_path / "m")).graph, prop)
    found = ask(exact_engine(name).solver(), question(problem, 0, 1 << 26), 60)
    assert found.verdict == verdict and (found.point is not None) == (verdict == "sat")
