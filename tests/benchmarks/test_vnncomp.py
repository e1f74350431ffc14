"""The batch runner, run on generated categories with a scripted verifier in place of the engine."""

from __future__ import annotations

import gzip
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from functools import partial
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from benchmarks import ledger, vnncomp
from benchmarks.harness import Settings

ROOT = Path(__file__).resolve().parents[2]

# The scripted verifier: what it does is written in the property file, as a comment `; script {"answer": ..., ...}`.
SCRIPTED = '''
import json, pathlib, signal, subprocess, sys, time
arguments = sys.argv[1:]
options = {a: arguments[i + 1] for i, a in enumerate(arguments) if a.startswith("--") and a != "--no-attack"}
text = pathlib.Path(arguments[1]).read_text()
script = json.loads(text.split("; script ")[1].splitlines()[0])
log = pathlib.Path(__file__).with_name("calls.log")
with log.open("a") as file:
    file.write(" ".join(arguments) + "\\n")
if script.get("stubborn"):  # ignores the polite request, and has a worker in a session of its own
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)", __file__], start_new_session=True)
time.sleep(script.get("sleep", 0))
answer = script["answer"]
code = {"unsat": 0, "sat": 10, "unknown": 20, "timeout": 30, "refused": 3, "crash": 4, "silent": 0}[answer]
if answer in ("refused", "crash"):
    print("the engine says why", file=sys.stderr)
    sys.exit(code)
if answer == "silent":
    sys.exit(0)
body = answer
if answer == "sat":
    body += "\\n(" + "\\n".join(f"(X_{i} {v})" for i, v in enumerate(script["x"])) + "\\n(Y_0 0.0))"
pathlib.Path(options["--results-file"]).write_text(script.get("file", body) + "\\n")
details = {"assurance": script.get("assurance", {"unsat": "unchecked", "sat": "replayed"}.get(answer, "none")), "bound": 0.5, "gap": None,
           "nodes": 3, "leaves": 2, "cases": None, "peak_memory_bytes": 1000, "seconds": {"total": 0.1}, "portfolio": ["scripted"],
           "device": "cpu", "reason": None, "witness": {"inside_exact_box": True, "float32_only": False} if answer == "sat" else None}
pathlib.Path(options["--json"]).write_text(json.dumps(details))
print({"timeout": "timed-out"}.get(answer, answer))
sys.exit(code)
'''


def build_network(path: Path) -> None:
    """Y_0 = relu(X_0 + X_1) - 1 on inputs of shape [1, 2]."""
    nodes = [helper.make_node("MatMul", ["x", "w"], ["s"]), helper.make_node("Relu", ["s"], ["r"]), helper.make_node("Sub", ["r", "one"], ["y"])]
    weights = [helper.make_tensor("w", TensorProto.FLOAT, [2, 1], [1.0, 1.0]), helper.make_tensor("one", TensorProto.FLOAT, [1], [1.0])]
    graph = helper.make_graph(nodes, "sum", [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 2])],
                              [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 1])], weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), str(path))


def property_text(script: dict[str, object], threshold: float) -> str:
    """X in [0, 1]^2, unsafe where Y_0 >= threshold; the largest Y_0 is 1."""
    lines = [f"; script {json.dumps(script)}", *(f"(declare-const {v} Real)" for v in ("X_0", "X_1", "Y_0"))]
    lines += [f"(assert ({relation} X_{i} {bound}))" for i in (0, 1) for relation, bound in (("<=", "1.0"), (">=", "0.0"))]
    return "\n".join([*lines, f"(assert (>= Y_0 {threshold}))"]) + "\n"


