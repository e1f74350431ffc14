"""The checker as a process that is given parts of a proof, and then the whole."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.checker import small
from tests.checker.build import Draft, Records, leaf, split
from tests.checker.test_main import ROOT, START, Ended

X = 0


def follow(folder: Path, *certificates: bytes, options: tuple[str, ...] = ()) -> Ended:
    (folder / "model").write_bytes(small.model())
    (folder / "property").write_bytes(small.text("(>= Y_0 4.5)"))
    paths = [folder / f"certificate-{k}" for k in range(len(certificates))]
    for path, data in zip(paths, certificates, strict=True):
        path.write_bytes(data)
    command = [sys.executable, "-I", "-c", START.format(root=str(ROOT), before="pass"), folder / "model", folder / "property", "--follow", *options]
    given = "".join(f"{path}\n" for path in paths)  # told as wholes, so that none is left out
    done = subprocess.run(command, input=given, capture_output=True, text=True, timeout=60, check=False)
    return Ended(done.returncode, done.stdout.splitlines(), done.stderr)


def written(records: Records) -> bytes:
    draft = Draft(small.model(), small.text("(>= Y_0 4.5)"))
    draft.input("X")
    draft.tree([0], records)
    return draft.bytes()


def test_a_proof_that_is_followed(tmp_path: Path) -> None:
    whole = written(split(X, 0, 0.0, leaf(), leaf()))
    parts = [written(split(X, 0, 0.0, leaf(3), leaf(3))), written(split(X, 0, 0.0, leaf(), leaf(3)))]
    for options in ((), ("--processes", "2"), ("--diagnose", str(tmp_path / "missed"))):
        ended = follow(tmp_path, *parts, whole, options=options)
        assert [line.split(" ")[0] for line in ended.lines] == ["REJECTED", "REJECTED", "ACCEPTED"] and ended.code == 0, ended
        assert '"open"' in ended.lines[0] and "2 of 3 nodes were done before" in ended.errors
    assert follow(tmp_path, whole).code == 0
    ended = follow(tmp_path, whole, *parts)
    assert (ended.code, ended.word) == (5, "REJECTED")
    assert follow(tmp_path).code == 5
    assert follow(tmp_path, b"no zip", whole).code == 0


def test_a_better_proof_is_walked_only_where_it_is_better(tmp_path: Path) -> None:
    outside = written(split(X, 0, 0.0, split(X, 0, 0.5, leaf(), leaf()), leaf()))
    bad = written(split(X, 0, 0.0, leaf(), leaf(1)))  # no forms are in force
    good = written(split(X, 0, 0.0, leaf(), leaf()))
    for first in (outside, bad):
        ended = follow(tmp_path, first, good, options=("--diagnose", str(tmp_path / "missed")))
        assert ended.code == 0 and [line.split(" ")[0] for line in ended.lines] == ["REJECTED", "ACCEPTED"]
    ended = follow(tmp_path, good, good, options=("--diagnose", str(tmp_path / "missed")))
    assert "3 of 3 nodes were done before" in ended.errors


@pytest.mark.parametrize("arithmetic", ["float64", "exact"])
def test_a_part_alone_is_no_proof(tmp_path: Path, arithmetic: str) -> None:
    files = tmp_path / "model", tmp_path / "property", tmp_path / "certificate"
    for path, data in zip(files, (small.model(), small.text("(>= Y_0 4.5)"), written(split(X, 0, 0.0, leaf(), leaf(3)))), strict=True):
        path.write_bytes(data)
    command = [sys.executable, "-I", "-c", START.format(root=str(ROOT), before="pass"), *files, "--arithmetic", arithmetic]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 5 and done.stdout.startswith('REJECTED {"rule": "open"'), done


@pytest.mark.parametrize("others", [("--batch", "list"), ("--arithmetic", "exact")])
def test_options_that_do_not_go_with_it(tmp_path: Path, others: tuple[str, str]) -> None:
    ended = follow(tmp_path, options=others)
    assert ended.code == 2 and not ended.lines


def test_parts_before_a_whole_that_is_there_are_not_looked_at(tmp_path: Path) -> None:
    for name, data in (("model", small.model()), ("property", small.text("(>= Y_0 4.5)")), ("whole", written(split(X, 0, 0.0, leaf(), leaf())))):
        (tmp_path / name).write_bytes(data)
    (tmp_path / "first").write_bytes(written(split(X, 0, 0.0, leaf(), leaf(3))))
    command = [sys.executable, "-I", "-c", START.format(root=str(ROOT), before="pass"), tmp_path / "model", tmp_path / "property", "--follow"]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdin is not None and process.stdout is not None
    process.stdin.write(f"part\t{tmp_path}/first\n")
    process.stdin.flush()
    lines = [process.stdout.readline()]
    rest, log = process.communicate(f"part\t{tmp_path}/none\n{tmp_path}/whole\npart\t{tmp_path}/none")  # what has no end is no line
    lines += rest.splitlines()
    assert '"a part of a proof"' in lines[0] and "the whole is there" in lines[1] and lines[2].startswith("ACCEPTED") and len(lines) == 3, lines
    assert "2 of 3 nodes were done before" in log and process.returncode == 0
