"""Hypothesis strategies for people who test verifiers: small ONNX networks, input boxes, properties with known truth.

Needs only hypothesis, numpy and onnx. Networks are valid by construction, and come with a bound of their outputs and of the
error of any float32 execution on the inputs |x| <= RADIUS, so that the truth of a property can be known without a solver:
`sat` properties contain a concrete execution, `unsat` ones ask for outputs beyond the bound. Everything shrinks: fewer
operators, smaller tensors, weights towards 0. `check_verifier` asks any callable about all of them (docs/testing_a_verifier.md).
"""

from benchmarks.strategies.builder import IR_VERSION, OPSET
from benchmarks.strategies.check import CHECKS, Report, check_verifier
from benchmarks.strategies.networks import OPSETS, RADIUS, Network, convolved, layered, models, networks
from benchmarks.strategies.operators import OPERATORS
from benchmarks.strategies.problems import InputBox, Instance, about, boxes, instances, planted, points, shrinking_boxes
from benchmarks.strategies.relations import RELATIONS, Pair, pairs

__all__ = [
    "CHECKS", "IR_VERSION", "OPERATORS", "OPSET", "OPSETS", "RADIUS", "RELATIONS", "InputBox", "Instance", "Network", "Pair", "Report", "about",
    "boxes", "check_verifier", "convolved", "instances", "layered", "models", "networks", "pairs", "planted", "points", "shrinking_boxes",
]  # fmt: skip
