"""nnenum from a checkout (read at 0e3cf33): `python -m nnenum.nnenum ONNX VNNLIB TIMEOUT OUT PROCESSES`. Not run here: written from its sources.

It writes sat or unsat and VNN-COMP's counterexample, but for other outcomes the words of its own Result: timeout, error, none.
"""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.soundness.adapters.base import AdapterError, Known, Output, Task, failed, only_first_version
from benchmarks.soundness.answers import Answer, read

WHAT = "a checkout of stanleybak/nnenum"


@dataclass(frozen=True)
class Nnenum(Known):
    """`--tool DIR --tool-python PYTHON`, one process. Its tries of concrete points are part of its search and cannot be turned off."""

    name: str = "nnenum"

    def command(self, task: Task) -> list[str]:
        only_first_version(self.name, task)
        if not task.attack:
            raise AdapterError("nnenum has no mode without concrete executions")
        sources = self.tool.file(self.name, "src", WHAT)
        run = ["env", f"PYTHONPATH={sources}", "OPENBLAS_NUM_THREADS=1", "OMP_NUM_THREADS=1", self.tool.interpreter(), "-m", "nnenum.nnenum"]
        return [*run, str(task.model), str(task.property), f"{task.timeout:g}", str(task.out), "1", *self.tool.options]

    def answer(self, task: Task, output: Output) -> Answer:
        wrong = failed(output)
        if wrong:
            return Answer("error", error=wrong)
        return Answer("unknown") if (output.results or "").strip() == "none" else read(output.results, "", task.inputs)
