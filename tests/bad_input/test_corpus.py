"""Every malformed file gets the error that says what is wrong, from both readers, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from graph.errors import ModelError
from graph.load import load
from specs.errors import PropertyError
from specs.vnnlib import read
from tests.bad_input.make import GOOD, MODELS, PROPERTIES, UNSAFE, box, main
from tests.soundproof.test_command import in_process
from verifier.checker import read_model, read_property2
from verifier.checker.refusal import Refusal


def test_the_corpus_is_as_large_as_asked_and_can_be_written(tmp_path: Path) -> None:
    assert len(MODELS) >= 40 and len(PROPERTIES) >= 40
    assert main(tmp_path) == len(MODELS) + len(PROPERTIES)
    assert len((tmp_path / "EXPECTED.txt").read_text().splitlines()) == len(list(tmp_path.iterdir())) - 1
    assert load(GOOD).outputs[0].name == "y" and len(read_model.read(GOOD).outputs) == 1  # what the malformed ones are made of is good


@pytest.mark.parametrize("name", MODELS)
def test_malformed_models(name: str, tmp_path: Path) -> None:
    build, message = MODELS[name]
    path = tmp_path / "m.onnx"
    path.write_bytes(build())
    with pytest.raises(ModelError) as error:
        load(path)
    assert message in str(error.value) and str(path) in str(error.value) and message
    with pytest.raises(Refusal):
        read_model.read(build())


@pytest.mark.parametrize("name", PROPERTIES)
def test_malformed_properties(name: str, tmp_path: Path) -> None:
    text, message = PROPERTIES[name]
    path = tmp_path / "p.vnnlib"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(PropertyError) as error:
        read(path)
    assert message in str(error.value) and str(path) in str(error.value) and message
    with pytest.raises(Refusal):
        read_property2.read(path.read_bytes())


def test_the_command_ends_with_3_and_the_message(tmp_path: Path) -> None:
    main(tmp_path)
    (tmp_path / "good.vnnlib").write_text(box() + UNSAFE)
    (tmp_path / "good.onnx").write_bytes(GOOD)
    for model, prop, message in (("cycle", "good", MODELS["cycle"][1]), ("good", "product", PROPERTIES["product"][1])):
        code, out, err = in_process("verify", str(tmp_path / f"{model}.onnx"), str(tmp_path / f"{prop}.vnnlib"))
        assert code == 3 and out == "" and message in err and "Traceback" not in err
