"""Which search for which problem, from structure alone. Rules are tried in order; every choice is printed with `-v`.

All numeric constants of the strategy stand in `Constants`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bounds.linear import LinearBounds
from graph.core import Bilinear, Elementwise
from graph.functions.facts import jumps
from verifier.allotment import Allotment
from verifier.presolve import work_of_a_pass
from verifier.reduced import reducible


@dataclass(frozen=True)
class Constants:
    """Numbers that steer the search and cannot affect soundness."""

    batch_most: int = 1024  # boxes a batch: more only spills the caches
    race_nodes: int = 600  # boxes for each way of halving inputs, before the best goes on
    race_alone: int = 1_200  # and more of the preferred way before the others are tried: most searches that it ends end by then
    cut_share: float = 0.5  # of the halves of a batch that linear bounds cut: with fewer only these are told to the certificate, else all
    trial_nodes: int = 2_000  # boxes tried before neurons are split, where more inputs vary but boxes are cheap
    trial_share: float = 0.05  # and of the time that is left, where they turn out not to be cheap
    trial_nodes_share: float = 0.25  # and of the sub-problems, where they are limited
    trial_patience: int = 24  # times the boxes spent: halving inputs goes on where at its pace it ends by then
    trial_batch: int = 256  # boxes that a batch must hold to count as cheap
    double_gap: float = 0.25  # float64 throughout where float32's rounding takes this share of the margin at a single point
    precision_boxes: int = 64  # of a batch of so many boxes, the share that had to be bounded in both precisions from which float64 alone is used
    precision_share: float = 0.5
    precision_forward: float = 0.3  # the same where bounds go forwards: float64 takes a fifth longer there, not twice as long
    clip_rounded: float = 4.0  # times the rounding that a bound pays for itself: what bounds of the layers below, which pay for theirs, may add
    clip_gap: float = 0.125  # of a box's width: how uncertain its ends may be where float32 clips
    clip_rare: float = 0.15  # of a batch: so few uncertain boxes are not worth a pass in float64; what the checker then misses is searched again
    joint_rounds: int = 8  # atoms mixed into one combination: robot_8 took 33,796 boxes (halves too), 34,074 with 4, 33,681 with 16
    race_handicap: float = 2.0  # how much nearer to 0 another way's worst bound must be to win over the weighted width
    input_split_most: int = 12  # varying inputs up to which halving inputs is tried first
    forward_most: int = 24  # varying inputs up to which hidden layers may be bounded forwards
    forward_ratio: int = 300  # and hidden neurons per varying input (plus one) from which they are
    narrow_layer: int = 128  # layers up to which backward bounds are computed all the same
    narrow_elements: int = 400  # unless they have more elements than this together: halving boxes again then costs less
    neuron_batch_most: int = 512
    root_steps: int = 40  # gradient steps at the root
    hidden_steps: int = 20  # gradient steps for the hidden bounds at the root
    hidden_work: int = 6_000_000  # elements to bound times neurons below, per layer: more is left as it is
    node_steps: int = 12  # and at a node
    rate: float = 0.15
    candidates: int = 4  # splits tried per sub-problem
    close_work: int = 4_000_000  # neurons times numbers that one pass touches: up to here a sub-problem gets rounds and trials with steps
    close_candidates: int = 32  # splits tried per sub-problem there
    close_trial_steps: int = 3  # gradient steps for each half of them
    program_sites: int = 400  # arguments of non-linear nodes up to which sub-problems that nothing else closes are tried as linear programs
    program_each: int = 40  # and up to which all are, where functions jump
    program_batch: int = 32  # so many at a time
    jump_batch: int = 64  # sub-problems at a time from which they get the same where functions jump
    close_rounds: int = 3  # rounds of complete clipping at most
    guided_steps: int = 12  # gradient steps at a sub-problem in a reduced network
    guided_rate: float = 0.05
    guided_candidates: int = 8  # splits tried per sub-problem there
    attack_seconds: float = 4.0  # one round of the attack at most, and at most this share of the time limit
    attack_share: float = 0.08
    hardest_boxes: int = 32  # sub-boxes attacked between instalments
    refine_rows: int = 600  # hidden neurons up to which a node re-bounds its hidden layers


CONSTANTS = Constants()


@dataclass(frozen=True)
class Plan:
    """`kind` is "inputs" or "neurons"; `batch` sub-problems at a time, `refine`: re-bound hidden layers after a split; `trial`: boxes
    of a search over inputs that comes first, and `trial_goes_on` while its pace promises an end (around a jump half of what is open closes with
    every halving, without an end); `reason` says why, for people. When neurons are split: `candidates` per sub-problem, each
    with `trial_steps` gradient steps, `rounds` of complete clipping; `programs`: each sub-problem is tried as a linear program; `guided`: a
    reduced network chooses multipliers and splits; `hidden_work`: the largest layers whose bounds get slopes of their own."""

    kind: str
    batch: int
    refine: bool
    trial: int
    reason: str
    candidates: int = CONSTANTS.candidates
    trial_steps: int = 0
    rounds: int = 0
    programs: bool = False
    guided: bool = False
    hidden_work: int = CONSTANTS.hidden_work
    trial_goes_on: bool = True


def batch_of_boxes(bounds: LinearBounds, rows: int, varying: int, allotment: Allotment) -> int:
    """Boxes that one input-split batch may hold: the widest hidden layer's coefficients must fit."""
    if prefers_forward(bounds, varying):
        forms = max(rows, 6 * (varying + 1))  # both forms of a node, and what is computed from them
        return max(1, min(CONSTANTS.batch_most, allotment.batch_bytes // (8 * forms * bounds.widest)))
    sizes = [bounds.graph.nodes[j].size for j in bounds.targets if j not in bounds.exact_interval]
    most_rows = max([rows, *(2 * min(s, 512) for s in sizes)])
    return max(1, min(CONSTANTS.batch_most, allotment.batch_bytes // (4 * most_rows * bounds.widest)))


def prefers_forward(bounds: LinearBounds, varying: int) -> bool:
    """Bound hidden layers forwards: few inputs vary and the hidden layers are so wide that a backward pass each costs too much."""
    hidden = sum(bounds.graph.nodes[j].size for j in bounds.targets if j not in bounds.exact_interval)
    return varying <= CONSTANTS.forward_most and hidden > CONSTANTS.forward_ratio * (varying + 1)


def narrow_layers(bounds: LinearBounds) -> int:
    """Layers up to which forward bounds are refined backwards; 0 where there is so much of them that boxes cost ten times as much."""
    sizes = [bounds.graph.nodes[j].size for j in bounds.targets if j not in bounds.exact_interval]
    return CONSTANTS.narrow_layer if sum(n for n in sizes if n <= CONSTANTS.narrow_layer) <= CONSTANTS.narrow_elements else 0


def choose(bounds: LinearBounds, varying: int, relaxed: Sequence[int], rows: int, allotment: Allotment) -> Plan:
    """The search for a problem with `varying` inputs, where intervals leave the nodes `relaxed` non-linear."""
    hidden = sum(bounds.graph.nodes[j].size for j in bounds.targets)
    per_node = 16 * hidden * max(rows, 1) * 4
    neuron_batch = max(1, min(CONSTANTS.neuron_batch_most, allotment.neuron_batch_bytes // max(per_node, 1)))
    refine = hidden <= CONSTANTS.refine_rows
    boxes = batch_of_boxes(bounds, rows, varying, allotment)
    bent = [bounds.graph.nodes[i] for i in relaxed]
    cheap = work_of_a_pass(bounds.graph) <= CONSTANTS.close_work
    close = (CONSTANTS.close_candidates, CONSTANTS.close_trial_steps, CONSTANTS.close_rounds)
    if any(isinstance(node, Elementwise) and jumps(node.function) for node in bent):
        trial = CONSTANTS.trial_nodes if varying <= CONSTANTS.input_split_most else 0
        first = f"halve inputs for {trial} boxes, as only {varying} vary, then " if trial else ""
        reason = f"a function jumps, which smaller boxes do not smooth: {first}split neurons"
        if program_sites(bounds) <= CONSTANTS.program_each:
            batch = min(neuron_batch, CONSTANTS.program_batch)
            return Plan(
                "neurons", batch, refine, trial, f"{reason}, each sub-problem also as a linear program", programs=True, trial_goes_on=False
            )
        effort = close if neuron_batch >= CONSTANTS.jump_batch else (CONSTANTS.candidates, 0, 0)  # planes beside a jump say little of a split
        return Plan("neurons", neuron_batch, refine, trial, reason, *effort, trial_goes_on=False)
    if varying <= CONSTANTS.input_split_most:
        return Plan("inputs", boxes, refine, 0, f"{varying} inputs vary, at most {CONSTANTS.input_split_most}: halve inputs")
    trial = CONSTANTS.trial_nodes if boxes >= CONSTANTS.trial_batch else 0
    first = f"halve inputs for {trial} boxes, which are cheap here, then " if trial else ""
    reason = f"{varying} inputs vary and {sum(node.size for node in bent)} neurons are relaxed: {first}split neurons"
    if not refine and any(isinstance(node, Bilinear) for node in bounds.graph.nodes):
        # a small transformer: a tenth of what the slopes of the rows themselves gain, in five times the time
        return Plan("neurons", neuron_batch, refine, trial, f"{reason}; hidden bounds behind products gain little from slopes", hidden_work=0)
    if not cheap:
        if not refine and reducible(bounds):
            batch = max(1, min(CONSTANTS.neuron_batch_most, allotment.neuron_batch_bytes // (64 * hidden)))  # each is about one case
            return Plan("neurons", batch, refine, trial, f"{reason}, chosen by a reduced network", guided=True)
        return Plan("neurons", neuron_batch, refine, trial, reason)
    reason += ", and bound each over what the case leaves of the box, which is cheap here"
    return Plan("neurons", neuron_batch, refine, trial, reason, *close)


def programs_fit(bounds: LinearBounds) -> bool:
    """Whether a sub-problem is so small that a linear program for it takes milliseconds."""
    return program_sites(bounds) <= CONSTANTS.program_sites


def program_sites(bounds: LinearBounds) -> int:
    """Arguments of non-linear nodes."""
    return sum(bounds.graph.nodes[j].size for j in bounds.targets)
