"""`soundproof bench`: benchmark folders of every year, tools as commands and as scripts, the rules, published tables, plots."""

from __future__ import annotations

import csv
import gzip
import json
import os
import subprocess
import sys
from importlib import util
from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx import TensorProto, helper
from typer.testing import CliRunner

from benchmarks.contest import layout, results, scoring
from benchmarks.contest.results import InstanceKey, Said, ToolTable
from benchmarks.contest.witness import Kind, judge
from benchmarks.instances import DataError, default_folder
from benchmarks.ledger import read_records
from soundproof.cli import app

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = ROOT / "benchmarks" / "vnncomp_scripts"
RESULTS_2025 = default_folder().resolve().parent / "vnncomp-results" / "2025"  # beside the instances

# Answers what the property's first line says: `; say WORD [VALUES]`, through the results file, or on standard output where OUT is `-`.
TOOL = """
import sys
model, prop, out = sys.argv[1:4]
open(model, "rb").read()
word, *values = open(prop).readline().split()[2:]
text = word + "\\n" + "".join(f"(X_{i} {v})\\n" for i, v in enumerate(values)).join("()" if values else ("", ""))
with (sys.stdout if out == "-" else open(out, "w")) as file:
    file.write(text)
"""


def invoke(*arguments: object) -> tuple[int, str, str]:
    done = CliRunner().invoke(app, ["bench", *map(str, arguments)])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.exit_code, done.stdout, done.stderr


def network(path: Path) -> None:
    """Y_0 = 2 X_0."""
    path.parent.mkdir(parents=True, exist_ok=True)
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy"]
    two = helper.make_tensor("two", TensorProto.FLOAT, [1], [2.0])
    graph = helper.make_graph([helper.make_node("Mul", ["x", "two"], ["y"])], "double", values[:1], values[1:], [two])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), str(path))


def prop(path: Path, say: str = "unsat", threshold: float = 1.0) -> None:
    """X_0 in [0, 1]; unsafe: Y_0 >= threshold."""
    path.parent.mkdir(parents=True, exist_ok=True)
    asserts = "(assert (>= X_0 0))(assert (<= X_0 1))" + f"(assert (>= Y_0 {threshold}))"
    path.write_text(f"; say {say}\n(declare-const X_0 Real)(declare-const Y_0 Real){asserts}\n")


def packed(path: Path) -> None:
    path.with_name(path.name + ".gz").write_bytes(gzip.compress(path.read_bytes()))
    path.unlink()


