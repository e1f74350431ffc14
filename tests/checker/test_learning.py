"""ai.onnx.ml as the checker reads it: against onnxruntime, with the sites of the engine; and what skl2onnx writes for a classifier."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from skl2onnx import to_onnx
from sklearn.neural_network import MLPClassifier

from graph.errors import ModelError
from graph.load import load
from tests.checker.test_lowering import agrees, check_roundings, check_sites, engine_sites, onnxruntime_says
from tests.graph.graph_models import floats, node
from verifier.checker import read_model
from verifier.checker.refusal import Rejected

LEARNING = "ai.onnx.ml"
TWO = {"coefficients": [1.0, -0.5, 2.0], "intercepts": [0.25], "classlabels_ints": [0, 1]}
THREE = {"coefficients": [0.5, -1.0, 2.0, 1.0, 0.25, -0.75, -1.5, 1.0, 0.0], "intercepts": [0.1, -0.2, 0.3], "classlabels_ints": [4, 7, 2]}
CASES: list[tuple[str, dict[str, Any], dict[str, Any], int]] = [
    ("Scaler", {}, {"offset": [0.5, -1.0, 2.0], "scale": [2.0, 0.25, -1.0]}, 0),
    ("Scaler", {}, {"offset": [0.5], "scale": [2.0]}, 0),
    ("Normalizer", {}, {"norm": "L2"}, 6),
    ("Normalizer", {}, {"norm": "L1"}, 4),
    ("Binarizer", {}, {"threshold": 0.25}, 1),
    ("LinearRegressor", {}, {"coefficients": [1.0, -2.0, 0.5, 3.0, 0.25, 1.5], "intercepts": [0.5, -1.0], "targets": 2}, 0),
    ("LinearClassifier", {}, {**THREE, "post_transform": "SOFTMAX"}, 6),
    ("LinearClassifier", {}, {**TWO, "post_transform": "LOGISTIC"}, 2),
    ("Imputer", {}, {"imputed_value_floats": [1.0], "replaced_value_float": math.nan}, 0),
    ("ArrayFeatureExtractor", {"i": np.array([[2, 0]])}, {}, 0),
]


def built(kind: str, weights: dict[str, Any], attributes: dict[str, Any]) -> bytes:
    raw = ["raw0", "raw1"] if kind == "LinearClassifier" else ["raw0"]
    step = node(kind, ["x", *weights], raw, **attributes)
    step.domain = LEARNING
    graph = helper.make_graph(
        [step, *(node("Cast", [name], [f"y{i}"], to=1) for i, name in enumerate(raw))],
        "test",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 3])],
        [helper.make_tensor_value_info(f"y{i}", TensorProto.FLOAT, None) for i in range(len(raw))],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in weights.items()],
    )
    opsets = [helper.make_opsetid("", 15), helper.make_opsetid(LEARNING, 3)]
    return bytes(helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString())


@pytest.mark.parametrize(("kind", "weights", "attributes", "sites"), CASES)
def test_operators(kind: str, weights: dict[str, Any], attributes: dict[str, Any], sites: int) -> None:
    data = built(kind, weights, attributes)
    network, x = read_model.read(data), floats(2, 3)
    assert agrees(network, [x], onnxruntime_says(data, {"x": x}))
    check_roundings(network)
    assert check_sites(engine_sites(data), network) == sites


def test_a_model_of_another_domain_alone() -> None:
    proto = onnx.ModelProto.FromString(built("Binarizer", {}, {"threshold": 0.5}))
    del proto.graph.node[1:], proto.opset_import[0]
    proto.graph.output[0].name = "raw0"
    data, x = proto.SerializeToString(), floats(2, 3)
    assert agrees(read_model.read(data), [x], onnxruntime_says(data, {"x": x})) and load(data).outputs[0].name == "raw0"
    del proto.opset_import[:]
    for reader in (read_model.read, load):
        with pytest.raises((Rejected, ModelError), match="versions"):
            reader(proto.SerializeToString())


@pytest.mark.parametrize(("kind", "attributes"), [("Normalizer", {"norm": "MAX"}), ("TreeEnsembleRegressor", {}), ("Scaler", {"offset": [1.0, 2.0]})])
def test_other_forms_are_refused(kind: str, attributes: dict[str, Any]) -> None:
    with pytest.raises(Rejected, match=kind):
        read_model.read(built(kind, {}, attributes))


@pytest.mark.parametrize("classes", [[0, 1, 5], [3, 4], ["a", "b", "c"]])
def test_a_classifier_of_scikit_learn(classes: list[Any]) -> None:
    """Engine and checker see the same outputs: numbers, the probabilities in the place of a list of dictionaries."""
    points = np.random.default_rng(0).normal(size=(40, 4))
    trained = MLPClassifier((5,), max_iter=3, random_state=0).fit(points, np.array(classes)[(np.arange(40) * 7) % len(classes)])
    data = to_onnx(trained, points[:1]).SerializeToString()
    network, loaded = read_model.read(data), load(data)
    assert network.output_names == tuple(info.name for info in loaded.outputs)
    assert agrees(network, [points[:1]], onnxruntime_says(loaded.onnx_bytes, {"X": points[:1]}))
    assert check_sites(engine_sites(data), network) > 0
    proto = onnx.ModelProto.FromString(data)
    del proto.graph.output[1]
    if proto.graph.output[0].type.tensor_type.elem_type == TensorProto.STRING:
        with pytest.raises(Rejected, match="no outputs"):
            read_model.read(proto.SerializeToString())
