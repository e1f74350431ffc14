"""alpha-beta-CROWN from a checkout, `complete_verifier/abcrown.py` (read at 8250d5f, December 2025). Not run here: written from its sources.

Its results file has the word and the counterexample of VNN-COMP; `--tool-config` is the YAML file its behaviour depends on.
"""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.soundness.adapters.base import Known, Output, Task, failed, only_first_version
from benchmarks.soundness.answers import Answer, read

WHAT = "a checkout of Verified-Intelligence/alpha-beta-CROWN"


@dataclass(frozen=True)
class AlphaBetaCrown(Known):
    """`--tool DIR --tool-python PYTHON --tool-config F.yaml`. What it prints is a log in which verdicts occur; only the file counts."""

    name: str = "alpha-beta-crown"

    def command(self, task: Task) -> list[str]:
        only_first_version(self.name, task)
        script = self.tool.file(self.name, "complete_verifier/abcrown.py", WHAT)
        config = [] if self.tool.config is None else ["--config", str(self.tool.config.absolute())]
        files = ["--onnx_path", str(task.model), "--vnnlib_path", str(task.property), "--results_file", str(task.out), "--save_adv_example"]
        attack = [] if task.attack else ["--pgd_order", "skip"]
        return [self.tool.interpreter(), str(script), *config, *files, "--timeout", f"{task.timeout:g}", *attack, *self.tool.options]

    def answer(self, task: Task, output: Output) -> Answer:
        wrong = failed(output)
        return Answer("error", error=wrong) if wrong else read(output.results, "", task.inputs)
