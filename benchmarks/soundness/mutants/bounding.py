"""Engines whose bounds do not hold."""

from __future__ import annotations

from benchmarks.soundness.mutants.edit import Edit, Mutant

BACKWARD, LINEAR, RELAX = "bounds.linear:_Backward", "bounds.linear:LinearBounds", "bounds.relaxation"
CROSSED = ("crossed",)  # bounds that contradict each other raise; other tools intersect and go on
RULE = "rule = _tangent_bound if convex == (side > 0) and piece not in function.straight else _end_bound"


def _mutant(name: str, row: str, about: str, *changes: tuple[str, str, str], setup: str = "", note: str = "") -> Mutant:
    return Mutant(name, "bounds", row, about, tuple(Edit(*change) for change in changes), off=CROSSED, setup=setup, note=note)


MUTANTS = (
    _mutant(
        "product_without_its_constant",
        "verifiers.md 3.3 Bounds: bilinear backward CROWN without -ab (McCormick missing)",
        "the planes of a product lose their constant",
        (f"{BACKWARD}._product", "self._add(-dot(positive, low_x * low_y) - dot(negative, low_x * high_y))", "pass"),
        (f"{BACKWARD}._matmul", "self._add(-offset.flatten(2).sum(-1))", "pass"),
    ),
    _mutant(
        "product_interval_of_two_corners",
        "verifiers.md 3.3 Bounds: bilinear",
        "the interval of a product is that of two of its corners",
        (
            f"{LINEAR}._bilinear_interval",
            "torch.stack([low_x * low_y, low_x * high_y, high_x * low_y, high_x * high_y])",
            "torch.stack([low_x * low_y, high_x * high_y])",
        ),
        ("bounds.interval:_product", "corners = [a * b for a in x for b in y]", "corners = [a * b for a, b in zip(x, y)]"),
    ),
    _mutant(
        "gather_copies_instead_of_adding",
        "verifiers.md 3.3 Bounds: gather/slice adjoint used copy instead of scatter-add (fan-out)",
        "of the readers of an element only the last counts",
        ("bounds.torch_map:_Gather.adjoint", "zero.index_add(-1,", "zero.index_copy(-1,"),
    ),
    _mutant(
        "shared_node_overwritten",
        "verifiers.md 3.3 Bounds: concat aliasing (diamond graphs)",
        "a node that two others read keeps the coefficients of one",
        (f"{BACKWARD}._pass_on", "self.coefficients[j] = total = held + d", "self.coefficients[j] = total = d"),
    ),
    _mutant(
        "shared_node_visited_twice",
        "verifiers.md 3.3 Bounds: concat aliasing (diamond graphs)",
        "the coefficients of a node that two others read count twice",
        (f"{BACKWARD}._pass_on", "self.coefficients[j] = total = held + d", "self.coefficients[j] = total = held + held + d"),
    ),
    _mutant(
        "abcrown_103_carrier_branch",
        "verifiers.md 3.3 Bounds, soundness.md 1.8: alpha-beta-CROWN #103",
        "a sum of two branches has the radius of the last one",
        (f"{LINEAR}._affine_interval", "radius = radius + m.abs_apply(", "radius = m.abs_apply("),
        ("bounds.interval:_affine", "radius, magnitude = radius + both[0], magnitude + both[1]", "radius, magnitude = both[0], magnitude + both[1]"),
    ),
    _mutant(
        "residual_branch_subtracted",
        "soundness.md 5.2 class 1: residual",
        "the second branch of a sum is passed back with the opposite sign",
        (f"{BACKWARD}._affine", "self._pass_on(j, m.adjoint(d))", "self._pass_on(j, m.adjoint(d if j == node.inputs[0] else -d))"),
    ),
    _mutant(
        "dispatch_falls_through",
        "verifiers.md 3.3 Loader: dispatch fell through (linearizenn); vibecheck: missing else dropped Slice/Concat",
        "maxima have no backward rule, and nothing says so",
        (f"{BACKWARD}._step", "self._by_planes(i, twin, d)", "pass"),
    ),
    _mutant(
        "relu_upper_offset_too_low",
        "soundness.md 5.2 class 1: relaxation offset on the wrong side",
        "the chord of ReLU is moved down by a tenth",
        (f"{RELAX}:_relax_relu", "offset = torch.maximum(", "offset = 0.9 * torch.maximum("),
    ),
    _mutant(
        "relu_upper_slope",
        "soundness.md 5.2 class 1: slope",
        "the upper plane of ReLU has the slope of the lower one, and the offset of the chord",
        (f"{RELAX}:_relax_relu", "chord, offset)", "(upper > -lower).to(lower.dtype) * chord, offset)"),
    ),
    _mutant(
        "marabou_568_almost_fixed",
        "soundness.md 5.1: Marabou #568, PREPROCESSOR_ALMOST_FIXED_THRESHOLD",
        "a ReLU that is at most 1e-5 is taken for 0",
        (
            f"{RELAX}:_relax_relu",
            "low, high = lower.clamp(max=0), upper.clamp(min=0)",
            "low, high = lower.clamp(max=0), torch.where(upper < 1e-5, 0.0, upper).clamp(min=0)",
        ),
        (
            f"{RELAX}:interval",
            "return lower.clamp(min=0), upper.clamp(min=0)",
            "return lower.clamp(min=0), torch.where(upper < 1e-5, 0.0, upper).clamp(min=0)",
        ),
        ("bounds.interval:elementwise", "unknown = np.isnan(lower)", "high = np.where(high < 1e-5, low, high)\n    unknown = np.isnan(lower)"),
    ),
    _mutant(
        "kink_forgotten",
        "soundness.md 5.2 class 1: piecewise function",
        "the least value of f - slope x is looked for at the ends only",
        (f"{RELAX}:_kink_offset", "least = torch.where((lower < 0) & (upper > 0), least.clamp(max=0), least)", "pass"),
        setup="neurons",
    ),
    _mutant(
        "marabou_605_sign_at_zero",
        "soundness.md 5.1: Marabou #605 (sign)",
        "a function that jumps has no value at the jump",
        (
            f"{RELAX}:_pieces_offset",
            "corners.append((torch.full_like(lower, -side * below), torch.where(inside, lower.new_tensor(side * v), torch.inf)))",
            "pass",
        ),
        ("bounds.interval:_pieces", "inside = (lower <= at) & (upper >= at)", "inside = (lower < at) & (upper < at)"),
        note=(
            "The value of Sign at 0 lies between both limits, so that bounds without it are the same; no operator of the suite "
            "has a value outside of its limits."
        ),
    ),
    _mutant(
        "sign_of_one_side",
        "soundness.md 5.1: Marabou #605 (sign)",
        "Sign over an interval around 0 is what it is at its upper end",
        (
            f"{RELAX}:_pieces_offset",
            "for x in (start, end)]",
            "for x in ((end,) if i + 1 == len(function.slopes) or not function.jumps() else ())]",
        ),
        (
            "bounds.interval:_pieces",
            "entered = (lower <= upper) & (upper > bounds[i])",
            "entered = (lower <= upper) & (upper > bounds[i]) & ((i + 1 == len(function.slopes)) | (not function.jumps()) | (upper <= 0))",
        ),
    ),
    _mutant(
        "marabou_720_sigmoid_pieces",
        "soundness.md 5.1: Marabou #720 (Sigmoid bounds)",
        "a smooth function is bounded by its ends, also where it curves away from the plane",
        (f"{RELAX}:_smooth_offset", RULE, "rule = _end_bound"),
    ),
    _mutant(
        "sigmoid_tangent_on_both_sides",
        "soundness.md 5.1: Marabou #720 (Sigmoid bounds)",
        "tangents are taken for bounds also where the function is concave",
        (f"{RELAX}:_smooth_offset", RULE, "rule = _tangent_bound"),
        setup="neurons",
    ),
    _mutant(
        "smooth_interval_of_the_centre",
        "invented",
        "the interval of a smooth function is that of the middle half of its argument",
        (f"{RELAX}:_smooth_interval", "points = [lower, upper]", "points = [0.75 * lower + 0.25 * upper, 0.25 * lower + 0.75 * upper]"),
        ("bounds.interval:_smooth", "points = [lower, upper,", "points = [0.75 * lower + 0.25 * upper, 0.25 * lower + 0.75 * upper,"),
    ),
    _mutant(
        "max_without_its_rest",
        "soundness.md 5.2 class 1: max relaxation",
        "above a maximum stands the share of its twin alone",
        (f"{RELAX}:of_maximum", "(1 - share) * most + 4 * unit * most.abs() + tiny", "0.0 * most"),
    ),
    _mutant(
        "max_pool_interval_of_the_first",
        "soundness.md 5.2 class 1: max relaxation",
        "the upper bound of a maximum is that of the element with the largest lower bound",
        (
            f"{LINEAR}._interval",
            'return low, gather_windows(state.upper[j], windows, float("-inf")).amax(-1)',
            'return low, gather_windows(state.upper[j], windows, float("-inf")).gather(-1, '
            'gather_windows(state.lower[j], windows, float("-inf")).argmax(-1, keepdim=True)).squeeze(-1)',
        ),
        ("bounds.interval:propagate", "_window_max(inputs[0][1], windows)))", "_window_max(0.5 * inputs[0][0] + 0.5 * inputs[0][1], windows)))"),
        (f"{RELAX}:of_maximum", "(1 - share) * most +", "(1 - share) * least +"),
    ),
    _mutant(
        "bias_skipped_going_back",
        "verifiers.md 3.3 Loader: acasxu verified bias-free",
        "backward passes forget biases",
        (f"{BACKWARD}._affine", "self._add(dot(d, bias.unsqueeze(0)))", "pass"),
    ),
    _mutant(
        "bias_skipped_of_sums",
        "soundness.md 5.2 class 1: residual",
        "backward passes forget the bias of a sum of two branches",
        (f"{BACKWARD}._affine", "self._add(dot(d, bias.unsqueeze(0)))", "None if len(node.inputs) > 1 else self._add(dot(d, bias.unsqueeze(0)))"),
    ),
    _mutant(
        "radius_with_signs",
        "soundness.md 5.2 class 1: interval",
        "the radius of W x is W r instead of |W| r",
        (
            f"{LINEAR}._affine_interval",
            "radius = radius + m.abs_apply(torch.maximum(high - middle, middle - low))",
            "radius = radius + m.apply(torch.maximum(high - middle, middle - low)).abs()",
        ),
        (
            "bounds.interval:_affine",
            "both = m.abs_apply(np.stack([spread, np.abs(centre)]))",
            "both = np.abs(m.apply(np.stack([spread, np.abs(centre)])))",
        ),
    ),
    _mutant(
        "bounds_shifted_inward",
        "soundness.md 1.7 ii: intermediate bounds shifted inward",
        "bounds of hidden layers are 10% too tight",
        (
            f"{LINEAR}._meet",
            "bad = new_low > new_high",
            "new_low, new_high = new_low + 0.05 * (new_high - new_low), new_high - 0.05 * (new_high - new_low)\n    bad = new_low > new_high",
        ),
    ),
    _mutant(
        "degenerate_intermediate_bounds",
        "verifiers.md 3.3 Bounds: degenerate intermediate bounds lo == hi",
        "a hidden layer behind a sum of two branches is bounded at its centre",
        (
            f"{LINEAR}._affine_interval",
            "return centre - radius, centre + radius",
            "return (centre, centre) if len(node.inputs) > 1 else (centre - radius, centre + radius)",
        ),
    ),
    _mutant(
        "pinned_inputs",
        "verifiers.md 3.3 Bounds: generator columns pinned to [0, 0] (dist_shift)",
        "inputs narrower than a quarter of the widest are fixed at their upper ends",
        (
            "verifier.problem:compile_problem",
            "arrays = boxes.arrays()",
            "arrays = boxes.arrays()\n    width = arrays[1] - arrays[0]\n    narrow = width < 0.25 * width.max(-1, initial=0.0, keepdims=True)\n"
            "    arrays = (np.where(narrow, arrays[1], arrays[0]), *arrays[1:])",
        ),
    ),
    _mutant(
        "forward_slopes_without_signs",
        "verifiers.md 3.3 Bounds: tag mismatch between relaxations",
        "forward bounds multiply lower forms by negative slopes",
        (
            "bounds.forward:_times",
            ".addcmul_(slope.clamp(max=0).unsqueeze(1), behind)",
            ".addcmul_(slope.clamp(max=0).unsqueeze(1), ahead)",
        ),
        setup="forward",
        note=(
            "It needs a negative slope behind a function whose two forms differ, in a network that is bounded forwards, and no "
            "backward bound that is better: `regress_tent` has the first two."
        ),
    ),
    _mutant(
        "forward_maps_without_signs",
        "verifiers.md 3.3 Bounds: tag mismatch between relaxations",
        "forward bounds multiply lower forms by negative weights",
        (
            "bounds.forward:_Pass._affine",
            "spread = spread + m.abs_apply((form.high - form.low).mul_(0.5))",
            "spread = spread + m.apply((form.high - form.low).mul_(0.5))",
        ),
        setup="forward",
    ),
    _mutant(
        "alpha_not_projected",
        "verifiers.md 3.3 Bounds: tag mismatch (too tight)",
        "slopes of ReLU are optimised beyond [0, 1]",
        ("verifier.optimise:_relu", "bent, chosen.clamp(0, 1))", "bent, chosen)"),
        ("verifier.optimise:_project", "if isinstance(node, Elementwise)", "if False and isinstance(node, Elementwise)"),
        setup="neurons",
    ),
    _mutant(
        "beta_not_projected",
        "soundness.md 5.2 class 4: branch and bound",
        "multipliers of splits may be negative",
        (
            "verifier.optimise:_price",
            "least, most = torch.where(below, -torch.inf, torch.zeros_like(floor)), torch.where(above, torch.inf, torch.zeros_like(floor))",
            "least, most = torch.full_like(floor, -torch.inf), torch.full_like(floor, torch.inf)",
        ),
        setup="neurons",
    ),
    _mutant(
        "beta_sign",
        "soundness.md 5.2 class 4: branch and bound",
        "multipliers of splits have the wrong sign",
        ("bounds.linear:_Backward._pay", "else d + m", "else d - m"),
        setup="neurons",
    ),
    _mutant(
        "clip_verify_sign",
        "verifiers.md 3.3 Bounds: re-running CROWN on clipped boxes",
        "complete clipping bounds neurons over the safe part of the box",
        (
            "verifier.clip_neurons:clip_neurons",
            "value = least_within(low_x, high_x, line.coefficients, line.constant, coefficients, constant)",
            "value = least_within(low_x, high_x, line.coefficients, line.constant, -coefficients, -constant)",
        ),
        setup="neurons",
    ),
    _mutant(
        "pole_forgotten",
        "soundness.md 5.2 class 2: NaN, Inf",
        "a reciprocal is bounded by its ends across its pole",
        (f"{RELAX}:_is_defined", "for pole in function.poles:", "for pole in ():"),
        ("bounds.interval:_smooth", "for pole in function.poles:", "for pole in ():"),
        note="No instance has a pole in its box, since the network has no value there.",
    ),
    _mutant(
        "periodic_by_its_ends",
        "invented",
        "Sin and Cos are as large as at the ends of an interval",
        (f"{RELAX}:_smooth_interval", "for c in function.stationary)", "for c in ())"),
        (f"{RELAX}:_is_wide", "return upper - lower > function.period", "return upper < lower"),
        (
            "bounds.interval:_smooth",
            "points = [lower, upper, *(np.clip(c, lower, upper) for c in _stationary(function, lower))]",
            "points = [lower, upper]",
        ),
        ("bounds.interval:_smooth", "wide = upper - lower > function.period", "wide = upper < lower"),
    ),
    _mutant(
        "nan_is_a_proof",
        "verifiers.md 3.3 FP: NaN/Inf treated as pass (nnv PR #446)",
        "what is not shown to be violated counts as proven",
        ("verifier.bounding:Bounder.bound_in", "margin = torch.where(low.value.isfinite(), low.value, -torch.inf)", "margin = low.value"),
        ("verifier.bounding:Bounder.closes", "proven = margin > self.reserve", "proven = ~(margin <= self.reserve"),
        ("verifier.bounding:Bounder.closes", "group[:1] * 0].unsqueeze(-1)", "group[:1] * 0].unsqueeze(-1))"),
    ),
    _mutant(
        "tolerance_1e6",
        "verifiers.md 3.3 FP: FeasibilityTol 1e-6 (metaroom)",
        "a margin of -1e-6 closes a case",
        ("verifier.bounding:Bounder.closes", "proven = margin > self.reserve", "proven = margin > -1e-6 + self.reserve"),
    ),
    _mutant(
        "float32_without_error_terms",
        "verifiers.md 3.3 FP: float32 bounds used as hard bounds (collins)",
        "bounds pay nothing for their own rounding",
        ("bounds.linear:unit_error", "return (m + 6) * torch.finfo(dtype).eps", "return 0.0"),
    ),
    _mutant(
        "half_precision_products",
        "verifiers.md 3.3 FP: TF32",
        "matrices are multiplied with 10 bits, and the bounds do not know",
        (
            "bounds.torch_map:_Dense._rows",
            "(x.reshape(-1, weight.shape[0]) @ weight)",
            "(x.reshape(-1, weight.shape[0]) @ weight.bfloat16().to(weight.dtype))",
        ),
    ),
    _mutant(
        "retry_taken_for_granted",
        "verifiers.md 3.3 FP: fragile models certify wrong bounds",
        "where float64 could help it is said to have helped",
        ("verifier.bounding:Bounder.retry_in_double", "closed[retry] | again.closed)", "closed[retry] | rescued[retry])"),
        ("verifier.bounding:Bounder.confirm_in_double", "found.closed[retry] | again.closed)", "found.closed[retry] | rescued[retry])"),
        note=(
            "It lies where a violation is nearer than the rounding of float32, but where that is so at the centre of the first "
            "box the engine computes in float64 throughout: only an instance without any margin shows it "
            "(tests/verifier/test_mutants.py has one), and planted violations have one."
        ),
    ),
    _mutant(
        "box_rounded_inward",
        "soundness.md 5.2 class 3: boundary",
        "decimal bounds of inputs are rounded to the inner float32",
        (
            "verifier.bounding:outward",
            "rounded_low.double() > low, torch.nextafter(rounded_low, -infinity)",
            "rounded_low.double() < low, torch.nextafter(rounded_low, infinity)",
        ),
        (
            "verifier.bounding:outward",
            "rounded_high.double() < high, torch.nextafter(rounded_high, infinity)",
            "rounded_high.double() > high, torch.nextafter(rounded_high, -infinity)",
        ),
        ("specs.rounding:hull_lower", "return _table(values).hull_lower[values.index]", "return _table(values).up[values.index]"),
        note=(
            "It leaves out what lies between a decimal and its neighbouring double, or between it and its float32: real points of "
            "the box lose less than one double, and a float32 point beyond the decimal violates nothing over the reals."
        ),
    ),
    _mutant(
        "threshold_rounded_to_the_strong_side",
        "soundness.md 5.2 class 3: boundary",
        "thresholds are rounded so that less is unsafe",
        ("specs.rounding:hull_upper", "return _table(values).hull_upper[values.index]", "return _table(values).hull_lower[values.index]"),
        note="Thresholds move by less than one float32; a planted violation is farther from its threshold than that.",
    ),
)
