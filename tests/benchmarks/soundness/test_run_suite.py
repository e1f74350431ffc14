"""The runner, on five instances and verifiers of a few lines: what the verifier sees, what stops it, what counts, what goes on."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from benchmarks.soundness import run_suite
from benchmarks.soundness.adapters import ADAPTERS
from benchmarks.soundness.instance import SuiteError, read
from tests.benchmarks.soundness.run_support import command, shell, suite

NAMES = ["pairs_sat", "sums_sat", "sums_unsat", "traps_float32", "traps_real"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("suite")
    suite(made)
    return made


def records(table: Path) -> dict[str, dict[str, object]]:
    """By name, with `:attack-off` behind the name in that mode."""
    found = [json.loads(line) for line in table.with_name(table.name + ".jsonl").read_text().splitlines()]
    return {r["name"] + ("" if r["mode"] == "default" else ":" + r["mode"]): r for r in found}


def test_a_shell_script_that_always_says_unsat_is_caught(folder: Path, tmp_path: Path) -> None:
    """The deliberately wrong verifier in another language; and neither names nor truths reach it."""
    script = shell(tmp_path, "yes", f'echo "$1 $2 $3 $(ls) $(pwd)" >> {tmp_path}/seen; cat "$2" >> {tmp_path}/seen; echo unsat > "$4"')
    table, page = tmp_path / "r.csv", tmp_path / "r.html"
    assert command("run", "--suite", folder, "--verifier", script, "--results", table, "--timeout", 2)[0] == 0
    files = ("--json", tmp_path / "r.json", "--junit", tmp_path / "r.xml", "--html", page)
    code, stdout, stderr = command("score", table, "--suite", folder, *files)
    assert code == 1 and "3 FATAL" in stdout and "FATAL sums_sat" in stderr
    data = json.loads((tmp_path / "r.json").read_text())
    assert [f["name"] for f in data["findings"]] == ["pairs_sat", "sums_sat", "traps_real"]
    assert {f["kind"] for f in data["findings"]} == {"false-unsat"}
    proof = next(f for f in data["findings"] if f["name"] == "sums_sat")["execution"]
    assert proof["x"] == ["1.0", "1.0"] and proof["real"] is True and proof["float32"] is True and proof["margins"][0]["exact"] == "0.5"
    assert (tmp_path / "r.xml").read_text().count("<failure") == 3
    assert "sums_sat" in page.read_text() and "http" not in page.read_text()
    seen = (tmp_path / "seen").read_text()
    assert not any(word in seen for word in ("sums", "pairs", "traps", "planted", "manifest", str(folder))) and "model.onnx" in seen


def test_a_made_up_witness_is_caught(folder: Path, tmp_path: Path) -> None:
    """0.25 is inside every box but the traps'; 1 is a counterexample of some and not of sums_unsat."""
    for value, fatal in (("0.25", NAMES), ("1", ["sums_unsat"])):
        script = shell(tmp_path, f"made{value}", f'n=$(grep -c "declare-const X" "$2"); echo sat > "$4"\n'
                                                 f'for i in $(seq 0 $((n - 1))); do echo "(X_$i {value})" >> "$4"; done')
        table = tmp_path / f"{value}.csv"
        assert command("run", "--suite", folder, "--verifier", script, "--results", table, "--timeout", 2)[0] == 0
        assert command("score", table, "--suite", folder, "--json", tmp_path / "r.json")[0] == 1
        findings = json.loads((tmp_path / "r.json").read_text())["findings"]
        assert [f["name"] for f in findings if f["fatal"]] == fatal and all(f["kind"] == "invalid-witness" for f in findings if f["fatal"])
        if value == "1":
            assert [(f["name"], f["kind"]) for f in findings if not f["fatal"]] == [("traps_float32", "float32-only")]