def table(path: Path, *rows: tuple[str, str]) -> Path:
    """A results.csv with (property, result) rows of one benchmark; every run took 1 s."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"b,b/onnx/n.onnx,b/vnnlib/{name}.vnnlib,0.1,{said},1.0\n" for name, said in rows))
    return path


@pytest.fixture
def bench(tmp_path: Path) -> tuple[Path, Path, str]:
    """(benchmark folder, folder for tables, command of the scripted tool)."""
    tool = tmp_path / "tool.py"
    tool.write_text(TOOL)
    return tmp_path / "benchmarks", tmp_path / "out", f"{sys.executable} {tool} {{onnx}} {{vnnlib}} {{out}}"


def category(folder: Path, says: dict[str, str], threshold: float = 1.0) -> Path:
    network(folder / "onnx" / "n.onnx")
    for name, say in says.items():
        prop(folder / "vnnlib" / f"{name}.vnnlib", say, threshold)
    (folder / "instances.csv").write_text("".join(f"onnx/n.onnx,vnnlib/{name}.vnnlib,20\n" for name in says))
    return folder


# Layouts.


def test_folders_of_every_year_are_read(tmp_path: Path) -> None:
    for where in ("old/old_instances.csv", "odd/instance.csv", "new/instances.csv", "both/1.0/instances.csv", "both/2.0/instances.csv",
                  "two/2.0/instances.csv"):  # fmt: skip
        (tmp_path / where).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / where).write_text("./onnx/n.onnx,./vnnlib/p.vnnlib,116.5\n")
    (tmp_path / "no_instances").mkdir()
    packed(tmp_path / "new" / "instances.csv")

    def read(version: str | None) -> list[tuple[str, str]]:
        return [(q.category, q.folder.name) for q in layout.read_questions(tmp_path, version)]

    assert read(None) == [("both", "1.0"), ("new", "new"), ("odd", "odd"), ("old", "old"), ("two", "2.0")]
    assert read("2.0") == [("both", "2.0"), ("new", "new"), ("odd", "odd"), ("old", "old"), ("two", "2.0")]
    assert [q.category for q in layout.read_questions(tmp_path / "both")] == ["both"]
    assert layout.read_questions(tmp_path)[0].seconds == 116.5


def test_a_benchmarks_folder_inside_is_found(tmp_path: Path) -> None:
    category(tmp_path / "benchmarks" / "c", {"p": "unsat"})
    assert [q.category for q in layout.read_questions(tmp_path)] == ["c"]


def test_several_networks_and_repeated_lines(tmp_path: Path) -> None:
    for name in ("a", "b"):
        network(tmp_path / "c" / "onnx" / f"{name}.onnx")
    prop(tmp_path / "c" / "p.vnnlib")
    packed(tmp_path / "c" / "onnx" / "b.onnx")
    line = "\"[('f', 'onnx/a.onnx'), ('g', 'onnx/b.onnx')]\",./p.vnnlib,100\n"
    (tmp_path / "c" / "instances.csv").write_text(line * 2)
    first, second = layout.read_questions(tmp_path)
    assert [(name, path.name) for name, path in first.files()[0]] == [("f", "a.onnx"), ("g", "b.onnx.gz")]
    assert (first.key[2], second.key[2]) == ("./p.vnnlib", "./p.vnnlib#2") and len({first.key, second.key}) == 2
    assert results.normal_network("c", first.network) == "onnx/a.onnx+onnx/b.onnx"


@pytest.mark.parametrize("line", ["onnx/n.onnx,p.vnnlib", "onnx/n.onnx,p.vnnlib,soon", "x"])
def test_a_broken_line_is_named(tmp_path: Path, line: str) -> None:
    category(tmp_path / "c", {"p": "unsat"})
    (tmp_path / "c" / "instances.csv").write_text(f"onnx/n.onnx,vnnlib/p.vnnlib,20\n{line}\n")
    with pytest.raises(DataError, match=r"instances\.csv, line 2"):
        layout.read_questions(tmp_path)


@pytest.mark.parametrize("field", ["[('f', 'a'), ('f', 'b')]", "[]", "['a']", "[('f',"])
def test_a_broken_list_of_networks_is_refused(field: str) -> None:
    with pytest.raises(DataError, match="list of networks"):
        layout.parse_networks(field)


# Tables of other tools.


@pytest.mark.parametrize(("text", "expected"), [
    ("sat", "sat"), ("violated", "sat"), ("unsat", "unsat"), ("holds", "unsat"), ("UNSAT", "unsat"), ("", "unknown"),
    ("no_result_in_file", "unknown"),
    ("prepare_instance_error_1", "unknown"), ("prepare_instance_timeout", "timeout"), ("run_instance_timeout", "timeout"), ("timeout", "timeout"),
    ("error_exit_code_1", "error"), ("satisfied", None), ("unsat?", None), ("ok", None)])  # fmt: skip
def test_words(text: str, expected: str | None) -> None:
    assert results.word(text) == expected


@pytest.mark.parametrize("text", [
    "onnx/n.onnx", "./onnx/n.onnx", "b/onnx/n.onnx.gz", "../benchmarks/b/1.0/onnx/n.onnx", "/home/u/2025_b/b/onnx/n.onnx"])
def test_the_same_file_in_different_words(text: str) -> None:
    assert results.normal_path("2025_b", text) == "onnx/n.onnx"


def test_a_table_is_read_without_warm_up(tmp_path: Path) -> None:
    file = table(tmp_path / "pyrat" / "results.csv", ("p", "unsat"), ("p", "sat"))
    with file.open("a") as more:
        more.write("b,test/onnx/test_nano.onnx,test/vnnlib/test_nano.vnnlib,1,unsat,1\ntest,test/onnx/a.onnx,test/vnnlib/a.vnnlib,1,sat,1\n")
    read = results.read_tool(file)
    assert read.tool == "pyrat" and read.warm_up == 2
    assert [(key.occurrence, said.result) for key, said in read.said.items()] == [(1, "unsat"), (2, "sat")]


@pytest.mark.parametrize("row", ["a,b,c,0,unsat", "a,b,c,0,perhaps,1", "a,b,c,0,sat,soon"])
def test_a_row_that_is_none_is_named(tmp_path: Path, row: str) -> None:
    (tmp_path / "t.csv").write_text(row + "\n")
    assert invoke("score", tmp_path / "t.csv")[0] == 3
    with pytest.raises(DataError, match="line 1: not a row"):
        results.read_tool(tmp_path / "t.csv")


def test_witnesses_of_the_first_runner_are_known(tmp_path: Path) -> None:
    read = results.read_tool(ROOT / "benchmarks" / "results" / "dev.csv")
    sat = [said for said in read.said.values() if said.result == "sat"]
    assert read.tool == "dev" and len(sat) > 50 and {said.witness for said in sat} == {"correct"} and all(said.limit == 60 for said in sat)
    file = table(tmp_path / "t.csv", ("p", "sat"))
    file.with_name("t.csv.jsonl").write_text(json.dumps({"category": "b", "network": "b/onnx/n.onnx", "property": "b/vnnlib/p.vnnlib",
                                                         "replay": {"violated": False, "text": "no"}}) + "\n")  # fmt: skip
    assert [said.witness for said in results.read_tool(file).said.values()] == ["invalid"]


# The rules.

KEY = InstanceKey("b", "n", "p")


def scored(rules: str, **said: tuple[str, str | None]) -> dict[str, int]:
    tables = [ToolTable(tool, {KEY: Said(word, 1.0, witness)}) for tool, (word, witness) in said.items()]
    return {row.tool: row.points for row in scoring.score(tables, rules).rows}


@pytest.mark.parametrize(("rules", "said", "points"), [
    ("tolerant", {"a": ("sat", "correct"), "b": ("unsat", None), "c": ("unsat", None)}, {"a": 10, "b": -150, "c": -150}),
    ("tolerant", {"a": ("sat", "tolerated"), "b": ("unsat", None)}, {"a": 10, "b": 10}),
    ("strict", {"a": ("sat", "tolerated"), "b": ("unsat", None)}, {"a": -150, "b": 10}),
    ("tolerant", {"a": ("sat", "invalid"), "b": ("unsat", None)}, {"a": -150, "b": 10}),
    ("tolerant", {"a": ("sat", "missing")}, {"a": -150}),
    ("tolerant", {"a": ("sat", "malformed")}, {"a": -150}),
    ("tolerant", {"a": ("sat", "unsupported"), "b": ("unsat", None)}, {"a": 0, "b": 10}),
    ("tolerant", {"a": ("sat", None), "b": ("unsat", None)}, {"a": 10, "b": 10}),
    ("tolerant", {"a": ("sat", None), "b": ("sat", None), "c": ("unsat", None)}, {"a": 10, "b": 10, "c": -150}),
    ("tolerant", {"a": ("sat", None), "b": ("unsat", None), "c": ("unsat", None)}, {"a": 10, "b": 10, "c": 10}),
    ("tolerant", {"a": ("unsat", None), "b": ("timeout", None), "c": ("error", None)}, {"a": 10}),
    ("tolerant", {"a": ("sat", "invalid"), "b": ("sat", "correct"), "c": ("unsat", None)}, {"a": -150, "b": 10, "c": -150}),
])  # fmt: skip
def test_points(rules: str, said: dict[str, tuple[str, str | None]], points: dict[str, int]) -> None:
    assert scored(rules, **said) == points


def test_a_score_is_a_share_of_the_best_and_never_negative() -> None:
    tables = [ToolTable(tool, {InstanceKey("b", "n", f"p{i}"): Said(word, 1.0, "correct" if word == "sat" else None) for i, word in enumerate(words)})
              for tool, words in (("best", ["sat", "sat", "unsat"]), ("half", ["sat", "unknown", "timeout"]), ("liar", ["unsat", "sat", "timeout"]))]
    rows = scoring.score(tables).rows
    assert [(r.tool, r.points, r.printed_score) for r in rows] == [("best", 30, "100.0"), ("half", 10, "33.3"), ("liar", -140, "0")]
    assert (rows[2].verified, rows[2].falsified, rows[2].penalties) == (0, 1, 1)


def test_an_answer_after_the_limit_is_a_timeout() -> None:
    tables = [ToolTable("a", {KEY: Said("unsat", 21.0, None, 20.0)}), ToolTable("b", {KEY: Said("unsat", 19.0, None, 20.0)})]
    scores = scoring.score(tables)
    assert [r.tool for r in scores.rows] == ["b"] and [(f.kind, f.tool) for f in scores.findings] == [("late", "a")]


@pytest.mark.parametrize(("value", "kind"), [
    ("0.5", Kind.correct), ("1.0", Kind.correct), ("0.25", Kind.invalid), ("1.00005", Kind.tolerated), ("1.01", Kind.invalid), ("-3", Kind.invalid),
    ("nan", Kind.malformed), ("0.5) (X_1 2", Kind.malformed), (None, Kind.missing)])  # fmt: skip
def test_witnesses(tmp_path: Path, value: str | None, kind: Kind) -> None:
    network(tmp_path / "n.onnx")
    prop(tmp_path / "p.vnnlib")
    assert judge(tmp_path / "n.onnx", tmp_path / "p.vnnlib", "sat\n" + ("" if value is None else f"((X_0 {value}))"))[0] == kind


def test_a_file_that_cannot_be_run_is_unsupported(tmp_path: Path) -> None:
    (tmp_path / "n.onnx").write_bytes(b"no")
    prop(tmp_path / "p.vnnlib")
    assert judge(tmp_path / "n.onnx", tmp_path / "p.vnnlib", "sat\n((X_0 1))")[0] == Kind.unsupported


# Running.


def records(out: Path, tool: str) -> dict[str, dict[str, Any]]:
    return {Path(r["property"]).stem: r for r in read_records(out / f"{tool}.csv")}


def test_tools_run_are_judged_and_scored(bench: tuple[Path, Path, str]) -> None:
    folder, out, command = bench
    made = category(folder / "b", {"sat": "sat 0.75", "open": "unknown", "near": "sat 1.00005", "wrong": "unsat"})
    packed(made / "onnx" / "n.onnx")
    packed(made / "vnnlib" / "near.vnnlib")
    printing = command.replace("{out}", "-")
    honest = command.replace("{vnnlib}", str(made / "vnnlib" / "sat.vnnlib")) + " {vnnlib}"
    assert invoke("run", folder, "--out", out, "--tool", f"a={command}", "--tool", f"b={printing}", "--tool", f"honest={honest}")[0] == 0
    said = records(out, "a")
    assert {name: (r["result"], r["witness"] and r["witness"]["kind"]) for name, r in said.items()} == {
        "sat": ("sat", "correct"), "open": ("unknown", None), "near": ("sat", "tolerated"), "wrong": ("unsat", None)}  # fmt: skip
    assert {n: r["result"] for n, r in records(out, "b").items()} == {n: r["result"] for n, r in said.items()}
    assert len(list((out / "a.csv.d" / "b").glob("*.result"))) == 4
    code, text, _ = invoke("score", out / "a.csv", out / "honest.csv", "--csv", out / "points.csv", "--json", out / "points.json")
    assert code == 1 and "penalty: a: b n.onnx wrong.vnnlib: unsat, against a replayed witness" in text
    rows = {r["tool"]: r for r in csv.DictReader((out / "points.csv").open())}
    assert (rows["a"]["points"], rows["a"]["score"], rows["honest"]["points"], rows["honest"]["score"]) == ("-130", "0", "40", "100.0")
    assert json.loads((out / "points.json").read_text())["totals"] == {"honest": 100.0, "a": 0.0}
    assert invoke("score", out / "a.csv", "--rules", "strict")[1].count("its witness is tolerated") == 1
    assert invoke("compare", out / "a.csv", out / "honest.csv")[0] == 1


def test_a_run_is_continued_and_other_options_are_refused(bench: tuple[Path, Path, str]) -> None:
    folder, out, command = bench
    category(folder / "b", {name: "unsat" for name in ("one", "two")})
    first = ("run", folder, "--out", out, "--tool", f"a={command}")
    assert invoke(*first)[0] == 0
    rows = (out / "a.csv").read_text().splitlines(keepends=True)
    (out / "a.csv").write_text(rows[0] + rows[1][:9])
    code, _, err = invoke(*first)
    assert code == 0 and err.count("[2/2]") == 1 and "[1/2]" not in err and len((out / "a.csv").read_text().splitlines()) == 2
    code, _, err = invoke(*first, "--timeout", "3")
    assert code == 2 and "other options" in err


def test_what_does_not_answer_is_no_answer(bench: tuple[Path, Path, str], tmp_path: Path) -> None:
    folder, out, _ = bench
    category(folder / "b", {"p": "unsat"})
    script = tmp_path / "bad.py"
    script.write_text("import sys, time, os\nif sys.argv[3] == 'hang': time.sleep(60)\n"
                      "if sys.argv[3] == 'lie': print('sat'); open(sys.argv[4], 'w').write('unsat')\n"
                      "if sys.argv[3] == 'die': os.kill(os.getpid(), 9)\nprint('unsatisfied'); sys.exit(3)\n")
    tools = [f"{how}={sys.executable} {script} {{onnx}} {{vnnlib}} {how} {{out}}" for how in ("hang", "lie", "die", "mumble")]
    options = [part for tool in tools for part in ("--tool", tool)]
    assert invoke("run", folder, "--out", out, "--timeout", "0.4", "--grace", "0.2", *options)[0] == 0
    found = {how: records(out, how)["p"] for how in ("hang", "lie", "die", "mumble")}
    assert {how: r["result"] for how, r in found.items()} == {"hang": "timeout", "lie": "error", "die": "error", "mumble": "error"}
    assert "contradictory" in found["lie"]["error"] and "signal 9" in found["die"]["error"] and "no verdict" in found["mumble"]["error"]


def test_scripts_are_run_as_in_the_competition(bench: tuple[Path, Path, str], tmp_path: Path) -> None:
    folder, out, _ = bench
    category(folder / "b", {"p": "unsat", "skip": "unsat"})
    scripts = tmp_path / "scripts"
    scripts.mkdir()
    (scripts / "prepare_instance.sh").write_text('[ "$1" = v1 ] && [ "$2" = b ] && ! grep -q skip <<< "$4"\n')
    (scripts / "run_instance.sh").write_text('echo sat; [ "$1 $2 $6" = "v1 b 7" ] && [ -f "$3" ] && [ -f "$4" ] && echo unsat > "$5"\n')
    assert invoke("run", folder, "--out", out, "--scripts", f"s={scripts}", "--timeout", "7")[0] == 0
    found = records(out, "s")
    assert found["p"]["result"] == "unsat" and found["skip"]["result"] == "unknown" and "preparing failed" in found["skip"]["error"]


def test_several_networks_reach_the_command(bench: tuple[Path, Path, str], tmp_path: Path) -> None:
    folder, out, _ = bench
    made = category(folder / "b", {"p": "unsat"})
    (made / "instances.csv").write_text("\"[('f', 'onnx/n.onnx'), ('g', 'onnx/n.onnx')]\",vnnlib/p.vnnlib,20\n")
    script = tmp_path / "tool.py"
    script.write_text("import sys, ast\nassert [n for n, _ in ast.literal_eval(sys.argv[1])] == ['f', 'g']\n"
                      "assert sys.argv[3::2] == ['--network', '--network'] and sys.argv[4].startswith('f=/'), sys.argv\nprint('unsat')\n")
    assert invoke("run", folder, "--out", out, "--tool", f"t={sys.executable} {script} {{onnx}} {{vnnlib}} {{networks}}")[0] == 0
    assert records(out, "t")["p"]["result"] == "unsat", records(out, "t")["p"]["error"]


@pytest.mark.parametrize(("arguments", "code", "text"), [
    (("--tool", "a=x {onnx}"), 2, "{vnnlib}"), (("--tool", "x {onnx} {vnnlib}"), 2, "NAME=..."),
    (("--scripts", "a=/nowhere"), 2, "prepare_instance.sh"),
    (("--tool", "a=x {onnx} {vnnlib}", "--tool", "a=y {onnx} {vnnlib}"), 2, "one name"), (("--timeout", "-1"), 2, "--timeout"),
    (("--categories", "z"), 3, "there are b")])  # fmt: skip
def test_wrong_usage(bench: tuple[Path, Path, str], arguments: tuple[str, ...], code: int, text: str) -> None:
    folder, out, _ = bench
    category(folder / "b", {"p": "unsat"})
    found, _, err = invoke("run", folder, "--out", out, *arguments)
    assert found == code and text in err


# Published tables and plots.


@pytest.mark.skipif(not RESULTS_2025.is_dir(), reason=f"{RESULTS_2025} is not there: only the instances are promised to be")
def test_the_published_points_of_2025_are_reproduced(tmp_path: Path) -> None:
    tables = sorted(RESULTS_2025.glob("*.csv.gz"))
    code, text, _ = invoke("score", *tables, "--published", RESULTS_2025 / "official.csv", "--csv", tmp_path / "ours.csv")
    assert code == 0 and "117 of 122 published rows are the same in all columns; without penalty 111 of 111, with penalty 6 of 11" in text
    assert "ACASXU_run2a_1_3_batch_2000.onnx prop_2.vnnlib: unsat, against the majority (5 say sat, 1 unsat)" in text
    assert text.count("model.onnx model_16.vnnlib: unsat, against the majority") == 2  # among the findings, and as a reason of CORA's penalties
    ours = {(r["category"], r["tool"]): r["score"] for r in csv.DictReader((tmp_path / "ours.csv").open())}
    for row in csv.DictReader((RESULTS_2025 / "official.csv").open()):
        assert row["penalties"] != "0" or ours[row["category"], row["tool"]] == row["score"], row


def test_published_differences_and_unexplained_penalties_are_named(tmp_path: Path) -> None:
    a = table(tmp_path / "a.csv", ("p", "unsat"), ("q", "sat"))
    b = table(tmp_path / "b.csv", ("p", "sat"), ("q", "sat"))
    published = tmp_path / "points.csv"
    published.write_text("track,category,tool,verified,falsified,penalties,points,score\ns,b,a,0,0,2,-300,0\ns,b,b,0,3,0,30,100.0\n")
    code, text, _ = invoke("score", a, b, "--published", published)
    assert code == 1 and "0 of 2 published rows" in text and "here 0, 2, 0, 20, 100.0" in text
    assert "1 more for witnesses, which are not in the tables: among the 1 instances that it calls sat" in text


def test_compare(tmp_path: Path) -> None:
    a = table(tmp_path / "a.csv", ("p", "unsat"), ("q", "sat"), ("r", "timeout"))
    b = table(tmp_path / "b.csv", ("p", "unsat"), ("q", "timeout"), ("r", "unsat"))
    code, text, _ = invoke("compare", a, b, "--instances", "--json", tmp_path / "c.json")
    assert code == 0 and "only a: b n.onnx q.vnnlib" in text and "only b: b n.onnx r.vnnlib" in text
    (pair,) = [p for p in json.loads((tmp_path / "c.json").read_text())["pairs"] if p["category"] == "b"]
    assert (pair["instances"], pair["both"], pair["faster"], len(pair["only_first"])) == (3, 1, 1.0, 1)


@pytest.mark.parametrize("kind", ["cactus", "scatter"])
def test_plots(tmp_path: Path, kind: str) -> None:
    a, b = table(tmp_path / "a.csv", ("p", "unsat"), ("q", "sat")), table(tmp_path / "b.csv", ("p", "timeout"), ("q", "sat"))
    for out in ("one.svg", "two.svg"):
        assert invoke("plot", "--kind", kind, a, b, "--out", tmp_path / out)[0] == 0
    drawn = (tmp_path / "one.svg").read_text()
    assert drawn.startswith("<?xml") and drawn.count("<path") > 10


def test_plots_say_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    a = table(tmp_path / "a.csv", ("p", "timeout"))
    assert invoke("plot", a, "--out", tmp_path / "p.svg")[0] == 3
    assert invoke("plot", a, "--kind", "scatter", "--out", tmp_path / "p.svg")[0] == 2
    monkeypatch.setattr(util, "find_spec", lambda name: None)
    code, _, err = invoke("plot", a, "--out", tmp_path / "p.svg")
    assert code == 2 and "pip install 'soundproof[report]'" in err


# Soundproof's own scripts.


def script(name: str, *arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "SOUNDPROOF_PYTHON": sys.executable, **environment}
    return subprocess.run(["bash", str(SCRIPTS / name), *map(str, arguments)], capture_output=True, text=True, check=False, timeout=120, env=env)


def test_our_scripts_answer_a_bundled_instance(tmp_path: Path) -> None:
    brake, near = ROOT / "examples" / "brake.onnx", ROOT / "examples" / "near_and_fast.vnnlib"
    assert script("prepare_instance.sh", "v1", "any", brake, near, TMPDIR=str(tmp_path)).returncode == 0
    ran = script("run_instance.sh", "v1", "any", brake, near, tmp_path / "out", "60", TMPDIR=str(tmp_path))
    assert ran.returncode == 0, ran.stderr
    assert judge(brake, near, (tmp_path / "out").read_text())[0] == Kind.correct
    assert not list(tmp_path.glob("soundproof-vnncomp-*"))


def test_our_scripts_refuse_and_never_leave_an_old_answer(tmp_path: Path) -> None:
    brake, near = ROOT / "examples" / "brake.onnx", ROOT / "examples" / "near_and_fast.vnnlib"
    assert script("prepare_instance.sh", "v2", "any", brake, near).returncode == 1
    assert script("prepare_instance.sh", "v1", "any", tmp_path / "none", near).returncode == 1
    assert script("install_tool.sh", "v3").returncode == 1
    (tmp_path / "out").write_text("unsat\n")
    (tmp_path / "bad.onnx").write_bytes(b"no")
    ran = script("run_instance.sh", "v1", "any", tmp_path / "bad.onnx", near, tmp_path / "out", "60", TMPDIR=str(tmp_path))
    assert ran.returncode == 3 and (tmp_path / "out").read_text() == "error\n"


@pytest.mark.slow
def test_our_scripts_in_a_run_of_their_own(tmp_path: Path) -> None:
    folder = tmp_path / "benchmarks" / "brake"
    (folder / "onnx").mkdir(parents=True)
    for name in ("brake.onnx", "near_and_fast.vnnlib", "never_more.vnnlib"):
        (folder / name).write_bytes((ROOT / "examples" / name).read_bytes())
    (folder / "instances.csv").write_text("brake.onnx,near_and_fast.vnnlib,60\nbrake.onnx,never_more.vnnlib,60\n")
    assert invoke("run", tmp_path, "--out", tmp_path / "out", "--soundproof", "--scripts", f"scripts={SCRIPTS}", "--threads", "1")[0] == 0
    for tool in ("soundproof", "scripts"):
        found = records(tmp_path / "out", tool)
        assert {n: r["result"] for n, r in found.items()} == {"near_and_fast": "sat", "never_more": "unsat"}
        assert found["near_and_fast"]["witness"]["kind"] == "correct"
