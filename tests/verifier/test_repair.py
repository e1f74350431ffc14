"""What the checker cannot follow is searched further, until it can. The checker here loses something everywhere, on purpose."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from small_networks import vnnlib_file
from test_certificate import network_file
from test_search import KINDS, searching

from graph.evaluate import evaluate
from graph.load import load
from specs.vnnlib import parse
from verifier import engine
from verifier.budget import Budget
from verifier.certificate import Recorder
from verifier.events import Event, Mended, Split
from verifier.options import Options
from verifier.repair import mend, misses
from verifier.result import Result
from verifier.watchdog import supervise

LOSSY = """
import runpy, sys
sys.path.insert(0, {root!r})
from verifier.checker import walk
from verifier.checker.state import Forms
LOSS, walk.LEVELS = {loss}, 0
functionals, multipliers = walk.Walk._functionals, walk.Walk._multipliers
def lose(self, part, state):
    forms, value, rows = functionals(self, part, state)
    return Forms(forms.coefficients, forms.constant - LOSS), value - LOSS, rows
walk.Walk._functionals = lose
def lose_plane(self, part, state, records):
    plane = multipliers(self, part, state, records)
    return Forms(plane.coefficients, plane.constant - LOSS)
walk.Walk._multipliers = lose_plane
runpy.run_module('verifier.checker', run_name='__main__', alter_sys=True)
"""


def lossy(loss: float) -> list[str]:
    """A checker whose bounds of atoms are worse by `loss`."""
    return [sys.executable, "-I", "-c", LOSSY.format(root=str(Path(__file__).parents[2]), loss=loss)]


class Bench:
    """Files, the proof of the engine, and the checker's word on it."""

    def __init__(self, folder: Path, model: bytes, prop: str, loss: float) -> None:
        self.model, self.property, self.proof, self.diagnosis = (folder / name for name in ("m.onnx", "p.vnnlib", "proof", "d"))
        self.model.write_bytes(model)
        self.property.write_text(prop)
        self.net, self.prop, self.loss = load(model), parse(prop, "p"), loss
        self.hashes = [hashlib.sha256(path.read_bytes()).hexdigest() for path in (self.model, self.property)]
        self.recorder, self.mended, self.splits = Recorder(str(folder)), list[Mended](), 0
        self.options = Options("", "", timeout=60.0, no_attack=True, threads=1)

    def observe(self, event: Event) -> None:
        self.recorder(event)
        self.mended += [event] if isinstance(event, Mended) else []
        self.splits += len(event.ids) if isinstance(event, Split) else 0

    def search(self) -> None:
        assert engine.run(self.net, self.prop, self.options, self.observe).verdict == "unsat"

    def missed(self) -> int:
        """Leaves that the checker misses; none if it accepts the proof as it is now."""
        self.recorder.write(str(self.proof), self.hashes[0], self.hashes[1], "real")
        done = subprocess.run(
            [*lossy(self.loss), self.model, self.property, self.proof, "--diagnose", self.diagnosis], capture_output=True, text=True, check=False
        )
        lines = self.diagnosis.read_text().splitlines()
        word = (done.stdout or done.stderr).splitlines()[-1]
        assert word.startswith("REJECTED" if lines else "ACCEPTED"), word
        return len(lines)

    def repair(self, name: str) -> bool:
        budget = Budget(time.monotonic() + 60)
        return mend(self.recorder, misses(str(self.diagnosis)), None, self.options, budget, self.observe, name).proven

    def until_accepted(self) -> list[int]:
        """How many leaves were missed, check by check."""
        found = [self.missed()]
        while found[-1] and len(found) < 6:
            assert self.repair(f"repair-{len(found)}")
            found.append(self.missed())
        self.recorder.close()
        return found


BOX = [("-1", "1")] * 3


