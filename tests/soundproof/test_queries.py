"""VNN-LIB 2.0 from outside: a network of two inputs and two outputs is decided, certified, and its witness printed with the declared names."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from benchmarks import replay
from graph.errors import ModelError
from specs.errors import PropertyError
from tests.soundproof.test_command import command, in_process
from verifier.options import Options
from verifier.worker import decide

BOX = "(assert (and (>= u[0,0] -1.0) (<= u[0,0] 1.0) (>= u[0,1] -1.0) (<= u[0,1] 1.0) (>= gain[0] 0.5) (<= gain[0] 2.0)))\n"


def network(path: Path, kind: int = TensorProto.FLOAT) -> str:
    """a = relu(x0 + x1) + s, b = [x0 - s, x1]; x [1, 2] and s [1] in, a [1, 1] and b [1, 2] out."""
    dtype = helper.tensor_dtype_to_np_dtype(kind)
    weights = {"w": [[1.0], [1.0]], "v": [[1.0, 0.0]]}
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["z"]),
        helper.make_node("Relu", ["z"], ["r"]),
        helper.make_node("Add", ["r", "s"], ["a"]),
        helper.make_node("Mul", ["v", "s"], ["vs"]),
        helper.make_node("Sub", ["x", "vs"], ["b"]),
    ]
    ins, outs = (
        [helper.make_tensor_value_info(name, kind, shape) for name, shape in some]
        for some in ((("x", ["batch", 2]), ("s", [1])), (("a", ["batch", 1]), ("b", ["batch", 2])))
    )
    stored = [numpy_helper.from_array(np.array(value, dtype), name) for name, value in weights.items()]
    onnx.save(helper.make_model(helper.make_graph(nodes, "g", ins, outs, stored), opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)
    return str(path)


def query(path: Path, unsafe: str, kind: str = "float32", box: str = BOX) -> str:
    tensors = ("input u {} [1,2]", "input gain {} [1]", "output total {} [1,1]", "output rest {} [1,2]")
    declared = "\n".join(f"  (declare-{tensor.format(kind)})" for tensor in tensors)
    path.write_text(f"(vnnlib-version <2.0>)\n(declare-network plant\n{declared})\n{box}(assert {unsafe})\n")
    return str(path)


def test_a_witness_has_the_declared_names(tmp_path: Path) -> None:
    model, prop = network(tmp_path / "m.onnx"), query(tmp_path / "q.vnnlib", "(and (>= total[0,0] 3.75) (>= (- rest[0,1] u[0,0]) -0.25))")
    done = command("verify", prop, "--network", f"plant={model}", "--results-file", tmp_path / "r", "--json", tmp_path / "j", "--timeout", "100")
    lines = done.stdout.splitlines()
    assert done.returncode == 10, done.stderr
    assert [lines[i] for i in (0, 1, 4, 6, 8)] == ["sat", "u float32 [1,2]", "gain float32 [1]", "total float32 [1,1]", "rest float32 [1,2]"]
    u, gain, total, rest = (np.array(lines[a:b], np.float32) for a, b in ((2, 4), (5, 6), (7, 8), (9, 11)))
    a, b = onnxruntime.InferenceSession(model).run(None, {"x": u.reshape(1, 2), "s": gain})
    assert a.ravel().tolist() == total.tolist() and b.ravel().tolist() == rest.tolist() and a[0, 0] >= 3.75 and b[0, 1] - u[0] >= -0.25
    results = (tmp_path / "r").read_text()
    assert [line for line in results.splitlines() if " " in line] == [line for line in lines if " " in line]
    assert [float(v) for v in results.splitlines()[2:4]] == u.astype(float).tolist()
    assert replay.judge(tmp_path / "m.onnx", tmp_path / "q.vnnlib", results).text == "VIOLATED (inside the exact decimal box)"
    plain = json.loads((tmp_path / "j").read_text())
    assert [w["name"] for w in plain["witness"]["inputs"]] == ["u", "gain"] and plain["property"]["name"] == "2.0"
    assert plain["models"][0]["name"] == "plant"


def test_unsat_is_certified_for_the_declared_type(tmp_path: Path) -> None:
    model, prop = network(tmp_path / "m"), query(tmp_path / "q", "(or (> total[0,0] 4.25) (!= (+ rest[0,0] gain[0]) (+ rest[0,0] gain[0])))")
    done = command("verify", model, prop, "--json", tmp_path / "j", "--certificate", tmp_path / "c", "--results-file", tmp_path / "r")
    assert (done.returncode, done.stdout, (tmp_path / "r").read_text()) == (0, "unsat\n", "unsat\n"), done.stderr
    plain = json.loads((tmp_path / "j").read_text())
    assert (plain["assurance"], plain["semantics"]) == ("certified", "float32") and "float32 execution" in plain["statement"]
    again = command("check", model, prop, tmp_path / "c")
    assert again.returncode == 0 and '"semantics": "float32"' in again.stdout


class Channel:
    """Stands for the channel to the watchdog."""

    def send(self, message: dict[str, object]) -> None:
        json.dumps(message, allow_nan=False)


def run(model: str, prop: str, **options: object) -> dict[str, object]:
    message = decide(Options(model, prop, threads=1, **options), Channel(), str(Path(prop).parent))  # type: ignore[arg-type]
    return dict(message["proof"] if "proof" in message else message["result"])


def test_real_asks_for_less(tmp_path: Path) -> None:
    model, prop = network(tmp_path / "m"), query(tmp_path / "q", "(> total[0,0] 4.25)", "real")
    plain, strong = run(model, prop), run(model, prop, semantics="float32")
    assert (plain["verdict"], plain["semantics"], strong["semantics"]) == ("unsat", "real", "float32")
    sat = run(model, query(tmp_path / "q", "(>= total[0,0] 3.5)", "real"))
    assert [a["element_type"] for a in sat["witness"]["inputs"]] == ["real", "real"]  # type: ignore[index]
    double = network(tmp_path / "d", TensorProto.DOUBLE)
    assert run(double, query(tmp_path / "q", "(> total[0,0] 4.25)", "real"))["verdict"] == "unsat"


REFUSED = {
    "another name": ("declares the network plant, and --network names other", {"network": "other"}, {}),
    "reals are not enough": ("--semantics real would not say that", {"semantics": "real"}, {}),
    "a double network": ("'x' of the network", {}, {"kind": TensorProto.DOUBLE}),
    "another shape": ("declares the input u as float32 [2, 1]", {}, {"old": "u float32 [1,2]", "new": "u float32 [2,1]"}),
    "another order": ("declares the input gain", {}, {"old": "(declare-input u float32 [1,2])", "new": ""}),
    "an output too few": ("declares 1 outputs", {}, {"old": "(declare-output rest float32 [1,2])", "new": ""}),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_does_not_fit_is_refused(tmp_path: Path, name: str) -> None:
    message, options, change = REFUSED[name]
    prop = Path(query(tmp_path / "q", "(>= total[0,0] 3.5)"))
    if name == "another order":
        second = "(declare-input gain float32 [1])"
        prop.write_text(prop.read_text().replace(str(change["old"]), "").replace(second, second + str(change["old"])))
    elif "old" in change:
        prop.write_text(prop.read_text().replace(str(change["old"]), str(change["new"])).replace("u[0,1]", "u[1,0]" if "shape" in name else "u[0,1]"))
    with pytest.raises((PropertyError, ModelError), match=message.replace("[", r"\[")):
        run(network(tmp_path / "m", change.get("kind", TensorProto.FLOAT)), str(prop), **options)  # type: ignore[arg-type]


def test_a_solver_over_the_reals_is_not_trusted_about_float32() -> None:
    trusted = {
        (engine, semantics): Options("m", "q", engine=engine, trust=("smt", "milp"), semantics=semantics).trusts_solver
        for engine in ("smt", "milp", "smt-float32") for semantics in ("real", "float32") if (engine, semantics) != ("smt-float32", "real")
    }  # fmt: skip
    assert [pair for pair, word in trusted.items() if word] == [("smt", "real"), ("milp", "real"), ("smt-float32", "float32")]


def test_capabilities_are_true() -> None:
    said = {flag: in_process("supports", flag)[1].split() for flag in (
        "--vnnlib-versions", "--onnx-element-types", "--multiple-input-output-theories", "--hidden-node-theories", "--multiple-network-theories",
        "--multiple-node-comparison-theories", "--arithmetic-complexity-theories",
    )}  # fmt: skip
    assert list(said.values()) == [
        ["1.0", "2.0"], ["float32", "real"], ["SIO", "MIO"], ["NH", "H"], ["SNET", "MENET", "MINET", "MNET"], ["SNC", "MNC"],
        ["BND", "OUTC", "LIN", "POLY"],
    ]  # fmt: skip
