"""`--engine smt|milp|smt-float32` from outside: certified, claimed, replayed; and what happens to a solver that is hindered."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import helper

from tests.soundproof.networks import property_file, relu_network, save
from tests.soundproof.test_command import ROOT, command

WIDE = 60


def deep_network(path: Path, inputs: int, seed: int = 0) -> str:
    """Two hidden layers of random weights: no solver is through with it in seconds."""
    rng = np.random.default_rng(seed)
    nodes, weights, tensor, width = [], {}, "x", inputs
    for k in range(3):
        out = 1 if k == 2 else WIDE
        weights[f"w{k}"] = (rng.standard_normal((width, out)) / np.sqrt(width)).astype(np.float32)
        weights[f"b{k}"] = rng.standard_normal(out).astype(np.float32)
        nodes.append(helper.make_node("Gemm", [tensor, f"w{k}", f"b{k}"], ["y" if k == 2 else f"h{k}"]))
        if k < 2:
            nodes.append(helper.make_node("Relu", [f"h{k}"], [f"a{k}"]))
        tensor, width = f"a{k}", out
    return save(path, nodes, weights, shape=(1, inputs), outputs=1)


def plain(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text()))


@pytest.mark.parametrize("engine", ["smt", "milp"])
def test_what_a_solver_refutes_is_proven_again_and_certified(tmp_path: Path, engine: str) -> None:
    model, prop = relu_network(tmp_path / "m"), property_file(tmp_path / "p", "(assert (>= Y_0 1.05))")
    done = command("verify", model, prop, "--engine", engine, "--json", tmp_path / "j", "--no-attack")
    assert done.returncode == 0 and done.stdout == "unsat\n" and plain(tmp_path / "j")["assurance"] == "certified"


def test_unknown_engines_and_semantics_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    model, prop = relu_network(tmp_path / "m"), property_file(tmp_path / "p")
    for options, flag in ((("--engine", "sat"), "--engine"), (("--engine", "smt-float32", "--semantics", "real"), "--semantics")):
        done = command("verify", model, prop, *options)
        assert done.returncode == 2 and done.stdout == "" and flag in done.stderr


@pytest.fixture(scope="module")
def hard(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    folder = tmp_path_factory.mktemp("hard")
    return deep_network(folder / "m", 12), property_file(folder / "p", "(assert (>= Y_0 3.0))", inputs=12, outputs=1)


@pytest.mark.parametrize("engine", ["smt", "milp"])
def test_a_second_is_not_enough(tmp_path: Path, hard: tuple[str, str], engine: str) -> None:
    done = command("verify", *hard, "--engine", engine, "--timeout", "1", "--json", tmp_path / "j", "--no-attack")
    assert done.returncode == 30 and done.stdout == "timed-out\n" and plain(tmp_path / "j")["reason"]["code"] == "time"


@pytest.mark.parametrize("engine", ["smt", pytest.param("milp", marks=pytest.mark.slow)])
def test_little_memory_is_no_verdict(tmp_path: Path, hard: tuple[str, str], engine: str) -> None:
    done = command("verify", *hard, "--engine", engine, "--timeout", "20", "--memory", "1", "--json", tmp_path / "j", "--no-attack")
    found = plain(tmp_path / "j")
    assert (done.returncode, done.stdout) in ((20, "unknown\n"), (30, "timed-out\n"))
    assert found["reason"]["code"] in ("memory", "time", "solver-unknown", "not-certified") and found["assurance"] == "none"


@pytest.mark.parametrize("engine", ["smt", pytest.param("milp", marks=pytest.mark.slow)])
def test_a_solver_that_is_killed_is_no_verdict(tmp_path: Path, hard: tuple[str, str], engine: str) -> None:
    arguments = ["verify", *hard, "--engine", engine, "--trust", "smt,milp", "--timeout", "60", "--json", str(tmp_path / "j"), "--no-attack"]
    with subprocess.Popen([sys.executable, "-m", "soundproof", *arguments], cwd=ROOT, stdout=subprocess.PIPE, text=True) as run:
        os.kill(solver_of(run.pid), signal.SIGKILL)
        out, _ = run.communicate(timeout=60)
    found = plain(tmp_path / "j")
    assert run.returncode == 20 and out == "unknown\n" and found["reason"]["code"] == "solver-unknown"
    assert "the solver ended without an answer (exit code -9)" in found["reason"]["text"]


def solver_of(pid: int) -> int:
    """The solver's process, below the worker's, once it is there."""
    limit = time.monotonic() + 40
    while time.monotonic() < limit:
        for worker in children(pid):
            for child in children(worker):
                if "spawn_main" in Path(f"/proc/{child}/cmdline").read_text().replace("\0", " "):
                    return child
        time.sleep(0.05)
    raise TimeoutError("no solver was started")


def children(pid: int) -> list[int]:
    return [int(child) for task in Path(f"/proc/{pid}/task").iterdir() for child in (task / "children").read_text().split()]
