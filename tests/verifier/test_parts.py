"""Parts of a proof, written between the batches of a search, and the checker that follows it."""

from __future__ import annotations

import dataclasses
import hashlib
import queue
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_networks import vnnlib_file
from test_certificate import network_file, threshold
from test_search import KINDS, searching

from graph.load import load
from specs.vnnlib import parse
from verifier import engine, portfolio, search, worker
from verifier.budget import Budget
from verifier.certificate import Recorder
from verifier.events import Event, Paused, Progress
from verifier.options import Options

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def short_race(monkeypatch: pytest.MonkeyPatch) -> None:
    """Searches race for a batch or two: parts begin after that."""
    monkeypatch.setattr(search, "CONSTANTS", dataclasses.replace(portfolio.CONSTANTS, race_nodes=1, race_alone=0))


class Parts:
    """An observer that has a recorder write a part whenever it may, of `most` sub-problems or fewer."""

    def __init__(self, folder: Path, about: tuple[str, str, str], most: int, least: int = 1) -> None:
        self.folder, self.about, self.most, self.least = folder, about, most, least
        self.recorder, self.counts = Recorder(str(folder)), list[int]()

    def __call__(self, event: Event) -> None:
        self.recorder(event)
        while isinstance(event, Paused | Progress):
            count = self.recorder.write_part(str(self.folder / f"part-{len(self.counts)}"), *self.about, most=self.most, least=self.least)
            if not count:
                break
            self.counts.append(count)


def followed(folder: Path, parts: int, *more: str) -> tuple[list[str], str]:
    """What the checker says of so many parts and the whole (folder/proof), and complains of."""
    command = [sys.executable, "-m", "verifier.checker", folder / "m.onnx", folder / "p.vnnlib", "--follow", "--diagnose", folder / "missed", *more]
    given = "".join(f"{folder}/part-{k}\n" for k in range(parts)) + f"{folder}/proof\n"  # not called parts, so that none is left out
    done = subprocess.run(command, cwd=ROOT, input=given, capture_output=True, text=True, check=False)
    return done.stdout.splitlines(), done.stderr


def written(folder: Path, operators: tuple[str, ...], room: float, cases: Callable[[float], str]) -> tuple[bytes, str]:
    """Model and property, in this folder."""
    data, box = network_file(3, *operators), [("-1", "1")] * 3
    prop = vnnlib_file(box, 2, cases(threshold(load(data), box, room)))
    (folder / "m.onnx").write_bytes(data)
    (folder / "p.vnnlib").write_text(prop)
    return data, prop


CASES: dict[str, Callable[[float], str]] = {
    "one": lambda limit: f"(<= Y_0 {limit:.6f})",
    "two": lambda limit: f"(or (<= Y_0 {limit:.6f}) (and (<= Y_0 {limit + 0.1:.6f}) (>= Y_1 1000.0)))",
}


@pytest.mark.parametrize("most", [30, 10_000])
@pytest.mark.parametrize("cases", CASES)
@pytest.mark.parametrize("kind", KINDS)
def test_parts_hold_all_of_the_proof_that_they_could(kind: str, cases: str, most: int, tmp_path: Path) -> None:
    data, prop = written(tmp_path, ("LeakyRelu", "Relu"), 0.1, CASES[cases])
    parts = Parts(tmp_path, (hashlib.sha256(data).hexdigest(), hashlib.sha256(prop.encode()).hexdigest(), "real"), most)
    with searching(kind):
        outcome = engine.run(load(data), parse(prop, "test"), Options("", "", timeout=60.0, nodes=20000, no_attack=True, threads=1), parts)
    assert outcome.verdict == "unsat" and parts.counts and max(parts.counts) <= most
    parts.recorder.write(str(tmp_path / "proof"), *parts.about)
    parts.recorder.close()
    lines, log = followed(tmp_path, len(parts.counts))
    assert [line.split(" ")[0] for line in lines] == ["REJECTED"] * len(parts.counts) + ["ACCEPTED"], (lines, log)
    before, _, nodes = log.splitlines()[-1].split(" ")[:3]
    told = sum(parts.counts)
    assert all('"open"' in line for line in lines[:-1])
    assert int(before) <= told and int(before) >= 0.9 * min(told, int(nodes)), (told, log)
    assert kind == "neurons" or int(before) >= 0.9 * int(nodes)


