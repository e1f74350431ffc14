"""Products of tensor elements in a query: each distinct one is an element of a tensor of its own, `canonical.PRODUCTS` (VNN-LIB 2's polynomials)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction

from specs.canonical import PRODUCTS
from specs.lists import Fault, Term, total

Element = tuple[str, int]
Product = tuple[Element, ...]  # its factors, in the order of their places; one may occur several times

MOST_FACTORS = 8
MOST_TERMS = 4096  # of one polynomial, multiplied out


class Products:
    """Numbers products. `known` have the first numbers, others get the next when they are met. `place` orders the elements of all tensors."""

    def __init__(self, known: Sequence[Product], place: Callable[[Element], int]) -> None:
        self._factors = list(known)
        self._numbers = {product: number for number, product in enumerate(known)}
        self._place = place

    def multiplied(self, left: Term, right: Term) -> Term:
        """The product of two polynomials, multiplied out. Raises Fault where it has too many terms, or a term too many factors."""
        if len(left.coefficients) * len(right.coefficients) > MOST_TERMS:
            raise Fault(f"this product has more than {MOST_TERMS} terms when it is multiplied out")
        parts = [Term({self._element(a, b): c * d}, Fraction(0)) for a, c in left.coefficients.items() for b, d in right.coefficients.items()]
        parts += [Term({a: c * right.constant}, Fraction(0)) for a, c in left.coefficients.items()]
        parts += [Term({b: d * left.constant}, Fraction(0)) for b, d in right.coefficients.items()]
        return total([*parts, Term({}, left.constant * right.constant)])

    def factors(self, element: Element) -> Product:
        """The factors of an element: itself, if it is no product."""
        return self._factors[element[1]] if element[0] == PRODUCTS else (element,)

    def in_order(self, elements: set[Element]) -> tuple[Product, ...]:
        """Those of `elements` that are products, by the places of their factors."""
        found = [self.factors(element) for element in elements if element[0] == PRODUCTS]
        return tuple(sorted(found, key=self._places))

    def _element(self, left: Element, right: Element) -> Element:
        factors = tuple(sorted((*self.factors(left), *self.factors(right)), key=self._place))
        if len(factors) > MOST_FACTORS:
            raise Fault(f"a product of more than {MOST_FACTORS} variables is not supported")
        if factors not in self._numbers:
            self._numbers[factors] = len(self._factors)
            self._factors.append(factors)
        return PRODUCTS, self._numbers[factors]

    def _places(self, product: Product) -> list[int]:
        return [self._place(element) for element in product]
