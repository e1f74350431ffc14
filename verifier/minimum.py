"""The minimum of one atom over its box by mixed-integer programming: what relaxations are compared with."""

from __future__ import annotations

import time

from highspy import HighsModelStatus as Status

from verifier.encode_lp import NotEncodable, encode
from verifier.milp import Unsolved, dual_bound, execution, run_from
from verifier.solver import Question


def minimum(question: Question, atom: int, seconds: float, gap: float) -> float:
    """The least that functional - bound of atom `atom` of the case reaches over its box, within the relative `gap`, as HiGHS finds it.

    Raises NotEncodable where the network is not piecewise linear, and Unsolved, which says between which values the search ended.
    """
    limit = time.monotonic() + seconds
    program = encode(question, atoms=[atom])
    if program.inexact:
        raise NotEncodable(f"{program.inexact[0]} has no exact encoding")
    start = execution(program, question, limit)
    if start is None:
        raise Unsolved("time" if time.monotonic() >= limit else "HiGHS finds no execution of the network at the centre of the box")
    whole = bool(program.integral.any())
    highs = run_from(program, start, limit, **({"mip_rel_gap": gap} if whole else {}))
    reached, scale = float(highs.getInfo().objective_function_value), float(program.scale[0])
    if highs.getModelStatus() != Status.kOptimal:
        status = "time" if time.monotonic() >= limit else highs.modelStatusToString(highs.getModelStatus())
        raise Unsolved(f"{status}; the minimum is between {dual_bound(highs, whole) * scale:.6g} and {reached * scale:.6g}")
    return reached * scale
