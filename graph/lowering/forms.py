"""What is known of a tensor as a function of another one, element by element, in exact numbers: enough to see that a product is univariate."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from graph.functions.facts import Function

Polynomial = tuple[Fraction, Fraction, Fraction, Fraction]  # coefficients, from degree 0
ZERO, ONE = Fraction(0), Fraction(1)
IDENTITY: Polynomial = (ZERO, ONE, ZERO, ZERO)


@dataclass(frozen=True)
class Form:
    """scale h(p(base)) + shift: p a polynomial of node `base`, h `functions` one after the other, the first of which reads node `operand`.

    Without functions p is all: scale 1 and shift 0.
    """

    base: int
    polynomial: Polynomial
    functions: tuple[Function, ...] = ()
    operand: int = -1
    scale: Fraction = ONE
    shift: Fraction = ZERO

    def times(self, factor: Fraction) -> Form:
        if self.functions:
            return Form(self.base, self.polynomial, self.functions, self.operand, self.scale * factor, self.shift * factor)
        c = self.polynomial
        return Form(self.base, (c[0] * factor, c[1] * factor, c[2] * factor, c[3] * factor))

    def plus(self, constant: Fraction) -> Form:
        if self.functions:
            return Form(self.base, self.polynomial, self.functions, self.operand, self.scale, self.shift + constant)
        c = self.polynomial
        return Form(self.base, (c[0] + constant, c[1], c[2], c[3]))

    def slope(self) -> Fraction:
        """c where the polynomial is c x, else 0."""
        c = self.polynomial
        return c[1] if not (c[0] or c[2] or c[3]) else ZERO

    def monomial(self) -> int:
        """Its degree where the form is c x^degree, else 0."""
        powers = [k for k, c in enumerate(self.polynomial) if c]
        return powers[0] if len(powers) == 1 and not self.functions else 0


def added(x: Form, y: Form) -> Form | None:
    """x + y, where both are polynomials of one node."""
    if x.base != y.base or x.functions or y.functions:
        return None
    a, b = x.polynomial, y.polynomial
    return Form(x.base, (a[0] + b[0], a[1] + b[1], a[2] + b[2], a[3] + b[3]))


def multiplied(x: Form, y: Form) -> Form | None:
    """x y, where both are polynomials of one node, of degree 3 at most together."""
    if x.base != y.base or x.functions or y.functions:
        return None
    found = [ZERO] * 7
    for i, a in enumerate(x.polynomial):
        for j, b in enumerate(y.polynomial):
            found[i + j] += a * b
    return None if any(found[4:]) else Form(x.base, (found[0], found[1], found[2], found[3]))
