"""What the strategies draw is valid, finite, and as true as they say."""

from __future__ import annotations

import itertools
import math
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import HealthCheck, Phase, find, given, settings
from hypothesis import strategies as st

from benchmarks import strategies
from benchmarks.strategies import OPERATORS, OPSETS, RADIUS, boxes, convolved, instances, layered, models, networks, planted, points, shrinking_boxes
from benchmarks.strategies.problems import evaluate
from specs.evaluate import violated_case
from specs.vnnlib import parse
from tests.effort import examples

relaxed = settings(max_examples=examples(60), suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])


def run(network, x):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(network.model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, {"x": x.astype(np.float32).reshape(network.input_shape)})[0]


@relaxed
@given(st.data())
def test_networks_are_valid_and_within_their_bounds(data):
    network = data.draw(networks(opsets=OPSETS) | convolved(opsets=OPSETS) | layered(opsets=OPSETS))
    onnx.checker.check_model(network.model, full_check=True)
    box = data.draw(boxes(math.prod(network.input_shape)))
    x = data.draw(points(box))
    assert (box.lower <= x).all() and (x <= box.upper).all() and np.abs(x).max() <= RADIUS
    y = run(network, x)
    assert y.shape == network.output_shape
    assert np.isfinite(y).all() and np.abs(y).max() <= network.magnitude + network.error
    assert np.abs(evaluate(network, x) - y.reshape(-1)).max() <= 2 * network.error


@relaxed
@given(planted(), st.data())
def test_needles_are_nowhere_else(instance, data):
    """Beside the pyramid the property holds: a step of 1 in any direction leaves it."""
    x = data.draw(points(instance.box))
    inside = np.abs(x - instance.witness).sum() < 1
    violated = violated_case(parse(instance.property), {"X": x}, {"Y": run(instance.network, x).reshape(-1)}, exact_box=True)
    assert inside or violated is None


@pytest.mark.parametrize("operator", OPERATORS)
def test_every_operator_is_drawn(operator):
    kind = operator.split(" ")[0]
    model = find(
        models((operator,), 1),
        lambda m: any(node.op_type == kind for node in m.graph.node),
        settings=settings(max_examples=500, database=None, phases=(Phase.generate,)),
    )
    assert len(model.graph.node) <= 8


@relaxed
@given(instances(truths=("sat", "unsat"), opsets=OPSETS) | planted(opsets=OPSETS), st.data())
def test_known_truths_hold_in_onnxruntime(instance, data):
    property = parse(instance.property)
    assert property.vacuous == 0
    x = data.draw(points(instance.box)) if instance.witness is None else instance.witness
    values = {"X": x}, {"Y": run(instance.network, x).reshape(-1)}
    assert (violated_case(property, *values, exact_box=True) is not None) == (instance.truth == "sat")


@relaxed
@given(instances(truths=(None,)))
def test_properties_of_unknown_truth_fit_their_network(instance):
    property = parse(instance.property)
    assert property.inputs[0].size == math.prod(instance.network.input_shape)
    assert property.outputs[0].size == math.prod(instance.network.output_shape)
    (box,) = next(iter(property.cases)).boxes
    assert [box.lower[i] for i in range(len(box.lower))] == [Fraction(v) for v in instance.box.lower.tolist()]
    assert instance.witness is None and instance.truth is None


@given(shrinking_boxes(3, 4))
def test_boxes_shrink(nested):
    assert len(nested) == 4
    for outer, inner in itertools.pairwise(nested):
        assert (outer.lower <= inner.lower).all() and (inner.lower <= inner.upper).all() and (inner.upper <= outer.upper).all()


def test_networks_shrink_to_one_operator_with_zero_weights():
    network = find(networks(), lambda n: any(node.op_type == "Gemm" for node in n.model.graph.node), settings=settings(database=None))
    assert [node.op_type for node in network.model.graph.node] == ["Gemm"]
    assert all(not onnx.numpy_helper.to_array(c).any() for c in network.model.graph.initializer)


POISON = """
import sys

class Poison:
    allowed = {"hypothesis", "numpy", "onnx", "benchmarks"} | {"google", "ml_dtypes", "typing_extensions", "sortedcontainers", "attr", "attrs"}

    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        if top not in self.allowed and top not in sys.stdlib_module_names and not top.startswith("_"):
            raise ImportError(f"{name} is not to be had here")

sys.meta_path.insert(0, Poison())
import benchmarks.strategies.campaign, benchmarks.strategies.certificates, benchmarks.strategies.command
from benchmarks.strategies import check_verifier
print(check_verifier(lambda model, prop, timeout: ("unknown", None), checks=("known sat", "box splitting"), max_examples=2))
"""


def test_only_hypothesis_numpy_and_onnx_are_needed():
    """And what these need themselves: every other third-party module, and every other room, cannot be imported."""
    root = Path(strategies.__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", POISON], cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "0 findings" in done.stdout