def test_words_in_a_log_are_no_verdict(folder: Path, tmp_path: Path) -> None:
    script = shell(tmp_path, "log", 'echo "3 unsatisfied constraints; result is unsat so far"; echo unknown')
    table = tmp_path / "r.csv"
    assert command("run", "--suite", folder, "--verifier", script, "--results", table, "--timeout", 2, "--jobs", 2)[0] == 0
    assert {r["result"] for r in records(table).values()} == {"unknown"}
    code, stdout, _ = command("score", table, "--suite", folder)
    assert code == 0 and "no fatal finding; 0 of 5 solved" in stdout


def test_both_modes_and_the_ledger(folder: Path, tmp_path: Path) -> None:
    """With the attack on it answers rightly, without it lies: the mode is in the finding. The same command runs nothing again."""
    log = tmp_path / "calls"
    good = shell(tmp_path, "good", f'echo x >> {log}; echo unknown > "$4"')
    bad = shell(tmp_path, "bad", f'echo x >> {log}; echo holds > "$4"')
    verifiers = ("--verifier", good, "--attack-off", bad, "--timeout", 2, "--family", "sums")
    arguments = ("run", "--suite", folder, *verifiers, "--results", tmp_path / "r.csv")
    assert command(*arguments)[0] == 0 and len(log.read_text().split()) == 4
    assert command(*arguments)[0] == 0 and len(log.read_text().split()) == 4
    lines = (tmp_path / "r.csv").read_text().splitlines()
    assert lines[2].startswith("sums:attack-off,onnx/sums_sat.onnx,vnnlib/sums_sat.vnnlib,0.0,unsat,")
    (tmp_path / "r.csv").write_text("\n".join(lines[:3]) + "\n")
    assert command(*arguments)[0] == 0 and len(log.read_text().split()) == 5
    code, stdout, _ = command("score", tmp_path / "r.csv", "--suite", folder)
    assert code == 1 and "FATAL false-unsat: sums_sat (attack-off)" in stdout and "1 FATAL" in stdout
    code, _, stderr = command(*arguments, "--grace", 1)
    assert code == 2 and "other options" in stderr


def test_a_table_goes_on_with_a_suite_that_has_grown_and_with_no_other(folder: Path, tmp_path: Path) -> None:
    log, grown = tmp_path / "calls", tmp_path / "grown"
    suite(grown)
    manifest = json.loads((grown / "manifest.json").read_text())
    whole, missing = manifest["instances"], [i for i in manifest["instances"] if i["name"] != "traps_real"]
    script = shell(tmp_path, "unknown", f'echo x >> {log}; echo unknown > "$4"')

    def run(instances: list[dict[str, object]]) -> tuple[int, str]:
        (grown / "manifest.json").write_text(json.dumps({**manifest, "instances": instances}))
        code, _, stderr = command("run", "--suite", grown, "--verifier", script, "--results", tmp_path / "r.csv", "--timeout", 2)
        return code, stderr

    assert run(missing)[0] == 0 and len(log.read_text().split()) == 4
    assert run(whole)[0] == 0 and len(log.read_text().split()) == 5
    assert command("score", tmp_path / "r.csv", "--suite", grown)[:2] == command("score", tmp_path / "r.csv", "--suite", folder)[:2]
    before = (tmp_path / "r.csv.meta.json").read_text()
    code, stderr = run(missing)
    assert code == 2 and "traps_real (default), which is not asked for now" in stderr
    code, stderr = run([{**i, "real": "unknown"} if i["name"] == "sums_sat" else i for i in whole])
    assert code == 2 and "sums_sat (default), which is another instance now" in stderr
    assert len(log.read_text().split()) == 5 and (tmp_path / "r.csv.meta.json").read_text() == before


