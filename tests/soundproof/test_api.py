"""`soundproof.verify` and `soundproof.compute_bounds` for what a program holds: modules, protobufs, texts, built properties."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

import soundproof
from graph.errors import ModelError
from soundproof import api
from specs.errors import PropertyError
from verifier.options import OptionError


def module() -> torch.nn.Module:
    """y = [relu(a - b), relu(b - a)]"""
    layer = torch.nn.Linear(2, 2)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[1.0, -1.0], [-1.0, 1.0]]))
        layer.bias.zero_()
    return torch.nn.Sequential(layer, torch.nn.ReLU()).eval()


def written(tmp_path: Path) -> onnx.ModelProto:
    return onnx.load(api._model_file(module(), torch.zeros(1, 2), str(tmp_path / "m.onnx")))


def test_a_module_and_a_built_property() -> None:
    holds = soundproof.output_range(soundproof.box([0, 0], [1, 0.5]), [None, -0.5], [1.25, 0.75])
    found = soundproof.verify(module(), holds, example=torch.zeros(1, 2), timeout=600, threads=1)
    assert (found.verdict, found.assurance) == ("unsat", "certified")


class Scaled(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"y": x * 10 if self.training else x}


@pytest.mark.parametrize("part", [torch.nn.Dropout(0.5), torch.nn.BatchNorm1d(2), Scaled()])
def test_a_module_in_training_mode_is_refused_where_that_makes_a_difference(tmp_path: Path, part: torch.nn.Module) -> None:
    """What was verified was its evaluation mode, without a word; a layer without such a mode is exported as ever."""
    trained = torch.nn.Sequential(torch.nn.Linear(2, 2), part).train()
    for example in (torch.zeros(1, 2), torch.ones(3, 2)):
        with pytest.raises(ModelError, match="training mode"):
            api._model_file(trained, example, str(tmp_path / "m.onnx"))
    assert all(one.training for one in trained.modules())
    if not isinstance(part, Scaled):
        api._model_file(trained.eval(), torch.zeros(1, 2), str(tmp_path / "m.onnx"))
    api._model_file(torch.nn.Sequential(torch.nn.Linear(2, 2)).train(), torch.zeros(1, 2), str(tmp_path / "m.onnx"))


def test_a_protobuf_and_a_text_with_a_certificate(tmp_path: Path) -> None:
    text = "(vnnlib-version <2.0>)(declare-network N (declare-input X real [1,2]) (declare-output Y real [1,2]))"
    text += "(assert (and (>= X[0,0] 0.0) (<= X[0,0] 1.0) (>= X[0,1] 0.0) (<= X[0,1] 1.0)))(assert (>= (* Y[0,0] Y[0,0]) 0.5))"
    found = soundproof.verify(written(tmp_path), text, certificate=str(tmp_path / "c"), timeout=600, threads=1)
    assert found.verdict == "sat" and found.witness.outputs is not None and found.witness.outputs[0].values[0] ** 2 >= 0.5
    assert (tmp_path / "c.vnnlib").read_text() == text and (tmp_path / "c.onnx").exists()


def test_a_property_of_2_0_that_was_read_is_written_as_it_is(tmp_path: Path) -> None:
    read = soundproof.read_property(Path(__file__).parents[2] / "examples" / "queries" / "farther.vnnlib")
    path = api._property_file(read, str(tmp_path / "q.vnnlib"))
    again = soundproof.read_property(path)
    assert again.query == read.query and len(again.cases) == len(read.cases) == 1 and again.inputs == read.inputs
    text = tmp_path / "q.vnnlib"
    assert api._property_file(text.read_text(), str(tmp_path / "r.vnnlib")) == str(tmp_path / "r.vnnlib")
    assert api._property_file(text, "r") == str(text)


def test_bounds_of_all_tensors(tmp_path: Path) -> None:
    model = written(tmp_path)
    for method in ("crown", "interval"):
        found = soundproof.compute_bounds(model, [[-1, 0]], [[1, 0.5]], method=method)
        assert {name for node in model.graph.node for name in node.output} <= found.keys()
        low, high = found[model.graph.output[0].name]
        assert low.shape == (2,) and (low <= 0).all() and (high >= [1, 1.5]).all() and (high <= np.array([1.01, 1.51])).all()
    with pytest.raises(ValueError, match="unknown method"):
        soundproof.compute_bounds(model, [0, 0], [1, 1], method="guess")


def test_what_is_no_model_is_refused() -> None:
    with pytest.raises(TypeError, match="a path, a ModelProto or a torch"):
        soundproof.verify(3, "p.vnnlib")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="pass it as `example`"):
        soundproof.verify(module(), "p.vnnlib")


@pytest.mark.parametrize("wrong", [{"timeout": "10"}, {"timeout": True}, {"nodes": 1.5}, {"threads": None}, {"seed": 0.5}])
def test_options_of_another_type_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(OptionError, match="--"):
        soundproof.verify("examples/brake.onnx", "examples/far_and_slow.vnnlib", **wrong)


def test_nothing_to_verify() -> None:
    with pytest.raises(TypeError, match="no network"):
        soundproof.verify({}, "examples/far_and_slow.vnnlib")
    with pytest.raises(PropertyError, match="empty"):
        soundproof.verify("examples/brake.onnx", "")
