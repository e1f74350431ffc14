"""Every command that README and docs/ show in a `console` block is run, and has to print what stands there.

    $ command                what is run, from a folder that holds a copy of examples/; a page's commands follow each other there
    output                   standard output and error, as a terminal shows them; times are not compared
    ...                      a line that stands for any lines

A command that fails has to be followed by `$ echo $?`, unless its first line is a verdict, which has a code of its own.
Where a page says `<!-- trained here -->` all its numbers may differ: training depends on the processor.
`python -m tests.docs.test_console [PAGE ...]` writes into the pages what the commands print.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(r"```console\n(.*?)```", re.DOTALL)
VERDICTS = {"sat": 10, "unknown": 20, "timed-out": 30}
# Times, temporary folders, and what depends on the processor: how many sub-problems, the last digits of a bound, the bytes of a certificate.
VOLATILE = [re.compile(p) for p in (r"\d+(?:\.\d+)?(?= ?s\b)", r"/tmp/[\w./-]+", r"\d+(?= nodes\b)", r"(?<=best bound )-?[\d.]+",
                                    r'(?<="certificate": ")[0-9a-f]{64}')]  # fmt: skip
NUMBER, TRAINED = re.compile(r"\d+(?:\.\d+)?"), "<!-- trained here -->"
LIMIT = 1800.0


@dataclass(frozen=True)
class Step:
    """One command as it is written (several lines, where they end in a backslash) and the output below it."""

    command: str
    output: str


def steps(block: str) -> list[Step]:
    """The commands of a block, in order."""
    found: list[Step] = []
    for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
        lines = part.splitlines(keepends=True)
        last = next(i for i, line in enumerate(lines) if not line.endswith("\\\n"))
        found.append(Step("".join(lines[: last + 1]).rstrip("\n"), "".join(lines[last + 1 :])))
    return found


def environment() -> dict[str, str]:
    """`soundproof` and `python` are those of this environment."""
    return {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "COLUMNS": "120", "NO_COLOR": "1", "OMP_NUM_THREADS": "1"}


def run(command: str, folder: Path) -> tuple[int, str]:
    """(exit code, what a terminal shows)."""
    done = subprocess.run(["bash", "-c", command], cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
                          timeout=LIMIT, env=environment())  # fmt: skip
    return done.returncode, "\n".join(line.rstrip() for line in done.stdout.splitlines()) + ("\n" if done.stdout else "")


def played(blocks: list[str], folder: Path) -> Iterator[tuple[Step, str, str | None]]:
    """(step, what it printed, what is wrong with its exit code) for every command of a page."""
    code = 0
    for block in blocks:
        listed = steps(block)
        for at, step in enumerate(listed):
            if step.command == "echo $?":
                yield step, f"{code}\n", None
                continue
            code, printed = run(step.command, folder)
            told = at + 1 < len(listed) and listed[at + 1].command == "echo $?"
            expected = VERDICTS.get(printed.split("\n")[0], 0)
            yield step, printed, None if told or code == expected else f"exit code {code}"


def matches(expected: str, printed: str, loosely: bool = False) -> bool:
    """Whether the output is as written, up to times (`loosely`: up to all numbers), and to whatever `...` stands for."""
    for volatile in [*VOLATILE, *([NUMBER] if loosely else [])]:
        expected, printed = volatile.sub("T", expected), volatile.sub("T", printed)
    parts = [re.escape(part) for part in re.split(r"^\.\.\.\n", expected, flags=re.MULTILINE)]
    return re.fullmatch("(?:.*\n)*?".join(parts), printed) is not None


def prepared(folder: Path) -> Path:
    shutil.copytree(ROOT / "examples", folder / "examples")
    return folder


def with_commands() -> list[object]:
    """Only README is quick."""
    shown = [page for page in PAGES if BLOCK.search(page.read_text(encoding="utf-8"))]
    return [pytest.param(p, id=str(p.relative_to(ROOT)), marks=() if p.name == "README.md" else pytest.mark.slow) for p in shown]


@pytest.mark.parametrize("page", with_commands())
def test_the_commands_of_a_page_print_what_stands_there(page: Path, tmp_path: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for step, printed, wrong in played(BLOCK.findall(text), prepared(tmp_path)):
        assert wrong is None, f"$ {step.command}\n{wrong}\n{printed}"
        assert matches(step.output, printed, TRAINED in text), f"$ {step.command}\nprinted:\n{printed}\nand the page says:\n{step.output}"


@pytest.mark.parametrize(("expected", "printed", "same"), [
    ("a\n", "a\n", True), ("a\n", "b\n", False), ("0 nodes, 1.31 s\n", "0 nodes, 22.7 s\n", True),
    ("1 nodes\n", "2 nodes\n", True), ("1 leaves\n", "2 leaves\n", False),
    ("a\n...\nd\n", "a\nb\nc\nd\n", True), ("a\n...\nd\n", "a\nd\n", True), ("a\n...\n", "b\n", False), ("", "", True), ("", "a\n", False),
    ("kept at /tmp/x/certificate\n", "kept at /tmp/y.z/certificate\n", True), ("a.b\n", "axb\n", False)])  # fmt: skip
def test_what_matches(expected: str, printed: str, same: bool) -> None:
    assert matches(expected, printed) is same


def test_numbers_may_differ_where_something_is_trained() -> None:
    assert matches("8 of 10, 97.5 %\n", "9 of 10, 96 %\n", loosely=True) and not matches("8 of 10\n", "8 from 10\n", loosely=True)


def test_commands_are_found_with_their_output(tmp_path: Path) -> None:
    block = "$ printf 'x\\ny\\n' | \\\n    tail -1\ny\n$ false\n$ echo $?\n1\n$ echo unknown; exit 20\nunknown\n$ exit 3\n"
    found = [(step.output == printed, wrong) for step, printed, wrong in played([block], tmp_path)]
    assert found == [(True, None), (True, None), (True, None), (True, None), (True, "exit code 3")]


def test_no_page_shows_a_command_that_is_not_run() -> None:
    """A console block holds commands, and commands of ours stand in console blocks, or say why not."""
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        assert all(steps(block) for block in BLOCK.findall(text)), page
        assert not re.search(r"```(?:bash|sh|shell)\n", text), f"{page}: commands belong into a console block, which is run"


def regenerate(page: Path) -> None:
    """Write what the commands print; outputs that match, with their `...`, stay."""
    text = page.read_text(encoding="utf-8")
    with tempfile.TemporaryDirectory() as name:
        results = played(BLOCK.findall(text), prepared(Path(name)))

        def renewed(match: re.Match[str]) -> str:
            parts = []
            for _ in steps(match[1]):
                step, printed, wrong = next(results)
                if wrong:
                    print(f"{page}: $ {step.command}: {wrong}", file=sys.stderr)
                parts.append(f"$ {step.command}\n{step.output if matches(step.output, printed) else printed}")
            return f"```console\n{''.join(parts)}```"

        page.write_text(BLOCK.sub(renewed, text), encoding="utf-8")


if __name__ == "__main__":
    for named in [Path(a).resolve() for a in sys.argv[1:]] or PAGES:
        regenerate(named)
