"""Whole campaigns through the command line, on networks whose robustness is known; what recheck finds; kills, stops and limits."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.certify.errors import UsageError
from benchmarks.certify.evidence import chosen, subjects, write_hashes
from benchmarks.certify.policy import canonical
from benchmarks.certify.question import Key
from benchmarks.certify.recheck import recheck
from tests.benchmarks.certify import campaigns
from tests.benchmarks.certify.campaigns import soundproof

LARGER = ["--region", "linf:1/10,1/5,1/4", "--radius", "1/2:6", "--nodes", "50", "--jobs", "1"]


@pytest.fixture(scope="module")
def evidence(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished campaign on `larger_wins`: radii 0.1, 0.2 and 0.25, and bisection from 0.5."""
    folder = tmp_path_factory.mktemp("larger")
    model, data = campaigns.write_larger_wins(folder)
    done = soundproof("certify", model, "--data", data, "--out", folder / "evidence", *LARGER)
    assert done.returncode == 0, done.stderr
    return folder / "evidence"


@pytest.fixture
def copy(evidence: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(evidence, tmp_path / "copy"))


def report(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "report.json").read_text())


def same(folder: Path) -> Any:
    """What must not depend on how often a run was killed: everything but times."""
    plain = report(folder)
    for query in (*plain["queries"], *plain["parts"]):
        query.pop("seconds")
    return {k: plain[k] for k in ("samples", "checks", "queries", "parts", "gates", "accuracy", "state")}


def test_verdicts_are_those_that_are_known(evidence: Path) -> None:
    """Margins 0.4, 0.5, 0.1, and a misclassified sample: certified strictly below half the margin."""
    plain = report(evidence)
    status = {(q["sample"], q["radius"]): q["status"] for q in plain["queries"] if q["check"] == "linf"}
    assert status == {
        (0, "0.1"): "certified", (0, "0.2"): "falsified", (0, "0.25"): "falsified", (1, "0.1"): "certified", (1, "0.2"): "certified",
        (1, "0.25"): "falsified", (2, "0.1"): "falsified", (2, "0.2"): "falsified", (2, "0.25"): "falsified",
    }
    assert plain["accuracy"] == 0.75 and [s["correct"] for s in plain["samples"]] == [True, True, True, False]
    table = plain["checks"][1]["table"]
    counts = [(r["radius"], r["certified"], r["falsified"], r["misclassified"]) for r in table]
    assert counts == [("0.1", 2, 1, 1), ("0.2", 1, 2, 1), ("0.25", 0, 3, 1)]


def test_bisection_closes_in_on_half_the_margin(evidence: Path) -> None:
    found = report(evidence)["checks"][0]["radii"]
    for sample, half in enumerate((0.2, 0.25, 0.05)):
        lower, upper = float(found[sample]["lower"]), float(found[sample]["upper"])
        assert lower < half * (1 + 1e-6) and upper >= half * (1 - 1e-6) and upper - lower <= 0.5 / 2**4
    assert found[3] == {"sample": 3, "outcome": "misclassified", "lower": None, "upper": None}


def test_recheck_accepts_what_was_written(evidence: Path) -> None:
    done = soundproof("recheck", evidence)
    assert done.returncode == 0, done.stdout
    assert "every claim holds" in done.stdout and "0 certificates" not in done.stdout
    assert {p.name for p in (evidence / "queries").rglob("*") if p.is_file()} == {"query.vnnlib", "certificate", "witness.json"}


def test_the_same_command_has_nothing_left_to_do(evidence: Path, copy: Path) -> None:
    model, data = evidence.parent / "model.onnx", evidence.parent / "data.npz"
    done = soundproof("certify", model, "--data", data, "--out", copy, *LARGER)
    assert done.returncode == 0 and "[" not in done.stderr and same(copy) == same(evidence)
    other = soundproof("certify", model, "--data", data, "--out", copy, *LARGER[:-4], "--nodes", "60", "--jobs", "1")
    assert other.returncode == 2 and "was begun with other budget" in other.stderr