def test_a_part_needs_something_new(tmp_path: Path) -> None:
    data, prop = written(tmp_path, ("LeakyRelu", "Relu"), 0.1, CASES["one"])
    parts = Parts(tmp_path, ("1" * 64, "2" * 64, "real"), most=50, least=40)
    with searching("inputs"):
        engine.run(load(data), parse(prop, "test"), Options("", "", timeout=60.0, nodes=20000, no_attack=True, threads=1), parts)
    assert parts.counts and min(parts.counts[:-1], default=40) >= 1
    assert not parts.recorder.write_part(str(tmp_path / "last"), *parts.about, most=50, least=40)
    assert not (tmp_path / "last").exists()
    parts.recorder.close()


# ---------------------------------------------------------------- the worker


class Told:
    """A channel; every part is answered by a request for another one, once all that is in it was walked."""

    def __init__(self, asked: queue.SimpleQueue[worker.Asked], rate: float) -> None:
        self.asked, self.rate, self.parts = asked, rate, list[dict[str, Any]]()

    def send(self, message: dict[str, Any]) -> None:
        if "part" in message:
            self.parts.append(message)
            self.asked.put(worker.Asked(self.rate, sum(part["count"] for part in self.parts)))


def options_of(folder: Path) -> Options:
    return Options(str(folder / "m.onnx"), str(folder / "p.vnnlib"), timeout=60.0, started=time.monotonic(), no_attack=True)


@pytest.mark.parametrize(("rate", "largest"), [(1e-9, None), (0.5, 20)])
def test_parts_are_as_large_as_the_checker_is_fast(rate: float, largest: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written(tmp_path, ("LeakyRelu", "Relu"), 0.1, CASES["one"])
    monkeypatch.setattr(worker, "FIRST_PART", 10)
    monkeypatch.setattr(worker, "LEAST_PART", 2)
    asked: queue.SimpleQueue[worker.Asked] = queue.SimpleQueue()
    asked.put(worker.Asked())
    channel, options = Told(asked, rate), options_of(tmp_path)
    (tmp_path / "private").mkdir()
    takes: list[float] = []
    monkeypatch.setattr(Budget, "check_takes", lambda _, seconds: takes.append(seconds))
    with searching("inputs"):
        session = worker.Session(options, channel, str(tmp_path / "private"), parts=asked)  # type: ignore[arg-type]
        answer = session.decide()
    assert "proof" in answer and channel.parts
    counts = [message["count"] for message in channel.parts]
    assert counts[0] <= 10 and all(b <= worker.FASTER * a for a, b in pairwise(counts))
    assert largest is None or max(counts) <= largest
    assert all(Path(message["part"]).exists() for message in channel.parts)
    assert np.unique([message["part"] for message in channel.parts]).size == len(counts)
    assert takes and (takes[-1] < 1.0 if rate < 1e-6 else max(takes) >= worker.CHECK_LEFT * rate)  # at the end little was not walked


def test_a_full_disk_costs_the_part_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written(tmp_path, ("LeakyRelu", "Relu"), 0.1, CASES["one"])

    def full(*_: object, **__: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Recorder, "write_part", full)
    asked: queue.SimpleQueue[worker.Asked] = queue.SimpleQueue()
    asked.put(worker.Asked())
    channel, options = Told(asked, 1.0), options_of(tmp_path)
    (tmp_path / "private").mkdir()
    with searching("inputs"):
        session = worker.Session(options, channel, str(tmp_path / "private"), parts=asked)  # type: ignore[arg-type]
        assert "proof" in session.decide() and not channel.parts
