"""ai.onnx.ml and com.microsoft: linear models and fused operators against onnxruntime, and what skl2onnx writes for a classifier."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from graph_models import floats, node
from onnx import TensorProto, helper, numpy_helper
from skl2onnx import to_onnx
from sklearn.compose import ColumnTransformer
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, SGDClassifier
from sklearn.naive_bayes import GaussianNB
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, Normalizer, PolynomialFeatures, RobustScaler, StandardScaler

from graph.errors import ModelError
from graph.load import Model, load
from graph.selfcheck import compare
from verifier.checker import read_model

LEARNING, CONTRIBUTED = "ai.onnx.ml", "com.microsoft"
TWO = {"coefficients": [1.0, -0.5, 2.0], "intercepts": [0.25], "classlabels_ints": [0, 1]}
THREE = {"coefficients": [0.5, -1.0, 2.0, 1.0, 0.25, -0.75, -1.5, 1.0, 0.0], "intercepts": [0.1, -0.2, 0.3], "classlabels_ints": [4, 7, 2]}
CASES: list[tuple[str, str, tuple[int, ...], dict[str, Any], dict[str, Any]]] = [
    (LEARNING, "Scaler", (2, 3), {}, {"offset": [0.5, -1.0, 2.0], "scale": [2.0, 0.25, -1.0]}),
    (LEARNING, "Scaler", (2, 3), {}, {"offset": [0.5], "scale": [2.0]}),
    (LEARNING, "Normalizer", (2, 3), {}, {"norm": "L2"}),
    (LEARNING, "Normalizer", (2, 3), {}, {"norm": "L1"}),
    (LEARNING, "Binarizer", (2, 3), {}, {"threshold": 0.25}),
    (LEARNING, "LinearRegressor", (2, 3), {}, {"coefficients": [1.0, -2.0, 0.5, 3.0, 0.25, 1.5], "intercepts": [0.5, -1.0], "targets": 2}),
    (LEARNING, "LinearClassifier", (2, 3), {}, {**THREE, "post_transform": "SOFTMAX"}),
    (LEARNING, "LinearClassifier", (2, 3), {}, {**TWO, "post_transform": "LOGISTIC"}),
    (LEARNING, "ArrayFeatureExtractor", (2, 3), {"i": np.array([[2, 0]])}, {}),
    (CONTRIBUTED, "FusedMatMul", (2, 3, 4), {"w": floats(2, 5, 4)}, {"transB": 1, "alpha": 0.5}),
    (CONTRIBUTED, "FusedMatMul", (2, 3, 4), {"w": floats(3, 2, 5)}, {"transA": 1, "transBatchA": 1, "alpha": 2.0}),
    (CONTRIBUTED, "FusedGemm", (2, 3), {"w": floats(3, 4), "b": floats(4)}, {"activation": "LeakyRelu", "activation_alpha": 0.2}),
    (CONTRIBUTED, "FusedConv", (1, 2, 5, 5), {"w": floats(3, 2, 3, 3), "b": floats(3)}, {"activation": "Relu", "pads": [1, 1, 1, 1]}),
    (CONTRIBUTED, "FusedConv", (1, 2, 5, 5), {"w": floats(3, 2, 3, 3)}, {"activation": "Clip", "activation_params": [-0.5, 1.0]}),
]


def built(domain: str, kind: str, shape: tuple[int, ...], weights: dict[str, Any], attributes: dict[str, Any]) -> Model:
    """The operator with every output behind a Cast to float32."""
    raw = ["raw0", "raw1"] if kind == "LinearClassifier" else ["raw0"]
    step = node(kind, ["x", *weights], raw, **attributes)
    step.domain = domain
    graph = helper.make_graph(
        [step, *(node("Cast", [name], [f"y{i}"], to=1) for i, name in enumerate(raw))],
        "test",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(f"y{i}", TensorProto.FLOAT, None) for i in range(len(raw))],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in weights.items()],
    )
    opsets = [helper.make_opsetid("", 15), helper.make_opsetid(LEARNING, 3), helper.make_opsetid(CONTRIBUTED, 1)]
    return load(helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString())


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case[1]}-{'-'.join(case[4])}")
def test_operator_agrees_with_onnxruntime(case: Any) -> None:
    loaded = built(*case)
    found = compare(loaded, [{"x": floats(*case[2], seed=k)} for k in range(3)])
    assert found.compared > 0 and found.skipped == 0


@pytest.mark.parametrize(
    ("kind", "attributes", "says"),
    [
        ("Normalizer", {"norm": "MAX"}, "MAX"),
        ("LinearRegressor", {"coefficients": [1.0, 2.0], "targets": 1}, "2 coefficients"),
        ("LinearClassifier", {**THREE, "post_transform": "PROBIT"}, "PROBIT"),
        ("Scaler", {"offset": [1.0, 2.0]}, "2 offsets"),
        ("TreeEnsembleRegressor", {}, "tree ensembles"),
        ("Imputer", {"imputed_value_floats": [1.0], "replaced_value_float": 0.0}, "NaN and infinities"),
    ],
)
def test_other_forms_are_refused(kind: str, attributes: dict[str, Any], says: str) -> None:
    with pytest.raises(ModelError, match=says):
        built(LEARNING, kind, (2, 3), {}, attributes)


@pytest.mark.parametrize(("classes", "outputs"), [([0, 1, 5], 2), ([3, 4], 2), (["a", "b", "c"], 1)])
def test_a_classifier_of_scikit_learn_loads(classes: list[Any], outputs: int) -> None:
    """Its default export: doubles, a label and a list of dictionaries. The label is an output where it is a number."""
    points = np.random.default_rng(0).normal(size=(40, 4))
    labels = np.array(classes)[(np.arange(40) * 7) % len(classes)]
    trained = MLPClassifier((5,), max_iter=3, random_state=0).fit(points, labels)
    proto = to_onnx(trained, points[:1])
    assert any(n.op_type == "ZipMap" for n in proto.graph.node) and proto.graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.DOUBLE
    loaded = load(proto.SerializeToString())
    assert len(loaded.outputs) == outputs and sum("ZipMap" in note for note in loaded.notes) == 1
    assert sum("strings" in note for note in loaded.notes) == 2 - outputs
    found = compare(loaded, [{"X": points[k]} for k in range(5)])
    assert found.compared > 0 and found.skipped == 0


PIPELINES: list[list[Any]] = [
    [StandardScaler(), LogisticRegression()],
    [SimpleImputer(), MinMaxScaler(), MLPClassifier((5,), max_iter=3, random_state=0)],
    [Normalizer("l1"), MLPClassifier((5,), activation="tanh", max_iter=3, random_state=0)],
    [PCA(2), PolynomialFeatures(2), SGDClassifier(random_state=0)],
    [ColumnTransformer([("s", StandardScaler(), [0, 1]), ("m", RobustScaler(), [2, 3])]), LinearDiscriminantAnalysis()],
    [GaussianNB()],
]


@pytest.mark.parametrize("texts", [False, True], ids=["numbers", "texts"])
@pytest.mark.parametrize("steps", PIPELINES, ids=lambda steps: "-".join(type(step).__name__ for step in steps))
def test_pipelines_of_scikit_learn(steps: list[Any], texts: bool) -> None:
    """With labels that are numbers or texts (which onnxruntime computes, and no bound speaks about)."""
    points = (np.random.default_rng(0).normal(size=(60, 4)) + np.arange(60)[:, None] % 3).astype(np.float32)
    labels = np.array(["a", "b", "c"] if texts else [0, 1, 2])[np.arange(60) % 3]
    data = to_onnx(make_pipeline(*steps).fit(points, labels), points[:1]).SerializeToString()
    found = compare(load(data), [{"X": points[k]} for k in range(3)])
    assert found.compared > 0
    read_model.read(data)  # the checker does, too
