"""The checker's networks compute what other readers of ONNX compute, and name their sites as the engine does (ARITHMETIC 69)."""

from __future__ import annotations

import ast
import gzip
import re
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper, numpy_helper

from graph import core
from graph.errors import ModelError
from graph.evaluate import evaluate as engine_evaluate
from graph.load import load
from graph.simplify import recentre_softmax
from tests import onnx_cases
from tests.graph.graph_models import floats, model, node
from verifier.checker import lowering, read_model
from verifier.checker.lowering import LOWERINGS, elementwise, register
from verifier.checker.lowering.evaluate import evaluate
from verifier.checker.maps import Dense, Sparse
from verifier.checker.network import Affine, Constant, Elementwise, Input, MatMul, Network, Pieces, Product, Smooth
from verifier.checker.refusal import Rejected

Array = np.ndarray[Any, Any]
FOLDER = Path(lowering.__file__).parent
LONGEST, AVERAGE = 15, 18  # lines of code of what the registry names; of all of lowering/ for one operator, builder and registry included


# What a network computes


def values_of(network: Network, inputs: Sequence[Array]) -> list[Array]:
    """With the largest element of each row as the shift of every softmax, in their order: without shifts exp overflows."""
    for softmax in network.softmaxes:
        x = network.nodes[softmax.node].inputs[0]
        largest = np.full(softmax.rows, -np.inf)
        np.maximum.at(largest, softmax.row_of, evaluate(network, inputs)[x])
        shifted = replace(network.nodes[softmax.node], bias=-largest[softmax.row_of])  # type: ignore[call-arg]
        network = replace(network, nodes=(*network.nodes[: softmax.node], shifted, *network.nodes[softmax.node + 1 :]))
    return evaluate(network, inputs)


def agrees(network: Network, inputs: Sequence[Array], outputs: Sequence[Array], rtol: float = 1e-5, atol: float = 1e-6) -> bool:
    with np.errstate(all="ignore"):
        values = values_of(network, inputs)
    pairs = list(zip(network.outputs, outputs, strict=True))
    shapes = all(network.nodes[i].shape == np.shape(y) for i, y in pairs)
    return shapes and all(np.allclose(values[i].reshape(np.shape(y)), y, rtol, atol) for i, y in pairs)


def check_roundings(network: Network) -> None:
    """float32 has its say at the output of every operator, and about what the operator reads."""
    for i, x in enumerate(network.nodes):
        assert all(j < i for j in x.inputs)
        for j in x.inputs:
            y = network.nodes[j]
            assert y.place == x.place or y.rounding is not None or isinstance(y, Input | Constant), f"{x.place} reads {y.place}"
        if x.rounding is not None:
            assert all((j < i and network.nodes[j].place != x.place) or isinstance(network.nodes[j], Constant) for j in x.rounding.sources), x.place
    assert all(network.nodes[i].rounding is not None or isinstance(network.nodes[i], Input | Constant) for i in network.outputs)


# Sites


Sites = dict[tuple[str, int], tuple[str, int, tuple[int, ...]]]


def engine_sites(data: bytes) -> Sites | None:
    """Site -> kind, size and sizes of operands; None where the engine refuses the model."""
    try:
        graph = load(data).graph
    except ModelError:
        return None
    kinds = {"Elementwise": "Elementwise", "mul": "Product", "matmul": "MatMul"}
    found = {}
    for _, x in graph:
        if x.origin.site is not None:
            kind = x.kind if isinstance(x, core.Bilinear) else type(x).__name__
            found[x.origin.site] = kinds[kind], x.size, tuple(graph.nodes[j].size for j in x.inputs)
    return found


def checker_sites(network: Network) -> Sites:
    nodes = network.nodes
    return {site: (type(nodes[i]).__name__, nodes[i].size, tuple(nodes[j].size for j in nodes[i].inputs)) for site, i in network.sites.items()}


def check_sites(engine: Sites | None, network: Network) -> int:
    """Every site of the engine is one of the checker, of the same kind and sizes. The checker has more only at constants, and where no output
    depends on a node: a factor of a gate, kept for what float32 may be off."""
    ours, varies = checker_sites(network), set(network.inputs)
    assert engine is not None
    for i, x in enumerate(network.nodes):
        if varies.intersection(x.inputs):
            varies.add(i)
    assert {site: ours.get(site) for site in engine} == engine
    alive = set(network.outputs)
    for i in reversed(range(len(network.nodes))):
        alive |= set(network.nodes[i].inputs) if i in alive else set()
    for site in ours.keys() - engine.keys():
        i = network.sites[site]
        assert i not in alive or not varies.issuperset(network.nodes[i].inputs), f"{site} is no site of the engine"
    return len(engine)


# The cases that come with onnx

CAN_VARY = {"Add", "Sub", "Mul", "Div", "MatMul", "Max", "Min", "Sum", "Mean", "Concat", "Gemm"}
NO_CASE = {"Cast", "DepthToSpace", "GlobalLpPool", "Mod", "Range", "ReduceProd", "SpaceToDepth", "Upsample"}  # or a newer version: a form below
# All their cases are of sequences (tests/graph/composition_cases.py has forms), of types that are refused, of NaN and Inf (test_logic.py) or of
# integers as inputs (test_quantised.py).
REFUSED_CASES = {
    "CastLike", "ConcatFromSequence", "ConvInteger", "IsInf", "IsNaN", "QLinearConv", "SequenceAt", "SequenceConstruct", "SequenceEmpty",
    "SequenceErase", "SequenceInsert", "SequenceLength", "SequenceMap", "SplitToSequence",
}  # fmt: skip
OTHERS = ("ai.onnx.ml.", "com.microsoft.")  # operators of these domains: test_learning.py, test_contributed.py
# Elements of outputs that are others over the reals: -2.5 is -127.5 steps of 5/255, which rounds to even; float32 computes a longer step.
REALLY = {"test_dynamicquantizelinear": [(0, 3, 25)]}
# Why a case may be refused: other types than float32, empty tensors, versions without a release, and forms without a rule.
REFUSED = re.compile(
    r"type|of shape .*\b0\b|sizes \(0|index of shape \(0|version 2[78] |not on constants only|more than the first output|training mode|no inputs|"
    r"NaN or Inf|OneHot.*another type|which of them holds|Attention.*-infinity as an output|Scan.*version 8 |"
    r"(ConvInteger|QLinearConv).*constant data|Mod.*remainder of integers|"
    r"AveragePool.*count_include_pad|Clip.*limits|ConvTranspose.*output_shape|Pow.*not one exponent|Reshape.*allowzero|"
    r"Resize.*(another mode than nearest|align_corners|whole)"
)


