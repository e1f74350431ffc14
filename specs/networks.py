"""What the networks of a query say about each other: what `equal-to` and `isomorphic-to` require, and which inputs have to be equal."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction

from specs.canonical import Atom, Declared, Variable
from specs.lists import Fault

Element = tuple[str, int]


def check_relation(network: Declared, known: Mapping[str, Declared]) -> None:
    """Raise Fault unless what `network` says of another one can be: that is declared before, says nothing of a third one, and has the same
    inputs and outputs; hidden tensors of one ONNX name are alike. Element types may differ where the networks are only isomorphic."""
    if not network.relation:
        return
    if network.other not in known:
        raise Fault(f"{network.other} is not declared before {network.name}")
    other = known[network.other]
    if other.relation:
        raise Fault(f"{network.name} refers to {other.name}, which itself refers to {other.other}: refer to that one")
    typed = network.relation == "equal-to"
    for kind, mine, theirs in (("inputs", network.inputs, other.inputs), ("outputs", network.outputs, other.outputs)):
        if [_kind(v, typed) for v in mine] != [_kind(v, typed) for v in theirs]:
            raise Fault(f"{network.name} is {network.relation} {other.name}, and their {kind} differ in number, shape or element type")
    there = {hidden.node: hidden.variable for hidden in other.hidden}
    for hidden in network.hidden:
        if hidden.node in there and _kind(hidden.variable, typed) != _kind(there[hidden.node], typed):
            twin = there[hidden.node].name
            raise Fault(f"{hidden.variable.name} and {twin} are one tensor of {other.name}, and differ in shape or element type")


def _kind(variable: Variable, typed: bool) -> tuple[tuple[int, ...], str]:
    return variable.shape, variable.element_type if typed else ""


def equal_inputs(atoms: Iterable[Atom], first: Mapping[str, int], size: int) -> tuple[int, ...]:
    """For each of `size` inputs the number of the one that it has to equal, where `atoms` hold: the inputs that equal no earlier one are
    numbered in their order. `first` gives the place of the first element of every input tensor. Empty: all inputs are free."""
    at_most = {pair for atom in atoms if (pair := _ordered(atom, first)) is not None}
    leader = list(range(size))
    for low, high in sorted(at_most):
        if low < high and (high, low) in at_most:
            a, b = sorted((_leader(leader, low), _leader(leader, high)))
            leader[b] = a
    leaders = [_leader(leader, i) for i in range(size)]
    numbers = {i: number for number, i in enumerate(sorted(set(leaders)))}
    return tuple(numbers[i] for i in leaders) if len(numbers) < size else ()


def _leader(leader: Sequence[int], i: int) -> int:
    while leader[i] != i:
        i = leader[i]
    return i


def _ordered(atom: Atom, first: Mapping[str, int]) -> tuple[int, int] | None:
    """(a, b) where the atom says a <= b of two inputs."""
    if len(atom.terms) != 2 or atom.bound != Fraction(0) or any(tensor not in first for tensor, _, _ in atom.terms):
        return None
    (tensor, i, c), (other, j, d) = atom.terms
    if c != -d:
        return None
    pair = first[tensor] + i, first[other] + j
    return pair if c > 0 else (pair[1], pair[0])
