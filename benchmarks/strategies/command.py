"""A verifier that is a command, as a callable."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

from benchmarks.formula import FormulaError, nearest_float32, number
from benchmarks.soundness.answers import read

GRACE = 10.0  # seconds more than the limit before a command is ended
PLACES = ("{onnx}", "{vnnlib}", "{timeout}", "{out}")


class CommandError(Exception):
    """The template cannot be a verifier; the message says why."""


def command(template: str) -> Callable[[Path, Path, float], tuple[str, list[float] | None]]:
    """`verify(model, property, timeout)` for `template`, a command line with PLACES; it is not given to a shell.

    The verdict is the first word of the file {out}, or a line of standard output (benchmarks.soundness.answers). What cannot be read is `error`; a
    command that takes GRACE seconds more than its limit is ended with all of its group, and answered `timeout`. Raises CommandError.
    """
    try:
        words = shlex.split(template)
    except ValueError as error:
        raise CommandError(f"the command {template!r}: {error}") from error
    missing = [place for place in PLACES[:2] if not any(place in word for word in words)]
    if not words or missing:
        raise CommandError(f"the command {template!r} does not contain {' and '.join(missing) or 'a program'}")

    def verify(model: Path, prop: Path, timeout: float) -> tuple[str, list[float] | None]:
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder, "out.txt")
            values = {"{onnx}": str(model), "{vnnlib}": str(prop), "{timeout}": f"{timeout:g}", "{out}": str(out)}
            stdout = _run([_filled(word, values) for word in words], timeout)
            if stdout is None:
                return "timeout", None
            answer = read(out.read_text(errors="replace") if out.is_file() else None, stdout)
        if answer.malformed is not None or answer.witness is None:
            return answer.result, None if answer.malformed is None else []
        try:
            return answer.result, [float(nearest_float32(number(text))) for text in answer.witness]
        except FormulaError:
            return answer.result, [float("nan")] * len(answer.witness)

    return verify


def _filled(word: str, values: dict[str, str]) -> str:
    for place, value in values.items():
        word = word.replace(place, value)
    return word


def _run(words: list[str], timeout: float) -> str | None:
    """Standard output, or None if the command had to be ended. Raises CommandError where it cannot be started."""
    try:
        process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True)
    except OSError as error:
        raise CommandError(f"{words[0]} cannot be started: {error.strerror}") from error
    try:
        return process.communicate(timeout=timeout + GRACE)[0].decode(errors="replace")
    except subprocess.TimeoutExpired:
        return None
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
