"""Witnesses as tensors: `--serialise-assignments DIR` writes what onnx reads, and what onnxruntime computes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper

from tests.soundproof.test_command import command, in_process
from tests.soundproof.test_queries import network, query
from verifier.result import Assignment
from verifier.tensor_file import refusal, tensor_proto, write_assignments


@pytest.mark.parametrize("shape", [(), (1,), (3,), (2, 3), (1, 200, 1), (0,)])
@pytest.mark.parametrize("name", ["X", "a_name_of_some_length" * 10])
def test_onnx_reads_what_is_written(shape: tuple[int, ...], name: str) -> None:
    values = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    values.ravel()[:1] = np.float32(1e-45)  # the least subnormal number survives
    tensor = onnx.TensorProto.FromString(tensor_proto(Assignment(name, shape, tuple(values.ravel().astype(float).tolist()))))
    assert (tensor.name, tuple(tensor.dims), tensor.data_type) == (name, shape, onnx.TensorProto.FLOAT)
    read = numpy_helper.to_array(tensor)
    assert read.dtype == np.float32 and read.tobytes() == values.tobytes()


def test_a_witness_is_written_and_only_the_verdict_printed(tmp_path: Path) -> None:
    model, prop = network(tmp_path / "m.onnx"), query(tmp_path / "q.vnnlib", "(>= total[0,0] 3.75)")
    done = command("verify", prop, "--network", f"plant={model}", "--serialise-assignments", tmp_path / "out", "--quiet", "--timeout", "100")
    assert (done.returncode, done.stdout) == (10, "sat\n"), done.stderr
    tensors = {file.stem: numpy_helper.to_array(onnx.load_tensor(str(file))) for file in (tmp_path / "out").iterdir()}
    assert set(tensors) == {"u", "gain", "total", "rest"} and tensors["u"].shape == (1, 2)
    a, b = onnxruntime.InferenceSession(model).run(None, {"x": tensors["u"], "s": tensors["gain"]})
    assert a.tobytes() == tensors["total"].tobytes() and b.tobytes() == tensors["rest"].tobytes() and a[0, 0] >= 3.75


def test_tensors_of_another_run_are_not_taken_for_an_answer(tmp_path: Path) -> None:
    model, prop = network(tmp_path / "m.onnx"), query(tmp_path / "q.vnnlib", "(>= total[0,0] 3.75)")
    write_assignments(str(tmp_path / "out"), [Assignment("X", (1,), (0.0,))])
    code, out, err = in_process("verify", prop, "--network", f"plant={model}", "--serialise-assignments", str(tmp_path / "out"))
    assert code == 2 and out == "" and "another run" in err
    assert refusal(str(tmp_path / "m.onnx")) is not None and refusal(str(tmp_path / "no" / "such")) is not None
    (tmp_path / "empty").mkdir()
    assert refusal(str(tmp_path / "empty")) is None and refusal(str(tmp_path / "new")) is None


def test_a_folder_that_breaks_meanwhile_does_not_cost_the_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, prop = network(tmp_path / "m.onnx"), query(tmp_path / "q.vnnlib", "(>= total[0,0] 3.75)")

    def full(folder: str, assignments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("verifier.tensor_file.write_assignments", full)
    code, out, err = in_process("verify", prop, "--network", f"plant={model}", "--serialise-assignments", str(tmp_path / "out"), "--timeout", "100")
    assert code == 10 and out.splitlines()[:2] == ["sat", "u float32 [1,2]"] and "No space left" in err


def test_the_capability_is_told() -> None:
    assert in_process("supports", "--serialise-assignments")[:2] == (0, "true\n")
