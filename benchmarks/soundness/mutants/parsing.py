"""Engines that read another property than the one in the file. What they find may be a false `unsat` or an invalid witness."""

from __future__ import annotations

from benchmarks.soundness.mutants.edit import Edit, Mutant

READER = "specs.vnnlib:_Parser"
_LATER = """first = next((i for i, f in enumerate(self._asserted) if isinstance(f, Or)), len(self._asserted))
    asserted, later = self._asserted[:first + 1], self._asserted[first + 1:]
    """


def _mutant(name: str, row: str, about: str, where: str, old: str, new: str, attack: bool = False) -> Mutant:
    return Mutant(name, "parsing", row, about, (Edit(where, old, new),), attack=attack)


MUTANTS = (
    _mutant(
        "nnv_315_constraint_after_or",
        "verifiers.md 3.3 Spec: nnv PR #315",
        "an assert after an `or` becomes one more alternative of it",
        f"{READER}.property",
        "root = normalise(self._asserted, atoms)",
        _LATER + "root = normalise([*asserted[:-1], Or((*asserted[-1].options, *later), 0)] if later else asserted, atoms)",
        attack=True,
    ),
    _mutant(
        "vibecheck_constraint_dropped",
        "verifiers.md 3.3 Spec: dropped (vibecheck lsnc)",
        "asserts after an `or` are not read",
        f"{READER}.property",
        "root = normalise(self._asserted, atoms)",
        _LATER + "root = normalise(asserted, atoms)",
        attack=True,
    ),
    _mutant(
        "nn4sys_boxes_of_disjuncts_dropped",
        "verifiers.md 3.3 Spec: per-disjunct input boxes overwritten (nn4sys)",
        "all cases have the box of the first",
        "specs.cases:FormulaCases.__iter__",
        "if region is not of:",
        "if of is None:",
    ),
    _mutant(
        "boxes_overwritten",
        "verifiers.md 3.3 Spec: per-disjunct input boxes overwritten",
        "of several bounds of one input the last counts, not the tightest",
        "specs.cases:_narrow",
        "np.maximum.at(lower, by.lower_at, by.lower_rank)\n    np.minimum.at(upper, by.upper_at, by.upper_rank)",
        "lower[by.lower_at], upper[by.upper_at] = by.lower_rank, by.upper_rank",
        attack=True,
    ),
    _mutant(
        "conjunction_as_disjunction",
        "verifiers.md 3.3 Spec: AND as min instead of max margin; all vs any (cersyve, yolo)",
        "an execution that meets one atom of a case violates it",
        "specs.evaluate:violated_case",
        "all(atom_holds(atom, values) for atom in case.atoms)",
        "(not case.atoms or any(atom_holds(atom, values) for atom in case.atoms))",
        attack=True,
    ),
    _mutant(
        "marabou_607_single_clause",
        "verifiers.md 3.3 Spec: Marabou #607",
        "an `or` of a single clause holds never",
        "specs.formula:normalise",
        "work.append((option, draft))",
        "draft.atoms.append((0,))",
    ),
    _mutant(
        "last_alternative_dropped",
        "verifiers.md 3.3 Spec: disjunct loop returns the last status (NeuralSAT #20)",
        "the last alternative of an `or` is not looked at",
        "specs.cases:FormulaCases._walk",
        "enumerate(choice.alternatives, start=1)",
        "enumerate(choice.alternatives[:-1], start=1)",
    ),
    _mutant(
        "second_or_dropped",
        "verifiers.md 3.3 Spec: dropped",
        "of several `or`s only the first is read",
        "specs.cases:FormulaCases._walk",
        "for choice in reversed(conjunction.choices):",
        "for choice in reversed(conjunction.choices[:1]):",
        attack=True,
    ),
    _mutant(
        "strict_by_a_margin",
        "verifiers.md 3.3 Spec: p <= -margin for strict atoms",
        "comparisons are made strict by a margin of 1e-6",
        f"{READER}._at_most",
        "linear = Atom(terms, bound, strict)",
        "linear = Atom(terms, bound - Fraction(1, 10**6), strict)",
    ),
    _mutant(
        "strict_as_non_strict",
        "verifiers.md 3.3 Spec: strict/non-strict",
        "< is read as <=",
        f"{READER}._at_most",
        "linear = Atom(terms, bound, strict)",
        "linear = Atom(terms, bound, False)",
        attack=True,
    ),
    _mutant(
        "threshold_sign",
        "verifiers.md 3.3 Spec: threshold sign flips (wc-bq)",
        "thresholds have the opposite sign",
        f"{READER}._at_most",
        "linear = Atom(terms, bound, strict)",
        "linear = Atom(terms, -bound, strict)",
    ),
    _mutant(
        "number_on_the_left",
        "verifiers.md 3.3 Spec: <= vs >=",
        "a comparison with the number on the left is read the wrong way round",
        f"{READER}._comparison",
        "match items[0]:",
        "left, right = (left, right) if left.coefficients else (right, left)\n    match items[0]:",
    ),
    _mutant(
        "negative_coefficient_of_an_input",
        "soundness.md 5.2 class 6: sign",
        "-x <= c is read as x <= c",
        f"{READER}._comparison",
        "match items[0]:",
        "one = len(left.coefficients) == 1\n"
        "    left = Term({k: abs(c) if one and k[0] == 'X' else c for k, c in left.coefficients.items()}, left.constant)\n"
        "    match items[0]:",
    ),
    _mutant(
        "minus_of_three",
        "verifiers.md 3.3 Spec: sign",
        "(- a b c) subtracts b only",
        f"{READER}._subtraction",
        "for term in rest)]",
        "for term in rest[:1])]",
    ),
    _mutant(
        "indices_in_the_order_of_words",
        "soundness.md 5.2 class 6: index order",
        "Y_10 comes before Y_2",
        f"{READER}._element",
        "{(tensor, int(element)): Fraction(1)}",
        "{(tensor, sorted(str(n) for n in range(sum(name[0] == tensor for name in self._declared))).index(element)): Fraction(1)}",
    ),
    _mutant(
        "equation_one_way",
        "soundness.md 5.2 class 6: comparison",
        "(= a b) is read as a <= b",
        f"{READER}._comparison",
        "for pair in ((left, right), (right, left))",
        "for pair in ((left, right),)",
        attack=True,
    ),
    _mutant(
        "repeated_left_side",
        "invented",
        "atoms with the same left side all have the threshold of the first",
        "verifier.problem:_Rows.index",
        "return row, self._bounds[atom.bound], atom.strict",
        "return row, self._bounds.setdefault(('row', row), self._bounds[atom.bound]), atom.strict",
    ),
    _mutant(
        "six_digits",
        "invented",
        "numbers are read to six digits",
        "specs.tokens:number",
        "value = Fraction(digits * 10**places) if places >= 0 else Fraction(digits, 10**-places)",
        'value = Fraction(f"{float(word):.6g}")',
    ),
    _mutant(
        "mixed_atoms_lose_their_inputs",
        "soundness.md 5.2 class 6: mixed X/Y disjuncts",
        "atoms that mix inputs and outputs lose their inputs",
        f"{READER}._at_most",
        "terms = tuple((tensor, i, c) for (tensor, i), c in difference.coefficients.items())",
        "some = any(t == 'Y' for t, _ in difference.coefficients)\n"
        "    terms = tuple((tensor, i, c) for (tensor, i), c in difference.coefficients.items() if tensor == 'Y' or not some)",
        attack=True,
    ),
    _mutant(
        "marabou_670_fixed_inputs_are_empty",
        "soundness.md 5.1: Marabou #670",
        "an input with equal bounds makes the box empty",
        "specs.cases:_narrow",
        "crossed = lower > upper",
        "crossed = lower >= upper",
    ),
)
