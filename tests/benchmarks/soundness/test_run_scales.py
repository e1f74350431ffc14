"""The family of scales: other seeds give other weights and the same truths, and the mistakes it names flip its answers."""

from __future__ import annotations

import dataclasses

import numpy as np
import onnx
import pytest

from benchmarks.soundness import rational
from benchmarks.soundness.families import scales
from benchmarks.soundness.families.forms import exactly
from benchmarks.soundness.instance import SuiteError
from benchmarks.soundness.recheck import recheck


def test_every_instance_is_what_it_claims() -> None:
    made = list(scales.instances(3))
    assert len(made) == 2 * sum(len(kind.settings) for kind in scales.KINDS) and len({i.name for i in made}) == len(made)
    for instance in made:
        recheck(instance)
        scales.check(instance)
    others = list(scales.instances(4))
    assert [(i.name, i.real) for i in made] == [(i.name, i.real) for i in others]
    assert all(a.model.SerializeToString() != b.model.SerializeToString() for a, b in zip(made, others, strict=True))


def test_a_wrong_truth_is_seen() -> None:
    instance = next(i for i in scales.instances(1) if i.real == "unsat")
    with pytest.raises(SuiteError, match=r"is not unsat|another file"):
        scales.check(dataclasses.replace(instance, knobs={**instance.knobs, "sat": True}))


def test_a_faint_weight_that_is_dropped_flips_the_answer() -> None:
    """What a tool that drops coefficients below 2^-19 would evaluate is constant, and short of every threshold that can be reached."""
    for instance in scales.instances(1):
        if instance.knobs["kind"] == "faint" and instance.planted is not None:
            model = onnx.ModelProto.FromString(instance.model.SerializeToString())
            weights = model.graph.initializer[0]
            weights.raw_data = np.zeros(scales.INPUTS * scales.HIDDEN, dtype=np.float32).tobytes()
            point = exactly(instance.planted.point)
            kept, lost = rational.exact(instance.model, point), rational.exact(model, point)
            assert kept != lost
