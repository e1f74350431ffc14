"""NeuralSAT from a checkout, `neuralsat-pt201/main.py` or `src/main.py` (read at 3301b9f). Not run here: written from its sources.

Its results file is `STATUS,SECONDS` and, with --export_cex, VNN-COMP's counterexample.
"""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.soundness.adapters.base import AdapterError, Known, Output, Task, failed, only_first_version
from benchmarks.soundness.answers import VERDICTS, Answer, answer

PLACES = ("neuralsat-pt201/main.py", "src/main.py", "main.py")
WHAT = "a checkout of dynaroars/neuralsat"


@dataclass(frozen=True)
class NeuralSat(Known):
    """`--tool DIR --tool-python PYTHON`; the device is what the tool finds unless an option says otherwise."""

    name: str = "neuralsat"

    def command(self, task: Task) -> list[str]:
        only_first_version(self.name, task)
        if not task.attack:
            raise AdapterError("neuralsat has no option that turns its falsifier off")
        folder = self.tool.folder(self.name, WHAT)
        place = next((p for p in PLACES if (folder / p).exists()), None)
        if place is None:
            raise AdapterError(f"neuralsat: none of {' '.join(PLACES)} in {folder}; --tool should be {WHAT}")
        files = ["--net", str(task.model), "--spec", str(task.property), "--result_file", str(task.out), "--export_cex"]
        return [self.tool.interpreter(), str(folder / place), *files, "--timeout", f"{task.timeout:g}", *self.tool.options]

    def answer(self, task: Task, output: Output) -> Answer:
        wrong = failed(output)
        if wrong:
            return Answer("error", error=wrong)
        line, _, rest = (output.results or "").lstrip().partition("\n")
        word, comma, seconds = line.strip().partition(",")
        if word not in VERDICTS or not comma or not _is_number(seconds):
            return Answer("error", error=f"the results file begins with {line[:40]!r}, not with STATUS,SECONDS")
        return answer(VERDICTS[word], rest, task.inputs)


def _is_number(text: str) -> bool:
    return text.replace(".", "", 1).isdigit()
