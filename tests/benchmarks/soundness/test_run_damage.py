"""Damaged tables and suites, and disks that take nothing more: what is damaged is refused, and nothing that was answered is lost."""

from __future__ import annotations

import json
import resource
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from benchmarks.soundness import runner
from tests.benchmarks.soundness.run_support import command, shell, suite

UNSAT = 'echo x >> "$(dirname "$0")/calls"; echo unsat > "$4"'


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A suite, and the table of a verifier that says unsat, whatever it is asked; score finds a false one."""
    suite(tmp_path / "suite")
    assert run(tmp_path)[0] == 0 and score(tmp_path)[0] == 1
    return tmp_path


def run(folder: Path, table: str = "r.csv") -> tuple[int, str, str]:
    script = folder / "unsat.sh" if (folder / "unsat.sh").exists() else None
    verifier = shell(folder, "unsat", UNSAT) if script is None else f"{script} {{onnx}} {{vnnlib}} {{timeout}} {{out}}"
    return command("run", "--suite", folder / "suite", "--verifier", verifier, "--results", folder / table, "--timeout", 2, "--family", "sums")


def score(folder: Path) -> tuple[int, str, str]:
    return command("score", folder / "r.csv", "--suite", folder / "suite")


def calls(folder: Path) -> int:
    return len((folder / "calls").read_text().split())


@pytest.mark.parametrize(("damage", "said"), [
    (lambda text: text.replace('"result": "unsat"', '"result": "maybe"'), 'line 1: the result is "maybe", none of sat'),
    (lambda text: text.replace('"result": "unsat"', '"result": 7'), "line 1: the result is 7"),
    (lambda text: text.replace('"result": "unsat"', '"result": "sat"'), "is unsat, and sat in r.csv.jsonl"),
    (lambda text: text.replace('"run_seconds": ', '"run_seconds": "x", "was": '), "line 1: its run_seconds is missing, or damaged"),
    (lambda text: text.replace('"name": "sums_sat"', '"name": "sums_unsat"'), "line 1: it is of other files than those of sums_unsat"),
    (lambda text: text.replace('"witness": null', '"witness": "foo"'), "line 1: its witness is missing, or damaged"),
    (lambda text: text.splitlines()[0] + "\n[]\n", "line 2: not a record"),
    (lambda text: text.splitlines()[0] + "\n", "no line for sums onnx/sums_unsat.onnx"),
    (lambda text: "", "no line for sums onnx/sums_sat.onnx"),
    (lambda text: None, "no line for sums onnx/sums_sat.onnx"),
    (lambda text: b"\xff\xfe", "cannot be read"),
])  # fmt: skip
def test_a_damaged_line_loses_no_answer(folder: Path, damage: Callable[[str], str | bytes | None], said: str) -> None:
    """Records were skipped, or counted as neither right nor wrong, and a false unsat among them was gone: exit code 0."""
    lines = folder / "r.csv.jsonl"
    changed = damage(lines.read_text())
    lines.unlink() if changed is None else lines.write_bytes(changed if isinstance(changed, bytes) else changed.encode())
    code, _, stderr = score(folder)
    assert code == 3 and said in stderr and "r.csv" in stderr and "--out" not in stderr, stderr
    assert run(folder)[0] == 3 and calls(folder) == 2


def test_a_row_that_was_changed_is_refused(folder: Path) -> None:
    table = folder / "r.csv"
    table.write_text(table.read_text().replace(",unsat,", ",unknown,"))
    for code, _, stderr in (score(folder), run(folder)):
        assert code == 3 and "is unknown, and unsat in r.csv.jsonl" in stderr


@pytest.mark.parametrize("content", [b"\xff\xfe", b"\x00\x01\x02", b"notes of mine", b"notes of mine\n"])
def test_a_table_that_is_none_is_not_begun_again(folder: Path, content: bytes) -> None:
    """What had no end of line was taken for a row that was being written, and cut off."""
    for name in ("r.csv", "other.csv"):
        (folder / name).write_bytes(content)
        if name == "r.csv" and content == b"notes of mine":
            continue  # it may be a row that was being written
        code, _, stderr = run(folder, name)
        assert code == 3 and name in stderr and (folder / name).read_bytes() == content, stderr
    assert calls(folder) == 2


def test_a_row_that_was_being_written_is_asked_again(folder: Path) -> None:
    table = folder / "r.csv"
    table.write_bytes(table.read_bytes()[:-7])
    assert run(folder)[0] == 0 and calls(folder) == 3
    assert score(folder)[0] == 1


def test_a_run_that_is_not_finished_is_no_success(folder: Path) -> None:
    """A fatal finding stays one."""
    table = folder / "r.csv"
    rows = table.read_text().splitlines(keepends=True)
    for kept, code in ((rows[0], 1), (rows[1], 3), ("", 3)):
        table.write_text(kept)
        found, stdout, stderr = score(folder)
        assert found == code and "is not finished" in stderr and f"{2 - bool(kept)} answers missing" in stdout


@pytest.mark.parametrize("meta", ["", "[]", "{}", '{"options": []}', '{"options": {"instances": "x"}}'])
def test_a_damaged_description_is_refused(folder: Path, meta: str) -> None:
    (folder / "r.csv.meta.json").write_text(meta)
    code, _, stderr = score(folder)
    assert code == 3 and "r.csv.meta.json: not the description of a soundness run" in stderr
    code, _, stderr = run(folder)
    assert code == 2 and "r.csv" in stderr


@pytest.mark.parametrize("planted", ['{"point": ["x"]}', '{"point": ["nan"]}', '{"point": ["0x1p9999"]}', '{"point": []}', "[]", "", "\xff",
                                     '{"point": ["0x1p0", "0x1p0"], "real": "1/0", "runtime": 1}'])  # fmt: skip
def test_a_damaged_planted_point_makes_the_suite_unusable(folder: Path, planted: str) -> None:
    (folder / "suite/planted/sums_sat.json").write_text(planted, encoding="latin-1")
    code, _, stderr = score(folder)
    assert code == 3 and "sums_sat.json: not a planted point" in stderr and "build the suite again" in stderr


@pytest.mark.parametrize("manifest", ["", "[]", '{"schema": 1}', '{"schema": 1, "instances": [7]}', "\xff"])
def test_a_damaged_manifest_makes_the_suite_unusable(folder: Path, manifest: str) -> None:
    (folder / "suite/manifest.json").write_text(manifest, encoding="latin-1")
    for code, _, stderr in (score(folder), run(folder)):
        assert code == 3 and "manifest.json" in stderr


@pytest.mark.parametrize("place", [".", "/proc/x/none.csv", "/dev/full", "r.csv/below.csv"])
def test_a_table_that_cannot_be_written_is_a_usage_error(folder: Path, place: str) -> None:
    code, _, stderr = run(folder, place)
    assert code == 2 and "cannot be written" in stderr and calls(folder) == 2


@contextmanager
def full_after(size: int) -> Iterator[None]:
    """No file of this process grows beyond `size` bytes: a full disk, as far as a process can see."""
    before, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


def test_a_disk_that_is_full_keeps_what_was_answered(folder: Path) -> None:
    """Full at once: nothing was asked. Full after the first answer: it is kept, and the same command continues."""
    meta = len((folder / "r.csv.meta.json").read_text())
    with full_after(meta - 100):
        code, _, stderr = run(folder, "full.csv")
    assert code == 2 and "cannot be written" in stderr and calls(folder) == 2
    (line, _) = (folder / "r.csv.jsonl").read_text().splitlines()
    with full_after(max(len(line), meta) + 100):
        code, _, stderr = run(folder, "full.csv")
    assert code == 20 and "the 1 answers before are kept); the same command continues" in stderr, stderr
    assert run(folder, "full.csv")[0] == 0 and len((folder / "full.csv").read_text().splitlines()) == 2
    assert len([json.loads(text) for text in (folder / "full.csv.jsonl").read_text().splitlines()]) == 2


def test_a_suite_needs_a_seed_that_is_a_natural_number(tmp_path: Path) -> None:
    code, _, stderr = command("build", "--out", tmp_path / "s", "--seed", -1, "--family", "regress")
    assert code == 2 and "--seed -1" in stderr and not (tmp_path / "s").exists()


def test_what_a_record_of_a_run_holds(folder: Path) -> None:
    record = json.loads((folder / "r.csv.jsonl").read_text().splitlines()[0])
    assert runner.fault(record) is None
    assert all(runner.fault({k: v for k, v in record.items() if k != name}) for name in (*runner.TEXTS, *runner.NOTES, "witness", "run_seconds"))
