"""Soundproof itself: `soundproof verify`. Exit code, first line of standard output and results file have to agree (DESIGN 10)."""

from __future__ import annotations

import sys
from dataclasses import dataclass

from benchmarks.harness import EXIT_WORDS
from benchmarks.soundness.adapters.base import Known, Output, Task, failed
from benchmarks.soundness.answers import Answer, read


@dataclass(frozen=True)
class Ours(Known):
    """`tool.options` are passed on (`--trust engine`, `--engine smt`)."""

    name: str = "soundproof"

    def command(self, task: Task) -> list[str]:
        start = [self.tool.python or sys.executable, "-m", "soundproof", "verify"]
        files = [str(task.property), "--network", f"N={task.model}"] if task.vnnlib2 else [str(task.model), str(task.property)]
        limits = ["--timeout", f"{task.timeout:g}", "--results-file", str(task.out), "--semantics", task.semantics, "--threads", "1"]
        memory = [] if task.memory is None else ["--memory", f"{task.memory / 1e9:g}"]
        return [*start, *files, *limits, *memory, *([] if task.attack else ["--no-attack"]), *self.tool.options]

    def answer(self, task: Task, output: Output) -> Answer:
        if output.code not in EXIT_WORDS:
            return Answer("error", error=failed(output))
        found, word = read(output.results, output.stdout, task.inputs), EXIT_WORDS[output.code]
        if found.result != word:
            contradiction = f"contradictory answers: exit code {output.code} is {word}, the results file says {found.result}"
            return Answer("error", error=found.error or contradiction)
        return found