def _variants(case: Any) -> Iterator[tuple[bytes, list[Array], list[Array]]]:
    """The case with its first input variable, with all (where all may be), and with none (the output made float32)."""
    proto, (inputs, outputs) = case.model, case.data_sets[0]
    kind, arrays = proto.graph.node[0].op_type, [np.asarray(x) for x in inputs if isinstance(x, np.ndarray | np.generic)]
    if len(arrays) != len(proto.graph.input) or len(arrays) != len(inputs) or any(isinstance(y, list) for y in outputs):
        return  # sequences have tests of their own
    expected = [numpy_helper.to_array(y) if isinstance(y, onnx.TensorProto) else np.array(y) for y in outputs]
    for i, element, value in REALLY.get(case.name, ()):
        expected[i][element] = value
    float_inputs = all(x.dtype == np.float32 for x in arrays)
    for variable in {0, 1, len(arrays)} if kind in CAN_VARY and float_inputs else {0, 1}:
        copy, infos = onnx.ModelProto.FromString(proto.SerializeToString()), list(proto.graph.input)
        del copy.graph.input[:]
        copy.graph.input.extend(infos[:variable])
        copy.graph.initializer.extend(numpy_helper.from_array(x, info.name) for x, info in zip(arrays[variable:], infos[variable:], strict=True))
        copy.opset_import[0].version = max(copy.opset_import[0].version, 7)
        given = arrays[:variable]
        if variable == 0:
            copy.graph.input.append(helper.make_tensor_value_info("unused_", onnx.TensorProto.FLOAT, [1]))
            given = [np.zeros(1, np.float32)]
            for i, name in enumerate([o.name for o in copy.graph.output]):
                if expected[i].dtype != np.float32:
                    copy.graph.node.append(node("Cast", [name], [f"{name}_float"], to=onnx.TensorProto.FLOAT))
                    copy.graph.output[i].name = f"{name}_float"
        yield copy.SerializeToString(), given, expected


def test_the_cases_of_onnx_agree_or_are_refused() -> None:
    """With the engine's sites, where there are sites: a network without any that agrees with its case is linear there."""
    wrong, passed, refused, compared = [], dict[str, int](), set[str](), 0
    for case in onnx_cases.cases():
        if case.model is None or len(case.model.graph.node) != 1 or (kind := case.model.graph.node[0].op_type) not in LOWERINGS:
            continue
        for data, inputs, outputs in _variants(case):
            try:
                network = read_model.read(data)
            except Rejected as error:
                refused.add(str(error))
                continue
            check_roundings(network)
            passed[kind] = passed.get(kind, 0) + 1
            if not agrees(network, inputs, outputs, case.rtol):
                wrong.append(f"{case.name} with {len(inputs)} inputs")
            if network.sites and inputs[0].size < 1_000 and (found := engine_sites(data)) is not None:
                compared += check_sites(found, network)
    assert wrong == []
    without = {kind for kind in LOWERINGS.keys() - passed.keys() if not kind.startswith(OTHERS)}
    assert without <= NO_CASE | REFUSED_CASES, sorted(without - NO_CASE - REFUSED_CASES)
    assert not REFUSED_CASES & passed.keys(), "these have a case now"
    assert sum(passed.values()) >= 500 and compared >= 60
    assert {why for why in refused if not REFUSED.search(why)} == set()


# Older versions of operators, and forms that have no case

