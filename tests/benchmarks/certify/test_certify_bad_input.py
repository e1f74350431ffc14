"""Every bad input that a campaign may be given: a clear error before anything is asked, and what was found before is kept."""

from __future__ import annotations

import errno
import json
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from PIL import Image
from typer.testing import CliRunner

from benchmarks.certify import policy, run, store
from benchmarks.certify.campaign import Budget
from benchmarks.certify.crew import Job
from benchmarks.certify.errors import CertifyError, InputError, Stopped, UsageError
from benchmarks.certify.evidence import Sources, hashed_files, sha256
from benchmarks.certify.run import Report, Request
from soundproof.cli import app
from tests.benchmarks.certify import campaigns
from tests.benchmarks.certify.test_certify_trust import Liar, result

POLICY = '[[check]]\nregion = "linf"\nradius = ["0.1", "0.3"]\n'


def certify(folder: Path, data: Path, text: str = POLICY, model: onnx.ModelProto | None = None) -> Report:
    """A campaign on `larger_wins` (or `model`) with this data and policy; evidence in folder/evidence."""
    onnx.save(model or campaigns.larger_wins(), folder / "model.onnx")
    (folder / "p.toml").write_text(text)
    asked = policy.read(folder / "p.toml")
    request = Request(Sources(folder / "model.onnx", data, None, folder / "p.toml"), asked, folder / "evidence", Budget(60.0, 20))
    return run.certify(request, lambda *_: None, lambda _: None)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The queries that were given to workers; each is answered `unknown`, or falsified where the larger input does not win by 0.6."""
    given: list[str] = []

    def say(job: Job) -> dict[str, Any]:
        given.append(job.key)
        return {"result": result("sat", [0.5, 0.5]) if job.key == "linf/0.3/000000" else result("unknown", reason="nodes")}

    @contextmanager
    def pool(_: Request) -> Iterator[Liar]:
        yield Liar(say)

    monkeypatch.setattr(run, "_pool", pool)
    return given


def arrays(folder: Path, **given: object) -> Path:
    values = {"X": np.asarray([[0.75, 0.35], [0.25, 0.75]], np.float32), "y": [0, 1], **given}
    np.savez(folder / "d.npz", **{k: np.asarray(v) for k, v in values.items() if v is not None})
    return folder / "d.npz"


def text(folder: Path, content: str) -> Path:
    (folder / "d.csv").write_text(content)
    return folder / "d.csv"


def images(folder: Path) -> Path:
    (folder / "i" / "a").mkdir(parents=True)
    Image.fromarray(np.zeros((1, 2), np.uint8)).save(folder / "i" / "a" / "1.png")
    (folder / "i" / "a" / "2.png").write_bytes(b"\x89PNG\r\n\x1a\n and then nothing")
    return folder / "i"


RANGED = '[preprocess]\nrange = [0, "0.5"]\n' + POLICY


@pytest.mark.parametrize(("data", "policy_text", "kind", "message"), [
    (lambda f: arrays(f, y=None), POLICY, InputError, "the samples have no labels"),
    (lambda f: text(f, "a,b\n0.75,0.35\n"), POLICY, InputError, "the samples have no labels"),
    (lambda f: text(f, "a,b,label\n0.75,0.35,\n"), POLICY, InputError, "sample 0 has no label"),
    (lambda f: arrays(f, y=[0]), POLICY, InputError, "2 samples and 1 labels"),
    (lambda f: arrays(f, X=np.zeros((2, 3))), POLICY, InputError, r"samples of shape \[3\] do not fit the model's input \[1, 2\]"),
    (lambda f: arrays(f), RANGED, InputError, r"2 samples with values outside .* range \[0, 0.5\]; the first is '0', element \[0\]: 0.75"),
    (images, POLICY, InputError, "2.png: the image cannot be decoded"),
    (lambda f: arrays(f, X=[[0.75, np.nan], [0, 0]]), POLICY, InputError, r"1 samples with NaN or infinite values; the first is '0', element \[1\]"),
    (lambda f: text(f, "a,b,label\n0.75,nan,0\n"), POLICY, InputError, "column 'b' holds 'nan'"),
    (lambda f: arrays(f, ids=["p7", "p7"]), POLICY, InputError, "the id 'p7' occurs twice"),
    (lambda f: arrays(f), POLICY + 'proprety = "top1"\n', UsageError, "unknown key 'proprety'; did you mean 'property'"),
    (lambda f: arrays(f), POLICY + "[preproces]\n", UsageError, "unknown key 'preproces'; did you mean 'preprocess'"),
])
def test_bad_data_is_named_before_anything_is_asked(
    tmp_path: Path, asked: list[str], data: Callable[[Path], Path], policy_text: str, kind: type[CertifyError], message: str
) -> None:
    with pytest.raises(kind, match=message):
        certify(tmp_path, data(tmp_path), policy_text)
    assert not asked and not (tmp_path / "evidence" / "report.json").exists()


def test_data_that_were_spoiled_later_do_not_spoil_what_was_found(tmp_path: Path, asked: list[str]) -> None:
    certify(tmp_path, arrays(tmp_path))
    folder = tmp_path / "evidence"
    before, known = {name: sha256(folder / name) for name in hashed_files(folder)}, rows(tmp_path)
    with pytest.raises(UsageError, match="was begun with other files"):
        certify(tmp_path, arrays(tmp_path, X=[[0.75, np.nan], [0, 0]]))
    assert before == {name: sha256(folder / name) for name in hashed_files(folder)} and rows(tmp_path) == known and len(asked) == 4


def rows(folder: Path) -> dict[str, str]:
    base = sqlite3.connect(folder / "evidence" / "results.sqlite")
    try:
        return dict(base.execute("SELECT key, status FROM queries"))
    finally:
        base.close()


@pytest.mark.parametrize(("writes", "answers"), [(2, 0), (4, 1), (5, 2), (6, 3), (7, 4)])
def test_a_disk_that_fills_up_costs_nothing_that_was_found(
    tmp_path: Path, asked: list[str], monkeypatch: pytest.MonkeyPatch, writes: int, answers: int
) -> None:
    """After so many files (policy, model, query, query, witness, query, query) there is no room. When there is again, the same command goes on,
    and asks nothing twice that it had recorded."""
    data, left = arrays(tmp_path), [writes]

    def full(_: int) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(store.os, "fsync", full)
        with pytest.raises(Stopped, match="No space left on device; what is done is kept"):
            certify(tmp_path, data)
    kept = rows(tmp_path)
    assert len(kept) == answers
    first, report = list(asked), certify(tmp_path, data)
    assert rows(tmp_path).items() >= kept.items() and len(rows(tmp_path)) == 4
    assert not kept.keys() & set(asked[len(first):]) and set(asked) == rows(tmp_path).keys()
    assert report.exit_code == 0 and [r["falsified"] for r in report.plain["checks"][0]["table"]] == [0, 1]
    assert not list((tmp_path / "evidence").rglob("*.part"))


def test_a_store_that_cannot_grow_leaves_a_partial_report(tmp_path: Path, asked: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    data, opened = arrays(tmp_path), store._opened
    wide = "".join(f'[[check]]\nname = "c{i}"\nregion = "linf"\nradius = ["0.1", "0.3"]\n' for i in range(30))

    def small(path: Path) -> sqlite3.Connection:
        base = opened(path)
        base.execute("PRAGMA max_page_count=8")
        return base

    with monkeypatch.context() as patch:
        patch.setattr(store, "_opened", small)
        report = certify(tmp_path, data, wide)
    assert report.exit_code == 20 and "full" in report.stopped
    plain = json.loads((tmp_path / "evidence" / "report.json").read_text())
    assert plain["state"] == "partial" and 0 < len(plain["queries"]) == len(rows(tmp_path)) < 120
    before = len(asked)
    assert certify(tmp_path, data, wide).exit_code == 0 and len(rows(tmp_path)) == 120
    assert len(asked) - before == 120 - len(plain["queries"])


def test_a_place_where_nothing_can_be_written(tmp_path: Path, asked: list[str]) -> None:
    """Not even by root: /proc takes no folders."""
    (tmp_path / "evidence").symlink_to("/proc/soundproof")
    with pytest.raises(UsageError, match=r"evidence: cannot be written: "):
        certify(tmp_path, arrays(tmp_path))
    assert not asked


def test_inputs_that_cannot_be_copied_into_the_evidence(tmp_path: Path, asked: list[str]) -> None:
    (tmp_path / "evidence" / "inputs").mkdir(parents=True)
    (tmp_path / "evidence" / "inputs" / "model").write_text("a file where a folder has to be")
    with pytest.raises(Stopped, match=r"inputs/model/model.onnx: cannot be written"):
        certify(tmp_path, arrays(tmp_path))
    assert not asked


def test_recheck_says_its_own_name(tmp_path: Path) -> None:
    """Its errors began with the name of the other command."""
    for arguments, code in (([tmp_path], 3), ([tmp_path, "--timeout", 0], 2)):
        found = CliRunner().invoke(app, ["recheck", *map(str, arguments)])
        assert found.exit_code == code and found.stderr.startswith("soundproof recheck: ")
