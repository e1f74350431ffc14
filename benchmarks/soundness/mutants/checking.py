"""Broken checkers. Each must accept a forged certificate that the real one refuses: see `forging.py`.

`row` says which class of the catalogue it belongs to; "DESIGN 7" and "ARITHMETIC n" name the sentence of the checker's own law that it breaks.
"""

from __future__ import annotations

from benchmarks.soundness.mutants.edit import Change, Edit, Mutant, Setting

BOUNDS, WALK, FUNCTIONS = "verifier.checker.bounds", "verifier.checker.walk:Walk", "verifier.checker.functions"
READ, LOWER, TREE = "verifier.checker.read_property", "verifier.checker.lowering", "verifier.checker.tree"
BACKWARD, CHECKER = f"{BOUNDS}:_Backward", f"{BOUNDS}:Checker"
CLASS = {n: f"soundness.md 5.2 class {n}" for n in range(1, 11)}


def _mutant(name: str, area: str, row: str, about: str, *changes: tuple[str, str, str] | Change, semantics: str = "real", note: str = "") -> Mutant:
    made = tuple(change if isinstance(change, Edit | Setting) else Edit(*change) for change in changes)
    return Mutant(name, area, row, about, made, semantics=semantics, note=note)


RULES = (
    _mutant(
        "bias_skipped", "rules", CLASS[1], "backward passes forget biases", (f"{BACKWARD}._affine", "self._add(_dot(d, node.bias[None]))", "pass")
    ),
    _mutant(
        "bias_skipped_by_intervals",
        "rules",
        CLASS[1],
        "intervals forget biases",
        (f"{CHECKER}._affine_interval", "z, p = z + node.bias, p + np.abs(node.bias)", "pass"),
    ),
    _mutant(
        "interval_radius_of_one_input",
        "rules",
        "verifiers.md 3.3 Bounds: alpha-beta-CROWN #103",
        "a sum has the radius of its last term",
        (f"{CHECKER}._affine_interval", "q + size[: len(c)]", "size[: len(c)]"),
    ),
    _mutant(
        "interval_half_as_wide",
        "rules",
        "soundness.md 1.7 ii",
        "intervals of affine nodes are half as wide",
        (f"{CHECKER}._affine_interval", "radius = q + d +", "radius = 0.5 * q + d +"),
    ),
    _mutant(
        "shared_node_overwritten",
        "rules",
        "verifiers.md 3.3 Bounds: concat aliasing (diamond graphs)",
        "a node that two others read keeps one's coefficients",
        (f"{BACKWARD}._pass_on", "self.coefficients[j] = m if held is None else held + m", "self.coefficients[j] = m"),
    ),
    _mutant(
        "index_adjoint_copies",
        "rules",
        "verifiers.md 3.3 Bounds: gather adjoint used copy instead of scatter-add",
        "of the readers of an element only the last counts",
        (
            "verifier.checker.maps:Index._multiply",
            "np.add.reduceat(np.take(rows, self.used, axis=1), self.starts, axis=1)",
            "np.take(rows, self.used[self.starts], axis=1)",
        ),
    ),
    _mutant(
        "relu_chord_too_low",
        "rules",
        CLASS[1],
        "the chord of ReLU is a tenth too low",
        (f"{FUNCTIONS}:_relu_offsets", "above = above * (1 + UNITS) + TINY * ((b > 0) & (b < 1))", "above = 0.9 * above"),
    ),
    _mutant(
        "relu_lower_plane",
        "rules",
        CLASS[1],
        "ReLU is at least x also where the slope was chosen 0",
        (
            f"{FUNCTIONS}:_relu_offsets",
            "low = np.maximum(np.maximum(lower, 0.0) * (1 - a), np.maximum(-upper, 0.0) * a)",
            "low = np.maximum(lower, 0.0) * (a == 0) + 0.1 * upper * (a > 0)",
        ),
    ),
    _mutant(
        "any_slope_for_relu",
        "rules",
        "verifiers.md 3.3 Bounds: tag mismatch (too tight)",
        "offset 0 goes with any stored slope",
        (
            f"{FUNCTIONS}:_pieces_offset",
            "return np.where((lower < 0) & (upper > 0), np.minimum(least, 0.0), least)",
            "return np.zeros_like(least) if side > 0 else np.where((lower < 0) & (upper > 0), np.minimum(least, 0.0), least)",
        ),
    ),
    _mutant(
        "kink_forgotten",
        "rules",
        CLASS[1],
        "the least value of f - slope x is looked for at the ends only",
        (f"{FUNCTIONS}:_pieces_offset", "return np.where((lower < 0) & (upper > 0), np.minimum(least, 0.0), least)", "return least"),
    ),
    _mutant(
        "piece_forgotten",
        "rules",
        CLASS[1],
        "the last piece of a function is not looked at",
        (
            f"{FUNCTIONS}:_pieces_offset",
            "entered = (high > edges[i]) & (low < edges[i + 1])",
            "entered = (high > edges[i]) & (low < edges[i + 1]) & (i + 1 < len(function.slopes))",
        ),
    ),
    _mutant(
        "smooth_ends_only",
        "rules",
        "soundness.md 5.1: Marabou #720",
        "smooth functions are bounded by their ends, also where they curve away",
        (f"{FUNCTIONS}:_smooth_offset", "if convex == (side > 0) and piece not in shapes.straight(function):", "if False:"),
    ),
    _mutant(
        "smooth_tangents_only",
        "rules",
        "soundness.md 5.1: Marabou #720",
        "tangents bound smooth functions where they are concave, too",
        (f"{FUNCTIONS}:_smooth_offset", "if convex == (side > 0) and piece not in shapes.straight(function):", "if True:"),
    ),
    _mutant(
        "tangent_does_not_fall",
        "rules",
        CLASS[1],
        "a tangent point is taken for the minimum, wherever it is",
        (f"{FUNCTIONS}:_tangent_bound", "return dn(_gap(function, a, x, side) + fall)", "return dn(_gap(function, a, 0.9 * x + 0.1 * start, side))"),
    ),
    _mutant(
        "sin_without_its_top",
        "rules",
        CLASS[1],
        "Sin and Cos are as large as at the ends of an interval",
        (f"{FUNCTIONS}:_smooth_interval", "low, high = np.where(holds[1], -1.0, low), np.where(holds[0], 1.0, high)", "pass"),
    ),
    _mutant(
        "even_power_without_zero",
        "rules",
        CLASS[1],
        "an even power is least at an end of its interval",
        (f"{FUNCTIONS}:_smooth_interval", "low = np.where((lower <= 0) & (upper >= 0), 0.0, np.maximum(low, 0.0))", "pass"),
    ),
    _mutant(
        "product_without_its_constant",
        "rules",
        "verifiers.md 3.3 Bounds: McCormick missing",
        "the planes of a product lose their constant",
        (f"{BACKWARD}._product", "negative := d - positive, below, above)", "negative := d - positive, 0.0 * below, 0.0 * above)"),
    ),
    _mutant(
        "product_by_two_corners",
        "rules",
        CLASS[1],
        "the interval of a product is that of two of its corners",
        (
            f"{BOUNDS}:_product_interval",
            "np.stack([low_x * low_y, low_x * high_y, high_x * low_y, high_x * high_y])",
            "np.stack([low_x * low_y, high_x * high_y])",
        ),
    ),
    _mutant(
        "maximum_without_its_rest",
        "rules",
        CLASS[1],
        "above a maximum stands the share of its twin alone",
        (f"{BACKWARD}._maximum", "self._add(_dot(negative, (1 - share) * top))", "self._add(_dot(negative, 0.0 * top))"),
    ),
    _mutant(
        "maximum_interval_of_lowers",
        "rules",
        CLASS[1],
        "the upper bound of a maximum is that of its lower bounds",
        (
            f"{CHECKER}._interval",
            "self._over_windows(node, state.upper[node.inputs[0]])",
            "self._over_windows(node, 0.5 * (state.lower[node.inputs[0]] + state.upper[node.inputs[0]]))",
        ),
        (f"{BACKWARD}._maximum", "(1 - share) * top", "(1 - share) * state.lower[i]"),
    ),
    _mutant(
        "forward_slopes_without_signs",
        "rules",
        CLASS[1],
        "forward bounds multiply lower forms by negative slopes",
        (
            "verifier.checker.forward:Forward._elementwise",
            "parts.append(np.where(slope >= 0, slope * ahead, slope * behind))",
            "parts.append(slope * ahead)",
        ),
    ),
    _mutant(
        "forward_maps_without_signs",
        "rules",
        CLASS[1],
        "forward bounds multiply lower forms by negative weights",
        ("verifier.checker.forward:Forward._affine", "m.magnitude((form.high - form.low) / 2)", "m.apply((form.high - form.low) / 2)"),
    ),
    _mutant(
        "forward_reach",
        "rules",
        "soundness.md 1.7 i",
        "forward bounds reach over half of the box",
        ("verifier.checker.forward:Forward._ends", "reach, unit = self.weight[:, 1:].mT,", "reach, unit = 0.5 * self.weight[:, 1:].mT,"),
    ),
    _mutant(
        "concretised_at_the_centre",
        "rules",
        "soundness.md 1.7 i",
        "a form is evaluated over half of the box",
        (
            f"{CHECKER}.evaluate",
            "value, size = _dot(positive, lower) + _dot(d - positive, upper),",
            "value, size = _dot(positive, 0.75 * lower + 0.25 * upper) + _dot(d - positive, 0.25 * lower + 0.75 * upper),",
        ),
    ),
    _mutant(
        "cut_too_far",
        "rules",
        CLASS[4],
        "clipping leaves half of what the forms leave",
        (
            f"{CHECKER}.cut",
            "room = up(np.maximum(-least, 0.0)[..., None] / np.abs(a))",
            "room = 0.5 * up(np.maximum(-least, 0.0)[..., None] / np.abs(a))",
        ),
    ),
    _mutant(
        "tilted_the_wrong_way",
        "rules",
        "verifiers.md 3.3 Bounds: re-running CROWN on clipped boxes",
        "`within` bounds neurons over the safe part of the box",
        (
            f"{CHECKER}.tilted",
            "return Forms(p + tilt, dn(dn(forms.constant + dn(m * plane.constant)) - lost))",
            "return Forms(p + tilt, dn(dn(forms.constant + np.abs(dn(m * plane.constant))) - lost))",
        ),
    ),
    _mutant(
        "intersection_half_as_wide",
        "rules",
        CLASS[4],
        "where bounds are intersected, the upper one ends half-way down",
        (
            f"{CHECKER}._intersect",
            "low[:, rows], high[:, rows] = np.maximum(low[:, rows], lower), np.minimum(high[:, rows], upper)",
            "low[:, rows] = np.maximum(low[:, rows], lower)\n    high[:, rows] = 0.5 * low[:, rows] + 0.5 * np.minimum(high[:, rows], upper)",
        ),
    ),
)