INTS = {"a": np.array([1]), "b": np.array([3]), "two": np.array([2]), "p": np.array([0, 1, 0, 2]), "s": np.array([2, -1])}
IMAGE = floats(1, 4, 6, 5)
ONE = [
    ("Softmax", 7, (2, 3, 4), {"axis": 1}), ("Softmax", 11, (2, 3, 4), {"axis": -1}), ("Softmax", 13, (2, 3, 4), {"axis": 0}),
    ("Softmax", 7, (2, 6), {}),
    ("Clip", 7, (1, 6), {"min": -0.5, "max": 0.75}), ("Clip", 7, (1, 6), {"min": 0.0}), ("Clip", 10, (1, 6), {"max": 0.25}),
    ("Slice", 7, (2, 6), {"starts": [1, -9], "ends": [9, -1], "axes": [1, 0]}), ("Slice", 9, (4, 6), {"starts": [1], "ends": [-1]}),
    ("Pad", 7, (2, 3), {"pads": [0, 1, 2, 0], "value": 0.5}), ("Pad", 10, (2, 3), {"pads": [0, -1, 1, 0]}),
    ("Pad", 7, (2, 3), {"pads": [0, 2, 1, 1], "mode": "reflect"}), ("Pad", 7, (2, 3), {"pads": [0, 1, 2, 0], "mode": "edge"}),
    ("Squeeze", 7, (1, 3, 1), {"axes": [0]}), ("Squeeze", 11, (1, 3, 1), {"axes": [-1]}), ("Squeeze", 13, (1, 3, 1), {}),
    ("Unsqueeze", 7, (2, 3), {"axes": [0, 3]}), ("Unsqueeze", 12, (2, 3), {"axes": [-1]}), ("Split", 7, (6, 2), {"split": [6]}),
    ("ReduceSum", 7, (2, 3, 4), {"axes": [1]}), ("ReduceSum", 11, (2, 3, 4), {"axes": [-1, 0], "keepdims": 0}), ("ReduceSum", 7, (2, 3), {}),
    ("ReduceMean", 7, (2, 3, 4), {"axes": [2], "keepdims": 0}), ("ReduceMax", 7, (2, 3, 4), {"axes": [1]}),
    ("ReduceMin", 12, (2, 3, 4), {"axes": [0]}),
    ("Flatten", 7, (2, 3, 4), {"axis": 0}), ("Flatten", 11, (2, 3, 4), {"axis": -1}), ("Dropout", 7, (2, 3), {"ratio": 0.3}),
    ("Dropout", 13, (2, 3), {}),
    ("MaxPool", 7, (1, 2, 6, 5), {"kernel_shape": [3, 2], "strides": [2, 1], "pads": [1, 0, 1, 1]}),
    ("MaxPool", 12, (1, 2, 7, 7), {"kernel_shape": [3, 3], "strides": [2, 2], "ceil_mode": 1, "dilations": [1, 2], "pads": [1, 1, 1, 1]}),
    ("AveragePool", 7, (1, 2, 6, 5), {"kernel_shape": [3, 2], "pads": [1, 0, 1, 1], "count_include_pad": 1}),
    ("AveragePool", 10, (1, 2, 6, 6), {"kernel_shape": [3, 3], "strides": [2, 2], "ceil_mode": 1}), ("GlobalMaxPool", 7, (2, 2, 3, 3), {}),
    ("MaxPool", 7, (1, 2, 6, 5), {"kernel_shape": [3, 2], "auto_pad": "SAME_UPPER", "strides": [2, 2]}), ("GlobalAveragePool", 7, (2, 2, 3, 3), {}),
    ("AveragePool", 7, (1, 2, 6, 5), {"kernel_shape": [3, 2], "auto_pad": "SAME_LOWER"}), ("DepthToSpace", 11, (1, 8, 2, 3), {"blocksize": 2}),
    ("DepthToSpace", 13, (1, 8, 2, 3), {"blocksize": 2, "mode": "CRD"}), ("SpaceToDepth", 7, (1, 2, 4, 6), {"blocksize": 2}),
    ("Upsample", 7, (1, 2, 2, 3), {"scales": [1.0, 1.0, 2.0, 3.0]}), ("Identity", 7, (2, 3), {}), ("Cast", 9, (2, 3), {"to": 1}),
    ("LeakyRelu", 7, (2, 3), {}), ("LeakyRelu", 16, (2, 3), {"alpha": 0.3}), ("LeakyRelu", 16, (2, 3), {"alpha": 1.5}),
    ("Transpose", 7, (2, 3, 4), {}), ("Tan", 7, (2, 3), {}),
    ("Transpose", 7, (2, 3, 4), {"perm": [1, 0, 2]}), ("Concat", 7, (2, 3), {"axis": 0}), ("Sum", 7, (2, 3), {}), ("Max", 7, (2, 3), {}),
    *((kind, opset, (2, 3), {}) for kind, opset in
        (("Relu", 7), ("Relu", 14), ("Abs", 7), ("Tanh", 7), ("Sigmoid", 7), ("Exp", 7), ("Sin", 7), ("Cos", 7), ("Erf", 9), ("Softplus", 7))),
]  # fmt: skip
Form = tuple[str, int, list[str], dict[str, Any]]
SEVERAL: list[Form] = [  # of x (3, 4) and v (3, 4), and constants
    *((kind, 7, names, {}) for kind in ("Add", "Sub", "Mul", "Div") for names in
        (["x", "v"], ["x", "row"], ["row", "x"], ["x", "column"], ["x", "one"], ["one", "x"], ["x", "x"], ["x", "wide"], ["wide", "x"])),
    *((kind, opset, names, {}) for kind, opset in (("Max", 8), ("Min", 13)) for names in
        (["x", "one"], ["one", "x"], ["x", "v"], ["x", "row"], ["row", "x", "v"], ["x", "x"], ["x", "wide"], ["wide", "one", "x"])),
    ("Sum", 8, ["x", "v", "row", "x"], {}), ("Mean", 13, ["x", "v", "column"], {}), ("Concat", 13, ["x", "row2", "v", "x"], {"axis": 0}),
    ("MatMul", 13, ["x", "w"], {}), ("MatMul", 13, ["w3", "x"], {}), ("MatMul", 13, ["x", "row"], {}), ("MatMul", 13, ["vector", "x"], {}),
    ("MatMul", 13, ["x", "stack"], {}), ("MatMul", 13, ["stack3", "x"], {}), ("Gemm", 13, ["x", "v"], {"transB": 1}),
    ("Gemm", 7, ["x", "w", "bias"], {"alpha": 0.5, "beta": 2.0}), ("Gemm", 13, ["x", "w3"], {"transA": 1, "transB": 0}),
    ("Gemm", 11, ["w", "x", "one"], {"transA": 1, "transB": 1, "alpha": 3.0}), ("Gemm", 11, ["x", "w", "bias"], {"beta": 0.0}),
    ("Gemm", 13, ["x", "v", "square"], {"transA": 1, "beta": -1.0}), ("Where", 9, ["mask", "x", "v"], {}), ("Where", 16, ["mask", "row", "x"], {}),
    ("Clip", 13, ["x", "one0", "under"], {}), ("Dropout", 13, ["x", "nothing", "yes"], {}), ("Mod", 13, ["x", "row"], {"fmod": 1}),
    ("Pow", 13, ["v", "exponents"], {}),
    ("Pow", 7, ["x", "two_f"], {}), ("Pow", 13, ["x", "three"], {}), ("Pow", 13, ["x", "one_wide"], {}), ("Pow", 15, ["x", "two"], {}),
    ("Slice", 10, ["x", "a", "b", "a"], {}), ("Slice", 13, ["x", "b", "far", "a", "minus"], {}), ("Gather", 11, ["x", "minus"], {"axis": 1}),
    ("Pad", 11, ["x", "p", "one0"], {}), ("Pad", 18, ["x", "a2", "", "a"], {}), ("Reshape", 7, ["x", "s"], {}), ("Expand", 8, ["x", "e"], {}),
    ("Tile", 7, ["x", "t"], {}), ("Split", 13, ["x", "parts"], {"axis": 1}), ("Clip", 11, ["x", "", "one0"], {}),
    ("Clip", 13, ["x", "one0"], {}), ("ReduceSum", 13, ["x", "a"], {}), ("ReduceSum", 13, ["x"], {"noop_with_empty_axes": 1}),
    ("ReduceMean", 18, ["x", "a"], {}),
    ("ReduceMax", 18, ["x", "a"], {"keepdims": 0}),
]  # fmt: skip
CONSTANTS: dict[str, Array] = {
    "row": floats(4, seed=1), "column": floats(3, 1, seed=2), "one": np.float32([0.75]), "one0": np.array(0.25, np.float32),
    "wide": floats(2, 1, 4, seed=3),
    "w": floats(4, 5, seed=4), "w3": floats(3, 3, seed=5), "vector": floats(3, seed=6), "stack": floats(2, 4, 3, seed=7),
    "stack3": floats(2, 2, 3, seed=8),
    "bias": floats(5, seed=9), "square": floats(4, 4, seed=10), "row2": floats(2, 4, seed=11), "mask": floats(3, 4, seed=12) > 0,
    "two_f": np.float32([2.0]),
    "three": np.array(3, np.float32), "one_wide": np.ones((2, 1, 1), np.float32), "two": np.array([2]), "a": np.array([1]), "b": np.array([3]),
    "minus": np.array([-1]), "far": np.array([-9]), "p": np.array([0, 1, 2, 0]), "a2": np.array([1, 1]), "s": np.array([0, 2, -1]),
    "e": np.array([2, 1, 4]), "t": np.array([2, 1]),
    "parts": np.array([1, 3]), "under": np.array(-0.25, np.float32), "nothing": np.array(0, np.float32), "yes": np.array(True),
    "exponents": np.float32([0.5, 0, 1, -2]),
}  # fmt: skip
IMAGES: list[Form] = [  # of IMAGE (1, 4, 6, 5)
    ("Conv", 7, ["x", "k", "k_bias"], {"strides": [2, 1], "pads": [1, 0, 2, 1], "dilations": [1, 2]}), ("Conv", 11, ["x", "k_group"], {"group": 2}),
    ("Conv", 22, ["x", "k"], {"auto_pad": "SAME_LOWER", "strides": [2, 2]}), ("Conv", 11, ["x", "k"], {"auto_pad": "VALID"}),
    ("ConvTranspose", 11, ["x", "kt", "kt_bias"], {"strides": [2, 3], "pads": [1, 0, 0, 1], "output_padding": [1, 2]}),
    ("ConvTranspose", 11, ["x", "kt"], {"auto_pad": "SAME_UPPER", "strides": [2, 1]}), ("ConvTranspose", 22, ["x", "kt"], {"auto_pad": "SAME_LOWER"}),
    ("ConvTranspose", 11, ["x", "kt"], {"output_shape": [14, 10], "strides": [2, 2]}),
    ("ConvTranspose", 7, ["x", "kt"], {"dilations": [2, 1]}), ("ConvTranspose", 22, ["x", "kt"], {"group": 2, "strides": [2, 2]}),
    *(("BatchNormalization", opset, ["x", "bn_s", "bn_b", "bn_m", "bn_v"], {"epsilon": 0.01}) for opset in (7, 9, 14, 15)),
    ("Resize", 10, ["x", "up"], {}), ("Resize", 11, ["x", "none", "up"], {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}),
    ("Resize", 13, ["x", "", "up"], {}), ("Resize", 19, ["x", "", "up"], {"nearest_mode": "round_prefer_ceil"}), ("Upsample", 9, ["x", "up"], {}),
]  # fmt: skip
KERNELS: dict[str, Array] = {
    "k": floats(3, 4, 2, 2), "k_bias": floats(3), "k_group": floats(6, 2, 3, 3), "kt": floats(4, 3, 3, 2), "kt_bias": floats(3),
    "bn_s": floats(4, seed=1), "bn_b": floats(4, seed=2), "bn_m": floats(4, seed=3), "bn_v": floats(4, low=0.1, seed=4),
    "up": np.float32([1, 1, 2, 3]), "none": np.float32([]),
}  # fmt: skip


