"""Marabou 2.0.0, the wheel `maraboupy` of PyPI, in an environment of its own that `soundproof soundness install --adapter marabou` makes.

Two front ends, since each reads the files in its own way: `marabou` is its Python interface (the network is read in Python, the property in C++,
and the witness comes as doubles), `marabou-command` its command (both are read in C++, and the witness is printed with six digits).
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.soundness.adapters.base import AdapterError, Known, Output, Task, Tool, described, failed, only_first_version
from benchmarks.soundness.answers import Answer, read

HOME = Path("build/adapters/marabou")
REQUIREMENTS = ("maraboupy==2.0.0", "numpy==1.26.4", "onnx==1.15.0", "onnxruntime==1.17.1", "protobuf==4.25.3")
SCRIPT = Path(__file__).parent / "foreign" / "marabou_solve.py"
STATUS = re.compile(r"^(sat|unsat|Timeout|ERROR|UNKNOWN)$", re.MULTILINE)
INPUT = re.compile(r"^\s*x(\d+) = (\S+)$", re.MULTILINE)
WORDS = {"sat": "sat", "unsat": "unsat", "Timeout": "timeout", "UNKNOWN": "unknown"}


def _environment(tool: Tool) -> Path:
    home = (tool.path or HOME).absolute()
    if not (home / "bin" / "python").exists():
        raise AdapterError(f"there is no Marabou in {home}; install it with: soundproof soundness install --adapter marabou --tool {home}")
    return home


def _install(tool: Tool) -> list[list[str]]:
    home = (tool.path or HOME).absolute()
    return [[tool.python or sys.executable, "-m", "venv", str(home)], [str(home / "bin" / "python"), "-m", "pip", "install", "-q", *REQUIREMENTS]]


@dataclass(frozen=True)
class Marabou(Known):
    """The Python interface. Marabou has no gradient attack; its local search is part of its procedure and cannot be turned off."""

    name: str = "marabou"

    def describe(self) -> dict[str, Any]:
        return {**described(self.name, self.tool), "requirements": list(REQUIREMENTS)}

    def install(self) -> list[list[str]]:
        return _install(self.tool)

    def command(self, task: Task) -> list[str]:
        only_first_version(self.name, task)
        _no_attack(task)
        python = _environment(self.tool) / "bin" / "python"
        return [str(python), "-W", "ignore", str(SCRIPT), str(task.model), str(task.property), f"{task.timeout:g}", str(task.out), *self.tool.options]

    def answer(self, task: Task, output: Output) -> Answer:
        wrong = failed(output)
        return Answer("error", error=wrong) if wrong else read(output.results, "", task.inputs)


@dataclass(frozen=True)
class MarabouCommand(Known):
    """The command. Six digits may take a witness off the edge of a box: an invalid one found here is to be looked at with `marabou` too."""

    name: str = "marabou-command"

    def describe(self) -> dict[str, Any]:
        return {**described(self.name, self.tool), "requirements": list(REQUIREMENTS)}

    def install(self) -> list[list[str]]:
        return _install(self.tool)

    def command(self, task: Task) -> list[str]:
        only_first_version(self.name, task)
        _no_attack(task)
        marabou = _environment(self.tool) / "bin" / "Marabou"
        limit = ["--timeout", str(max(1, round(task.timeout)))]
        return [str(marabou), str(task.model), str(task.property), *limit, "--verbosity", "0", *self.tool.options]

    def answer(self, task: Task, output: Output) -> Answer:
        """The status is a line of standard output on its own; after `sat` come lines `x0 = 0.950000`."""
        wrong = failed(output)
        if wrong:
            return Answer("error", error=wrong)
        said = set(STATUS.findall(output.stdout))
        if len(said) != 1 or not said <= WORDS.keys():
            return Answer("error", error=f"status lines: {', '.join(sorted(said)) or 'none'}")
        word = WORDS[said.pop()]
        pairs = " ".join(f"(X_{i} {value})" for i, value in INPUT.findall(output.stdout))
        return read(f"sat\n({pairs})" if word == "sat" and pairs else word, "", task.inputs)


def _no_attack(task: Task) -> None:
    if not task.attack:
        raise AdapterError("Marabou has no attack that could be turned off")