class Bench:
    """A generated folder and the runner on it. Instances: (category, name, script, threshold, label)."""

    def __init__(self, folder: Path) -> None:
        self.data, self.out = folder / "data", folder / "out" / "results.csv"
        self.verifier = folder / "scripted.py"
        self.verifier.write_text(SCRIPTED)
        self.data.mkdir()

    def add(self, category: str, name: str, label: str, threshold: float = 5.0, **script: object) -> None:
        folder = self.data / category
        if not folder.exists():
            (folder / "onnx").mkdir(parents=True)
            (folder / "vnnlib").mkdir()
            build_network(folder / "onnx" / "sum.onnx")
            (folder / "expected.csv").write_text("onnx,vnnlib,verdict,tools\n")
        (folder / "vnnlib" / f"{name}.vnnlib").write_text(property_text(script, threshold))
        with (folder / "instances.csv").open("a") as file:
            file.write(f"onnx/sum.onnx,vnnlib/{name}.vnnlib,5\n")
        with (folder / "expected.csv").open("a") as file:
            file.write(f"onnx/sum.onnx,vnnlib/{name}.vnnlib,{label},3\n")

    def command(self, *options: str, out: bool = True) -> list[str]:
        return [str(self.data), "--command", f"{sys.executable} {self.verifier}", *(["--out", str(self.out)] if out else []), *options]

    def run(self, *options: str, out: bool = True) -> int:
        return vnncomp.main(self.command(*options, out=out))

    def calls(self) -> list[str]:
        log = self.verifier.with_name("calls.log")
        return log.read_text().splitlines() if log.exists() else []

    def processes(self) -> list[str]:
        """The scripted verifiers that are running, with what they started."""
        found = []
        for file in Path("/proc").glob("[0-9]*/cmdline"):
            with suppress(OSError):  # it has ended meanwhile
                found.append(file.read_text(errors="replace"))
        return [line for line in found if str(self.verifier) in line and "benchmarks.vnncomp" not in line]

    def results(self) -> dict[str, str]:
        return {Path(key[2]).stem: word for key, (word, _) in ledger.read_table(self.out).items()}

    def records(self) -> dict[str, ledger.Record]:
        return {Path(r["property"]).stem: r for r in ledger.read_records(self.out)}


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    monkeypatch.chdir(ROOT)
    return Bench(tmp_path)


