"""Every `python` block of docs/python.md is run, in order and in one namespace, and has to print what the `text` block right below it says.

They are run from a folder that holds a copy of examples/. `python -m tests.docs.test_python` writes into the page what the blocks print.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs.test_console import ROOT, prepared

PAGE = ROOT / "docs" / "python.md"
RUN_ELSEWHERE = {  # pages with `python` blocks that another test runs, or that are no programs
    "testing_a_verifier.md": "tests/benchmarks/test_check_verifier.py", "tutorials/region.md": "its console block does the same; a pytest fixture",
}  # fmt: skip
BLOCK = re.compile(r"```python\n(.*?)```\n(?:\n```text\n(.*?)```\n)?", re.DOTALL)


def printed(blocks: list[str]) -> Iterator[str]:
    """What each block prints, run in the working directory."""
    names = {"__name__": "page"}
    for code in blocks:
        with contextlib.redirect_stdout(io.StringIO()) as out:
            exec(compile(code, str(PAGE), "exec"), names)
        yield out.getvalue()


@pytest.mark.slow
def test_the_examples_print_what_stands_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = BLOCK.findall(PAGE.read_text(encoding="utf-8"))
    monkeypatch.chdir(prepared(tmp_path))
    assert len(found) > 5
    for (code, wanted), output in zip(found, printed([code for code, _ in found]), strict=True):
        assert output == wanted, code


def test_no_page_shows_a_program_that_is_not_run() -> None:
    pages = {p.relative_to(ROOT / "docs").as_posix() for p in (ROOT / "docs").rglob("*.md") if "```python" in p.read_text(encoding="utf-8")}
    assert pages == {PAGE.name, *RUN_ELSEWHERE}
    assert "```python" not in (ROOT / "README.md").read_text(encoding="utf-8")


def regenerate() -> None:
    """Write what the blocks print."""
    text = PAGE.read_text(encoding="utf-8")
    with tempfile.TemporaryDirectory() as name, contextlib.chdir(prepared(Path(name))):
        outputs = printed([code for code, _ in BLOCK.findall(text)])
        renewed = BLOCK.sub(lambda m: f"```python\n{m[1]}```\n" + (f"\n```text\n{shown}```\n" if (shown := next(outputs)) else ""), text)
    PAGE.write_text(renewed, encoding="utf-8")


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    regenerate()
