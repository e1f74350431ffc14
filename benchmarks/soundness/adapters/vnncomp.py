"""VNN-COMP's three scripts: install_tool.sh v1; prepare_instance.sh and run_instance.sh with v1 CATEGORY ONNX VNNLIB (OUT TIMEOUT)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.soundness.adapters.base import AdapterError, Output, Task, Tool, described, killed, last_lines
from benchmarks.soundness.answers import Answer, read

VERSION, CATEGORY = "v1", "test"  # the category may not say what an instance is about
WHAT = "the folder with the three scripts (often vnncomp_scripts)"


@dataclass(frozen=True)
class ThreeScripts:
    """`--tool` is the folder of the scripts. Preparing may take ten minutes and does not count; where it fails the instance is an error."""

    tool: Tool
    name: str = "vnncomp"

    def describe(self) -> dict[str, Any]:
        return described(self.name, self.tool)

    def install(self) -> list[list[str]]:
        """What `soundproof soundness install` runs."""
        return [["bash", str(self._script("install_tool.sh")), VERSION]]

    def prepare(self, task: Task) -> list[str]:
        return ["bash", str(self._script("prepare_instance.sh")), VERSION, CATEGORY, str(task.model), str(task.property)]

    def command(self, task: Task) -> list[str]:
        if not task.attack:
            raise AdapterError("VNN-COMP's scripts know no mode without attack; use --verifier with two commands")
        files = [str(task.model), str(task.property), str(task.out), f"{task.timeout:g}"]
        return ["bash", str(self._script("run_instance.sh")), VERSION, CATEGORY, *files]

    def answer(self, task: Task, output: Output) -> Answer:
        """The results file alone counts: what scripts print is a log."""
        if output.results is None or not output.results.strip():
            return Answer("error", error=killed(output) or f"no results file (exit code {output.code}): {last_lines(output.stderr)}")
        return read(output.results, "", task.inputs)

    def _script(self, name: str) -> Path:
        return self.tool.file(self.name, name, WHAT)
