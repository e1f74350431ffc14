"""The session in README.md is what the commands print. `python -m tests.soundproof.test_readme` rewrites it."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
README = ROOT / "README.md"
SESSION = re.compile(r"```console\n\$ (?P<command>[^\n]+)\n(?P<output>.*?)```", re.DOTALL)


def run(command: str) -> str:
    """What a terminal shows: standard output, then standard error."""
    program, *arguments = shlex.split(command)
    if program != "soundproof":
        raise ValueError(f"README runs {program!r}, which is not ours")
    done = subprocess.run([sys.executable, "-m", "soundproof", *arguments], cwd=ROOT, capture_output=True, text=True, check=False, timeout=300)
    return done.stdout + done.stderr


def untimed(text: str) -> str:
    return re.sub(r"\d+\.\d+ s\b", "T s", text)


def regenerated(text: str, execute: Callable[[str], str]) -> str:
    return SESSION.sub(lambda match: f"```console\n$ {match['command']}\n{execute(match['command'])}```", text)


def test_the_session_in_the_readme_is_real() -> None:
    text = README.read_text(encoding="utf-8")
    assert len(SESSION.findall(text)) == 2
    assert untimed(regenerated(text, run)) == untimed(text)


if __name__ == "__main__":
    README.write_text(regenerated(README.read_text(encoding="utf-8"), run), encoding="utf-8")
