"""Engines that lose something on the way, or take something for a proof that is none."""

from __future__ import annotations

from benchmarks.soundness.mutants.edit import Edit, Mutant

INPUTS, NEURONS = "verifier.input_search:InputSearch", "verifier.neuron_search"
ACCOUNTS = ("accounts", "crossed")  # the closed leaves must add up to every case: other tools do not count


def _mutant(name: str, row: str, about: str, *changes: tuple[str, str, str], setup: str = "", attack: bool = False, note: str = "") -> Mutant:
    return Mutant(name, "search", row, about, tuple(Edit(*change) for change in changes), off=ACCOUNTS, setup=setup, attack=attack, note=note)


MUTANTS = (
    _mutant(
        "box_shrunk",
        "soundness.md 1.7 i: radius shrunk",
        "the box of the inputs is 10% too small on every side",
        (
            "verifier.problem:compile_problem",
            "arrays = boxes.arrays()",
            "arrays = boxes.arrays()\n    inset = 0.1 * (arrays[1] - arrays[0])\n    arrays = (arrays[0] + inset, arrays[1] - inset, *arrays[2:])",
        ),
    ),
    _mutant(
        "second_half_lost",
        "soundness.md 1.7 iii: domains dropped",
        "of a halved box the half above the threshold is lost",
        (f"{INPUTS}._push_halves", "self.stack.push(left)", "self.stack.push(left.select(left.id % 2 == 1))"),
        setup="inputs",
    ),
    _mutant(
        "one_domain_in_five_lost",
        "soundness.md 1.7 iii: domains dropped at random",
        "one sub-box in five is lost",
        (f"{INPUTS}._push_halves", "self.stack.push(left)", "self.stack.push(left.select(left.id % 5 != 3))"),
        setup="inputs",
    ),
    _mutant(
        "neuron_child_lost",
        "soundness.md 1.7 iii: domains dropped",
        "of a split neuron the inactive side is lost",
        (
            f"{NEURONS}:NeuronSearch._split",
            "self._bound(children, state, self.effort.steps)",
            "kept = torch.arange(len(parents), 2 * len(parents))\n    self._bound(children.select(kept), state.select(kept), self.effort.steps)",
        ),
        setup="neurons",
    ),
    _mutant(
        "stale_bounds_of_the_sibling",
        "soundness.md 5.2 class 4: stale state across nodes",
        "the active side of a split has the bounds of the inactive one",
        (
            f"{NEURONS}:NeuronSearch._split",
            "known = {j: (children.lower[j], children.upper[j]) for j in children.lower}",
            "known = {j: (children.lower[j][: len(parents)].repeat(2, 1), children.upper[j][: len(parents)].repeat(2, 1)) for j in children.lower}",
        ),
        setup="neurons",
    ),
    _mutant(
        "stale_bounds_after_a_batch",
        "soundness.md 5.2 class 4: stale state across nodes",
        "halves are bounded in the state of the batch's first box",
        (
            "verifier.bounding:Bounder.root_state",
            "self.linear.propagate(lower, upper)",
            "self.linear.propagate(lower[:1].expand_as(lower), upper[:1].expand_as(upper))",
        ),
        setup="inputs",
    ),
    _mutant(
        "gap_between_halves",
        "soundness.md 5.2 class 4: split",
        "between the halves of a box a sliver of 2^-10 of it is left out",
        (
            "verifier.branch_input:split",
            "above = replace(boxes, lower=boxes.lower.scatter(-1, at, threshold)",
            "above = replace(boxes, lower=boxes.lower.scatter(-1, at, threshold + 2.0**-10 * (boxes.upper.gather(-1, at) - threshold))",
        ),
        (
            "verifier.branch_input:split",
            "below = replace(boxes, upper=boxes.upper.scatter(-1, at, threshold)",
            "below = replace(boxes, upper=boxes.upper.scatter(-1, at, threshold - 2.0**-10 * (threshold - boxes.lower.gather(-1, at)))",
        ),
        setup="inputs",
    ),
    _mutant(
        "clipped_too_far",
        "soundness.md 5.2 class 4: clipping",
        "boxes are cut to half of what their linear bound leaves",
        ("verifier.clip:_cuts", "room = -least.clamp(max=0)", "room = -0.5 * least.clamp(max=0)"),
        setup="inputs",
    ),
    _mutant(
        "clipped_by_any_row",
        "verifiers.md 3.3 Spec: all vs any conjunct",
        "the cut of a box keeps the part that is left by one case, not the hull of all",
        (
            "verifier.clip:clip",
            "torch.minimum(new_lower, low), new_lower)",
            "torch.where(new_lower < torch.inf, torch.maximum(new_lower, low), low), new_lower)",
        ),
        (
            "verifier.clip:clip",
            "torch.maximum(new_upper, high), new_upper)",
            "torch.where(new_upper > -torch.inf, torch.minimum(new_upper, high), high), new_upper)",
        ),
        setup="inputs",
    ),
    _mutant(
        "degenerate_nodes_closed",
        "verifiers.md 3.3 Search: root batch closes degenerate nodes silently",
        "boxes that cannot be halved any more are dropped",
        (f"{INPUTS}._bound", "self.stuck.append(alive.select(~can))", "pass"),
        setup="inputs",
    ),
    _mutant(
        "stuck_neurons_closed",
        "verifiers.md 3.3 Search: root batch closes degenerate nodes silently",
        "sub-problems without a neuron to split are dropped",
        (f"{NEURONS}:NeuronSearch._branch", "self.stuck.append(rest.select(~can))", "pass"),
        setup="neurons",
    ),
    _mutant(
        "one_case_closes_its_neighbours",
        "verifiers.md 3.3 Spec: all vs any conjunct closure",
        "a case that is closed closes the others on its box",
        (
            "verifier.bounding:Bounder.closes",
            "return (proven.to(margin.dtype) @ member[0].to(margin.dtype).T) > 0",
            "return ((proven.to(margin.dtype) @ member[0].to(margin.dtype).T) > 0).any(-1, keepdim=True).expand(-1, member.shape[1])",
        ),
        (
            "verifier.bounding:Bounder.closes",
            "return (proven.unsqueeze(1) & member[group]).any(-1)",
            "return (proven.unsqueeze(1) & member[group]).any(-1).any(-1, keepdim=True).expand(-1, member.shape[1])",
        ),
    ),
    _mutant(
        "neuralsat_20_last_status",
        "verifiers.md 3.3 Spec: disjunct loop returns last status (NeuralSAT #20)",
        "the last case of a box decides for all of them",
        (
            "verifier.bounding:Bounder.bound_in",
            "found = Margins(rows, margin, closed & is_open, low, state)",
            "found = Margins(rows, margin, closed[:, -1:].expand_as(closed) & is_open, low, state)",
        ),
        ("verifier.presolve:closed_by_intervals", "return closed", "return closed | bool(closed[-1:].any())"),
    ),
    _mutant(
        "last_case_not_bound",
        "invented",
        "the last case of a property is never looked at",
        ("verifier.problem:compile_problem", "for case in prop.cases]", "for case in list(prop.cases)[: max(1, len(prop.cases) - 1)]]"),
    ),
    _mutant(
        "best_bound_of_another_row",
        "invented",
        "a case is closed by the best row of its box, whosever it is",
        (
            "verifier.bounding:Bounder.closes",
            "member = self.member[:, :, rows]",
            "member = self.member[:, :, rows].any(1, keepdim=True).expand(-1, self.member.shape[1], -1)",
        ),
    ),
    _mutant(
        "threshold_of_the_first_box",
        "invented",
        "boxes of other groups have the atoms of the first",
        ("verifier.bounding:Bounder.functional", "group = group[:1] if len(self.groups) == 1 else group", "group = group[:1].expand(group.shape[0])"),
    ),
    _mutant(
        "time_out_is_unsat",
        "verifiers.md 3.3 Harness: exit code 0 interpreted as verified",
        "a search that reaches a limit says unsat",
        (
            "verifier.engine:_after_search",
            "if found.proven or len(found.open_cases) == 0:",
            "if found.proven or len(found.open_cases) == 0 or budget.stopped:\n        facts['cases'] = _count(problem, found.open_cases[:0])",
        ),
    ),
    _mutant(
        "sobolbox_sampling_is_proof",
        "soundness.md 5.1: SobolBox, sampling reported as proof",
        "where probes hit nothing, nothing is there",
        (
            "verifier.engine:_run",
            "if witness is not None:",
            "if witness is None:\n            return _decided(problem, clock, cases[:0])\n        if witness is not None:",
        ),
        attack=True,
    ),
    _mutant(
        "abcrown_83_swallowed_error",
        "soundness.md 5.1: alpha-beta-CROWN #83 (catch_assertion swallowed an error)",
        "a box whose bounds fail is closed",
        (
            "verifier.bounding:Bounder.bound_in",
            "closed = self.closes(margin, group, rows)",
            "closed = self.closes(margin, group, rows) | ~low.value.isfinite().all(-1, keepdim=True)",
        ),
    ),
    _mutant(
        "marabou_568_fixed_box",
        "soundness.md 5.1: Marabou #568, #670 (almost fixed, lb == ub)",
        "a box with an input of no width is closed by the presolve",
        (
            "verifier.presolve:closed_by_intervals",
            "return closed",
            "fixed = (problem.upper - problem.lower <= 1e-5).any(1)\n    return closed | fixed[problem.case_box[cases]]",
        ),
    ),
    _mutant(
        "presolve_without_a_threshold",
        "verifiers.md 3.3 Spec: threshold sign flips (PGD margin sign)",
        "the presolve compares with 0, not with the threshold",
        (
            "verifier.presolve:closed_by_intervals",
            "(value > problem.case_bounds[cases[chosen], a])",
            "(value > np.minimum(problem.case_bounds[cases[chosen], a], 0.0))",
        ),
    ),
    _mutant(
        "crossed_state_closes_all",
        "soundness.md 5.2 class 4: stale state across nodes",
        "a contradiction in one sub-problem of a batch closes the batch",
        ("verifier.bounding:Bounder.bound_in", "closed = closed | state.crossed.unsqueeze(-1)", "closed = closed | state.crossed.any()"),
        setup="neurons",
        note=(
            "It needs a batch with a contradiction and, beside it, a part that is violated and that no split can close; networks "
            "of the suite that split into contradictions close all else."
        ),
    ),
    _mutant(
        "trial_taken_for_the_search",
        "verifiers.md 3.3 Search: per-case budget ignored",
        "a trial that ends its budget counts as finished",
        (
            "verifier.input_search:InputSearch.proven",
            "return self.witness is None and not len(self.stack) and not self.stuck",
            "return self.witness is None and not self.stuck",
        ),
        (f"{INPUTS}.finished", "return self.witness is not None or not len(self.stack)", "return self.witness is not None or self.tally.nodes > 8"),
        setup="inputs",
    ),
    _mutant(
        "closes_at_zero",
        "verifiers.md 3.3 Spec: optimum exactly 0",
        "an atom whose margin is 0 is refuted",
        ("verifier.bounding:Bounder.closes", "proven = margin > self.reserve", "proven = margin >= self.reserve"),
        (
            "verifier.presolve:closed_by_intervals",
            "(value > problem.case_bounds[cases[chosen], a])",
            "(value >= problem.case_bounds[cases[chosen], a])",
        ),
        note="A margin of exactly 0 is not 0 over the reals: every bound is lowered by its own rounding, by the smallest normal number at least.",
    ),
)
