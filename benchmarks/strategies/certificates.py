"""Certificates of format 1, written from verifier/checker/FORMAT.md alone: well-formed ones, and ones with one defect each.

Well-formed does not mean true: the splits, slopes and multipliers are drawn. A checker must never say MALFORMED of them, and must not accept one
whose property is violated. Defects come with the word by which the checker must refuse them (FORMAT 7).
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from hypothesis import strategies as st

from benchmarks.strategies.builder import Draw
from benchmarks.strategies.draft import Draft, attributes
from benchmarks.strategies.problems import Instance

DTYPES = {
    "tree_cases": "<i4", "tree_count": "<i4", "tree_program": "|u1", "op": "|u1", "arg": "<i4", "threshold": "<f8", "slope": "<f4", "beta": "<f4",
    "gamma": "<f8", "shift": "<f8", "set_site": "<i4", "set_count": "<i4", "set_element": "<i4",
}  # fmt: skip
SITES = frozenset("Relu LeakyRelu Abs Sigmoid Tanh Exp Log Sqrt Erf Sin Cos Softplus Reciprocal".split())
SPLIT, LEAF, FORMS, CLIP, REFINE = 0, 1, 3, 4, 5
DEEPEST = 3


class Certificate(NamedTuple):
    """The bytes of a certificate. `rule` is the word by which it must be refused as malformed, "" if it is well-formed."""

    data: bytes
    rule: str


@dataclass
class _Draft:
    """What a certificate is written from."""

    manifest: dict[str, Any]
    columns: dict[str, list[Any]] = field(default_factory=lambda: {name: [] for name in DTYPES})

    def data(self, close: Callable[[bytes], bytes] = lambda data: data, extra: tuple[str, ...] = ()) -> bytes:
        """The file; `close` may still change it, `extra` names more members."""
        arrays = {name: np.array(values, DTYPES[name]) for name, values in self.columns.items()}
        described = {name: {"dtype": DTYPES[name], "shape": [len(a)]} for name, a in arrays.items()}
        manifest = {**self.manifest, "arrays": {**described, **self.manifest.get("arrays", {})}}
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w") as file:
            file.writestr("manifest.json", self.manifest.get("", json.dumps(manifest)))
            for name, a in arrays.items():
                file.writestr(name, a.tobytes())
            for name in extra:
                file.writestr(name, b"")
        return close(out.getvalue())


def model_bytes(asked: Instance) -> bytes:
    """The file that a certificate about an instance names by its hash; the property's is `asked.property` in UTF-8."""
    return asked.network.model.SerializeToString(deterministic=True)


@st.composite
def certificates(draw: Draw, asked: Instance, semantics: str = "real") -> Certificate:
    """Well-formed certificates about an instance: any trees over its cases, inputs and elementwise functions."""
    return Certificate(_drawn(draw, asked, semantics).data(), "")


@st.composite
def malformed(draw: Draw, asked: Instance, semantics: str = "real", rules: tuple[str, ...] = ()) -> Certificate:
    """Certificates with exactly one defect: one of `rules`, or of all in DEFECTS."""
    draft = _drawn(draw, asked, semantics)
    rule = draw(st.sampled_from(rules or tuple(DEFECTS)))
    return Certificate(DEFECTS[rule](draft), rule)


def _drawn(draw: Draw, asked: Instance, semantics: str) -> _Draft:
    graph = Draft.of(asked.network.model)
    shapes, live = graph.shapes(), graph.without_dead().nodes
    sites = [(node.output[0], math.prod(shapes[node.input[0]])) for node in live if node.op_type in SITES]
    tensors = [{"input": graph.input.name}, *({"tensor": name, "site": 0, "argument": 0} for name, _ in sites)]
    hashes = {"model": hashlib.sha256(model_bytes(asked)).hexdigest(), "property": hashlib.sha256(asked.property.encode()).hexdigest()}
    draft = _Draft({"format": 1, **hashes, "semantics": semantics, "tensors": tensors, "tool": "benchmarks.strategies"})
    columns = draft.columns
    columns["shift"] = [0.0] * sum(_softmax_rows(node, shapes) for node in live if node.op_type == "Softmax")
    for k, (_, size) in enumerate(sites):  # slope set k: the lower slopes of site k
        columns["set_count"].append(1)
        columns["set_site"] += [k + 1, 0, size]
        columns["set_element"] += range(size)
    numbers = list(range(len(asked.unsafe.cases)))
    trees = [numbers] if draw(st.booleans()) else [[k] for k in numbers]
    for cases in trees:
        columns["tree_count"].append(len(cases))
        columns["tree_cases"] += cases
        columns["tree_program"].append(draw(st.sampled_from([0, 1, 2, 3])))
        atoms = len(asked.unsafe.cases[cases[0]]) if len(cases) == 1 else 0
        _node(draw, _Tree(draft, asked, tuple(size for _, size in sites), atoms), asked.box.lower.tolist(), asked.box.upper.tolist(), 0, 0)
    return draft


