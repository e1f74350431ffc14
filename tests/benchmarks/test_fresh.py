"""Fresh instances are what they say: a network, a box around a point that it classifies as the property wants, the same for the same seed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from benchmarks import fresh
from benchmarks.instances import read_instances
from specs.vnnlib import read


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fresh, "STEPS", 20)
    monkeypatch.setattr(fresh, "HALVINGS", 4)
    monkeypatch.setattr(fresh, "RESTARTS", 4)


def test_a_folder_of_instances(tmp_path: Path) -> None:
    said: list[str] = []
    fresh.build(tmp_path / "new", 3, len(fresh.KINDS), said.append)
    found = read_instances(tmp_path / "new")
    assert sorted(i.category for i in found) == sorted(fresh.KINDS) and len(said) == len(fresh.KINDS)
    for instance in found:
        network, prop = instance.files()
        (case,) = read(str(prop)).cases
        (box,) = case.boxes
        centre = np.array([(float(a) + float(b)) / 2 for a, b in zip(box.lower, box.upper, strict=True)], np.float32)
        session = onnxruntime.InferenceSession(str(network), providers=["CPUExecutionProvider"])
        (outputs,) = session.run(None, {"X": centre.reshape(session.get_inputs()[0].shape)})
        (atom,) = case.atoms
        assert sum(float(c) * outputs[0, j] for _, j, c in atom.terms) > float(atom.bound), instance.name
    with pytest.raises(FileExistsError):
        fresh.build(tmp_path / "new", 3, 1, said.append)


def test_an_instance_depends_on_its_seed_and_number_only() -> None:
    first, again, other = fresh.instance(5, 9), fresh.instance(5, 9), fresh.instance(6, 9)
    assert first == again and first[0] == other[0] and first[1:] != other[1:]