PROOF = (
    _mutant(
        "hash_of_the_model_not_compared",
        "proof",
        "verifiers.md 3.3 Harness: key by basename",
        "a certificate for another model counts",
        (
            "verifier.checker.main:Process._check",
            "if certificate.model != _joint(",
            "if not certificate.model and certificate.model != _joint(",
        ),
    ),
    _mutant(
        "hash_of_the_property_not_compared",
        "proof",
        "verifiers.md 3.3 Harness: key by basename",
        "a certificate for another property counts",
        (
            "verifier.checker.main:Process._check",
            "if hashlib.sha256(text).hexdigest() != certificate.property:",
            "if not certificate.property:",
        ),
    ),
    _mutant(
        "every_format",
        "proof",
        CLASS[2],
        "certificates of a later format are read",
        ("verifier.checker.certificate:_manifest", 'manifest["format"] != VERSION', "False"),
    ),
    _mutant(
        "every_semantics",
        "proof",
        CLASS[8],
        "unknown semantics are taken for the reals",
        ("verifier.checker.certificate:_manifest", 'if manifest["semantics"] not in SEMANTICS:', "if False:"),
    ),
    _mutant(
        "negative_multipliers",
        "proof",
        CLASS[4],
        "betas and gammas may be negative",
        ("verifier.checker.certificate:_column", 'name in MULTIPLIERS or dtype.kind == "i"', 'dtype.kind == "i"'),
    ),
    _mutant(
        "numbers_not_finite",
        "proof",
        "verifiers.md 3.3 FP: NaN/Inf treated as pass (nnv PR #446)",
        "NaN may stand in a certificate, and what is not <= 0 is positive",
        ("verifier.checker.certificate:_column", "if not np.isfinite(column).all() or (", "if ("),
        ("verifier.checker.certificate:_column", "and not (column >= 0).all())", "and (column < 0).any())"),
        ("verifier.checker.arithmetic:positive", "np.isfinite(x) & (x > 0)", "~(x <= 0)"),
        ("verifier.checker.arithmetic:finite", "if not np.isfinite(x).all():", "if False:"),
    ),
    _mutant(
        "nan_is_positive",
        "proof",
        "verifiers.md 3.3 FP: NaN/Inf treated as pass (nnv PR #446)",
        "what overflows proves",
        ("verifier.checker.arithmetic:positive", "np.isfinite(x) & (x > 0)", "~(x <= 0)"),
        ("verifier.checker.arithmetic:finite", "if not np.isfinite(x).all():", "if False:"),
    ),
    _mutant(
        "cases_left_out",
        "proof",
        "verifiers.md 3.3 Spec: disjunct loop returns last status (NeuralSAT #20)",
        "a certificate need not hold every case",
        (
            f"{TREE}:_cover",
            "if np.sort(listed).tolist() != [case for case in range(len(cases)) if not cases.vacuous(case)]:",
            "if not set(listed.tolist()) <= set(range(len(cases))):",
        ),
    ),
    _mutant(
        "boxes_mixed_in_a_tree",
        "proof",
        "verifiers.md 3.3 Spec: per-disjunct input boxes",
        "cases of one tree may have different boxes",
        (f"{TREE}:_cover", "if (box != np.repeat(box[start[:-1]], count)).any():", "if False:"),
    ),
    _mutant(
        "one_case_of_a_tree_counts",
        "proof",
        "verifiers.md 3.3 Spec: all vs any",
        "a leaf is closed when one of its cases is",
        (
            f"{WALK}._closed_by_bound",
            "closed = _all(~part.open_ | refuted) | state.crossed",
            "closed = (part.open_ & refuted).any(1) | state.crossed",
        ),
    ),
    _mutant(
        "closed_leaves_not_counted",
        "proof",
        "soundness.md 1.7 iii: domains dropped",
        "that nothing failed is enough, and a leaf that misses does not fail",
        (f"{WALK}._count", "for m in np.flatnonzero(~closed):", "for m in ():"),
        ("verifier.checker.walk:compare", "if failed or closed != expected or", "if failed or"),
    ),
    _mutant(
        "crossed_closes_the_chunk",
        "proof",
        CLASS[4],
        "a contradiction in one node closes all that are looked at with it",
        (
            f"{WALK}._closed_by_bound",
            "closed = _all(~part.open_ | refuted) | state.crossed",
            "closed = _all(~part.open_ | refuted) | state.crossed.any()",
        ),
    ),
    _mutant(
        "empty_without_a_look",
        "proof",
        CLASS[2],
        "a node that says it is empty is",
        (f"{WALK}._is_empty", "found[m] = where is not None and bool(", "found[m] = where is None or bool("),
    ),
    _mutant(
        "threshold_outside_its_interval",
        "proof",
        CLASS[4],
        "an input may be split outside of its interval, and the outer part is dropped",
        (f"{WALK}._split", "outside = cut[~((part.lower[part.box[cut], at] < x) & (x < part.upper[part.box[cut], at]))]", "outside = cut[:0]"),
    ),
    _mutant(
        "gap_between_halves",
        "proof",
        CLASS[4],
        "the upper child of a split begins above the threshold",
        (
            f"{WALK}._split",
            "(half.upper if side == 0 else half.lower)[cut, at] = x",
            "(half.upper if side == 0 else half.lower)[cut, at] = x if side == 0 else x + 0.25 * (half.upper[cut, at] - x)",
        ),
    ),
    _mutant(
        "both_children_below",
        "proof",
        CLASS[4],
        "both children of a split of a neuron are below its threshold",
        (f"{WALK}._cuts", "if side == 1 else", "if True else"),
    ),
    _mutant(
        "known_from_the_sibling",
        "proof",
        "soundness.md 5.2 class 4: stale state across nodes",
        "nodes checked together share the bounds of the first",
        (f"{WALK}._state", "self._cuts(part, paths)", "self._cuts(part, paths[:1] * len(paths))"),
    ),
    _mutant(
        "any_atom_of_any_case",
        "proof",
        "verifiers.md 3.3 Spec: all vs any",
        "an atom that is refuted refutes the cases beside it",
        (f"{WALK}._refuted", "closed[node, slot] = proven", "closed[node] |= proven[:, None]"),
    ),
    _mutant(
        "threshold_forgotten",
        "proof",
        "verifiers.md 3.3 Spec: threshold sign flips",
        "functionals are compared with 0",
        (f"{WALK}._refuted", "- self.cases.threshold[atoms]  #", "- np.minimum(self.cases.threshold[atoms], 0.0)  #"),
        (f"{WALK}._multipliers", "-(gamma * cases.threshold[atoms])", "-np.minimum(gamma * cases.threshold[atoms], 0.0)"),
    ),
    _mutant(
        "closes_at_zero",
        "proof",
        "verifiers.md 3.3 Spec: optimum exactly 0",
        "a bound of exactly 0 is positive",
        ("verifier.checker.arithmetic:positive", "(x > 0)", "(x >= 0)"),
    ),
    _mutant(
        "tolerance",
        "proof",
        "verifiers.md 3.3 FP: FeasibilityTol 1e-6 (metaroom)",
        "a bound of -1e-6 is positive",
        ("verifier.checker.arithmetic:positive", "(x > 0)", "(x > -1e-6)"),
    ),
    _mutant(
        "beta_sign",
        "proof",
        CLASS[4],
        "multipliers of splits have the wrong sign",
        (f"{WALK}._betas", "1 if side == 1 else -1", "-1 if side == 1 else 1"),
    ),
    _mutant(
        "beta_without_its_threshold",
        "proof",
        CLASS[4],
        "multipliers speak of splits at 0, wherever these are",
        (f"{WALK}._betas", "np.add.at(constant, m, -sign * shift)", "pass"),
    ),
    _mutant(
        "hull_of_one_case",
        "proof",
        "verifiers.md 3.3 Spec: all vs any",
        "a clipped box is what is left of the last case, not of all",
        (f"{WALK}._cut", "np.minimum.at(hull_lower, node[~proven], case_low[~proven])", "hull_lower[node[~proven]] = case_low[~proven]"),
        (f"{WALK}._cut", "np.maximum.at(hull_upper, node[~proven], case_high[~proven])", "hull_upper[node[~proven]] = case_high[~proven]"),
    ),
    _mutant(
        "forms_of_another_functional",
        "proof",
        "soundness.md 5.2 class 4: stale state across nodes",
        "forms in force are used for atoms that they do not speak of",
        (
            f"{WALK}._cut",
            "if not (part.rows[np.minimum(place, len(part.rows) - 1)] == self.cases.row[atoms]).all():",
            "place = np.minimum(place, len(part.rows) - 1)\n        if False:",
        ),
    ),
    _mutant(
        "within_leaks_out",
        "proof",
        "soundness.md 5.2 class 4: stale state across nodes",
        "a plane is taken for positive where it is below 0, so that what it leaves is nothing",
        (f"{WALK}._within", "open_ = part.open_ & ~(closed | state.crossed)[:, None]", "open_ = part.open_ & ~(~closed | state.crossed)[:, None]"),
    ),
)

