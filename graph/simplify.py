"""Passes graph -> graph. Each leaves the function unchanged over the reals, and ends in `core.check`."""

from __future__ import annotations

from dataclasses import replace
from graph.core import Graph, check

def simplify(graph: Graph) -> Graph:
    return check(graph)
