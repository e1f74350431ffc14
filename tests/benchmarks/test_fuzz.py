"""Campaigns on disk, delta debugging, and the command `soundproof fuzz`."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from benchmarks import formula
from benchmarks.exact.enumerate import decide
from benchmarks.exact.network import UnknownModel, parse
from benchmarks.strategies.asker import Asker
from benchmarks.strategies.campaign import Campaign, CorpusError
from benchmarks.strategies.command import CommandError, command
from benchmarks.strategies.minimise import NotReproduced, minimise

PROPERTY = "".join(f"(declare-const X_{i} Real)\n" for i in range(4)) + "".join(f"(declare-const Y_{j} Real)\n" for j in range(2)) + "".join(
    f"(assert (>= X_{i} -1.0))\n(assert (<= X_{i} 1.0))\n" for i in range(4)
)  # fmt: skip


def model(width=6):
    """Gemm, Relu, Gemm, Relu, Gemm with 4 inputs and 2 outputs, from a fixed seed."""
    rng = np.random.default_rng(4)
    nodes, constants, name, n = [], [], "x", 4
    for k, m in enumerate((width, width, 2)):
        weight, bias = rng.normal(size=(n, m)).astype(np.float32), np.ones(m, np.float32)
        constants += [numpy_helper.from_array(weight, f"w{k}"), numpy_helper.from_array(bias, f"b{k}")]
        nodes.append(helper.make_node("Gemm", [name, f"w{k}", f"b{k}"], [f"z{k}"]))
        name, n = f"z{k}", m
        if k < 2:
            nodes.append(helper.make_node("Relu", [name], [f"a{k}"]))
            name = f"a{k}"
    value = helper.make_tensor_value_info
    graph = helper.make_graph(nodes, "g", [value("x", TensorProto.FLOAT, (1, 4))], [value(name, TensorProto.FLOAT, (1, 2))], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def output(x):
    return onnx.reference.ReferenceEvaluator(model()).run(None, {"x": np.array([x], np.float32)})[0][0]


def blind_to_relu(data, text, timeout):
    """unsat for whatever contains a Relu, else the exact truth: a bug in one operator."""
    if any(node.op_type == "Relu" for node in onnx.load_model_from_string(data).graph.node):
        return "unsat", None
    try:
        return decide(parse(data), formula.parse(text)).verdict, None
    except UnknownModel:
        return "unknown", None


def test_a_false_unsat_becomes_small():
    point = np.array([0.5, -0.25, 0.75, -1.0], np.float32)
    text = PROPERTY + f"(assert (>= Y_0 {float(output(point)[0]) - 0.125:.6f}))\n(assert (<= Y_1 1000.0))\n"
    found = minimise(model(), text, Asker(blind_to_relu, 1.0), "sat", point, 60.0)
    _, numbers, varying, atoms = found.problem.size
    assert [node.op_type for node in found.problem.draft.nodes] == ["Relu"] and (numbers, varying, atoms) == (0, 0, 1)
    asked = found.instance
    assert found.answer.verdict == "unsat" and found.before == (5, 86, 4, 2)
    assert decide(parse(asked.network.model.SerializeToString()), formula.parse(asked.property)).verdict == "sat"


def test_a_false_sat_becomes_small_with_and_without_a_witness():
    text = PROPERTY + "(assert (>= Y_0 100000.0))\n"
    for witness in (None, [0.0] * 4):

        def verify(data, prop, timeout, witness=witness):
            graph = onnx.load_model_from_string(data).graph
            size = int(np.prod([d.dim_value for d in graph.input[0].type.tensor_type.shape.dim]))
            return ("sat" if any(node.op_type == "Relu" for node in graph.node) else "unsat"), None if witness is None else witness[:1] * size

        found = minimise(model(2), text, Asker(verify, 1.0), "unsat", None, 60.0)
        assert [node.op_type for node in found.problem.draft.nodes].count("Relu") == 1 and len(found.problem.draft.nodes) <= 2


def test_a_verifier_that_is_always_wrong_leaves_next_to_nothing():
    """The edits come to an end."""
    point = np.array([0.5, -0.25, 0.75, -1.0], np.float32)
    text = PROPERTY + f"(assert (>= Y_0 {float(output(point)[0]) - 0.125:.6f}))\n"
    found = minimise(model(), text, Asker(lambda data, prop, timeout: ("unsat", None), 1.0), "sat", point, 60.0)
    assert found.problem.size[0] == 1 and found.problem.size[2] == 0 and len(found.edits) < 60


def test_what_is_not_wrong_is_not_reproduced():
    text = PROPERTY + "(assert (>= Y_0 100000.0))\n"
    with pytest.raises(NotReproduced, match="no point"):
        minimise(model(), text, Asker(blind_to_relu, 1.0), "sat")
    with pytest.raises(NotReproduced, match="answers unsat"):
        minimise(model(), text, Asker(blind_to_relu, 1.0), "unsat")
    with pytest.raises(ValueError, match="maybe"):
        minimise(model(), text, Asker(blind_to_relu, 1.0), "maybe")


def test_a_campaign_continues_and_compares(tmp_path: Path):
    folder, always = tmp_path / "corpus", lambda data, text, timeout: ("unsat", None)
    first = Campaign(always, folder, operators=("Gemm", "Relu"), opsets=(17,))
    new = first.run(3.0)
    assert first.rounds >= 1 and new and all((path / "question.onnx").exists() for path in new)
    state = json.loads((folder / "state.json").read_text())
    assert state["rounds"] == first.rounds and state["verdicts"]["unsat"] == first.verdicts["unsat"] > 0
    stored = len(list((folder / "corpus").glob("*.json")))
    assert stored > 0
    second = Campaign(lambda data, text, timeout: ("sat", None), folder, operators=("Gemm", "Relu"), opsets=(17,))
    again = second.run(1.5)
    assert second.rounds >= first.rounds and any("corpus_contradiction" in path.name or "corpus_false_sat" in path.name for path in again)
    assert len({path.name for path in (folder / "findings").iterdir()}) == len(list((folder / "findings").iterdir())) >= len(new)
    (folder / "state.json").write_text("{")
    with pytest.raises(CorpusError, match="damaged"):
        Campaign(always, folder).run(1.0)
    with pytest.raises(CorpusError, match="not empty"):
        Campaign(always, tmp_path).run(1.0)


def test_commands_are_read_exactly(tmp_path: Path):
    verify = command("sh -c 'echo unsatisfied; printf \"sat\\n((X_0 0.1) (X_1 -2))\\n\" > {out}' {onnx} {vnnlib}")
    assert verify(tmp_path / "m", tmp_path / "p", 5.0) == ("sat", [float(np.float32(0.1)), -2.0])
    assert command("echo not unsat {onnx} {vnnlib}")(tmp_path / "m", tmp_path / "p", 5.0)[0] == "error"
    assert command("sh -c 'echo unsat' {onnx} {vnnlib}")(tmp_path / "m", tmp_path / "p", 5.0) == ("unsat", None)
    with pytest.raises(CommandError, match="vnnlib"):
        command("verify {onnx}")
    with pytest.raises(CommandError, match="No closing quotation"):
        command("'verify {onnx} {vnnlib}")
    with pytest.raises(CommandError, match="cannot be started"):
        command("/no/such/verifier {onnx} {vnnlib}")(tmp_path / "m", tmp_path / "p", 5.0)


@pytest.mark.parametrize("answer", ["printf 'sat\\n((X_0 0.%05000d))\\n' 0 > $1", "printf 'sat\\n((X_1%05000d 0.5))\\n' 0 > $1",
                                    "mkdir $1; printf 'sat\\n((X_0 (- 1)))\\n'"])  # fmt: skip
def test_a_witness_that_cannot_be_read_ends_no_campaign(answer: str, tmp_path: Path):
    """More digits than Python reads (4,300) had ended it with a ValueError; so had a folder in the place of the results file."""
    script = tmp_path / "v.sh"
    script.write_text(answer)
    assert command(f"sh {script} {{out}} {{onnx}} {{vnnlib}}")(tmp_path / "m", tmp_path / "p", 5.0) == ("sat", [])


def fuzz(*words):
    done = subprocess.run([sys.executable, "-m", "soundproof", "fuzz", *map(str, words)], capture_output=True, text=True, check=False)
    return done.returncode, done.stdout, done.stderr


def test_the_command_finds_a_liar_and_makes_a_failure_small(tmp_path: Path):
    liar = "sh -c 'echo unsat > {out}' {onnx} {vnnlib}"
    code, out, err = fuzz("--verifier", liar, "--minutes", 0.05, "--corpus", tmp_path / "c", "--operators", "Gemm,Relu")
    assert code == 1 and "different findings" in out and "false_unsat" in out, err
    point = [0.5, -0.25, 0.75, -1.0]
    (tmp_path / "m.onnx").write_bytes(model().SerializeToString())
    (tmp_path / "p.vnnlib").write_text(PROPERTY + f"(assert (>= Y_0 {float(output(point)[0]) - 0.125:.6f}))\n")
    (tmp_path / "w.txt").write_text("sat\n(" + " ".join(f"(X_{i} {v})" for i, v in enumerate(point)) + ")\n")
    files = ("--minimise", tmp_path / "m.onnx", tmp_path / "p.vnnlib", "--verifier", liar, "--out", tmp_path / "small")
    code, out, err = fuzz(*files, "--expect", "sat", "--witness", tmp_path / "w.txt", "--minutes", 0.2)
    assert code == 1 and "after" in out, err
    (small,) = (tmp_path / "small").iterdir()
    assert small.name.startswith("minimised_false_unsat") and len(onnx.load(small / "question.onnx").graph.node) == 1


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (("--minutes", "0"), 2, "positive"), (("--operators", "Quux"), 2, "Quux"), (("--opsets", "3-99"), 2, "within 9-22"),
        (("--opsets", "17-9"), 2, "within 9-22"), (("--opsets", "x"), 2, "like 9-17"), (("--minimise", "a", "b"), 2, "--expect"),
    ],
)  # fmt: skip
def test_wrong_options(words, code, text, tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = fuzz(*words)
    assert found[0] == code and text in found[2]