def forms() -> Iterator[object]:
    def one(kind: str, opset: int, names: list[str], attributes: dict[str, Any], inputs: dict[str, Array], constants: dict[str, Array]) -> object:
        used = {name: inputs[name] for name in inputs if name in names}
        outputs = [f"y{i}" for i in range(2 if kind == "Split" and "parts" in names else 1)]
        weights = {name: constants[name] for name in names if name in constants}
        data = model([node(kind, names, outputs, **attributes)], {n: x.shape for n, x in used.items()}, outputs, weights, opset)
        return pytest.param(data, used, id=f"{kind}-{opset} {' '.join(names)} {' '.join(attributes)}")

    for kind, opset, shape, attributes in ONE:
        yield one(kind, opset, ["x"], attributes, {"x": floats(*shape)}, {})
    for kind, opset, names, attributes in SEVERAL:
        yield one(kind, opset, names, attributes, {"x": floats(3, 4), "v": floats(3, 4, seed=20, low=0.5)}, CONSTANTS)
    for kind, opset, names, attributes in IMAGES:
        yield one(kind, opset, names, attributes, {"x": IMAGE}, KERNELS)
    for kind in ("Sqrt", "Log", "Reciprocal"):
        yield one(kind, 13, ["x"], {}, {"x": floats(2, 3, low=0.1)}, {})
    for exponent in (0.0, 0.5, 1.0, -1.0, -2.0, 1.5, 4.0):
        yield one("Pow", 13, ["x", "p"], {}, {"x": floats(2, 3, low=0.1)}, {"p": np.float32(exponent)})