def test_limits_hold_against_a_process_that_hides(folder: Path, tmp_path: Path) -> None:
    """It writes a verdict, starts a process in a session of its own that ignores signals, and hangs: no answer, and nothing survives."""
    pid = tmp_path / "pid"
    script = shell(tmp_path, "hang", f"""
        echo unsat > "$4"
        setsid sh -c 'trap "" TERM INT HUP; echo $$ > {pid}; sleep 100 & wait' &
        sleep 100""")
    start = time.monotonic()
    options = ("--timeout", 0.3, "--grace", 0.2, "--per-family", 1, "--family", "sums")
    assert command("run", "--suite", folder, "--verifier", script, "--results", tmp_path / "r.csv", *options)[0] == 0
    (record,) = records(tmp_path / "r.csv").values()
    assert record["result"] == "timeout" and record["stopped"] == "time" and time.monotonic() - start < 10
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid.read_text()), 0)


def test_memory_is_limited_over_all_processes(folder: Path, tmp_path: Path) -> None:
    script = shell(tmp_path, "eat", "head -c 300000000 /dev/zero | tail > /dev/null; sleep 20")
    options = ("--timeout", 20, "--memory", 0.1, "--per-family", 1, "--family", "sums")
    assert command("run", "--suite", folder, "--verifier", script, "--results", tmp_path / "r.csv", *options)[0] == 0
    (record,) = records(tmp_path / "r.csv").values()
    assert record["result"] == "error" and record["stopped"] == "memory" and record["peak_memory_bytes"] > 1e8  # type: ignore[operator]


def test_the_second_version_of_vnnlib(folder: Path, tmp_path: Path) -> None:
    """The property is the 2.0 text, and the witness the standard's assignment."""
    script = shell(tmp_path, "second", """
        grep -q "^(vnnlib-version <2.0>)" "$2" || exit 9
        n=$(grep -c "assert (>= X" "$2"); echo sat; echo "X float32 [1,$n]"
        for i in $(seq $n); do echo 1.0; done; echo "Y float32 [1,1]"; echo 0""")
    options = ("--timeout", 2, "--vnnlib2", "--semantics", "float32", "--results", tmp_path / "r.csv")
    assert command("run", "--suite", folder, "--verifier", script, *options)[0] == 0
    code, stdout, _ = command("score", tmp_path / "r.csv", "--suite", folder)
    assert code == 1 and "2 FATAL; 3 of 5 solved" in stdout and "sums_unsat" in stdout and "traps_real" in stdout


def test_usage_and_unusable_suites(folder: Path, tmp_path: Path) -> None:
    table = tmp_path / "r.csv"
    for arguments, code, said in [
        (("--verifier", "v {onnx}", "--suite", folder), 2, "{vnnlib}"),
        (("--verifier", "nosuchcmd {onnx} {vnnlib}", "--suite", folder), 2, "no command nosuchcmd"),
        (("--verifier", f"{folder}/manifest.json {{onnx}} {{vnnlib}}", "--suite", folder), 2, "manifest.json, or it cannot be executed"),
        (("--suite", folder), 2, "either --verifier"),
        (("--adapter", "none", "--suite", folder), 2, "no adapter"),
        (("--adapter", "nnenum", "--suite", folder), 2, "--tool"),
        (("--adapter", "soundproof", "--attack-off", "x", "--suite", folder), 2, "--attack both"),
        (("--adapter", "soundproof", "--suite", tmp_path), 3, "no manifest"),
        (("--adapter", "soundproof", "--suite", folder, "--family", "none"), 3, "no family"),
        (("--adapter", "soundproof", "--suite", folder, "--timeout", 0), 2, "positive"),
    ]:
        found, _, stderr = command("run", "--results", table, *arguments)
        assert found == code and said in stderr, (arguments, found, stderr)
    assert command("score", table, "--suite", folder)[0] == 2
    names = [line.split(":")[0] for line in command("adapters")[1].splitlines()]
    assert names == list(ADAPTERS)
    assert command("install", "--adapter", "nnenum")[0] == 2


@pytest.mark.parametrize("damage", ['rm -rf "$PWD"', "rm -rf log", "rm -rf log; echo x > log", "mkdir log/report.json", "mkdir $4",
                                    "rm -rf *; mkdir -p log/report.json", "rm -rf log; ln -s /nowhere log"])  # fmt: skip
