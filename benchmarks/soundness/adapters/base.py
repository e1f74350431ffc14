"""What the runner needs to know of a verifier: how it is called, and how its answer is read. One adapter per tool."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from benchmarks.soundness.answers import Answer


class AdapterError(Exception):
    """The tool cannot be called this way; the message says what is missing."""


@dataclass(frozen=True)
class Task:
    """One instance in its private folder. `out`: where a results file may be written; `timeout` in seconds; `memory` in bytes, None for no limit.

    `inputs`: the names of the input tensors (VNN-LIB 2.0). With `attack` false no concrete execution may end the run.
    """

    model: Path
    property: Path
    out: Path
    timeout: float
    memory: int | None = None
    vnnlib2: bool = False
    attack: bool = True
    semantics: str = "real"
    inputs: tuple[str, ...] = ("X",)


@dataclass(frozen=True)
class Output:
    """What a process left: its return code, the text of its streams, the results file's text (None: not written)."""

    code: int
    stdout: str
    stderr: str
    results: str | None


@dataclass(frozen=True)
class Tool:
    """What the user says about a tool: where it is (a checkout, an environment), its interpreter, a configuration file, further options."""

    path: Path | None = None
    python: str | None = None
    config: Path | None = None
    options: tuple[str, ...] = ()

    def folder(self, name: str, what: str) -> Path:
        """The folder of a tool that has to be there. Raises AdapterError."""
        if self.path is None or not self.path.is_dir():
            raise AdapterError(f"{name} needs --tool DIR, {what}" + ("" if self.path is None else f"; there is no folder {self.path}"))
        return self.path.resolve()

    def file(self, name: str, relative: str, what: str) -> Path:
        """A file of that folder. Raises AdapterError."""
        file = self.folder(name, what) / relative
        if not file.exists():
            raise AdapterError(f"{name}: {file} does not exist; --tool should be {what}")
        return file

    def interpreter(self) -> str:
        """The Python that runs the tool: --tool-python, or the environment in the tool's folder, or `python`."""
        own = [self.path / place / "bin" / "python" for place in (".venv", "venv", ".")] if self.path is not None else []
        return self.python or next((str(p.absolute()) for p in own if p.exists()), "python")


class Adapter(Protocol):
    """A tool that can be run. `name` is printed and kept in the ledger."""

    @property
    def name(self) -> str: ...

    def describe(self) -> dict[str, Any]:
        """What decides the answers, as JSON: a run with another description does not continue this one."""
        ...

    def prepare(self, task: Task) -> Sequence[str] | None:
        """A command to be run before the clock starts (VNN-COMP's prepare_instance), or None."""
        ...

    def command(self, task: Task) -> Sequence[str]:
        """The command that decides `task`. Raises AdapterError where the tool has no such mode."""
        ...

    def answer(self, task: Task, output: Output) -> Answer:
        """The answer of a process that ended by itself."""
        ...


def described(name: str, tool: Tool) -> dict[str, Any]:
    """The usual `describe`."""
    path, config = (str(p) if p is not None else None for p in (tool.path, tool.config))
    return {"adapter": name, "tool": path, "python": tool.python, "config": config, "options": list(tool.options)}


@dataclass(frozen=True)
class Known:
    """A tool that needs nothing before an instance; each names itself."""

    tool: Tool
    name: str = ""

    def describe(self) -> dict[str, Any]:
        return described(self.name, self.tool)

    def prepare(self, task: Task) -> Sequence[str] | None:
        return None


def killed(output: Output) -> str | None:
    """What to say of a process that died of a signal: whatever it printed before does not count."""
    return None if output.code >= 0 else f"killed by signal {-output.code}: {last_lines(output.stderr)}"


def failed(output: Output) -> str | None:
    """What to say of a process that did not return 0."""
    return killed(output) or (None if output.code == 0 else f"exit code {output.code}: {last_lines(output.stderr or output.stdout)}")


def only_first_version(name: str, task: Task) -> None:
    """Raise AdapterError for a task in VNN-LIB 2.0."""
    if task.vnnlib2:
        raise AdapterError(f"{name} reads VNN-LIB 1.0 only; run without --vnnlib2")


def last_lines(text: str) -> str:
    """The last three lines that say something, the beginning of each."""
    return " | ".join([line.strip()[:160] for line in text[-20000:].splitlines() if line.strip()][-3:]) or "nothing was printed"


def words(text: str) -> list[str]:
    """A command as the user wrote it, split as a shell would; names of files relative to here become absolute. Raises AdapterError."""
    try:
        parts = shlex.split(text)
    except ValueError as error:
        raise AdapterError(f"the command {text!r}: {error}") from error
    return [str(Path(p).absolute()) if Path(p).is_file() and (at or "/" in p) else p for at, p in enumerate(parts)]