def onnxruntime_says(data: bytes, inputs: dict[str, Array]) -> list[Array]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 4
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    found = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"]).run(None, inputs)
    return [np.asarray(y) for y in found]


def engine_says(data: bytes, inputs: list[Array]) -> list[Array]:
    found = load(data)
    values = engine_evaluate(found.graph, inputs)
    return [values[i].reshape(info.shape) for i, info in zip(found.graph.outputs, found.outputs, strict=True)]


@pytest.mark.parametrize(("data", "inputs"), list(forms()))
def test_forms_agree_with_onnxruntime_and_the_engine(data: bytes, inputs: dict[str, Array]) -> None:
    network = read_model.read(data)
    assert network.input_names == tuple(inputs)
    assert agrees(network, list(inputs.values()), onnxruntime_says(data, inputs))
    check_roundings(network)
    check_sites(engine_sites(data), network)


def test_weights_in_half_precision_behind_a_cast() -> None:
    weight, inputs = floats(3, 2, seed=5).astype(np.float16), {"x": floats(2, 3)}
    data = model([node("Cast", ["w"], ["f"], to=1), node("MatMul", ["x", "f"])], {"x": (2, 3)}, weights={"w": weight})
    assert agrees(read_model.read(data), list(inputs.values()), onnxruntime_says(data, inputs))


def test_a_clip_before_version_11_has_limits() -> None:
    """The largest float32, which real numbers go beyond."""
    network = read_model.read(model([node("Clip", ["x"])], {"x": [2]}, opset=10))
    top = float(np.finfo(np.float32).max)
    assert values_of(network, [np.array([2.0**128, -(2.0**128)])])[-1].tolist() == [top, -top]
    assert read_model.read(model([node("Clip", ["x"])], {"x": [2]}, opset=11)).sites == {}


# The table of sites in FORMAT.md


def kinds_of(kind: str, names: Sequence[str], opset: int = 13, **attributes: Any) -> list[object]:
    """Of the sites of one operator on variables x, v (3, 4) and constants, in order: the function's name, or the kind of node."""
    used, weights = sorted({"x", "v"} & set(names)), {n: CONSTANTS[n] for n in names if n in CONSTANTS}
    network = read_model.read(model([node(kind, list(names), **attributes)], {n: (3, 4) for n in used}, weights=weights, opset=opset))
    assert list(network.sites) == [("y", k) for k in range(len(network.sites))]
    nodes = [network.nodes[i] for i in network.sites.values()]
    return [(x.function.name if isinstance(x.function, Smooth) else "pieces") if isinstance(x, Elementwise) else type(x) for x in nodes]


def test_the_table_of_sites() -> None:
    assert kinds_of("Relu", "x") == kinds_of("Abs", "x") == kinds_of("LeakyRelu", "x") == kinds_of("Clip", ["x", "one0"]) == ["pieces"]
    assert kinds_of("Clip", "x") == kinds_of("Mul", ["x", "row"]) == kinds_of("Div", ["x", "row"]) == kinds_of("MatMul", ["x", "w"]) == []
    assert kinds_of("Mul", "xv") == [Product] and kinds_of("Mul", "xx") == ["pow"]
    assert kinds_of("Div", "xv") == kinds_of("Div", "xx") == ["reciprocal", Product] and kinds_of("Div", ["row", "x"]) == ["reciprocal"]
    assert kinds_of("Gemm", "xv", transB=1) == [MatMul]
    assert kinds_of("Max", ["x", "one"]) == kinds_of("Min", ["one", "x"]) == ["pieces"]
    assert kinds_of("Max", "xv") == kinds_of("Min", ["x", "row"]) == ["pieces"] and kinds_of("ReduceMax", "x", 11) == ["pieces"] * 4
    assert kinds_of("Softmax", "x") == ["exp", "reciprocal", Product, "pieces"]
    assert [kinds_of("Pow", ["x", name]) for name in ("two_f", "three", "one_wide")] == [["pow"], ["pow"], []]
    for kind in ("Sigmoid", "Tanh", "Exp", "Log", "Sqrt", "Erf", "Sin", "Cos", "Softplus", "Reciprocal"):
        assert kinds_of(kind, "x") == [kind.lower()]
    assert kinds_of("Transpose", "x") == kinds_of("Add", "xv") == kinds_of("Neg", "x") == kinds_of("ReduceMean", "x") == []


# Constants


def test_constants_are_exact_or_nodes() -> None:
    """In float32 arithmetic on constants rounds: what it rounds becomes nodes, with the rules of both semantics."""
    third = [node("Div", ["one", "three"], ["c"]), node("Add", ["x", "c"])]
    network = read_model.read(model(third, {"x": [1, 4]}, weights={"one": np.float32([1]), "three": np.float32([3])}))
    assert any(isinstance(x, Constant) for x in network.nodes)
    assert values_of(network, [np.zeros(4)])[-1][0] == 1 / 3
    check_roundings(network)
    half = read_model.read(model(third, {"x": [1, 4]}, weights={"one": np.float32([1]), "three": np.float32([2])}))
    assert [type(x) for x in half.nodes] == [Input, Affine]