def _softmax_rows(node: Any, shapes: Mapping[str, tuple[int, ...]]) -> int:
    shape = shapes[node.input[0]]
    return math.prod(shape) // shape[attributes(node).get("axis", -1)]


@dataclass(frozen=True)
class _Tree:
    """`sites` are the sizes of the elementwise operands; `atoms` those of its only case, or 0 if it has several."""

    draft: _Draft
    asked: Instance
    sites: tuple[int, ...]
    atoms: int


def _node(draw: Draw, tree: _Tree, lower: list[float], upper: list[float], depth: int, site_splits: int) -> None:
    """One node with what is below it; `site_splits` stand above it on sites."""
    columns = tree.draft.columns
    columns["op"] += draw(st.sampled_from([(), (REFINE,), (FORMS,), (FORMS, CLIP)]))
    widest = max(range(len(lower)), key=lambda i: upper[i] - lower[i])
    can_halve = depth < DEEPEST and upper[widest] > lower[widest]
    can_split = depth < DEEPEST and bool(tree.sites)
    choices = ["leaf", *["multipliers"] * bool(tree.atoms and tree.sites), *["halve"] * can_halve, *["site"] * can_split]
    match draw(st.sampled_from(choices)):
        case "halve":
            middle = (lower[widest] + upper[widest]) / 2
            _append_split(columns, 0, widest, middle)
            _node(draw, tree, lower, [middle if i == widest else v for i, v in enumerate(upper)], depth + 1, site_splits)
            _node(draw, tree, [middle if i == widest else v for i, v in enumerate(lower)], upper, depth + 1, site_splits)
        case "site":
            site = draw(st.integers(0, len(tree.sites) - 1))
            _append_split(columns, site + 1, draw(st.integers(0, tree.sites[site] - 1)), 0.0)
            for _ in range(2):
                _node(draw, tree, lower, upper, depth + 1, site_splits + 1)
        case "multipliers":
            site = draw(st.integers(0, len(tree.sites) - 1))
            columns["op"].append(LEAF)
            columns["arg"] += [2, site]
            columns["gamma"] += [draw(st.integers(0, 4)) / 4 for _ in range(tree.atoms)]
            columns["slope"] += [draw(st.integers(0, 4)) / 4 for _ in range(tree.sites[site])]
            columns["beta"] += [draw(st.integers(0, 4)) / 4 for _ in range(site_splits)]
        case _:
            columns["op"].append(LEAF)
            columns["arg"].append(0)


def _append_split(columns: dict[str, list[Any]], tensor: int, element: int, threshold: float) -> None:
    columns["op"].append(SPLIT)
    columns["arg"] += [tensor, element]
    columns["threshold"].append(threshold)


# --- defects -------------------------------------------------------------------------------------------------------------------


def _manifest(**changes: Any) -> Callable[[_Draft], bytes]:
    return lambda draft: _Draft({**draft.manifest, **changes}, draft.columns).data()


def _column(name: str, change: Callable[[list[Any]], list[Any]]) -> Callable[[_Draft], bytes]:
    return lambda draft: _Draft(draft.manifest, {**draft.columns, name: change(draft.columns[name])}).data()


def _duplicate_tensor(draft: _Draft) -> bytes:
    return _Draft({**draft.manifest, "tensors": [*draft.manifest["tensors"], draft.manifest["tensors"][0]]}, draft.columns).data()


def _too_far(draft: _Draft) -> bytes:
    """A split on an element that the input does not have, in front of everything."""
    columns = {name: list(values) for name, values in draft.columns.items()}
    count = columns["tree_count"][0]
    columns["op"] = [SPLIT, LEAF, LEAF]
    columns["arg"] = [0, 10**6, 0, 0]
    columns["threshold"], columns["slope"], columns["beta"], columns["gamma"] = [0.0], [], [], []
    for _ in columns["tree_count"][1:]:
        columns["op"].append(LEAF)
        columns["arg"].append(0)
    if not count:
        raise ValueError("a tree without cases")
    return _Draft(draft.manifest, columns).data()


DEFECTS: Mapping[str, Callable[[_Draft], bytes]] = {
    "zip": lambda draft: draft.data(close=lambda data: data[:-1]),
    "manifest": _manifest(comment="free"),
    "version": _manifest(format=2),
    "semantics": _manifest(semantics="double"),
    "tensors": _duplicate_tensor,
    "column": lambda draft: _Draft({**draft.manifest, "arrays": {"op": {"dtype": "|u1", "shape": [10**6]}}}, draft.columns).data(),
    "numbers": _column("threshold", lambda values: [*values, math.nan]),
    "hash": _manifest(model="0" * 64),
    "shift": _column("shift", lambda values: [*values, 0.0]),
    "cases": _column("tree_cases", lambda values: [*values[:-1], values[-1] + 1]),
    "sets": _column("set_element", lambda values: [*values, 0]),
    "stream": _column("op", lambda values: [*values, LEAF]),
    "index": _too_far,
}
