"""`soundproof supports`: the capabilities of the VNN-LIB standard's verifier interface."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from onnx.defs import onnx_opset_version

from graph.load import ELEMENT_TYPES, OLDEST_OPSET
from graph.lowering import CONSTANT_ONLY, LOWERINGS

CAPABILITIES: Mapping[str, Callable[[], Iterable[str]]] = {
    "onnx_operators": lambda: sorted({operator for _, operator in LOWERINGS} | CONSTANT_ONLY),
    "onnx_element_types": lambda: sorted(ELEMENT_TYPES.values()),
    "onnx_opset_versions": lambda: (str(OLDEST_OPSET), str(onnx_opset_version())),
    "vnnlib_versions": lambda: ("1.0",),
    "hidden_node_theories": lambda: ("NH",),
    "multiple_input_output_theories": lambda: ("SIO",),
    "multiple_network_theories": lambda: ("SNET",),
    "multiple_node_comparison_theories": lambda: ("SNC", "MNC"),
    "arithmetic_complexity_theories": lambda: ("BND", "OUTC", "LIN"),
    "optimised_disjunctive_reasoning": lambda: ("true",),
    "serialise_assignments": lambda: ("false",),
}


def capability(name: str) -> Iterable[str]:
    """The values of capability `name`, for printing."""
    return CAPABILITIES[name]()
