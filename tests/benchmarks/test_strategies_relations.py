"""Metamorphic pairs: valid models of the same function, questions of which one implies the other, and the truths they carry."""

from __future__ import annotations

import itertools
import math
from collections import Counter

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from benchmarks.strategies import OPERATORS, OPSETS, RELATIONS, networks, pairs, points
from benchmarks.strategies.chains import links, permuted, rescaled
from benchmarks.strategies.draft import Draft
from benchmarks.strategies.judge import fault
from benchmarks.strategies.networks import layered
from benchmarks.strategies.problems import evaluate
from benchmarks.strategies.reexport import NEWEST, NotExportable, oldest_opset, reexport

quick = settings(max_examples=10, suppress_health_check=list(HealthCheck))
SAME_FUNCTION = tuple(r for r in RELATIONS if r not in ("disjunct reordering", "epsilon monotonicity", "box splitting", "weaker property"))


@pytest.mark.parametrize("relation", SAME_FUNCTION)
@quick
@given(data=st.data())
def test_both_networks_compute_the_same(relation, data):
    pair = data.draw(pairs((relation,), opsets=OPSETS))
    first, (other,) = pair.first, pair.others
    for asked in (first, other):
        onnx.checker.check_model(asked.network.model, full_check=True)
    shift = other.box.lower - first.box.lower
    assert (shift == 0).all() or relation == "input translation"
    x = data.draw(points(first.box))
    assert np.abs(evaluate(first.network, x) - evaluate(other.network, x + shift)).max() <= first.network.error + other.network.error


@pytest.mark.parametrize("relation", RELATIONS)
@quick
@given(data=st.data())
def test_the_first_implies_the_others(relation, data):
    """A counterexample of the first is one of some other, and planted points are counterexamples."""
    pair = data.draw(pairs((relation,), opsets=OPSETS, truths=("sat",)))
    for asked in (pair.first, *pair.others):
        assert asked.truth != "sat" or not fault(asked, asked.witness)
    for other in pair.others:
        for mine, theirs in itertools.product(pair.first.unsafe.cases, other.unsafe.cases):
            for a, b in zip(mine, theirs, strict=False):
                assert a.coefficients != b.coefficients or a.bound != b.bound, "thresholds are relaxed"
    x = data.draw(points(pair.first.box))
    if relation not in SAME_FUNCTION and not fault(pair.first, x):
        assert any(not fault(other, x) for other in pair.others)


def test_identities_are_put_behind_numbers_only():
    """Regression: zero was added to the places that TopK tells, and to the conditions of Where."""
    nodes = [
        onnx.helper.make_node("TopK", ["x", "k"], ["values", "places"]), onnx.helper.make_node("Greater", ["values", "x"], ["larger"]),
        onnx.helper.make_node("Where", ["larger", "values", "x"], ["y"]),
    ]  # fmt: skip
    ends = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1, 3]) for name in "xy"]
    graph = onnx.helper.make_graph(nodes, "g", ends[:1], ends[1:], [onnx.numpy_helper.from_array(np.array([3]), "k")])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)])
    assert Draft.of(model).float_tensors() == ["x", "values", "y"]


def test_every_relation_carries_truths():
    known: Counter[str] = Counter()

    @settings(max_examples=12, suppress_health_check=list(HealthCheck), derandomize=True, database=None)
    @given(st.data())
    def collect(data):
        for relation in RELATIONS:
            pair = data.draw(pairs((relation,), ("Gemm", "Relu"), 1, truths=("sat",)))
            known[pair.relation] += any(asked.truth == "sat" for asked in pair.others)

    collect()
    assert set(known) == set(RELATIONS) and all(known.values()), known


@quick
@given(networks(), st.data())
def test_reexport_keeps_the_function(network, data):
    opset = data.draw(st.integers(oldest_opset(network.model), NEWEST))
    again = network._replace(model=reexport(network.model, opset))
    onnx.checker.check_model(again.model, full_check=True)
    assert again.model.opset_import[0].version == opset
    x = np.zeros(math.prod(network.input_shape), np.float32)
    assert np.abs(evaluate(network, x) - evaluate(again, x)).max() <= 2 * network.error


def test_what_cannot_be_written_is_refused_by_name():
    node = onnx.helper.make_node("Det", ["x"], ["y"])
    value = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, (1, 1)) for name in "xy"]
    model = onnx.helper.make_model(onnx.helper.make_graph([node], "g", value[:1], value[1:]))
    with pytest.raises(NotExportable, match="Det"):
        oldest_opset(model)
    with pytest.raises(NotExportable, match="opset 8"):
        reexport(networks_example(), 8)


def networks_example() -> onnx.ModelProto:
    node = onnx.helper.make_node("Relu", ["x"], ["y"])
    value = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, (1, 1)) for name in "xy"]
    return onnx.helper.make_model(onnx.helper.make_graph([node], "g", value[:1], value[1:]))


@quick
@given(layered(("Sigmoid",)))
def test_a_smooth_layer_is_not_rescaled(network):
    draft = Draft.of(network.model)
    (*_, link) = links(draft)
    if "Sigmoid" in {draft.nodes[k].op_type for k in link.between}:
        with pytest.raises(ValueError, match="let factors through"):
            rescaled(draft, link, [0] * link.width)
    backwards = list(range(link.width))[::-1]
    twice = permuted(permuted(draft, link, backwards), link, backwards)
    assert [node.op_type for node in twice.nodes] == [node.op_type for node in draft.nodes]
    assert (twice.constants[twice.nodes[link.first].input[1]] == draft.constants[draft.nodes[link.first].input[1]]).all()


def test_the_operators_are_those_that_were_asked_for():
    @settings(max_examples=30, derandomize=True, database=None)
    @given(networks(("Gemm", "Relu")))
    def check(network):
        assert set(network.operators) <= {"Gemm", "Relu", "Flatten", "Mul"}

    check()
    assert len(OPERATORS) == len(set(OPERATORS))
