"""The registry of univariate functions: name -> builder of its facts. One file per function, one line here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from graph.errors import MalformedGraph
from graph.functions.abs import absolute
from graph.functions.acosh import acosh
from graph.functions.asin import asin
from graph.functions.asinh import asinh
from graph.functions.atan import atan
from graph.functions.atanh import atanh
from graph.functions.clip import clip
from graph.functions.cos import cos
from graph.functions.cosh import cosh
from graph.functions.elu import elu
from graph.functions.erf import erf
from graph.functions.exp import exp
from graph.functions.facts import Function, Pieces, Smooth
from graph.functions.gelu import gelu
from graph.functions.hard_swish import hard_swish
from graph.functions.leaky_relu import leaky_relu
from graph.functions.log import log
from graph.functions.lookup import lookup
from graph.functions.mish import mish
from graph.functions.pow import power
from graph.functions.reciprocal import reciprocal
from graph.functions.relu import relu
from graph.functions.round import round_within
from graph.functions.sigmoid import sigmoid
from graph.functions.sign import sign
from graph.functions.sin import sin
from graph.functions.sinh import sinh
from graph.functions.softplus import softplus
from graph.functions.softsign import softsign
from graph.functions.sqrt import sqrt
from graph.functions.step import step
from graph.functions.swish import swish
from graph.functions.tan import tan
from graph.functions.tanh import tanh
from graph.functions.threshold import shrink, threshold
from graph.functions.whole import ceil, floor, nearest

Builder = Callable[..., Function]


def register(*entries: tuple[str, Builder]) -> Mapping[str, Builder]:
    """The read-only registry of `entries`. Raises MalformedGraph for a name that occurs twice."""
    table: dict[str, Builder] = {}
    for name, builder in entries:
        if name in table:
            raise MalformedGraph(f"the function {name!r} is registered twice")
        table[name] = builder
    return MappingProxyType(table)


FUNCTIONS = register(
    ("abs", absolute),
    ("acosh", acosh),
    ("asin", asin),
    ("asinh", asinh),
    ("atan", atan),
    ("atanh", atanh),
    ("ceil", ceil),
    ("clip", clip),
    ("cos", cos),
    ("cosh", cosh),
    ("elu", elu),
    ("erf", erf),
    ("exp", exp),
    ("floor", floor),
    ("gelu", gelu),
    ("hard_swish", hard_swish),
    ("leaky_relu", leaky_relu),
    ("log", log),
    ("lookup", lookup),
    ("mish", mish),
    ("nearest", nearest),
    ("pow", power),
    ("reciprocal", reciprocal),
    ("relu", relu),
    ("round", round_within),
    ("shrink", shrink),
    ("sigmoid", sigmoid),
    ("sign", sign),
    ("sin", sin),
    ("sinh", sinh),
    ("softplus", softplus),
    ("softsign", softsign),
    ("sqrt", sqrt),
    ("step", step),
    ("swish", swish),
    ("tan", tan),
    ("tanh", tanh),
    ("threshold", threshold),
)


def build(name: str, *parameters: float) -> Function:
    """The facts of the function `name`. Raises MalformedGraph for a name that is not registered."""
    if name not in FUNCTIONS:
        raise MalformedGraph(f"there is no function {name!r}; known are {', '.join(FUNCTIONS)}")
    return FUNCTIONS[name](*parameters)


__all__ = ["FUNCTIONS", "Function", "Pieces", "Smooth", "build", "register"]
