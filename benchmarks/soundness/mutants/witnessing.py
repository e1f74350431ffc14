"""Engines whose witnesses are none. Only the replay stands between them and the user: these break the replay itself, or what comes after."""

from __future__ import annotations

from benchmarks.soundness.mutants.edit import Edit, Mutant

REPLAY, EVALUATE = "verifier.replay:Replayer", "specs.evaluate"


def _mutant(name: str, row: str, about: str, *changes: tuple[str, str, str], note: str = "") -> Mutant:
    return Mutant(name, "witness", row, about, tuple(Edit(*change) for change in changes), attack=True, note=note)


MUTANTS = (
    _mutant(
        "wrong_witness_printed",
        "verifiers.md 3.3 Witness: merged-net witness not remapped to the original",
        "the inputs of a witness are told in the opposite order",
        ("verifier.engine:told", "return Witness(witness.inputs, outputs", "return Witness(witness.inputs[::-1].copy(), outputs"),
    ),
    _mutant(
        "first_candidate_printed",
        "verifiers.md 3.3 Witness: wrong witness",
        "of several candidates the first is told, whichever violates",
        (
            f"{REPLAY}.judge",
            "return replace(found, float32_only=self._only_rounding(found))",
            "return replace(found, inputs=points[0], float32_only=None)",
        ),
        note="Candidates are ordered by their margins, and the first one violates wherever any does, but for rounding.",
    ),
    _mutant(
        "four_digits_printed",
        "verifiers.md 3.3 Witness: fp32 snapping",
        "witnesses are written with four digits",
        ("verifier.result:Result.to_competition", "{value!r}", "{value:.4g}"),
    ),
    _mutant(
        "centre_printed",
        "invented",
        "the centre of the witness's box is told instead of the witness",
        (
            f"{REPLAY}.judge",
            "return replace(found, float32_only=self._only_rounding(found))",
            "low, high = float32_inside(self._nth_case(found.case), self._property.inputs)\n"
            "            return replace(found, inputs=(low / 2 + high / 2).astype(np.float32), float32_only=None)",
        ),
    ),
    _mutant(
        "marabou_7_outside_the_box",
        "soundness.md 5.1: Marabou #7, #325, #825 (counterexample outside its bounds)",
        "probes leave the box by a tenth of its width, and the replay does not ask",
        (
            "verifier.probe:_clip",
            "return np.clip(points.astype(np.float32), lower, upper)",
            "return (points + 0.2 * (points - 0.5 * lower - 0.5 * upper)).astype(np.float32)",
        ),
        (f"{EVALUATE}:violated_case", "inside = all(_contains(box, points[box.tensor], exact_box) for box in boxes)", "inside = True"),
        (f"{REPLAY}._inside", "if witness.inside_exact_box:", "if True:"),
    ),
    _mutant(
        "tolerance_in_the_replay",
        "soundness.md 5.2 class 3: tolerance",
        "a margin of 1e-3 counts as a violation",
        ("specs.canonical:atom_holds", "total <= atom.bound", "total <= atom.bound + Fraction(1, 1000)"),
        ("verifier.probe:Probe._try", "margin <= 0)", "margin <= 1e-3)"),
    ),
    _mutant(
        "marabou_844_spurious_sat",
        "soundness.md 5.1: Marabou #844 (spurious SAT with disjunctions)",
        "a candidate for one case counts if any case has such an atom",
        (
            f"{EVALUATE}:violated_case",
            "if inside and all(atom_holds(atom, values) for atom in case.atoms):",
            "if inside and (not case.atoms or atom_holds(case.atoms[0], values)):",
        ),
        (
            "verifier.probe:Probe._margins",
            "worst = margins.max(axis=1, initial=-np.inf)",
            "worst = margins[:, 0] if margins.shape[1] else margins.max(axis=1, initial=-np.inf)",
        ),
    ),
    _mutant(
        "margin_sign",
        "verifiers.md 3.3 Spec: PGD margin sign",
        "what is furthest from a violation is taken for one, without a replay",
        ("verifier.probe:Probe._try", "np.where(strict, margin < 0, margin <= 0)", "np.where(strict, margin > 0, margin >= 0)"),
        (f"{REPLAY}._violation", "return None if case is None else Witness(", "case = 0 if case is None else case\n    return Witness("),
    ),
    _mutant(
        "no_replay",
        "verifiers.md 3.3 Witness: strict replay on the original ONNX",
        "the outputs of our own graph in float64 decide, not the file",
        (
            f"{REPLAY}._run",
            "return self._running(x)",
            "return np.float32(enclose_outputs(self._model, np.split(x, self._ends))[0]) + np.float32(0)",
        ),
    ),
    _mutant(
        "box_rounded_outward_for_witnesses",
        "verifiers.md 3.3 Witness: fp32 snapping outside the box",
        "witnesses may lie in the float64 hull of the box, one float beyond it",
        (
            "verifier.problem:_Boxes.arrays",
            "self._convert(lowers, nearest_float32, np.float32), self._convert(uppers, nearest_float32, np.float32),",
            "np.nextafter(self._convert(lowers, nearest_float32, np.float32), np.float32(-np.inf)),\n"
            "        np.nextafter(self._convert(uppers, nearest_float32, np.float32), np.float32(np.inf)),",
        ),
        (f"{EVALUATE}:_contains", "if not exact:", "if True:\n        return True\n    if not exact:"),
        (f"{REPLAY}._inside", "if witness.inside_exact_box:", "if True:"),
    ),
    _mutant(
        "one_atom_of_a_conjunction",
        "verifiers.md 3.3 Spec: AND as min instead of max margin",
        "probes and the replay take the best atom of a case for all of them",
        ("verifier.probe:Probe._margins", "worst = margins.max(axis=1, initial=-np.inf)", "worst = margins.min(axis=1, initial=np.inf)"),
        (
            f"{EVALUATE}:violated_case",
            "all(atom_holds(atom, values) for atom in case.atoms)",
            "(not case.atoms or any(atom_holds(atom, values) for atom in case.atoms))",
        ),
    ),
)
