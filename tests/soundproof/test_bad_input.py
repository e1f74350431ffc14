"""Every kind of unusable input of the issue's list: a clear error of ours, exit code 3, nothing on standard output."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

from graph.errors import ModelError
from specs.errors import PropertyError
from tests.soundproof.networks import property_file, relu_network, save
from verifier.options import Options
from verifier.worker import decide

ROOT = Path(__file__).resolve().parents[2]
Pair = tuple[str, str]


class Recorder:
    """Stands for the channel to the watchdog."""

    def __init__(self) -> None:
        self.messages: list[dict[str, Any]] = []

    def send(self, message: dict[str, Any]) -> None:
        self.messages.append(json.loads(json.dumps(message, allow_nan=False)))


def run(pair: Pair) -> dict[str, Any]:
    message: dict[str, Any] = decide(Options(*pair, threads=1), Recorder(), str(Path(pair[1]).parent))  # type: ignore[arg-type]
    return dict(message["proof"] if "proof" in message else message["result"])


def missing_model(folder: Path) -> Pair:
    return str(folder / "nowhere.onnx"), property_file(folder / "p")


def a_folder(folder: Path) -> Pair:
    return str(folder), property_file(folder / "p")


def truncated_model(folder: Path) -> Pair:
    model = Path(relu_network(folder / "m"))
    model.write_bytes(model.read_bytes()[:-20])
    return str(model), property_file(folder / "p")


def truncated_gzip(folder: Path) -> Pair:
    packed = gzip.compress(Path(relu_network(folder / "m")).read_bytes())
    (folder / "m.onnx.gz").write_bytes(packed[: len(packed) // 2])
    return str(folder / "m.onnx.gz"), property_file(folder / "p")


def not_onnx(folder: Path) -> Pair:
    (folder / "m").write_text("this is not a network")
    return str(folder / "m"), property_file(folder / "p")


def empty_file(folder: Path) -> Pair:
    (folder / "m").write_bytes(b"")
    return str(folder / "m"), property_file(folder / "p")


def unknown_operator(folder: Path) -> Pair:
    return save(folder / "m", [helper.make_node("Det", ["x"], ["y"], "odd_one")], {}), property_file(folder / "p")


def dynamic_shape(folder: Path) -> Pair:
    return save(folder / "m", [helper.make_node("Relu", ["x"], ["y"])], {}, shape=(1, "width")), property_file(folder / "p")


def integer_input(folder: Path) -> Pair:
    kind = onnx.TensorProto.INT64
    return save(folder / "m", [helper.make_node("Identity", ["x"], ["y"])], {}, kind=kind), property_file(folder / "p")


def nan_weight(folder: Path) -> Pair:
    return relu_network(folder / "m", ((1.0, np.nan), (0.0, 1.0))), property_file(folder / "p")


def infinite_bias(folder: Path) -> Pair:
    return relu_network(folder / "m", bias=(np.inf, 0.0)), property_file(folder / "p")


def external(folder: Path, location: str, size: int | None) -> Pair:
    model = onnx.load(relu_network(folder / "m"))
    onnx.save(model, folder / "e.onnx", save_as_external_data=True, location="weights.bin", size_threshold=0)
    moved = onnx.load(folder / "e.onnx", load_external_data=False)
    for tensor in moved.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = location
    (folder / "e.onnx").write_bytes(moved.SerializeToString())
    if size is None:
        (folder / "weights.bin").unlink()
    else:
        (folder / "weights.bin").write_bytes((folder / "weights.bin").read_bytes()[:size])
    return str(folder / "e.onnx"), property_file(folder / "p")


def missing_external(folder: Path) -> Pair:
    return external(folder, "weights.bin", None)


def short_external(folder: Path) -> Pair:
    return external(folder, "weights.bin", 5)


def escaping_external(folder: Path) -> Pair:
    return external(folder, "../../../../etc/passwd", 10_000)


def with_property(**form: Any) -> Callable[[Path], Pair]:
    return lambda folder: (relu_network(folder / "m"), property_file(folder / "p", **form))


def with_text(text: str) -> Callable[[Path], Pair]:
    def make(folder: Path) -> Pair:
        (folder / "p").write_text(text)
        return relu_network(folder / "m"), str(folder / "p")

    return make


def missing_property(folder: Path) -> Pair:
    return relu_network(folder / "m"), str(folder / "nowhere.vnnlib")


DECLARED = "(declare-const X_0 Real)\n(declare-const X_1 Real)\n(declare-const Y_0 Real)\n(declare-const Y_1 Real)\n"
BAD: dict[str, tuple[Callable[[Path], Pair], type[Exception], str]] = {
    "missing model": (missing_model, ModelError, r"nowhere\.onnx"),
    "model is a folder": (a_folder, ModelError, "cannot be read"),
    "truncated model": (truncated_model, ModelError, "ONNX|truncated"),
    "truncated gzip": (truncated_gzip, ModelError, "gzip"),
    "not ONNX": (not_onnx, ModelError, "ONNX"),
    "empty file": (empty_file, ModelError, "ONNX"),
    "unknown operator": (unknown_operator, ModelError, "(?s)(?=.*Det)(?=.*odd_one)(?=.*13)(?=.*supports --onnx-operators)"),
    "dynamic shape": (dynamic_shape, ModelError, "width|dynamic|symbolic"),
    "integer input": (integer_input, ModelError, "(?i)int64|integer"),
    "NaN weight": (nan_weight, ModelError, "NaN"),
    "infinite bias": (infinite_bias, ModelError, "Inf"),
    "missing external data": (missing_external, ModelError, r"weights\.bin"),
    "short external data": (short_external, ModelError, r"weights\.bin"),
    "external data outside the folder": (escaping_external, ModelError, "passwd"),
    "missing property": (missing_property, PropertyError, r"nowhere\.vnnlib"),
    "more input variables": (with_property(inputs=3), PropertyError, "3 input.*2 inputs"),
    "fewer input variables": (with_property(inputs=1), PropertyError, "1 input.*2 inputs"),
    "more output variables": (with_property(outputs=3), PropertyError, "3 output.*2 outputs"),
    "fewer output variables": (with_property(outputs=1), PropertyError, "1 output.*2 outputs"),
    "variable without a bound": (with_text(DECLARED + "(assert (<= X_0 1))(assert (>= X_0 0))(assert (>= Y_0 5))"), PropertyError, "X_1"),
    "non-linear term": (with_property(unsafe="(assert (>= (* Y_0 Y_1) 5.0))"), PropertyError, "line 9, column"),
    "unbalanced parenthesis": (with_property(unsafe="(assert (>= Y_0 5.0)"), PropertyError, "line 9, column"),
    "nonsense": (with_text("hello"), PropertyError, "line 1, column 1"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_our_error(name: str, tmp_path: Path) -> None:
    make, kind, message = BAD[name]
    with pytest.raises(kind, match=message):
        run(make(tmp_path))


@pytest.mark.parametrize("name", ["truncated model", "unbalanced parenthesis", "more input variables"])
def test_the_command_says_it_and_exits_3(name: str, tmp_path: Path) -> None:
    results = tmp_path / "results"
    done = subprocess.run(
        [sys.executable, "-m", "soundproof", "verify", *BAD[name][0](tmp_path), "--results-file", str(results)],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=120,
    )
    assert done.returncode == 3 and done.stdout == "" and results.read_text() == "error\n"
    assert "Traceback" not in done.stderr and done.stderr.startswith("soundproof: ")


def test_float64_models_are_not_bad(tmp_path: Path) -> None:
    model = save(tmp_path / "m", [helper.make_node("Relu", ["x"], ["y"])], {}, kind=onnx.TensorProto.DOUBLE)
    assert run((model, property_file(tmp_path / "p")))["verdict"] == "unsat"


def test_vacuous_cases_prove_nothing(tmp_path: Path) -> None:
    found = run((relu_network(tmp_path / "m"), property_file(tmp_path / "p", upper="-2.0")))
    assert found["cases"] == {"total": 1, "closed": 1, "vacuous": 1, "open": 0}
    assert found["statement"].startswith("Nothing was proven")
