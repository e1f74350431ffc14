"""What the network says of the samples themselves, in onnxruntime: who is misclassified has nothing that could be certified."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from benchmarks.certify import properties
from benchmarks.certify.errors import InputError
from benchmarks.certify.question import Subjects
from graph.errors import ModelError
from graph.load import load
from graph.selfcheck import execute, session


@dataclass(frozen=True)
class Prediction:
    """Of one sample: the outputs, the class they say, and whether it is the label (None: there is no label)."""

    outputs: tuple[float, ...]
    predicted: int
    correct: bool | None


def predictions(subjects: Subjects, samples: Sequence[int]) -> dict[int, Prediction]:
    """The predictions of these samples. Raises InputError for a model that cannot be loaded, labels it has no class for, or NaN outputs."""
    limit = threshold(subjects)
    try:
        model = load(subjects.clean())
        runtime = session(model)
        outputs = {s: execute(runtime, model, [subjects.samples.values[s].ravel()])[0].ravel() for s in samples}
    except ModelError as error:
        raise InputError(f"the model with its preprocessing: {error}") from error
    found = {}
    classes = max(subjects.network.outputs, 2)
    labelled = any(map(properties.wants_label, subjects.policy.checks))
    if labelled and subjects.samples.labels is None:
        raise InputError("the samples have no labels, and a check is about labels; add them, or use a property that needs none")
    for sample, values in outputs.items():
        name, label = subjects.samples.ids[sample], subjects.label(sample)
        if not np.isfinite(values).all():
            raise InputError(f"the network's outputs for sample {name!r} are not finite")
        if labelled and label is not None and not 0 <= label < classes:
            raise InputError(f"sample {name!r} has the label {label}; the network has the classes 0 to {classes - 1}")
        row = [float(v) for v in values]
        right = None if label is None or not 0 <= label < classes else properties.correct(row, label, limit)
        found[sample] = Prediction(tuple(row), properties.predicted(row, limit), right)
    return found


def threshold(subjects: Subjects) -> Fraction:
    """What one output is compared with: as the first check says that speaks of labels."""
    return properties.threshold(next(filter(properties.wants_label, subjects.policy.checks), None))