INTEGERS = {"a": np.array([7, -7, 6]), "b": np.array([2, 2, -4]), "zero": np.array(0), "ten": np.array(10), "three": np.array(3)}
SHORT = {"f": np.float32([1.5, -2.5, 0.5]), "g": np.float32([2, -2.5, 0]), "yes": np.array([True, False, True]), "no": np.array([False, False, True])}
ON_CONSTANTS: list[Form] = [
    *((kind, 13, [a, b], {}) for kind in ("Add", "Sub", "Mul", "Div") for a, b in ("ab", "fp")), ("Mod", 13, ["a", "b"], {}),
    ("Mod", 13, ["a", "b"], {"fmod": 1}), ("Range", 11, ["zero", "ten", "three"], {}), ("ReduceProd", 13, ["a"], {"axes": [0]}),
    ("Neg", 13, ["a"], {}),
    ("ReduceProd", 18, ["a", "axis"], {"keepdims": 0}), ("ReduceSum", 13, ["a"], {}), ("ReduceMax", 18, ["a"], {}), ("ReduceMin", 12, ["a"], {}),
    ("ConstantOfShape", 9, ["three1"], {}), ("ConstantOfShape", 9, ["three1"], {"value": numpy_helper.from_array(np.array([5]))}),
    ("Not", 13, ["yes"], {}),
    ("Cast", 13, ["f"], {"to": onnx.TensorProto.BOOL}), ("Cast", 13, ["g2"], {"to": onnx.TensorProto.INT64}), ("Where", 13, ["yes", "a", "b"], {}),
    *((kind, 16, names, {}) for kind in ("Equal", "Less", "LessOrEqual", "Greater", "GreaterOrEqual") for names in (["f", "g"], ["a", "b"])),
    *((kind, 13, ["yes", "no"], {}) for kind in ("And", "Or")),
    *((kind, 13, ["f"], {}) for kind in ("Floor", "Ceil", "Round", "Sign", "Abs", "Relu", "Neg")),
    ("Shape", 15, ["stack"], {"start": 1}), ("Shape", 15, ["stack"], {"start": -2, "end": -1}), ("Size", 13, ["stack"], {}),
    ("Concat", 13, ["a", "b"], {"axis": 0}),
    ("Constant", 13, [], {"value_ints": [1, 2, 3]}), ("Constant", 13, [], {"value_floats": [0.5]}), ("Constant", 13, [], {"value_int": 4}),
    ("Sqrt", 13, ["squares"], {}), ("Tanh", 13, ["f"], {}), ("Pow", 13, ["f", "p"], {}), ("Gather", 13, ["a", "axis"], {}),
    ("Expand", 13, ["three", "three1"], {}),
    *((kind, opset, names, {}) for kind, opset in (("Max", 13), ("Min", 12)) for names in (["a", "b"], ["a"], ["a", "three", "b"], ["f", "g"])),
    *((kind, 13, ["a"], {}) for kind in ("Abs", "Sign", "Clip")),
    *(("Clip", 12, names, {}) for names in (["a", "three"], ["a", "", "three"], ["a", "zero", "three"], ["a", "three", "zero"])),
    ("Pow", 13, ["a", "three"], {}), *(("CumSum", 14, ["a", "zero"], {"reverse": r, "exclusive": e}) for r in (0, 1) for e in (0, 1)),
    ("CumSum", 11, ["grid", "one1"], {"reverse": 1}), ("Range", 11, ["low_f", "high_f", "step_f"], {}),
    ("CastLike", 15, ["a", "f"], {}), ("CastLike", 15, ["yes", "a"], {}), ("CastLike", 15, ["g2", "a"], {}), ("CastLike", 15, ["g2", "x"], {}),
    ("CastLike", 15, ["a", "x"], {}), ("Pad", 13, ["a", "pads"], {}), ("Pad", 13, ["a", "pads", "ten"], {}), ("Pad", 13, ["yes", "pads"], {}),
    ("Pad", 13, ["a", "pads"], {"mode": "edge"}),
    ("ScatterND", 13, ["a", "place", "three1"], {}), ("ScatterElements", 13, ["a", "axis", "three1"], {}),
]  # fmt: skip
POINTS = {"axis": np.array([0]), "p": np.float32([2]), "g2": np.float32([2, -3, 0]), "three1": np.array([3]), "squares": np.float32([4, 0.25, 2])}
POINTS |= {"grid": np.arange(6).reshape(2, 3), "one1": np.array(1), "pads": np.array([1, 2]), "place": np.array([[1]])}
POINTS |= {"low_f": np.array(2, np.float32), "high_f": np.array(-3.0, np.float32), "step_f": np.array(-2.0, np.float32)}


@pytest.mark.parametrize(("kind", "opset", "names", "attributes"), ON_CONSTANTS)
def test_operators_on_constants(kind: str, opset: int, names: list[str], attributes: dict[str, Any]) -> None:
    known = {**CONSTANTS, **INTEGERS, **SHORT, **POINTS}
    nodes = [node(kind, names, ["c"], **attributes), node("Cast", ["c"], ["d"], to=1), node("Add", ["x", "d"])]
    data, x = model(nodes, {"x": [1]}, weights={n: known[n] for n in names if n in known}, opset=opset), np.float32([0.25])
    network = read_model.read(data)
    assert agrees(network, [x], onnxruntime_says(data, {"x": x}))
    assert agrees(network, [x], engine_says(data, [x]))
    check_roundings(network)