def bench(folder: Path, room: float, share: float, *operators: str) -> Bench:
    """`room`: how far the threshold is below the least value, in parts of all values; the checker loses this share of it."""
    model = network_file(3, *operators)
    net = load(model)
    grid = np.stack(np.meshgrid(*[np.linspace(-1, 1, 33, dtype=np.float32)] * 3), -1).reshape(-1, 3)
    values = evaluate(net.graph, [grid])[net.graph.outputs[0]].reshape(-1, 2)[:, 0]
    least, most = float(values.min()), float(values.max())
    limit = least - room * (most - least)
    prop = vnnlib_file(BOX, 2, f"(or (<= Y_0 {limit:.6f}) (and (<= Y_0 {limit:.6f}) (>= Y_1 1000.0)))")
    return Bench(folder, model, prop, share * (least - limit))


@pytest.mark.parametrize(("kind", "room", "share"), [("inputs", 0.1, 0.8), ("inputs", 0.2, 0.8), ("neurons", 0.02, 0.8)])
def test_what_the_checker_misses_is_mended(kind: str, room: float, share: float, tmp_path: Path) -> None:
    at = bench(tmp_path, room, share, "Relu", "Relu")
    with searching(kind):
        at.search()
        splits = at.splits
        missed = at.until_accepted()
    assert missed[0] > 0 and missed[-1] == 0 and at.splits > splits > 3
    assert all(len(event.leaves if kind != "neurons" else event.cases) for event in at.mended)


def test_mended_again_and_again(tmp_path: Path) -> None:
    """A checker that loses more every time: what was mended once is mended below what stands there by then."""
    at = bench(tmp_path, 0.2, 0.2, "Relu", "Tanh")
    loss = at.loss
    with searching("inputs"):
        at.search()
        for k in range(3):
            at.loss += loss
            assert at.missed() > 0 and at.repair(f"repair-{k}")
        assert at.until_accepted()[-1] == 0


@pytest.mark.parametrize("kind", KINDS)
def test_a_case_closed_where_it_stands(kind: str, tmp_path: Path) -> None:
    """One bounding pass closes everything for us, and not for the checker: then these cases are searched."""
    at = bench(tmp_path, 0.5, 0.8, "Relu")
    at.search()
    assert at.splits == 0
    with searching(kind):
        missed = at.until_accepted()
    assert missed[0] == 1 and missed[-1] == 0 and at.mended[0].cases.tolist() == [0, 1] and (at.splits or kind == "neurons")


def test_what_cannot_be_mended_is_no_proof(tmp_path: Path) -> None:
    """The checker loses more than there is room."""
    at = bench(tmp_path, 0.2, 1.1, "Relu")
    with searching("inputs"):
        at.search()
        assert at.missed()
        budget = Budget(time.monotonic() + 60, nodes=500)
        found = mend(at.recorder, misses(str(at.diagnosis)), None, at.options, budget, at.observe, "repair-1")
    assert not found.proven and budget.stopped == "nodes" and len(found.open_cases) > 0
    at.recorder.close()


@pytest.fixture
def command(tmp_path: Path) -> Iterator[Bench]:
    at = bench(tmp_path, 0.1, 0.8, "Relu", "Relu")
    yield at
    at.recorder.close()


def test_the_command_mends(command: Bench, tmp_path: Path) -> None:
    said: list[str] = []
    kept = tmp_path / "kept"
    options = Options(str(command.model), str(command.property), timeout=50, threads=1, certificate=str(kept), verbosity=1)
    found = supervise(options, said.append, checker=lossy(command.loss))
    assert isinstance(found, Result) and (found.verdict, found.assurance) == ("unsat", "certified"), found
    assert any("could not follow" in line for line in said) and any("the checker missed" in line for line in found.portfolio)
    assert found.certificate.path == str(kept) and hashlib.sha256(kept.read_bytes()).hexdigest() == found.certificate.sha256
    assert found.seconds["search"] > 0 and found.nodes > 0