def rewrite(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change the report, and hash it again, as a forger would."""
    plain = report(folder)
    change(plain)
    (folder / "report.json").write_text(canonical(plain))
    write_hashes(folder)


def claim_certified(plain: dict[str, Any]) -> None:
    first, other = (next(q for q in plain["queries"] if q["status"] == s) for s in ("falsified", "certified"))
    first.update(status="certified", certificate=other["certificate"], witness=None)


def drop_a_falsified(plain: dict[str, Any]) -> None:
    plain["queries"].remove(next(q for q in plain["queries"] if q["status"] == "falsified"))


def better_table(plain: dict[str, Any]) -> None:
    plain["checks"][1]["table"][0]["certified"] = 4


def call_it_right(plain: dict[str, Any]) -> None:
    plain["samples"][3]["correct"] = True


def other_model(plain: dict[str, Any]) -> None:
    plain["files"]["model"] = "0" * 64


def pass_a_gate(plain: dict[str, Any]) -> None:
    plain["gates"] = [{"text": "all certified", "passed": True, "why": "it is so"}]


def other_policy(plain: dict[str, Any]) -> None:
    plain["policy"]["check"][0]["radius"] = ["5"]


def longer_radius(plain: dict[str, Any]) -> None:
    plain["checks"][0]["radii"][0]["lower"] = "0.49"


@pytest.mark.parametrize("change", [claim_certified, drop_a_falsified, better_table, call_it_right, pass_a_gate, other_policy, longer_radius,
                                    other_model])
def test_recheck_finds_a_report_that_says_more(copy: Path, change: Callable[[dict[str, Any]], None]) -> None:
    rewrite(copy, change)
    assert recheck(copy, 60, 8, 1, lambda _: None).wrong


def first(folder: Path, name: str) -> Path:
    return sorted((folder / "queries").rglob(name))[0]


def other_query(folder: Path) -> None:
    path = first(folder, "query.vnnlib")
    path.write_text(path.read_text() + "; nothing\n")


def other_network(folder: Path) -> None:
    path = next((folder / "composed").iterdir())
    path.write_bytes(path.read_bytes().replace(b"certify", b"CERTIFY"))


def other_certificate(folder: Path) -> None:
    path = first(folder, "certificate")
    path.write_bytes(path.read_bytes()[:-1])


def other_witness(folder: Path) -> None:
    path = first(folder, "witness.json")
    plain = json.loads(path.read_text())
    path.write_text(json.dumps({**plain, "inputs": [0.75, 0.35]}))


def other_data(folder: Path) -> None:
    np.savez(folder / "inputs/data/data.npz", X=np.asarray([[0.9, 0.1]] * 4, np.float32), y=[0] * 4)


def one_more_file(folder: Path) -> None:
    (folder / "queries" / "note.txt").write_text("trust me")


@pytest.mark.parametrize("spoil", [other_query, other_network, other_certificate, other_witness, other_data, one_more_file])
@pytest.mark.parametrize("hashed", [True, False])
def test_recheck_finds_files_that_were_changed(copy: Path, spoil: Callable[[Path], None], hashed: bool) -> None:
    spoil(copy)
    if hashed and spoil is not one_more_file:
        write_hashes(copy)
    assert recheck(copy, 60, 8, 1, lambda _: None).wrong


@pytest.mark.slow
def test_gates_decide_the_exit_code(evidence: Path, tmp_path: Path) -> None:
    model, data = evidence.parent / "model.onnx", evidence.parent / "data.npz"
    gate = ["--gate", "certified_accuracy >= 0.5 at linf 0.1", "--gate", "no falsified sample within 0.1"]
    done = soundproof("certify", model, "--data", data, "--out", tmp_path / "e", "--region", "linf:0.1", "--nodes", "50", *gate)
    assert done.returncode == 1
    assert "passed: certified_accuracy >= 0.5" in done.stdout and "FAILED: no falsified sample within 0.1" in done.stdout


RANDOM = ["--region", "linf:0.02,0.05,0.1", "--nodes", "60", "--jobs", "1"]


def kill_at(arguments: list[str], seconds: float, out: Path) -> bool:
    """Start the command and kill -9 all of it after so many seconds; whether it was still running."""
    process = subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=campaigns.environment(), start_new_session=True)
    try:
        process.wait(seconds)
        return False
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
        process.wait()
        return True


IN_PARTS = ["--region", "linf:0.05,0.13", "--nodes", "1", "--split", "4", "--jobs", "1"]


def killed_often(tmp_path: Path, asked: list[str], times: int, seed: int) -> None:
    model, data = campaigns.write_random(tmp_path)
    once, often = tmp_path / "once", tmp_path / "often"
    arguments = ["certify", model, "--data", data, *asked]
    began = time.monotonic()
    assert soundproof(*arguments, "--out", once).returncode == 0
    whole = time.monotonic() - began
    draw = random.Random(seed)
    moments = sorted(draw.uniform(0.3, 1.0) * whole for _ in range(times))  # the soonest first: after one that comes too late all is done
    kills = sum(kill_at(campaigns.command(*arguments, "--out", often), seconds, often) for seconds in moments)
    assert soundproof(*arguments, "--out", often).returncode == 0
    assert kills and same(often) == same(once)
    assert soundproof("recheck", often).returncode == 0
    for name in ("certificate", "witness.json"):
        for path in sorted((once / "queries").rglob(name)):
            if name == "witness.json":
                assert path.read_bytes() == (often / path.relative_to(once)).read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize(("asked", "times"), [(RANDOM, 20), (IN_PARTS, 8)])
def test_killed_twenty_times_and_continued(tmp_path: Path, asked: list[str], times: int) -> None:
    killed_often(tmp_path, asked, times, 2)
    assert bool(report(tmp_path / "often")["parts"]) == (asked is IN_PARTS)


def test_a_stop_leaves_a_valid_report_and_a_second_run_is_refused(tmp_path: Path) -> None:
    model, data = campaigns.write_random(tmp_path, 40)
    arguments = ["certify", model, "--data", data, *RANDOM, "--out", tmp_path / "e"]
    process = subprocess.Popen(campaigns.command(*arguments), stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=campaigns.environment(), text=True)
    deadline = time.monotonic() + 120
    while not list((tmp_path / "e").glob("queries/linf/*/*/*ertificate")) and time.monotonic() < deadline:
        time.sleep(0.05)
    second = soundproof(*arguments)
    assert second.returncode == 2 and "another run is writing it" in second.stderr
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 20, err
    assert "PARTIAL" in out and report(tmp_path / "e")["state"] == "partial"
    assert soundproof("recheck", tmp_path / "e").returncode == 0


def test_shards_share_the_samples(evidence: Path) -> None:
    whole = subjects(evidence)
    assert [chosen(whole, (i, 3)) for i in (1, 2, 3)] == [[0, 3], [1], [2]]
    with pytest.raises(UsageError, match="no samples"):
        chosen(whole, (6, 6))


@pytest.mark.slow
def test_shards_are_merged_and_nothing_is_taken_on_their_word(evidence: Path, copy: Path, tmp_path: Path) -> None:
    """The finished campaign as a shard: all of it is taken, but for a certificate and a witness that were changed; these are asked again."""
    model, data = evidence.parent / "model.onnx", evidence.parent / "data.npz"
    other_certificate(copy)
    other_witness(copy)
    done = soundproof("certify", model, "--data", data, "--out", tmp_path / "all", *LARGER, "--merge", copy)
    taken = len(report(evidence)["queries"]) - 2
    assert done.returncode == 0 and f"{taken} answers taken, 2 left out" in done.stderr, done.stderr
    assert same(tmp_path / "all") == same(evidence) and not recheck(tmp_path / "all", 60, 8, 1, lambda _: None).wrong
    for wrong, text in ((tmp_path, "no campaign that can be read"), (copy, "made with other budget")):
        refused = soundproof("certify", model, "--data", data, "--out", tmp_path / "no", *LARGER[:-4], "--nodes", "60", "--merge", wrong)
        assert refused.returncode in (2, 3) and text in refused.stderr


def test_the_folder_of_a_query_names_it() -> None:
    parts = (((3, False),), ((None, True), (12, True), (0, False)))
    for key in (Key("a", Fraction(2, 255), 7), Key("b_c", Fraction(1, 4), 0), Key("d", None, 123), *(Key("a_1l", Fraction(1), 2, p) for p in parts)):
        assert Key.parsed(key.folder) == key
    assert Key("a", None, 1, ((3, False), (None, True))).folder == "a/000001_3l_h"
    for wrong in ("a/../b/000001", "a/1.0/000001", "a/1", "../000001/x", "a/000001_3", "a/000001_-1l", "a/000001_03l", "a/1/000001__l"):
        with pytest.raises((ValueError, UsageError)):
            Key.parsed(wrong)


@pytest.mark.parametrize(("arguments", "code", "text"), [
    ([], 2, "nothing to certify"), (["--region", "l9:1"], 2, "known: point"), (["--region", "linf:1", "--gate", "good"], 2, "not understood"),
    (["--region", "linf:1", "--shard", "3/2"], 2, "--shard 3/2"), (["--region", "linf:1", "--timeout", "0"], 2, "--timeout"),
    (["--region", "linf:1", "--semantics", "float16"], 2, "float32 or real"), (["--region", "linf"], 2, "a radius is missing"),
    (["--region", "linf:1", "--output", "logits"], 3, "no output 'logits'"),
])
def test_what_cannot_be_asked(tmp_path: Path, arguments: list[str], code: int, text: str) -> None:
    model, data = campaigns.write_larger_wins(tmp_path)
    done = soundproof("certify", model, "--data", data, "--out", tmp_path / "e", *arguments)
    assert done.returncode == code and text in done.stderr, done.stderr


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    model, data = campaigns.write_larger_wins(tmp_path)
    (tmp_path / "locked").mkdir(mode=0o500)
    done = soundproof("certify", model, "--data", data, "--out", tmp_path / "locked" / "e", "--region", "linf:1")
    assert done.returncode == 2 and "cannot be written" in done.stderr


def test_an_out_that_is_a_file(tmp_path: Path) -> None:
    model, data = campaigns.write_larger_wins(tmp_path)
    done = soundproof("certify", model, "--data", data, "--out", model, "--region", "linf:1")
    assert done.returncode == 2 and "cannot be written" in done.stderr


def test_labels_that_the_network_has_no_class_for(tmp_path: Path) -> None:
    model, _ = campaigns.write_larger_wins(tmp_path)
    np.savez(tmp_path / "bad.npz", X=np.zeros((1, 2), np.float32), y=[2])
    done = soundproof("certify", model, "--data", tmp_path / "bad.npz", "--out", tmp_path / "e", "--region", "linf:1")
    assert done.returncode == 3 and "classes 0 to 1" in done.stderr
    np.savez(tmp_path / "bad2.npz", X=np.zeros((1, 3), np.float32), y=[0])
    done = soundproof("certify", model, "--data", tmp_path / "bad2.npz", "--out", tmp_path / "f", "--region", "linf:1")
    assert done.returncode == 3 and "do not fit the model's input" in done.stderr
