"""auto_LiRPA as a bound oracle, from a checkout: one pass of bounds per atom, no search. Not run here: written from its sources (a050a3d).

`unsat` where in every case some atom's bound excludes it; otherwise `unknown`. So every `unsat` is a claim about its bounds and nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from benchmarks.soundness.adapters.base import Known, Output, Task, failed, only_first_version
from benchmarks.soundness.answers import Answer, read

WHAT = "a checkout of Verified-Intelligence/auto_LiRPA"
SCRIPT = Path(__file__).parent / "foreign" / "lirpa_bound.py"
ROOT = Path(__file__).resolve().parents[3]


@dataclass(frozen=True)
class AutoLirpa(Known):
    """`--tool DIR --tool-python PYTHON`, a Python with torch, onnx and onnx2pytorch; `--tool-option METHOD` (default CROWN)."""

    name: str = "auto-lirpa"

    def command(self, task: Task) -> list[str]:
        only_first_version(self.name, task)
        checkout = self.tool.folder(self.name, WHAT)
        run = ["env", f"PYTHONPATH={checkout}:{ROOT}", self.tool.interpreter(), str(SCRIPT)]
        return [*run, str(task.model), str(task.property), str(task.out), *self.tool.options]

    def answer(self, task: Task, output: Output) -> Answer:
        wrong = failed(output)
        return Answer("error", error=wrong) if wrong else read(output.results, "", task.inputs)