def test_answers_are_scored_and_written(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    bench.add("a", "proof", "unsat", answer="unsat")
    bench.add("a", "certified", "unsat", answer="unsat", assurance="certified")
    bench.add("a", "open", "unknown", answer="unknown")
    bench.add("b", "witness", "sat", threshold=0.5, answer="sat", x=[1.0, 1.0])
    bench.add("b", "late", "sat", answer="timeout")
    assert bench.run() == 0
    assert bench.results() == {"proof": "unsat", "certified": "unsat", "open": "unknown", "witness": "sat", "late": "timeout"}
    rows = bench.out.read_text().splitlines()
    assert rows[0].split(",")[:5] == ["a", "onnx/sum.onnx", "vnnlib/proof.vnnlib", "0.0", "unsat"] and len(rows) == 5
    totals = [cell.strip() for cell in next(line for line in capsys.readouterr().out.splitlines() if "total" in line).strip("│").split("│")]
    assert totals[:10] == ["total", "5", "3", "1", "1", "1", "1", "2", "0", "0"]
    record = bench.records()["witness"]
    assert record["replay"] == {"violated": True, "text": "VIOLATED (inside the exact decimal box)"}
    assert (record["assurance"], record["nodes"], record["portfolio"], record["inside_exact_box"]) == ("replayed", 3, ["scripted"], True)
    meta = json.loads(ledger.side_file(bench.out, "meta.json").read_text())
    assert meta["machine"]["cores"] == os.cpu_count() and meta["versions"]["onnx"] == onnx.__version__ and meta["options"]["timeout"] is None


@pytest.mark.parametrize(("label", "answer", "kind", "code"), [
    ("sat", "unsat", "wrong", 1), ("sat?", "unsat", "disputed", 0), ("unknown", "unsat", None, 0), ("unsat", "unknown", None, 0)])
def test_a_plain_label_counts_and_a_disputed_one_is_reported(bench: Bench, capsys: pytest.CaptureFixture[str], label: str, answer: str,
                                                             kind: str | None, code: int) -> None:
    bench.add("a", "p", label, answer=answer)
    assert bench.run() == code
    out = capsys.readouterr().out
    assert (f"{kind}: a sum.onnx p.vnnlib: {answer}, the label is {label}" in out) if kind else ("p.vnnlib" not in out)


@pytest.mark.parametrize(("x", "threshold", "reason"), [
    ([0.25, 0.25], 0.5, "assertion 5 of 5"), ([1.5, 1.0], 0.5, "assertion 1 of 5"), ([1.0], 0.5, "1 values, the network 2 inputs"),
    (["nan", 1.0], 0.5, "neither a number"), ([1.0, 1.0, 1.0], 0.5, "3 values"), ([], 0.5, "every X_0")])
def test_a_witness_that_does_not_replay_is_wrong(bench: Bench, capsys: pytest.CaptureFixture[str], x: list[object], threshold: float,
                                                 reason: str) -> None:
    bench.add("a", "p", "sat", threshold=threshold, answer="sat", x=x)
    assert bench.run() == 1
    out = capsys.readouterr().out
    assert "wrong: a sum.onnx p.vnnlib: the witness fails: NOT VIOLATED" in out and reason in out


def test_a_replayed_witness_against_a_label_says_so(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    bench.add("a", "p", "unsat", threshold=0.5, answer="sat", x=[1.0, 1.0])
    assert bench.run() == 1
    assert "the witness replays, which refutes the label" in capsys.readouterr().out


def test_a_further_judge_is_asked(bench: Bench, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    bench.add("a", "p", "sat", threshold=0.5, answer="sat", x=[1.0, 1.0])
    judge = tmp_path / "judge.py"
    judge.write_text("import sys\nprint('no, said the judge of', len(sys.argv) - 1, 'files')\nsys.exit(1)\n")
    assert bench.run("--judge", str(judge)) == 1
    assert "the witness fails: no, said the judge of 3 files" in capsys.readouterr().out


@pytest.mark.parametrize(("script", "text"), [
    ({"answer": "refused"}, "exit code 3: the engine says why"), ({"answer": "crash"}, "exit code 4: the engine says why"),
    ({"answer": "silent"}, "stdout says nothing, results file says nothing"),
    ({"answer": "unsat", "file": "unknown"}, "exit code says unsat, stdout says unsat, results file says unknown")])
def test_an_error_is_never_an_answer(bench: Bench, capsys: pytest.CaptureFixture[str], script: dict[str, str], text: str) -> None:
    bench.add("a", "p", "unsat", **script)
    assert bench.run() == 0
    assert bench.results() == {"p": "error"}
    assert text in capsys.readouterr().out


def test_a_command_that_hangs_is_stopped(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vnncomp, "Settings", partial(Settings, grace=0.2))
    bench.add("a", "p", "unsat", answer="unsat", sleep=60, stubborn=True)
    start = time.monotonic()
    assert bench.run("--timeout", "0.8") == 0
    assert bench.results() == {"p": "timeout"} and time.monotonic() - start < 15
    assert bench.records()["p"]["error"].startswith("stopped from outside")
    assert not bench.processes()


def test_options_reach_the_command(bench: Bench) -> None:
    bench.add("a", "p", "unsat", answer="unsat")
    bench.run("--timeout", "7.5", "--threads", "2", "--memory", "3", "--no-attack")
    assert "--timeout 7.5 --threads 2 --memory 3 --no-attack --results-file" in bench.calls()[0]


def test_the_listed_limit_is_the_default_and_a_gz_file_is_found(bench: Bench) -> None:
    bench.add("a", "p", "unsat", answer="unsat")
    plain = bench.data / "a" / "onnx" / "sum.onnx"
    plain.with_name("sum.onnx.gz").write_bytes(gzip.compress(plain.read_bytes()))
    plain.unlink()
    assert bench.run() == 0
    assert "sum.onnx.gz" in bench.calls()[0] and "--timeout 5 " in bench.calls()[0]


def test_selection(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    for category in ("a", "b", "c"):
        for name, label in (("one", "sat?"), ("two", "sat"), ("three", "unsat"), ("four", "sat")):
            bench.add(category, name, label, answer="unknown")
    assert bench.run("--categories", "a,c", "--only-expected", "sat", "--per-category", "2") == 0
    chosen = [(r["category"], Path(r["property"]).stem) for r in ledger.read_records(bench.out)]
    assert sorted(chosen) == [("a", "one"), ("a", "two"), ("c", "one"), ("c", "two")]
    assert bench.run("--categories", "nowhere") == 3
    assert "no category nowhere; there are a, b, c" in capsys.readouterr().err


@pytest.mark.parametrize(("option", "chosen"), [("--unsat-in", ["one"]), ("--open-in", ["two", "five"])])
def test_only_what_a_table_calls_unsat_or_leaves_open(option: str, chosen: list[str], bench: Bench, tmp_path: Path) -> None:
    for name, answer in (("one", "unsat"), ("two", "unknown"), ("three", "sat"), ("four", "unsat"), ("five", "sat")):
        bench.add("a", name, "", answer=answer)
    table = tmp_path / "table.csv"
    said = {"one": "unsat", "two": "timeout", "three": "sat", "five": "unknown"}
    table.write_text("".join(f"a,onnx/sum.onnx,vnnlib/{name}.vnnlib,0.0,{word},1.0\n" for name, word in said.items()))
    assert bench.run(option, str(table)) == 0
    assert [Path(r["property"]).stem for r in ledger.read_records(bench.out)] == chosen


def test_a_run_is_continued_after_a_torn_line(bench: Bench) -> None:
    for name in ("one", "two", "three"):
        bench.add("a", name, "unsat", answer="unsat")
    assert bench.run() == 0
    whole = bench.out.read_text()
    lines = ledger.side_file(bench.out, "jsonl")
    for kept in range(len(whole)):  # a kill can leave any prefix of the table, with as many or more JSON lines
        rows = whole[:kept].count("\n")
        if kept % 7 == 0 or whole[kept - 1] == "\n":
            bench.out.write_text(whole[:kept])
            assert len(vnncomp.Ledger(bench.out, json.loads(ledger.side_file(bench.out, "meta.json").read_text())["options"]).done) == rows
            assert len(lines.read_text().splitlines()) == rows
            record = {"category": "a", "network": "onnx/sum.onnx", "result": "unsat"}
            lines.write_text("".join(json.dumps({**record, "property": f"vnnlib/{n}.vnnlib"}) + "\n" for n in ("one", "two", "three"))
                             + '{"category": "a", "netw')
    bench.out.write_text(whole.splitlines(keepends=True)[0] + "a,onnx/su")
    lines.write_text(json.dumps({"category": "a", "network": "onnx/sum.onnx", "property": "vnnlib/one.vnnlib", "result": "unsat", "label": "unsat",
                                 "assurance": "unchecked", "run_seconds": 0.1, "error": None, "commit": "x"}) + "\n")
    before = len(bench.calls())
    assert bench.run() == 0
    assert len(bench.calls()) == before + 2 and bench.results() == {"one": "unsat", "two": "unsat", "three": "unsat"}
    assert bench.run() == 0 and len(bench.calls()) == before + 2


def test_a_killed_runner_is_continued(bench: Bench) -> None:
    for k in range(6):
        bench.add("a", f"p{k}", "unsat", answer="unsat", sleep=0.2)
    process = subprocess.Popen([sys.executable, "-m", "benchmarks.vnncomp", *bench.command()], cwd=ROOT, stdout=subprocess.DEVNULL,
                               stderr=subprocess.DEVNULL)
    while len(bench.calls()) < 3 and process.poll() is None:
        time.sleep(0.02)
    process.kill()
    process.wait()
    time.sleep(0.4)  # the instance that was running ends by itself
    kept = len(ledger.read_table(bench.out))
    assert 1 <= kept < 6
    before = len(bench.calls())
    assert bench.run() == 0
    assert len(bench.calls()) - before == 6 - kept and len(bench.results()) == 6


def test_an_interrupt_stops_the_running_process(bench: Bench) -> None:
    bench.add("a", "p", "unsat", answer="unsat", sleep=60)
    process = subprocess.Popen([sys.executable, "-m", "benchmarks.vnncomp", *bench.command("--timeout", "60")], cwd=ROOT,
                               stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    while not bench.calls() and process.poll() is None:
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=20)
    assert process.returncode == 20 and b"the same command continues" in errors
    assert ledger.read_table(bench.out) == {}
    assert not bench.processes()


def test_other_options_and_a_second_writer_are_refused(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    bench.add("a", "p", "unsat", answer="unsat")
    assert bench.run("--timeout", "3") == 0
    assert bench.run("--timeout", "4") == 2
    assert "timeout: 3.0 there, 4.0 now" in capsys.readouterr().err
    bench.add("a", "q", "unsat", answer="unsat")
    assert bench.run("--timeout", "3") == 2
    options = json.loads(ledger.side_file(bench.out, "meta.json").read_text())["options"]
    held = ledger.Ledger(bench.out, options)
    assert bench.run("--timeout", "3") == 2
    assert "another run is writing it" in capsys.readouterr().err
    held.close()


@pytest.mark.parametrize(("row", "text"), [("a,b,c\n", "line 1: not a results row"), ("a,b,c,0.0,perhaps,1.0\n", "line 1: not a results row"),
                                           ("a,b,c,0.0,sat,soon\n", "cannot be read")])
def test_a_foreign_table_is_refused(bench: Bench, capsys: pytest.CaptureFixture[str], row: str, text: str) -> None:
    bench.add("a", "p", "unsat", answer="unsat")
    bench.out.parent.mkdir()
    bench.out.write_text(row)
    assert bench.run() == 3
    assert text in capsys.readouterr().err and bench.out.read_text() == row


def test_unusable_folders_are_errors_for_people(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    assert bench.run() == 3
    assert "no CATEGORY/instances.csv in it" in capsys.readouterr().err
    bench.add("a", "p", "unsat", answer="unsat")
    (bench.data / "a" / "vnnlib" / "p.vnnlib").unlink()
    assert bench.run() == 3
    assert "p.vnnlib: there is no such file, nor one with .gz" in capsys.readouterr().err
    (bench.data / "a" / "instances.csv").write_text("onnx/sum.onnx,vnnlib/p.vnnlib\n")
    assert bench.run() == 3
    assert "instances.csv, line 1: expected network,property,seconds" in capsys.readouterr().err


@pytest.mark.parametrize("options", [["--gate"], ["--gate", "--no-attack"], [], ["--confront", "1"]])
def test_options_that_do_not_go_together(bench: Bench, options: list[str]) -> None:
    bench.add("a", "p", "unsat", answer="unsat")
    assert bench.run(*options, out=False) == 2


@pytest.mark.parametrize(("answer", "code"), [("unknown", 0), ("timeout", 0), ("unsat", 1), ("crash", 1)])
@pytest.mark.parametrize("label", ["sat", "sat?"])
def test_the_attack_off_gate(bench: Bench, capsys: pytest.CaptureFixture[str], label: str, answer: str, code: int) -> None:
    bench.add("a", "other", "unsat", answer="unsat")
    bench.add("a", "p", label, answer=answer)
    assert bench.run("--only-expected", "sat", "--no-attack", "--gate", "--timeout", "20", out=False) == code
    assert len(bench.calls()) == 1 and "--no-attack" in bench.calls()[0]
    assert f"gate: {'FAILED' if code else 'passed'}, 1 instances" in capsys.readouterr().out


def test_the_gate_does_not_trust_rows_of_another_commit(bench: Bench, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    bench.add("a", "p", "sat", answer="unknown")
    options = ("--only-expected", "sat", "--no-attack", "--gate")
    assert bench.run(*options) == 0
    monkeypatch.setattr(vnncomp, "current_commit", lambda: "another")
    assert bench.run(*options) == 2
    assert "rows of another commit" in capsys.readouterr().err


@pytest.mark.parametrize(("committed", "seconds", "now", "code"), [
    ("unsat", 2.0, "unsat", 0), ("unsat", 2.0, "timeout", 1), ("unsat", 30.0, "timeout", 0), ("sat", 30.0, "unsat", 1), ("unknown", 1.0, "unsat", 0),
    ("timeout", 60.0, "unknown", 0), ("unsat", 1.0, "crash", 1)])
def test_agreement_with_a_committed_table(bench: Bench, tmp_path: Path, committed: str, seconds: float, now: str, code: int) -> None:
    bench.add("a", "p", "unknown", answer=now)
    bench.add("a", "unlisted", "unknown", answer="unsat")
    table = tmp_path / "dev.csv"
    table.write_text(f"a,onnx/sum.onnx,vnnlib/p.vnnlib,0.0,{committed},{seconds}\n")
    assert bench.run("--agree", str(table), "--per-category", "3", "--timeout", "20", out=False) == code
    assert len(bench.calls()) == 1


def test_confront_finds_a_planted_counterexample(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    bench.add("a", "true", "unsat", threshold=1.0001, answer="unsat")
    bench.add("a", "lie", "unknown", threshold=0.999, answer="unsat")
    bench.add("a", "open", "unknown", threshold=0.5, answer="unknown")
    assert bench.run() == 0
    capsys.readouterr()
    assert bench.run("--confront", "0.5") == 1
    out = capsys.readouterr().out
    assert "confront: a sum.onnx lie.vnnlib: COUNTEREXAMPLE to unsat: X = [" in out and "true.vnnlib" not in out and "2 unsat answers" in out
    outcomes = {Path(o["property"]).stem: o for o in map(json.loads, ledger.side_file(bench.out, "confront.jsonl").read_text().splitlines())}
    assert set(outcomes) == {"true", "lie"} and outcomes["lie"]["witness"] and outcomes["true"]["runs"] > 64
    assert sum(outcomes["lie"]["witness"]) - 1 >= 0.999


def test_confront_reports_what_it_cannot_attack(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    bench.add("a", "p", "unsat", answer="unsat")
    assert bench.run() == 0
    (bench.data / "a" / "onnx" / "sum.onnx").write_bytes(b"not a model")
    assert bench.run("--confront", "0.2") == 1
    assert "onnxruntime cannot load the file" in capsys.readouterr().out
