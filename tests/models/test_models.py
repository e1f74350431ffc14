"""Whole models as exporters write them: small ones here, all in `make test-all`; the committed table keeps what was asked."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from benchmarks.models.export import ARCHITECTURES, File, files
from benchmarks.models.measure import measured
from benchmarks.models.run import COLUMNS, NARROW, ROOT, page
from graph.load import load
from graph.selfcheck import compare
from graph.specialise import specialise

TABLE = ROOT / "benchmarks/results/models.csv"
QUICK = {("GPT block", "torch.onnx, dynamo=False"), ("MLP classifier", "skl2onnx"), ("MLP regressor", "skl2onnx")}
LOAD_SECONDS, LOAD_BYTES, WIDTH = 120, 4e9, 20
# Missed, and said in docs/models.md: bounds of ResNet-18 in single precision, and of VGG-11 with intervals in hidden layers (*). In double
# precision and refined, both take more than a quarter of an hour and have not been bounded yet.
TOO_WIDE = {"ResNet-18", "VGG-11"}


def lines() -> list[dict[str, str]]:
    with TABLE.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        assert tuple(reader.fieldnames or ()) == COLUMNS
        return list(reader)


def written(file: File, folder: Path) -> Path:
    path = folder / "m.onnx"
    path.write_bytes(file.make(folder))
    if file.output:
        path.write_bytes(specialise(path, [file.output], {}))
    return path


@pytest.mark.parametrize("file", [f for f in files() if (f.name, f.exporter) in QUICK], ids=lambda f: f.name)
def test_small_models_agree_with_onnxruntime_and_get_bounds_that_contain_its_runs(file: File, tmp_path: Path) -> None:
    facts = measured(written(file, tmp_path), file.radius, file.image, samples=60, elements=8, products=1e12)
    assert facts["error"] == "" and facts["compared"] > 0
    assert facts["linear_width"] is not None and facts["linear_width"] <= facts["interval_width"] * (1 + 1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("file", files(), ids=lambda f: f"{f.name} {f.exporter}")
def test_every_file_loads_and_agrees_with_onnxruntime(file: File, tmp_path: Path) -> None:
    model = load(written(file, tmp_path))
    assert compare(model, [[[0.5] * info.size for info in model.inputs]]).compared > 0


def test_all_that_was_asked_is_built_by_both_exporters() -> None:
    asked = {"ResNet-18", "VGG-11", "MobileNetV2", "DenseNet block", "U-Net", "PointNet", "LSTM", "GRU", "ViT-tiny", "BERT-tiny", "GPT block"}
    asked |= {"GAN generator", "autoencoder"}
    assert ARCHITECTURES.keys() >= asked
    exporters = {(file.name, file.exporter) for file in files()}
    assert {(name, f"torch.onnx, dynamo={new}") for name in asked for new in (True, False)} <= exporters
    assert all(file.radius >= (1 / 255 if file.image else 0.001) for file in files())


def test_the_table_keeps_the_limits() -> None:
    found = lines()
    assert {(line["model"], line["exporter"]) for line in found} == {(file.name, file.exporter) for file in files()}
    for line in found:
        assert not line["error"], line
        assert float(line["load_seconds"]) <= LOAD_SECONDS and int(line["load_bytes"]) <= LOAD_BYTES, line
        if line["linear_seconds"] and line["model"] in NARROW:
            assert line["samples"] == "10000" and (float(line["linear_width"]) <= WIDTH) == (line["model"] not in TOO_WIDE), line


def test_the_page_is_made_of_the_table() -> None:
    assert (ROOT / "docs/models.md").read_text(encoding="utf-8") == "\n".join(page(lines())) + "\n", "run python -m benchmarks.models"
