"""Random formulas that are written both in VNN-LIB 1.0 and in 2.0, and their direct evaluation.

The network of the 2.0 texts has the inputs A [2, 2] and S [] and the outputs P [2] and Q [1, 1]; in 1.0 these are X_0 .. X_4 and Y_0 .. Y_2.
A formula is a nested tuple: (head, parts); a word is the name of an element in 2.0, or a number.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from hypothesis import strategies as st

INPUTS = {"A[0,0]": "X_0", "A[0,1]": "X_1", "A[1,0]": "X_2", "A[1,1]": "X_3", "S": "X_4"}
OUTPUTS = {"P[0]": "Y_0", "P[1]": "Y_1", "Q[0,0]": "Y_2"}
NAMES = {**INPUTS, **OUTPUTS}
SHAPES = {"A": (2, 2), "S": (), "P": (2,), "Q": (1, 1)}

VERSION = "(vnnlib-version <2.0>)\n"
NETWORK = """(declare-network N ; two inputs, two outputs (
  (declare-input A {0} [2,2])
  (declare-input S {0} [])
  (declare-output P {0} [2])
  (declare-output Q {0} [1, 1]))
"""
HEAD_1 = "".join(f"(declare-const {name} Real)\n" for name in NAMES.values())
HEAD_2 = VERSION + NETWORK.format("real")

words = st.sampled_from([*NAMES, "S", "0", "1.0", "-2", "0.5", "-0.25"])
constants = st.sampled_from(["2.0", "-1", "0.5", "0"])
terms = st.recursive(
    words,
    lambda inner: st.one_of(
        st.tuples(st.sampled_from("+-"), st.lists(inner, min_size=1, max_size=3)),
        st.tuples(st.just("*"), st.tuples(constants, inner).map(list)),
        st.tuples(st.just("*"), st.tuples(inner, constants, constants).map(list)),
    ),
    max_leaves=3,
)
simple = st.tuples(st.sampled_from(["<=", ">=", "<", "==", "!="]), st.tuples(st.sampled_from(list(NAMES)), constants).map(list))
comparisons = st.tuples(st.sampled_from(["<=", ">=", "<", ">", "==", "!="]), st.tuples(terms, terms).map(list))
formulas = st.recursive(
    comparisons | simple, lambda inner: st.tuples(st.sampled_from(["and", "or"]), st.lists(inner, min_size=1, max_size=3)), max_leaves=6
)
points = st.fixed_dictionaries({name: st.integers(-8, 8).map(lambda k: Fraction(k, 4)) for name in NAMES})
gaps = st.sampled_from([" ", "\n", " ; a comment ) (\n\t"])


def version_1(node: Any) -> str:
    """The text in 1.0, which has no `!=`."""
    if isinstance(node, str):
        return NAMES.get(node, node)
    head, parts = node
    texts = [version_1(part) for part in parts]
    if head == "!=":
        return f"(or (< {texts[0]} {texts[1]}) (< {texts[1]} {texts[0]}))"
    return f"({head} {' '.join(texts)})"


def version_2(node: Any, gap: str = " ") -> str:
    """The text in 2.0."""
    return node if isinstance(node, str) else f"({node[0]}{gap}{gap.join(version_2(part, gap) for part in node[1])})"


def evaluate(node: Any, point: dict[str, Fraction]) -> Any:
    """The value of a term, or whether a formula holds, by the meaning of the words alone."""
    if isinstance(node, str):
        return point[node] if node in point else Fraction(node)
    head, values = node[0], [evaluate(part, point) for part in node[1]]
    match head:
        case "and" | "or":
            return all(values) if head == "and" else any(values)
        case "+":
            return sum(values, Fraction(0))
        case "-":
            return -values[0] if len(values) == 1 else values[0] - sum(values[1:])
        case "*":
            product = Fraction(1)
            for value in values:
                product *= value
            return product
    a, b = values
    return {"<=": a <= b, ">=": a >= b, "<": a < b, ">": a > b, "==": a == b, "!=": a != b}[head]


def asserted(formulas: list[Any], version: int, gap: str = " ") -> str:
    """A whole text: the box -2 .. 2 of every input, then the formulas."""
    box = [(relation, [name, end]) for name in INPUTS for relation, end in ((">=", "-2.0"), ("<=", "2.0"))]
    shown = [version_1(f) if version == 1 else version_2(f, gap) for f in (*box, *formulas)]
    return (HEAD_1 if version == 1 else HEAD_2) + "".join(f"(assert {text})\n" for text in shown)


def flat(tensor: str, names: dict[str, str], point: dict[str, Fraction]) -> list[Fraction]:
    """The values of one tensor of the 2.0 texts at a point, in row-major order."""
    return [point[name] for name in names if name.split("[")[0] == tensor]
