"""Windows that differ by axis and side, and Gemm in all its forms: drawn, evaluated right, shrunk to the simple form, and enough to find who errs."""

from __future__ import annotations

import random
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import HealthCheck, Phase, find, given, settings
from hypothesis import strategies as st
from onnx import helper

from benchmarks.soundness.rational import bound, margin
from benchmarks.strategies import OPSETS, boxes, check_verifier, networks, points
from benchmarks.strategies.draft import attributes
from benchmarks.strategies.findings import FALSE_UNSAT
from benchmarks.strategies.minimise import UNUSABLE, problems
from benchmarks.strategies.problems import evaluate
from benchmarks.strategies.reference import reference
from tests.effort import examples

WINDOWS = ("Conv", "MaxPool", "AveragePool", "ConvTranspose")
Given = dict[str, Any]


@settings(max_examples=examples(100), suppress_health_check=list(HealthCheck))
@given(st.data())
def test_exact_rationals_and_the_reference_are_what_onnxruntime_computes(data: st.DataObject) -> None:
    network = data.draw(networks((*WINDOWS, "Gemm"), 3, OPSETS))
    onnx.checker.check_model(network.model, full_check=True)
    x = data.draw(points(data.draw(boxes(int(np.prod(network.input_shape))))))
    feed = {"x": x.reshape(network.input_shape)}
    session = onnxruntime.InferenceSession(network.model.SerializeToString(), providers=["CPUExecutionProvider"])
    y = np.asarray(session.run(None, feed)[0])
    assert y.shape == network.output_shape
    (same,) = reference(network.model, feed)
    assert np.abs(y - same).max() <= 2 * network.error and same.shape == y.shape
    assert np.abs(evaluate(network, x) - y.reshape(-1)).max() <= network.error * (1 + 1e-9)


def sides(given: Given) -> tuple[list[int], list[int]]:
    """The pads at the beginning and at the end."""
    pads = given.get("pads", [0] * 4)
    return pads[:2], pads[2:]


def differs(name: str) -> Callable[[Given], bool]:
    return lambda given: given.get(name, [1, 1])[0] != given.get(name, [1, 1])[1]


FORMS: dict[str, tuple[tuple[str, ...], Callable[[Given], bool]]] = {
    "begin and end": (WINDOWS, lambda given: sides(given)[0] != sides(given)[1]),
    "four pads": (WINDOWS, lambda given: sides(given)[0][0] != sides(given)[0][1] and sides(given)[1][0] != sides(given)[1][1]),
    "strides": (WINDOWS, differs("strides")),
    "kernels": (WINDOWS, differs("kernel_shape")),
    "dilations": (("Conv", "MaxPool", "ConvTranspose"), differs("dilations")),
    "output_padding": (("ConvTranspose",), differs("output_padding")),
    "ceil_mode": (("MaxPool", "AveragePool"), lambda given: given.get("ceil_mode", 0) == 1),
    "padding counts": (("AveragePool",), lambda given: given["count_include_pad"] == 1 and sides(given)[0] != sides(given)[1]),
    "all transposed": (("Gemm",), lambda given: given.get("transA") == given["transB"] == 1),
    "A transposed": (("Gemm",), lambda given: given.get("transA") == 1 and not given["transB"]),
    "alpha and beta": (("Gemm",), lambda given: given.get("alpha", 1.0) not in (0.0, 1.0) and given.get("beta", 1.0) not in (0.0, 1.0)),
}


def found(operator: str, wanted: Callable[[Given], bool], *phases: Phase) -> Given:
    """The attributes of one node of the operator that are as wanted. Raises NoSuchExample."""

    def holds(model: onnx.ModelProto) -> bool:
        return any(node.op_type == operator and wanted(attributes(node)) for node in model.graph.node)

    how = settings(max_examples=500, database=None, phases=phases, suppress_health_check=list(HealthCheck))
    model = find(networks((operator,), 1).map(lambda network: network.model), holds, settings=how, random=random.Random(operator))
    return next(attributes(node) for node in model.graph.node if node.op_type == operator)


