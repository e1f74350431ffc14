"""A cast of a float to an integer that has no place for it was read as cut off behind the point: `unsat` was certified, in float32 too, of a
network that overflows in a narrow peak, where runtimes give -2^31. No standard says what such a cast is, so nothing is proven of it."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from bounds.interval import propagate
from graph.load import load
from tests.verifier.small_networks import vnnlib_file
from verifier.checker import exact_functions
from verifier.checker.network import Pieces
from verifier.checker.refusal import Rejected
from verifier.options import Options
from verifier.result import Result
from verifier.watchdog import supervise

TYPES = {"int32": (TensorProto.INT32, 31), "int64": (TensorProto.INT64, 63)}


def peak(kind: str, height: float) -> bytes:
    """y = float(kind(relu(height (1 - 1000 |x - 0.3137|)))): `height` in a peak of width 0.002, else 0."""
    node, (code, _) = helper.make_node, TYPES[kind]
    nodes = [
        node("Sub", ["x", "at"], ["d"]), node("Abs", ["d"], ["a"]), node("Mul", ["a", "steep"], ["s"]), node("Add", ["s", "height"], ["h"]),
        node("Relu", ["h"], ["r"]), node("Cast", ["r"], ["i"], to=code), node("Cast", ["i"], ["y"], to=TensorProto.FLOAT),
    ]
    values = {"at": 0.3137, "steep": -1000 * height, "height": height}
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 1]) for name in ("x", "y")]
    constants = [numpy_helper.from_array(np.float32(v), name) for name, v in values.items()]
    graph = helper.make_graph(nodes, "peak", ends[:1], ends[1:], constants)
    return bytes(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8).SerializeToString())


def told(folder: Path, content: bytes, semantics: str, *trust: str) -> Result:
    model, prop = folder / "n.onnx", folder / "p.vnnlib"
    model.write_bytes(content)
    prop.write_text(vnnlib_file([("0.0", "1.0")], 1, "(<= Y_0 -1000.0)"))
    options = Options(str(model), str(prop), timeout=15, nodes=200, threads=1, semantics=semantics, trust=trust, no_attack=True)
    found = supervise(options, lambda _: None)
    assert isinstance(found, Result)
    return found


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("semantics", ["real", "float32"])
def test_a_cast_that_may_overflow_is_no_part_of_a_proof(kind: str, semantics: str, tmp_path: Path) -> None:
    beyond = peak(kind, 1.05 * 2.0 ** TYPES[kind][1])
    assert told(tmp_path, beyond, semantics).verdict == "unknown"
    assert told(tmp_path, beyond, semantics, "engine").verdict == "unknown"
    fits = told(tmp_path, peak(kind, 1e6), semantics)
    assert (fits.verdict, fits.assurance) == ("unsat", "certified")


@pytest.mark.parametrize("kind", TYPES)
def test_bounds_say_nothing_of_it(kind: str) -> None:
    graph = load(peak(kind, 1.05 * 2.0 ** TYPES[kind][1])).graph
    with np.errstate(invalid="ignore"):
        low, high = propagate(graph, np.zeros((1, 1)), np.ones((1, 1)))[graph.outputs[0]]
    assert not (np.isfinite(low) & np.isfinite(high)).any()


def test_the_exact_arithmetic_says_the_same() -> None:
    assert exact_functions.interval(Pieces(step="int32"), Fraction(1, 2), Fraction(7, 2)) == (0, 3)
    with pytest.raises(Rejected, match="int32"):
        exact_functions.interval(Pieces(step="int32"), Fraction(0), Fraction(2**31))