def test_a_verifier_that_removes_its_own_folder_costs_one_instance(folder: Path, tmp_path: Path, damage: str) -> None:
    """It had stopped the campaign: there was no place for the supervisor's report."""
    script = shell(tmp_path, "rude", damage)
    code, _, stderr = command("run", "--suite", folder, "--verifier", script, "--results", tmp_path / "r.csv", "--timeout", 2, "--family", "sums")
    assert code == 0, stderr
    assert [(r["result"], r["stopped"]) for r in records(tmp_path / "r.csv").values()] == [("error", None)] * 2


def lies(model: str, prop: str, timeout: float) -> tuple[str, Sequence[float] | None]:
    """A verifier in Python: raises on the traps' model, is killed on sums_unsat, says no verdict on the disjunction, and else unsat."""
    if b"Add" in Path(model).read_bytes():
        raise ZeroDivisionError("deliberate")
    if "(or" in Path(prop).read_text():
        return "maybe", None
    if "2.5" in Path(prop).read_text():
        os.kill(os.getpid(), signal.SIGKILL)
    print("unsat")
    return "unsat", None


@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_a_callable_runs_in_a_process_of_its_own(folder: Path, start: str, tmp_path: Path) -> None:
    """A crash, a signal, a word that is none: one instance each."""
    report = run_suite(lies, folder, timeout=2, start=start, results=tmp_path / "r.csv", per_family=None if start == "fork" else 1)  # type: ignore[arg-type]
    outcomes = {o.entry.name: o for o in report.outcomes}
    assert outcomes["traps_float32"].kind == "error" and "deliberate" in outcomes["traps_float32"].text
    assert outcomes["sums_sat"].kind == "false-unsat" and [o.entry.name for o in report.fatal] == ["sums_sat"]
    if start == "fork":
        assert outcomes["sums_unsat"].kind == "error" and "-9" in outcomes["sums_unsat"].text
        assert outcomes["pairs_sat"].kind == "error" and "maybe" in outcomes["pairs_sat"].text


def test_a_callable_that_hangs_is_stopped_and_a_closure_will_do(folder: Path) -> None:
    def verify(model: str, prop: str, timeout: float) -> tuple[str, Sequence[float] | None]:
        if "1.5" in Path(prop).read_text():
            time.sleep(60)
        return "sat", [1.0, 1.0]

    report = run_suite(verify, folder, families=["sums"], timeout=0.2, grace=0.2)
    assert [(o.entry.name, o.kind) for o in report.outcomes] == [("sums_sat", "timeout"), ("sums_unsat", "invalid-witness")]


def test_the_suite_that_was_run_is_the_one_that_is_scored(folder: Path, tmp_path: Path) -> None:
    script = shell(tmp_path, "unknown", 'echo unknown > "$4"')
    assert command("run", "--suite", folder, "--verifier", script, "--results", tmp_path / "r.csv", "--timeout", 2, "--jobs", 2)[0] == 0
    other = tmp_path / "other"
    suite(other)
    manifest = json.loads((other / "manifest.json").read_text())
    manifest["instances"][2]["real"] = "unknown"
    (other / "manifest.json").write_text(json.dumps(manifest))
    code, _, stderr = command("score", tmp_path / "r.csv", "--suite", other)
    assert code == 3 and "another suite" in stderr
    rows = (tmp_path / "r.csv").read_text().splitlines(keepends=True)
    (tmp_path / "r.csv").write_text("".join(row for row in rows if "sums_unsat" in row))  # an unfinished run is compared as well
    assert command("score", tmp_path / "r.csv", "--suite", other)[0] == 3
    code, _, stderr = command("score", tmp_path / "r.csv", "--suite", folder)
    assert code == 3 and "not finished: 1 of 5" in stderr
    (other / "vnnlib" / "sums_sat.vnnlib").write_text("")
    with pytest.raises(SuiteError, match="sums_sat"):
        read(other)
