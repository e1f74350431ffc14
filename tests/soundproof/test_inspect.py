"""`soundproof inspect`, and verdicts about chosen outputs and shapes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from graph.core import Elementwise
from graph.load import load
from tests.soundproof.networks import property_file, relu_network
from tests.soundproof.test_command import EXAMPLES, command, in_process
from verifier.inspection import around


def two_outputs(path: Path) -> str:
    """x [batch, width] -> scores = relu(2 x) and, over symbolic axes, label = ArgMax (int64)."""
    nodes = [
        helper.make_node("Mul", ["x", "two"], ["doubled"], "twice"), helper.make_node("Relu", ["doubled"], ["scores"], "act"),
        helper.make_node("ArgMax", ["scores"], ["label"], "choose", axis=1, keepdims=0),
    ]
    ends = [
        helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", "width"]),
        helper.make_tensor_value_info("label", TensorProto.INT64, ["batch"]),
        helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["batch", "width"]),
    ]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], [numpy_helper.from_array(np.float32(2), "two")])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)
    return str(path)


def unsupported(path: Path) -> str:
    """Two operators that nobody lowers, one that reads the first, one that could be read behind them."""
    nodes = [
        helper.make_node("Relu", ["x"], ["a"], "fine"), helper.make_node("NonZero", ["a"], ["places"], "first"),
        helper.make_node("Cast", ["places"], ["b"], "behind", to=TensorProto.FLOAT), helper.make_node("Det", ["a"], ["c"], "second"),
        helper.make_node("Sigmoid", ["c"], ["y"], "after"),
    ]
    ends = [helper.make_tensor_value_info("x", 1, [2, 2]), helper.make_tensor_value_info("b", 1, None), helper.make_tensor_value_info("y", 1, [])]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)
    return str(path)


def test_all_operators_that_are_not_supported_are_told_at_once(tmp_path: Path) -> None:
    code, out, err = in_process("inspect", unsupported(tmp_path / "m"), "--json")
    found = {use["operator"]: use for use in json.loads(out)["operators"]}
    assert code == 3 and "cannot be loaded" in err
    assert {name: use["verdict"] for name, use in found.items()} == {
        "Relu": "supported", "NonZero": "unsupported", "Cast": "not examined", "Det": "unsupported", "Sigmoid": "supported",
    }
    assert [place["node"] for place in found["Det"]["refused"]] == ["second"] and "Det" in found["Det"]["refused"][0]["reason"]
    code, out, err = in_process("inspect", unsupported(tmp_path / "m"))
    assert code == 3 and "first" in out and "second" in out


def test_undecided_neurons_are_those_whose_sign_is_open(tmp_path: Path) -> None:
    model = load(relu_network(tmp_path / "m", ((1.0, 1.0), (1.0, 0.0)), (0.5, 5.0)))
    found = around(model, 0.0, 1.0)
    assert [(row.kind, row.elements, row.by_interval, row.by_linear, row.tensor) for row in found.undecided] == [("relu", 2, 1, 1, "y")]
    assert [row.by_interval for row in around(model, 0.0, 0.0).undecided] == [0]
    assert [row.by_interval for row in around(model, 0.0, 6.0).undecided] == [2]
    assert {cost.method for cost in found.costs} == {"interval", "linear, forward", "linear (CROWN)", "linear, optimised slopes"}
    assert all(cost.bytes > 0 and cost.seconds > 0 and cost.products > 0 for cost in found.costs)


def test_linear_bounds_decide_what_intervals_leave_open(tmp_path: Path) -> None:
    """The second layer is relu(a - b + 1) with a = b = relu(x_0 + 1.5): an interval does not see that they cancel."""
    weights = {"w": np.array([[1, 1], [0, 0]]), "b": np.array([1.5, 1.5]), "v": np.array([[1, 0], [-1, 0]]), "c": np.array([1.0, 1.0])}
    nodes = [
        helper.make_node("Gemm", ["x", "w", "b"], ["z"]), helper.make_node("Relu", ["z"], ["h"]),
        helper.make_node("Gemm", ["h", "v", "c"], ["u"]), helper.make_node("Relu", ["u"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("x", 1, [1, 2])], [helper.make_tensor_value_info("y", 1, [1, 2])],
        [numpy_helper.from_array(value.astype(np.float32), name) for name, value in weights.items()],
    )
    model = load(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8).SerializeToString())
    assert [(row.by_interval, row.by_linear) for row in around(model, 0.0, 1.0).undecided] == [(0, 0), (1, 0)]


def test_text_json_dot_and_mermaid_speak_of_the_same_graph(tmp_path: Path) -> None:
    path = str(EXAMPLES / "brake.onnx")
    graph = load(path).graph
    code, out, _ = in_process("inspect", path, "--json", "--property", str(EXAMPLES / "never_more.vnnlib"))
    plain: dict[str, Any] = json.loads(out)
    assert code == 0 and plain["loads"] and len(plain["nodes"]) == len(graph.nodes) and plain["parameters"] == 697
    assert [row["node"] for row in plain["bounds"]["undecided"]] == [i for i, node in graph if isinstance(node, Elementwise)]
    edges = sum(len(node.inputs) for node in graph.nodes)
    for flag, arrow in (("--dot", " -> "), ("--mermaid", " --> ")):
        code, out, _ = in_process("inspect", path, flag)
        assert code == 0 and out.count(arrow) == edges and "Gemm 'gemm1'" in out
    code, out, _ = in_process("inspect", path, "--radius", "0.1", "--centre", "0.5")
    assert code == 0 and "the box of radius 0.1 around 0.5" in out and "linear (CROWN)" in out


@pytest.mark.parametrize(
    "arguments",
    [["--dot", "--json"], ["--property", "p", "--radius", "1"], ["--radius", "-1"], ["--radius", "nan"], ["--shape", "n"], ["--shape", "n=0"]],
    ids=" ".join,
)
def test_wrong_usage(arguments: list[str]) -> None:
    code, out, _ = in_process("inspect", str(EXAMPLES / "brake.onnx"), *arguments)
    assert code == 2 and out == ""


def test_outputs_and_shapes_that_are_not_there_are_refused(tmp_path: Path) -> None:
    model = two_outputs(tmp_path / "m")
    for arguments, message in (
        (["--output", "logits"], "no node makes a tensor of this name; the outputs are label, scores"),
        (["--shape", "depth=3"], "no input has such a dimension; symbolic are batch, width"),
        (["--shape", "x[2]=3"], "no input has such a dimension"),
    ):
        code, out, err = in_process("inspect", model, *arguments)
        assert code == 3 and message in err and out == ""
    code, out, err = in_process("inspect", relu_network(tmp_path / "n"), "--shape", "x[1]=3")
    assert code == 3 and "the file says 2; only symbolic dimensions can be set" in err


def test_a_hidden_tensor_and_an_axis_without_a_name(tmp_path: Path) -> None:
    model = two_outputs(tmp_path / "m")
    code, out, _ = in_process("inspect", model, "--output", "doubled", "--shape", "x[1]=3", "--json")
    plain = json.loads(out)
    assert code == 0 and [(t["name"], t["shape"]) for t in plain["outputs"]] == [("doubled", [1, 3])]


def test_a_verdict_about_one_output_is_certified_and_can_be_checked(tmp_path: Path) -> None:
    """The property speaks of two numbers; the file has a label as well, and no widths."""
    model, certificate = two_outputs(tmp_path / "m"), tmp_path / "c"
    holds, fails = property_file(tmp_path / "p"), property_file(tmp_path / "q", "(assert (>= Y_0 1.5))")
    choice = ["--output", "scores", "--shape", "width=2", "--timeout", "60"]
    done = command("verify", model, holds, *choice, "--certificate", certificate)
    assert done.returncode == 0 and done.stdout == "unsat\n"
    assert f"the verdict is about {certificate}.onnx: {model} with --output scores" in done.stderr
    assert "\nm (--output scores --shape width=2) satisfies p: " in done.stderr
    again = command("check", f"{certificate}.onnx", holds, certificate)
    assert again.returncode == 0 and again.stdout.startswith("ACCEPTED {")
    assert command("check", model, holds, certificate).returncode == 5  # the certificate binds the file that was verified
    done = command("verify", model, fails, *choice, "--json", tmp_path / "j")
    assert done.returncode == 10 and done.stdout.startswith("sat\n")
    assert f"the verdict is about {model} with --output scores" in done.stderr and "specialised" not in done.stderr
    assert json.loads((tmp_path / "j").read_text())["statement"].startswith("m (--output scores --shape width=2) violates q: ")
    done = command("verify", model, holds, "--output", "logits", "--results-file", tmp_path / "r")
    assert done.returncode == 3 and done.stdout == "" and "no node makes" in done.stderr and (tmp_path / "r").read_text() == "error\n"
    done = command("verify", model, holds)
    assert done.returncode == 3 and done.stdout == "" and "give it a size (--shape width=N, or " in done.stderr


def test_messages_speak_of_the_file_that_was_given(tmp_path: Path) -> None:
    """Not of the one that --output and --shape write, which is gone by then."""
    model, prop = two_outputs(tmp_path / "m"), property_file(tmp_path / "p")
    for choice, why in (
        (["--shape", "width=3"], "the property declares 2 input"),
        (["--output", "label", "--shape", "width=2"], "1 outputs"),
        (["--shape", "batch=2"], "axis 1 of input 'x' is dynamic ('width')"),
    ):
        for arguments in (["verify", model, prop, "--certificate", tmp_path / "c"], ["verify", model, prop], ["inspect", model, "--property", prop]):
            code, out, err = in_process(*map(str, arguments), *choice)
            assert code == 3 and why in out + err
            assert f"{model} ({' '.join(choice)})" in err or (arguments[0] == "inspect" and model not in err)
            assert "specialised" not in out + err and all("the verdict is about" in line for line in err.splitlines() if "c.onnx" in line)