INT64 = np.iinfo(np.int64)
BEYOND: list[tuple[str, int, list[Array], str]] = [  # an operator on these constants, and what the checker has to say
    ("Abs", 13, [np.array([INT64.min])], "overflow"), ("CumSum", 14, [np.array([INT64.max, 1]), np.array(0)], "overflow"),
    ("Pow", 13, [np.array([3]), np.array([34])], "2^53"), ("Pow", 13, [np.array([3]), np.array([-1])], "exponent below 0"),
    ("Max", 13, [np.array([1]), np.int32([1])], "different types"), ("Max", 13, [np.int8([1]), np.int8([1])], "the_Max_c': numbers of type int8"),
    ("Clip", 13, [np.array([1]), np.array([1, 2])], "limit 1"), ("Clip", 11, [np.array([1]), np.array(1)], "of type int64"),
    ("Range", 11, [np.float32(0), np.float32(1), np.float32(0.5)], "not a range of integers"),
    ("Range", 11, [np.float32(0), np.float32(2**24), np.float32(2**23)], "not a range of integers"),
    ("Range", 11, [np.float32(0), np.float32(3), np.float32(0)], "a step of 0"), ("CastLike", 15, [np.array([2**24 + 1]), floats(1)], "loses"),
    ("Pad", 13, [np.array([1]), np.array([0, 1]), np.float32(1)], "filling int64 with float32"),
    ("ScatterND", 13, [np.array([1]), np.array([[0]]), np.int32([1])], "updates of type int32"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "opset", "given", "why"), BEYOND)
def test_operators_on_constants_that_are_refused(kind: str, opset: int, given: list[Array], why: str) -> None:
    weights = {f"w{i}": value for i, value in enumerate(given)}
    nodes = [node(kind, [*weights], ["c"]), node("Cast", ["c"], ["d"], to=1), node("Add", ["x", "d"])]
    with pytest.raises(Rejected, match=re.escape(why)):
        read_model.read(model(nodes, {"x": [1]}, weights=weights, opset=opset))


@pytest.mark.parametrize(("off", "on", "to"), [(0, 1, np.int64), (-7, 5, np.int64), (0.5, 1e-30, np.float32)])
def test_one_hot_of_an_index_that_varies(off: float, on: float, to: type) -> None:
    """The values may be integers, which are picked exactly."""
    values = np.array([off, on], dtype=to)
    steps = [node("ArgMax", ["x"], ["i"], axis=1, keepdims=0), node("OneHot", ["i", "depth", "values"], ["h"]), node("Cast", ["h"], to=1)]
    data = model(steps, {"x": (1, 3)}, weights={"depth": np.array(3), "values": values})
    network = read_model.read(data)
    check_roundings(network)
    check_sites(engine_sites(data), network)
    for x in (np.float32([[1, 3, 2]]), np.float32([[0, 0, -1]])):
        for says in (onnxruntime_says(data, {"x": x}), engine_says(data, [x])):
            assert agrees(network, [x], says, rtol=0.0, atol=0.0 if to is np.int64 else 2.0**-53)  # a difference that no float64 is has a radius


def test_one_hot_of_integers_beyond_float64_is_refused() -> None:
    steps = [node("ArgMax", ["x"], ["i"], axis=1, keepdims=0), node("OneHot", ["i", "depth", "values"], ["h"]), node("Cast", ["h"], to=1)]
    for most, refused in ((2**52 - 1, False), (2**52, True)):
        data = model(steps, {"x": (1, 3)}, weights={"depth": np.array(3), "values": np.array([0, most])})
        with pytest.raises(Rejected, match="values") if refused else nullcontext():
            read_model.read(data)


@pytest.mark.parametrize("kind", ["Add", "Sub", "Mul"])
def test_folded_constants_are_exact(kind: str) -> None:
    """A sum that float64 holds but float32 does not, and one that float64 does not hold either."""
    for a, b in ((1.0, 2.0**-30), (1.0, 2.0**-60), (1 + 2.0**-20, 1 + 2.0**-20), (2.0**-100, 2.0**-100), (1.5, 0.25), (2.0**100, 2.0**100)):
        data = model([node(kind, ["a", "b"], ["c"]), node("Add", ["x", "c"])], {"x": [1]}, weights={"a": np.float32([a]), "b": np.float32([b])})
        network = read_model.read(data)
        with np.errstate(over="ignore"):
            exact = {"Add": a + b, "Sub": a - b, "Mul": a * b}[kind]
            narrow = np.float32(exact)
        fits = float(narrow) == exact and not (abs(b) == 2.0**-60 and kind != "Mul")
        assert any(isinstance(x, Constant) for x in network.nodes) != fits, (a, b)


def test_the_output_may_be_constant_or_the_input() -> None:
    network = read_model.read(model([node("Identity", ["w"])], {"x": [1, 4]}, weights={"w": floats(2, 2)}))
    assert isinstance(network.nodes[network.outputs[0]], Constant)
    network = read_model.read(model([node("Identity", ["x"])], {"x": [1, 4]}))
    assert network.outputs == network.inputs


# Large matrices


