"""How a verifier is called: any command with places for the files, or VNN-COMP's three scripts."""

from __future__ import annotations

import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from benchmarks.soundness.adapters.base import AdapterError, words

VERSION = "v1"  # of VNN-COMP's scripts
NETWORKS = "{networks}"
OURS = "soundproof"


@dataclass(frozen=True)
class Call:
    """One instance as a tool gets it: unpacked files, limit in seconds, and where its answer goes."""

    category: str
    networks: tuple[tuple[str | None, Path], ...]
    property_path: Path
    out: Path
    timeout: float

    @property
    def onnx(self) -> str:
        """The network's path; several as VNN-COMP 2026 writes them, [('f', '/a.onnx'), ('g', '/b.onnx')]."""
        return str(self.networks[0][1]) if self.networks[0][0] is None else repr([(name, str(path)) for name, path in self.networks])


class ContestTool(Protocol):
    """A verifier of a contest."""

    @property
    def name(self) -> str: ...

    def describe(self) -> dict[str, Any]:
        """What decides the answers, as JSON; a table is only continued with the same."""
        ...

    def prepare(self, call: Call) -> list[str] | None:
        """A command that is run before the clock starts, or None."""
        ...

    def command(self, call: Call) -> list[str]:
        """The command that is timed."""
        ...

    @property
    def prints(self) -> bool:
        """Whether an answer may stand on standard output."""
        ...


@dataclass(frozen=True)
class CommandTool:
    """`CMD with {onnx} {vnnlib} {timeout} {out}`; also {category}, and {networks}: the path, or `--network f=PATH --network g=PATH`."""

    name: str
    text: str
    prints: bool = True

    def __post_init__(self) -> None:
        if not any(place in self.text for place in ("{onnx}", NETWORKS)) or "{vnnlib}" not in self.text:
            raise AdapterError(f"the command of {self.name}, {self.text!r}, needs {{onnx}} (or {NETWORKS}) and {{vnnlib}}")
        words(self.text)

    def describe(self) -> dict[str, Any]:
        return {"command": self.text.replace(shlex.quote(sys.executable), "python")}

    def prepare(self, call: Call) -> None:
        return None

    def command(self, call: Call) -> list[str]:
        places = {"{onnx}": call.onnx, "{vnnlib}": str(call.property_path), "{timeout}": f"{call.timeout:g}", "{out}": str(call.out),
                  "{category}": call.category}
        found: list[str] = []
        for word in words(self.text):
            if word == NETWORKS:
                found += [w for name, path in call.networks for w in ([str(path)] if name is None else ["--network", f"{name}={path}"])]
            else:
                for place, value in places.items():
                    word = word.replace(place, value)
                found.append(word)
        return found


@dataclass(frozen=True)
class ScriptTool:
    """A folder with prepare_instance.sh and run_instance.sh. The results file alone counts: what scripts print is a log."""

    name: str
    folder: Path
    prints: bool = False

    def __post_init__(self) -> None:
        for script in ("prepare_instance.sh", "run_instance.sh"):
            if not (self.folder / script).is_file():
                raise AdapterError(f"{self.name}: there is no {self.folder / script}")

    def describe(self) -> dict[str, Any]:
        return {"scripts": self.folder.name}

    def prepare(self, call: Call) -> list[str]:
        return self._script("prepare_instance.sh", call.category, call.onnx, str(call.property_path))

    def command(self, call: Call) -> list[str]:
        return self._script("run_instance.sh", call.category, call.onnx, str(call.property_path), str(call.out), f"{call.timeout:g}")

    def _script(self, name: str, *arguments: str) -> list[str]:
        return ["bash", str(self.folder.resolve() / name), VERSION, *arguments]


def ours(threads: int) -> CommandTool:
    """Soundproof itself, in this interpreter."""
    verify = f"{shlex.quote(sys.executable)} -P -m soundproof verify {NETWORKS} {{vnnlib}}"
    return CommandTool(OURS, f"{verify} --timeout {{timeout}} --results-file {{out}} --threads {threads} --quiet")


def named(text: str, what: str) -> tuple[str, str]:
    """NAME and VALUE of `NAME=VALUE`; the name becomes a file's name. Raises AdapterError."""
    name, sign, value = text.partition("=")
    if not sign or not value.strip() or not name.replace("_", "").replace("-", "").replace(".", "").isalnum():
        raise AdapterError(f"{what} {text!r}: expected NAME=..., the name of letters, digits, `-`, `_` and `.`")
    return name, value