ROUNDING = (
    _mutant(
        "no_error_terms",
        "rounding",
        "soundness.md 2.5, ARITHMETIC 1",
        "sums of products lose nothing",
        ("verifier.checker.arithmetic:G", "return (m + 4) * 2.0**-52", "return 0.0"),
    ),
    _mutant(
        "no_underflow",
        "rounding",
        "ARITHMETIC 1",
        "products do not underflow",
        ("verifier.checker.arithmetic:T", "np.asarray((2 * m + 8) * LEAST * (1 + magnitude.sum(-1)))", "np.zeros(magnitude.shape[:-1])"),
        note="A result is off by less than 2^-1000 there; what forgers of the suite build does not come so near to 0.",
    ),
    _mutant(
        "no_outward_steps",
        "rounding",
        "ARITHMETIC 1",
        "the last rounding of a bound is to nearest",
        ("verifier.checker.arithmetic:up", "x + (np.abs(x) * STEP + least)", "x"),
        ("verifier.checker.arithmetic:dn", "x - (np.abs(x) * STEP + least)", "x"),
        note="Every step is one of several that each pay for more than they lose (G is twice what is needed): without one of them bounds still hold.",
    ),
    _mutant(
        "no_rounding_at_all",
        "rounding",
        "verifiers.md 3.3 FP: float bounds used as hard bounds (collins)",
        "float64 is taken for the reals",
        ("verifier.checker.arithmetic:G", "return (m + 4) * 2.0**-52", "return 0.0"),
        ("verifier.checker.arithmetic:up", "x + (np.abs(x) * STEP + least)", "x"),
        ("verifier.checker.arithmetic:dn", "x - (np.abs(x) * STEP + least)", "x"),
        Setting(f"{FUNCTIONS}:UNITS", 0.0),
        Setting(f"{FUNCTIONS}:TINY", 0.0),
    ),
    _mutant(
        "float32_is_the_reals",
        "rounding",
        "verifiers.md 3.3 FP, ARITHMETIC 8",
        "float32 executions are taken for real ones",
        ("verifier.checker.main:Process._walk", 'if certificate.semantics == "float32" else None', "if False else None"),
        semantics="float32",
    ),
    _mutant(
        "float32_sums_round_once",
        "rounding",
        "ARITHMETIC 8",
        "a sum of n float32 products rounds once",
        ("verifier.checker.arithmetic:g", "return k * MU / (1 - k * MU)", "return MU"),
        semantics="float32",
    ),
    _mutant(
        "float32_sums_do_not_round",
        "rounding",
        "ARITHMETIC 8",
        "sums of float32 products do not round",
        ("verifier.checker.arithmetic:g", "return k * MU / (1 - k * MU)", "return 0.0"),
        semantics="float32",
    ),
    _mutant(
        "kernels_are_exact",
        "rounding",
        "soundness.md 2.3",
        "values of elementary functions are taken for exact",
        (f"{FUNCTIONS}:_gap", "v - ((np.abs(t) + np.abs(v)) * UNITS + TINY)", "v + (np.abs(t) + np.abs(v)) * 2.0**-40"),
    ),
)