@pytest.mark.parametrize(("rows", "columns", "share"), [(700, 300, 0.004), (300, 700, 0.004), (700, 300, 0.5), (512, 512, 0.0)])
def test_large_matrices(rows: int, columns: int, share: float) -> None:
    """Of nearly empty ones the zeros are not multiplied; the result is the same, and so is |W| x."""
    rng = np.random.default_rng(0)
    weight = np.where(rng.random((rows, columns)) < share, floats(rows, columns), np.float32(0))
    data = model([node("Gemm", ["x", "w", "b"])], {"x": [1, rows]}, weights={"w": weight, "b": floats(columns, seed=1)})
    network, x = read_model.read(data), floats(1, rows, seed=2)
    kinds = [type(m) for n in network.nodes if isinstance(n, Affine) for m in n.maps]
    assert kinds == ([Sparse] if share == 0.004 else [Dense])
    assert agrees(network, [x], [x.astype(np.float64) @ weight + floats(columns, seed=1)], 1e-12, 1e-12)
    magnitude = np.abs(x[0]).astype(np.float64)
    for n in network.nodes[1:]:
        magnitude = n.maps[0].magnitude(magnitude) if isinstance(n, Affine) else magnitude
    assert np.allclose(magnitude, np.abs(x[0]).astype(np.float64) @ np.abs(weight), 1e-12)
    check_roundings(network)
    assert network.nodes[-1].rounding is not None and network.nodes[-1].rounding.count == rows + 1


# Real models


def onnx_files(folder: Path) -> dict[str, list[Path]]:
    """Category -> models, smallest first."""
    found = {path.name: sorted((path / "onnx").rglob("*.onnx.gz"), key=lambda p: p.stat().st_size) for path in sorted(folder.iterdir())}
    return {category: paths for category, paths in found.items() if paths}


def check_file(path: Path) -> int:
    data, rng = gzip.decompress(path.read_bytes()), np.random.default_rng(0)
    network = read_model.read(data)
    inputs = [rng.uniform(0, 1, network.nodes[i].shape).astype(np.float32) for i in network.inputs]
    expected = onnxruntime_says(data, dict(zip(network.input_names, inputs, strict=True)))
    top = max(float(np.abs(y).max()) for y in expected)
    assert agrees(network, inputs, expected, 0.0, 1e-4 * (1 + top)), path
    graph = load(data).graph
    engine = engine_evaluate(recentre_softmax(graph, inputs), [x.astype(np.float64) for x in inputs])
    in_double = [engine[i].reshape(y.shape) for i, y in zip(graph.outputs, expected, strict=True)]
    assert agrees(network, inputs, in_double, 0.0, 1e-10 * (1 + top)), path
    check_roundings(network)
    return check_sites(engine_sites(data), network)


@pytest.mark.vnncomp
def test_a_model_of_each_category(vnncomp_dir: Path) -> None:
    smallest = {category: paths[0] for category, paths in onnx_files(vnncomp_dir).items()}
    assert len(smallest) == 17
    assert sum(check_file(path) for path in smallest.values()) >= 60


@pytest.mark.vnncomp
@pytest.mark.slow
def test_all_models(vnncomp_dir: Path) -> None:
    paths = [path for group in onnx_files(vnncomp_dir).values() for path in group]
    assert len(paths) >= 70
    assert sum(check_file(path) for path in paths) >= 400


# The code


def test_duplicates_raise() -> None:
    line = ("Relu", elementwise.pieces(Pieces()), (6,), "", None)
    with pytest.raises(ValueError, match="twice"):
        register(line, line)


def test_versions_are_those_of_the_standard() -> None:
    """No line names a version that does not exist, or an attribute that no version of those has."""
    schemas: dict[str, dict[int, Any]] = {}
    for schema in onnx.defs.get_all_schemas_with_history():
        schemas.setdefault(f"{schema.domain}.{schema.name}".removeprefix("."), {})[schema.since_version] = schema
    for name, entry in LOWERINGS.items():
        if name.startswith("com.microsoft."):
            continue
        assert entry.versions <= schemas[name].keys(), f"{name}: versions {sorted(entry.versions - schemas[name].keys())}"
        known = {a for version in entry.versions for a in schemas[name][version].attributes}
        assert entry.attributes <= known, f"{name}: attributes {sorted(entry.attributes - known)}"


def _functions(path: Path) -> dict[str, ast.FunctionDef]:
    return {n.name: n for n in ast.parse(path.read_text(encoding="utf-8")).body if isinstance(n, ast.FunctionDef)}


def _code(path: Path, first: int, last: int, docstrings: set[int]) -> int:
    lines = path.read_text(encoding="utf-8").splitlines()
    return sum(1 for i in range(first, last + 1) if i not in docstrings and lines[i - 1].strip() and not lines[i - 1].strip().startswith("#"))


def _docstrings(tree: ast.AST) -> set[int]:
    found = set[int]()
    for n in ast.walk(tree):
        if isinstance(n, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(n) is not None:
            found |= set(range(n.body[0].lineno, (n.body[0].end_lineno or 0) + 1))
    return found


def test_operators_are_short() -> None:
    """DESIGN 7: at most 15 lines an operator: the body of every function that a line of the registry names. The average of all code, with what
    operators share (builder, operator, the registry itself), is a little above: ARCHITECTURE says why. `scope` is no operator and has a cap of its
    own (tests/architecture/test_checker.py); `evaluate` is for tests and certifies nothing."""
    tree = ast.parse((FOLDER / "__init__.py").read_text(encoding="utf-8"))
    named = {(n.value.id, n.attr) for n in ast.walk(tree) if isinstance(n, ast.Attribute) and isinstance(n.value, ast.Name)}
    checked = 0
    for path in sorted(FOLDER.glob("*.py")):
        for name, function in _functions(path).items():
            if (path.stem, name) in named:
                lines = _code(path, function.body[0].lineno, function.end_lineno or 0, _docstrings(function))
                assert lines <= LONGEST, f"{path.name}:{name}: {lines} lines"
                checked += 1
    assert checked >= 50
    readers = [path for path in FOLDER.glob("*.py") if path.stem not in ("evaluate", "scope")]
    total = sum(_code(p, 1, len(p.read_text().splitlines()), _docstrings(ast.parse(p.read_text(encoding="utf-8")))) for p in readers)
    assert total <= AVERAGE * len(LOWERINGS), f"{total} lines for {len(LOWERINGS)} operators"
