"""PyRAT (CEA; distributed compiled, `pyrat.pyc`). Not run here: written from its documentation, arXiv 2410.23903 and pyrat.cea.fr.

It ends with a line `Result = True, Time = 1.23 s, Safe space = 100.00 %, number of analysis = 5`: True holds, False is violated, Unknown, Timeout.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from benchmarks.soundness.adapters.base import Known, Output, Task, failed, only_first_version
from benchmarks.soundness.answers import Answer, answer

WHAT = "the folder of pyrat.pyc"
LINE = re.compile(r"^\s*Result = (\w+), Time = ", re.MULTILINE)
WORDS = {"True": "unsat", "False": "sat", "Unknown": "unknown", "Timeout": "timeout"}


@dataclass(frozen=True)
class PyRat(Known):
    """`--tool DIR --tool-python PYTHON`; domains and splitting through further options."""

    name: str = "pyrat"

    def command(self, task: Task) -> list[str]:
        only_first_version(self.name, task)
        script = self.tool.file(self.name, "pyrat.pyc", WHAT)
        files = ["--model_path", str(task.model), "--property_path", str(task.property), "--timeout", f"{task.timeout:g}", "--split", "True"]
        attack = ["--check", "before", "--attack", "pgd"] if task.attack else ["--check", "skip"]
        return [self.tool.interpreter(), str(script), *files, *attack, *self.tool.options]

    def answer(self, task: Task, output: Output) -> Answer:
        """Two result lines that differ are an error. A counterexample in VNN-COMP's pairs counts as the witness where one is printed."""
        wrong = failed(output)
        if wrong:
            return Answer("error", error=wrong)
        said = set(LINE.findall(output.stdout))
        if len(said) != 1 or not said <= WORDS.keys():
            return Answer("error", error=f"result lines: {', '.join(sorted(said)) or 'none'}")
        return answer(WORDS[said.pop()], output.results or output.stdout, task.inputs)
