"""What is known of a tensor as a function of another one, element by element: scale h(p(x)) + shift, in exact numbers.

p is a polynomial of the node `base`, h the functions of `chain`, one after the other (none: p alone). `drift` says for float32 by how many
times the slack of which node the computed tensor may be off that function of the computed base.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction

from verifier.checker.lowering.builder import Builder, Known, Tensor, Value
from verifier.checker.network import Elementwise, Function, Pieces

LINE = (Fraction(0), Fraction(1), Fraction(0), Fraction(0))
STEEPEST = {"sigmoid": 0.25, "tanh": 1.0, "erf": 1.13, "softplus": 1.0}  # |f'| is not more
OF_ONE = ("Clip", "Erf", "HardSigmoid", "Sigmoid", "Softplus", "Tanh")


@dataclass(frozen=True)
class Form:
    base: int
    polynomial: tuple[Fraction, ...] = LINE
    chain: tuple[Function, ...] = ()
    scale: Fraction = Fraction(1)
    shift: Fraction = Fraction(0)
    drift: tuple[tuple[int, float], ...] = ()

    def line(self, factor: Fraction, constant: Fraction) -> Form:
        """factor * this + constant."""
        drift = tuple((node, abs(float(factor)) * (1 + 2.0**-50) * times) for node, times in self.drift)
        if self.chain:
            return replace(self, scale=self.scale * factor, shift=self.shift * factor + constant, drift=drift)
        moved = [c * factor for c in self.polynomial]
        return replace(self, polynomial=(moved[0] + constant, *moved[1:]), drift=drift)

    def slope(self) -> Fraction:
        """c, where the polynomial is c x; else 0."""
        return self.polynomial[1] if not (self.polynomial[0] or any(self.polynomial[2:])) else Fraction(0)

    def power(self) -> int:
        """k, where this is c x^k; else 0."""
        powers = [k for k, c in enumerate(self.polynomial) if c]
        return powers[0] if len(powers) == 1 and not self.chain else 0


def form_of(builder: Builder, x: Tensor) -> Form:
    found = builder.forms.get(x.node)
    return found if isinstance(found, Form) else Form(x.node)


def number(x: Value | None) -> Fraction | None:
    """A constant of one element."""
    if not isinstance(x, Known) or x.size != 1 or x.value.dtype.kind != "f" or not math.isfinite(float(x.value.reshape(()))):
        return None
    return Fraction(float(x.value.reshape(())))


def note(builder: Builder, kind: str, inputs: tuple[Value | None, ...], result: Tensor, real: Callable[[str, float], float]) -> None:
    """Remember what `result` is, where the operator is one of those that gates are made of."""
    tensors = [x for x in inputs if isinstance(x, Tensor)]
    if result.node in builder.forms or not tensors or any(x.shape != result.shape or x.node == result.node for x in tensors):
        return
    if kind in OF_ONE:
        found = _applied(builder, kind, tensors[0], result, real)
    else:
        found = _with_number(builder, kind, inputs) if len(tensors) == 1 else _of_two(kind, *(form_of(builder, x) for x in tensors))
    if found is not None:
        builder.forms[result.node] = replace(found, drift=(*found.drift, (result.node, 1.0)))


def _with_number(builder: Builder, kind: str, inputs: tuple[Value | None, ...]) -> Form | None:
    first, last = inputs[0], inputs[-1]
    if kind == "Neg" and isinstance(first, Tensor):
        return form_of(builder, first).line(Fraction(-1), Fraction(0))
    constant = number(last if isinstance(first, Tensor) else first)
    if len(inputs) != 2 or constant is None:
        return None
    if kind == "Pow" and isinstance(first, Tensor) and constant in (2, 3):
        x = form_of(builder, first)
        square = _product(x, x)
        return square if constant == 2 or square is None else _product(square, x)
    one, zero = Fraction(1), Fraction(0)
    lines = {"Add": (one, constant), "Sum": (one, constant), "Sub": (-one, constant), "Mul": (constant, zero)}
    if isinstance(first, Tensor):
        lines |= {"Sub": (one, -constant), "Div": (1 / constant if constant else zero, zero)}
    tensor = first if isinstance(first, Tensor) else last
    return form_of(builder, tensor).line(*lines[kind]) if kind in lines and isinstance(tensor, Tensor) else None


def _product(x: Form, y: Form) -> Form | None:
    """Of polynomials, to degree 3. Where it is lowered as a power of the base, what it may be off is all in its own slack; else nothing is said."""
    if x.base != y.base or x.chain or y.chain:
        return None
    found = [Fraction(0)] * 7
    for i, a in enumerate(x.polynomial):
        for j, b in enumerate(y.polynomial):
            found[i + j] += a * b
    known = x.power() and y.power() and not (x == y and x.drift)
    return None if any(found[4:]) else Form(x.base, tuple(found[:4]), drift=() if known else ((x.base, math.inf),))


def _of_two(kind: str, x: Form, y: Form, *more: Form) -> Form | None:
    if kind == "Mul" and not more:
        return _product(x, y)
    if more or x.base != y.base or x.chain or y.chain or kind not in ("Add", "Sum", "Sub"):
        return None
    sign = -1 if kind == "Sub" else 1
    return Form(x.base, tuple(a + sign * b for a, b in zip(x.polynomial, y.polynomial, strict=True)), drift=(*x.drift, *y.drift))


def _applied(builder: Builder, kind: str, x: Tensor, result: Tensor, real: Callable[[str, float], float]) -> Form | None:
    node, form = builder.nodes[result.node], form_of(builder, x)
    if not isinstance(node, Elementwise):
        return None
    if kind == "HardSigmoid":
        form = form.line(Fraction(real("alpha", 0.20000000298023224)), Fraction(real("beta", 0.5)))
    if isinstance(node.function, Pieces) and node.function.slopes != (0.0, 1.0, 0.0):
        return None
    steepest = 1.0 if isinstance(node.function, Pieces) else STEEPEST[node.function.name]
    drift = tuple((j, steepest * times) for j, times in form.drift)
    if not form.chain:
        return replace(form, chain=(node.function,), drift=drift)
    plain = form.scale == 1 and form.shift == 0 and [f.name for f in form.chain if not isinstance(f, Pieces)] == ["softplus"]
    return replace(form, chain=(*form.chain, node.function), drift=drift) if plain and kind == "Tanh" else None

