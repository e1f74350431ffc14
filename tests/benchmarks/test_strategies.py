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
from hypothesis import HealthCheck, find, given, settings
from hypothesis import strategies as st

from benchmarks import strategies
from benchmarks.strategies import OPERATORS, RADIUS, boxes, instances, models, networks, points, shrinking_boxes
from specs.evaluate import violated_case
from specs.vnnlib import parse

relaxed = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])


def run(network, x):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(network.model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, {"x": x.astype(np.float32).reshape(network.input_shape)})[0]


@relaxed
@given(st.data())
def test_networks_are_valid_and_within_their_bounds(data):
    network = data.draw(networks())
    onnx.checker.check_model(network.model, full_check=True)
    box = data.draw(boxes(math.prod(network.input_shape)))
    x = data.draw(points(box))
    assert (box.lower <= x).all() and (x <= box.upper).all() and np.abs(x).max() <= RADIUS
    y = run(network, x)
    assert y.shape == network.output_shape
    assert np.isfinite(y).all() and np.abs(y).max() <= network.magnitude + network.error
    (reference,) = onnx.reference.ReferenceEvaluator(network.model).run(None, {"x": x.reshape(network.input_shape)})
    assert np.abs(reference.astype(np.float64) - y).max() <= 2 * network.error + 2.0**-30


@pytest.mark.parametrize("operator", OPERATORS)
def test_every_operator_is_drawn(operator):
    kind = operator.split(" ")[0]
    model = find(
        models((operator,), 2),
        lambda m: any(node.op_type == kind for node in m.graph.node),
        settings=settings(max_examples=500, deadline=None, database=None),
    )
    assert len(model.graph.node) <= 3


@relaxed
@given(instances(truths=("sat", "unsat")), st.data())
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
    network = find(networks(), lambda n: any(node.op_type == "Gemm" for node in n.model.graph.node), settings=settings(database=None, deadline=None))
    assert [node.op_type for node in network.model.graph.node] == ["Gemm"]
    assert all(not onnx.numpy_helper.to_array(c).any() for c in network.model.graph.initializer)


def test_only_hypothesis_numpy_and_onnx_are_needed():
    root = Path(strategies.__file__).parents[1]
    script = (
        "import sys; import benchmarks.strategies; rooms = {'graph', 'specs', 'bounds', 'verifier', 'soundproof', 'torch', 'onnxruntime'}; "
        "sys.exit(str(rooms & set(sys.modules)) if rooms & set(sys.modules) else 0)"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