@pytest.mark.parametrize(("form", "operator"), [(form, operator) for form, (operators, _) in FORMS.items() for operator in operators])
def test_every_form_is_drawn(form: str, operator: str) -> None:
    found(operator, FORMS[form][1], Phase.generate)


@pytest.mark.parametrize("operator", WINDOWS)
def test_what_needs_no_form_shrinks_to_the_simple_one(operator: str) -> None:
    simple = found(operator, lambda given: True, Phase.generate, Phase.shrink)
    assert simple["kernel_shape"] == simple["strides"] == [1, 1] and sides(simple) == ([0, 0], [0, 0])
    strides = found(operator, differs("strides"), Phase.generate, Phase.shrink)
    assert strides["kernel_shape"] == [1, 1] and sides(strides) == ([0, 0], [0, 0])
    pads = found(operator, lambda given: sides(given)[0] != sides(given)[1], Phase.generate, Phase.shrink)
    assert pads["strides"] == [1, 1] and sum(pads["pads"]) == 1


def test_gemm_shrinks_to_its_simple_form() -> None:
    assert found("Gemm", lambda given: True, Phase.generate, Phase.shrink) == {"transB": 0}


# --- verifiers that read one attribute wrong -----------------------------------------------------------------------------------

MISTAKES: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "pads as [t, b, l, r]": ("pads", lambda p: [p[0], p[2], p[1], p[3]]),
    "pads as [b, r, t, l]": ("pads", lambda p: [*p[2:], *p[:2]]),
    "strides as [W, H]": ("strides", lambda s: s[::-1]),
    "no alpha": ("alpha", lambda _: 1.0),
    "no beta": ("beta", lambda _: 1.0),
}


def changed(model: onnx.ModelProto, operator: str, attribute: str, change: Callable[[Any], Any]) -> onnx.ModelProto:
    """The model as it is understood by one who errs."""
    read = onnx.ModelProto()
    read.CopyFrom(model)
    for node in read.graph.node:
        given = attributes(node)
        if node.op_type == operator and attribute in given:
            del node.attribute[:]
            node.attribute.extend(helper.make_attribute(k, change(v) if k == attribute else v) for k, v in given.items())
    return read


def intervals(change: Callable[[onnx.ModelProto], onnx.ModelProto]) -> Callable[[bytes, str, float], tuple[str, None]]:
    """A verifier that bounds the changed network by exact interval arithmetic, and knows nothing where too few outputs come out."""

    def verify(content: bytes, text: str, timeout: float) -> tuple[str, None]:
        model = onnx.load_model_from_string(content)
        read = change(model)
        for problem in problems(model, text, None):
            try:
                ranges = bound(read, [(Fraction(a), Fraction(b)) for a, b in zip(problem.unsafe.lower, problem.unsafe.upper, strict=True)])
                if margin(problem.unsafe, ranges[: len(problem.unsafe.cases[0][0].coefficients)])[1] >= 0:
                    return "unknown", None
            except UNUSABLE:
                return "unknown", None
        return "unsat", None

    return verify


def first_finding(change: Callable[[onnx.ModelProto], onnx.ModelProto], operator: str, number: int) -> str:
    """What is found first by `number` questions of any of three seeds; "" if nothing is."""
    how = {"operators": (operator,), "checks": ("known sat",), "max_operators": 1, "max_examples": number}
    reports = (check_verifier(intervals(change), seed=seed, **how) for seed in range(3))
    return next((finding.kind for report in reports for finding in report.findings), "")


@pytest.mark.parametrize(("operator", "mistake"), [(o, m) for o in (*WINDOWS, "Gemm") for m in MISTAKES if m.startswith("no ") == (o == "Gemm")])
def test_who_reads_an_attribute_wrong_is_found(operator: str, mistake: str) -> None:
    """It takes about 50 questions."""
    attribute, change = MISTAKES[mistake]
    assert first_finding(lambda model: changed(model, operator, attribute, change), operator, 250) == FALSE_UNSAT


@pytest.mark.parametrize("operator", [*WINDOWS, "Gemm"])
def test_who_reads_them_right_is_not_accused(operator: str) -> None:
    assert first_finding(lambda model: model, operator, examples(150)) == ""
