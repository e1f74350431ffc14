"""The checker, in this process or in one of its own, on certificates in memory."""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from benchmarks.forgery.subjects import Subject
from verifier.checker.main import Process

OPTIONS = {"timeout": 0.0, "memory": 8.0, "limit_bytes": 100_000_000, "processes": 1, "arithmetic": "float64", "diagnose": None, "follow": False}


@dataclass(frozen=True)
class Verdict:
    """ACCEPTED, REJECTED or MALFORMED, and what the line said besides."""

    word: str
    facts: dict[str, str]

    @property
    def accepted(self) -> bool:
        return self.word == "ACCEPTED"

    @property
    def rule(self) -> str:
        return self.facts.get("rule", "")


class Judge:
    """`folder` is for files of the moment; `timeout` in seconds for each certificate, 0: none."""

    def __init__(self, folder: Path, arithmetic: str = "float64", timeout: float = 0.0) -> None:
        self.folder = folder
        self.process = Process(argparse.Namespace(**{**OPTIONS, "arithmetic": arithmetic, "timeout": timeout}))
        self._written: tuple[bytes, bytes] | None = None

    def files(self, subject: Subject, certificate: bytes) -> tuple[Path, Path, Path]:
        """The three files on disk."""
        paths = tuple(self.folder / name for name in ("model.onnx", "property.vnnlib", "proof.cert"))
        if self._written != (subject.model, subject.text):
            paths[0].write_bytes(subject.model)
            paths[1].write_bytes(subject.text)
            self._written = subject.model, subject.text
        paths[2].write_bytes(certificate)
        return paths[0], paths[1], paths[2]

    def __call__(self, subject: Subject, certificate: bytes) -> Verdict:
        """What the checker says in this process."""
        with contextlib.redirect_stderr(io.StringIO()):
            line, accepted = self.process.outcome(self.files(subject, certificate))
        return _read(line, accepted)

    def apart(self, subject: Subject, certificate: bytes) -> Verdict:
        """What the checker says as a process."""
        files = [str(path) for path in self.files(subject, certificate)]
        done = subprocess.run([sys.executable, "-I", "-m", "verifier.checker", *files], capture_output=True, text=True, timeout=600)
        return _read(done.stdout.splitlines()[-1] if done.stdout else f'CRASHED {{"rule": "exit {done.returncode}"}}', done.returncode == 0)


def _read(line: str, accepted: bool) -> Verdict:
    word, facts = line.split(" ", 1)
    if accepted != (word == "ACCEPTED"):
        raise RuntimeError(f"line and exit code differ: {line}")
    return Verdict(word, json.loads(facts))
