"""`soundproof supports`: the capabilities of the VNN-LIB standard's verifier interface."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from onnx.defs import onnx_opset_version

from graph.load import OLDEST_OPSET
from graph.lowering import CONSTANT_ONLY, LOWERINGS, REFUSED

CAPABILITIES: Mapping[str, Callable[[], Iterable[str]]] = {
    "onnx_operators": lambda: sorted({operator for _, operator in LOWERINGS.keys() - REFUSED} | CONSTANT_ONLY),
    "onnx_element_types": lambda: ("float32", "real"),  # what a proof speaks of; float64 networks are read as networks over the reals
    "onnx_opset_versions": lambda: (str(OLDEST_OPSET), str(onnx_opset_version())),
    "vnnlib_versions": lambda: ("1.0", "2.0"),
    "hidden_node_theories": lambda: ("NH", "H"),
    "multiple_input_output_theories": lambda: ("SIO", "MIO"),
    "multiple_network_theories": lambda: ("SNET", "MENET", "MINET", "MNET"),
    "multiple_node_comparison_theories": lambda: ("SNC", "MNC"),
    "arithmetic_complexity_theories": lambda: ("BND", "OUTC", "LIN", "POLY"),
    "optimised_disjunctive_reasoning": lambda: ("true",),
    "serialise_assignments": lambda: ("true",),
}


def capability(name: str) -> Iterable[str]:
    """The values of capability `name`, for printing."""
    return CAPABILITIES[name]()