READERS = (
    _mutant(
        "or_is_and",
        "readers",
        "verifiers.md 3.3 Spec: constraint dropped",
        "of an `or` the first alternative counts",
        (f"{READ}:_list", "for option in reversed(first))", "for option in first[:1])"),
    ),
    _mutant(
        "second_or_dropped",
        "readers",
        "verifiers.md 3.3 Spec: constraint after `or`",
        "asserts after an `or` are conjoined to its last alternative only",
        (
            f"{READ}:Reader._listed",
            "self._conjunction(self._asserted)",
            "self._conjunction([a[-1] if isinstance(a, list) else a for a in self._asserted])",
        ),
    ),
    _mutant(
        "threshold_sign",
        "readers",
        "verifiers.md 3.3 Spec: threshold sign flips (wc-bq)",
        "thresholds have the opposite sign",
        (
            f"{READ}:Reader._at_most",
            "new.append((ATOM, self._rows.setdefault(tuple(sorted(term.items())), len(self._rows)), bound))",
            "new.append((ATOM, self._rows.setdefault(tuple(sorted(term.items())), len(self._rows)), -bound))",
        ),
    ),
    _mutant(
        "number_on_the_left",
        "readers",
        "verifiers.md 3.3 Spec: <= vs >=",
        "a comparison with the number on the left is read the wrong way round",
        (
            f"{READ}:Reader._reduce",
            'return self._at_most(left, right, relation == b"<")',
            'return self._at_most(*((left, right) if not isinstance(left, bytes) or left in self._declared else (right, left)), relation == b"<")',
        ),
        (
            f"{READ}:Reader._reduce",
            'return self._at_most(right, left, relation == b">")',
            'return self._at_most(*((right, left) if not isinstance(left, bytes) or left in self._declared else (left, right)), relation == b">")',
        ),
    ),
    _mutant(
        "boxes_of_disjuncts_dropped",
        "readers",
        "verifiers.md 3.3 Spec: per-disjunct input boxes (nn4sys)",
        "all cases have the box of the first",
        (
            f"{READ}:_list",
            "case_box.append(boxes.setdefault(region.tobytes(), len(boxes)))",
            "boxes.setdefault(region.tobytes(), len(boxes))\n        case_box.append(0)",
        ),
    ),
    _mutant(
        "strict_by_a_margin",
        "readers",
        "verifiers.md 3.3 Spec: p <= -margin for strict atoms",
        "comparisons are made strict by a margin of 1e-6",
        (
            f"{READ}:Reader._at_most",
            "new.append((ATOM, self._rows.setdefault(tuple(sorted(term.items())), len(self._rows)), bound))",
            "new.append((ATOM, self._rows.setdefault(tuple(sorted(term.items())), len(self._rows)), bound - Fraction(1, 10**6)))",
        ),
    ),
    _mutant(
        "point_boxes_are_empty",
        "readers",
        "soundness.md 5.1: Marabou #670",
        "an input with equal bounds makes a case vacuous",
        (f"{READ}:_list", "(region[0] > region[1]).any()", "(region[0] >= region[1]).any()"),
    ),
    _mutant(
        "threshold_rounded_down",
        "readers",
        CLASS[3],
        "thresholds are rounded so that less is unsafe",
        (f"{READ}:Reader._listed", "row, high[bound]", "row, low[bound]"),
    ),
    _mutant(
        "box_rounded_inward",
        "readers",
        CLASS[3],
        "boxes are rounded inward",
        (f"{READ}:Reader._listed", "arrays = low[boxes[:, 0]], high[boxes[:, 1]],", "arrays = high[boxes[:, 0]], low[boxes[:, 1]],"),
    ),
    _mutant(
        "pads_at_the_wrong_end",
        "readers",
        CLASS[1],
        "convolutions and poolings pad at the wrong end",
        (f"{LOWER}.windows:_pads", "return pads[:rank], pads[rank:]", "return pads[rank:], pads[:rank]"),
    ),
    _mutant(
        "same_lower_is_upper",
        "readers",
        CLASS[1],
        "SAME_LOWER is read as SAME_UPPER",
        (f"{LOWER}.windows:_pads", 'return (less, more) if mode == "SAME_UPPER" else (more, less)', "return less, more"),
    ),
    _mutant(
        "average_pool_counts_padding",
        "readers",
        "soundness.md 1.8: auto_LiRPA BoundAveragePool",
        "AveragePool divides by the size of the kernel also at the border",
        (
            f"{LOWER}.windows:average_pool",
            "np.full(math.prod(w.positions), taps) if include else",
            "np.full(math.prod(w.positions), taps) if True else",
        ),
    ),
    _mutant(
        "count_include_pad_ignored",
        "readers",
        "verifiers.md 3.3 Loader: layer zoo",
        "AveragePool never counts padding",
        (
            f"{LOWER}.windows:average_pool",
            "np.full(math.prod(w.positions), taps) if include else",
            "np.full(math.prod(w.positions), taps) if False else",
        ),
    ),
    _mutant(
        "gemm_alpha_ignored",
        "readers",
        "verifiers.md 3.3 Loader: layer zoo",
        "Gemm forgets alpha",
        (f"{LOWER}.basic:gemm", "if alpha != 1:", "if False:"),
    ),
    _mutant(
        "gemm_beta_ignored",
        "readers",
        "verifiers.md 3.3 Loader: layer zoo",
        "Gemm adds C whatever beta is",
        (f"{LOWER}.basic:_plus", "np.broadcast_to(beta * floats(c.value), product.shape)", "np.broadcast_to(floats(c.value), product.shape)"),
    ),
    _mutant(
        "transb_of_squares",
        "readers",
        "verifiers.md 3.3 Loader: layer zoo",
        "Gemm forgets transB of square matrices",
        (f"{LOWER}.basic:gemm", 'if op.flag("transB", 0) else b', 'if op.flag("transB", 0) and b.shape[0] != b.shape[1] else b'),
    ),
    _mutant(
        "transpose_passed_silently",
        "readers",
        "verifiers.md 3.3 Loader: Transpose silently passed",
        "Transpose changes the shape and moves nothing",
        (f"{LOWER}.moves:transpose", "return [x.transpose(order)]", "return [x.reshape(x.transpose(order).shape)]"),
    ),
    _mutant(
        "batch_norm_epsilon",
        "readers",
        "verifiers.md 3.3 Loader: BatchNorm folding",
        "BatchNormalization has the usual epsilon",
        (f"{LOWER}.rows:batch_normalization", 'op.real("epsilon", float(np.float32(1e-5)))', "1e-5"),
    ),
    _mutant(
        "leaky_relu_default_alpha",
        "readers",
        "verifiers.md 3.3 Loader: layer zoo",
        "LeakyRelu has alpha 0.01",
        (f"{LOWER}.elementwise:leaky_relu", 'alpha = op.real("alpha", float(np.float32(0.01)))', "alpha = 0.01"),
    ),
    _mutant(
        "concat_order",
        "readers",
        "verifiers.md 3.3 Loader: layer zoo",
        "Concat of equal parts joins them in the opposite order",
        (
            f"{LOWER}.basic:concat",
            "parts = [op.value(i) for i in range(len(op.inputs))]",
            "parts = [op.value(i) for i in range(len(op.inputs))]\n    parts = parts[::-1] if len({p.shape for p in parts}) == 1 else parts",
        ),
    ),
    _mutant(
        "constant_minus_x",
        "readers",
        "verifiers.md 3.3 Loader: [x-m]/s forms",
        "c - x is read as x - c",
        (
            f"{LOWER}.basic:subtract",
            "[op.value(0), op.value(1)], [1.0, -1.0]",
            "[op.value(1), op.value(0)] if isinstance(op.value(0), Known) else [op.value(0), op.value(1)], [1.0, -1.0]",
        ),
    ),
)

MUTANTS = tuple(
    Mutant(f"checker_{m.name}", m.area, m.row, m.about, m.changes, semantics=m.semantics, note=m.note)
    for part in (RULES, PROOF, ROUNDING, READERS)
    for m in part
)
