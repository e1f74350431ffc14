"""Any command: `CMD with {onnx} {vnnlib} {timeout} {out}`. `{out}` may be left out by a verifier that answers on standard output."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from benchmarks.soundness.adapters.base import AdapterError, Output, Task, killed, words
from benchmarks.soundness.answers import Answer, read

NEEDED = ("{onnx}", "{vnnlib}")


@dataclass(frozen=True)
class Template:
    """The exit code says nothing here, since tools agree on none; a process that dies of a signal gave no answer."""

    text: str
    name: str = "command"

    def __post_init__(self) -> None:
        missing = [place for place in NEEDED if place not in self.text]
        if missing:
            raise AdapterError(f"the command {self.text!r} has no {missing[0]}")
        words(self.text)

    def describe(self) -> dict[str, Any]:
        return {"adapter": self.name, "command": self.text}

    def prepare(self, task: Task) -> None:
        return None

    def command(self, task: Task) -> list[str]:
        places = {"{onnx}": str(task.model), "{vnnlib}": str(task.property), "{timeout}": f"{task.timeout:g}", "{out}": str(task.out)}
        return [_filled(word, places) for word in words(self.text)]

    def answer(self, task: Task, output: Output) -> Answer:
        died = killed(output)
        if died is not None:
            return Answer("error", error=died)
        found = read(output.results, output.stdout, task.inputs)
        return Answer("error", error=f"{found.error} (exit code {output.code})") if found.result == "error" and found.error else found


def _filled(word: str, places: dict[str, str]) -> str:
    for place, value in places.items():
        word = word.replace(place, value)
    return word
