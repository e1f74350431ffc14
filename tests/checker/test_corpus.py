"""Every certificate under tests/certificates ends as the JSON file next to it says. Dropping two files in adds a test.

NAME.json holds {"model": path, "property": path, "outcome": "accepted" | "rejected" | "malformed", "rule": word or null}, paths from
tests/certificates. All are checked in one process.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "tests/certificates"
FILES = sorted(FOLDER.glob("*/*.cert"))
START = f"import runpy, sys; sys.path.append({str(ROOT)!r}); sys.argv[0] = 'checker'; runpy.run_module('verifier.checker', run_name='__main__')"


def facts(path: Path) -> dict[str, str | None]:
    found = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    assert isinstance(found, dict)
    return found


@pytest.fixture(scope="module")
def lines(tmp_path_factory: pytest.TempPathFactory) -> dict[Path, str]:
    work = tmp_path_factory.mktemp("corpus") / "list"
    work.write_text("".join(f"{FOLDER / str(facts(p)['model'])}\t{FOLDER / str(facts(p)['property'])}\t{p}\n" for p in FILES))
    done = subprocess.run([sys.executable, "-I", "-c", START, "--batch", str(work)], capture_output=True, text=True, timeout=300)
    assert done.returncode == 5, done.stderr
    return dict(zip(FILES, done.stdout.splitlines(), strict=True))


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_it_ends_as_it_should(path: Path, lines: dict[Path, str]) -> None:
    word, rest = lines[path].split(" ", 1)
    wanted = facts(path)
    assert word.lower() == wanted["outcome"], lines[path]
    assert {"valid": "accepted", "tampered": "rejected", "malformed": "malformed"}[path.parent.name] == wanted["outcome"]
    assert json.loads(rest).get("rule") == wanted["rule"], lines[path]


def test_there_are_some_of_each() -> None:
    assert {path.parent.name for path in FILES} == {"valid", "tampered", "malformed"}
