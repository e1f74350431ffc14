"""Operators of ai.onnx.ml, what linear models and classifiers are exported to. How a runtime rounds them is its own affair: over the reals."""

from __future__ import annotations

import math

import numpy as np

from verifier.checker.lowering.builder import Array, Known, Tensor, Value, indices, take
from verifier.checker.lowering.contract import divided_by_norm
from verifier.checker.lowering.operator import Operator
from verifier.checker.lowering.order import STEP, first_largest
from verifier.checker.lowering.picks import table
from verifier.checker.lowering.rows import softmax_rows
from verifier.checker.maps import Dense, Diagonal, Index, Map
from verifier.checker.network import Smooth

CLASSIFIER = "classlabels_ints classlabels_strings coefficients intercepts multi_class post_transform"
IMPUTER = "imputed_value_floats imputed_value_int64s replaced_value_float replaced_value_int64"
OWN = "an operator that the standard gives no arithmetic"


def _reals(op: Operator, name: str, default: float) -> Array:
    return np.array(op.reals(name) or (default,), dtype=np.float64)


def scaler(op: Operator) -> Value:
    """(x - offset) scale."""
    x, offset, scale = op.tensor(0), _reals(op, "offset", 0.0), _reals(op, "scale", 1.0)
    op.require(offset.size in (1, x.shape[-1]) and scale.size in (1, x.shape[-1]), f"{offset.size} offsets, {scale.size} scales")
    moved = op.builder.affine([(take(x, indices(x.shape)), x)], np.broadcast_to(-offset, x.shape), x.shape)
    return op.end(op.builder.scale(moved, scale), "affine", 2)


def normalizer(op: Operator) -> Value:
    x, kind = op.tensor(0), op.string("norm", "MAX")
    op.require(kind in ("L1", "L2"), f"norm {kind!r}")
    return op.end(divided_by_norm(op.builder, x, len(x.shape) - 1, 1 if kind == "L1" else 2), "refused", name=OWN)


def binarizer(op: Operator) -> Value:
    """1 beyond the threshold, else 0."""
    x, threshold = op.tensor(0), op.real("threshold", 0.0)
    moved = op.stage(op.builder.affine([(take(x, indices(x.shape)), x)], np.full(x.shape, -threshold), x.shape), "affine", 1, sources=(x,))
    return op.end(op.builder.elementwise(STEP, moved), "exact")


def imputer(op: Operator) -> Value:
    """NaN and infinities are no inputs, so that nothing is replaced."""
    missing = op.attributes.get("replaced_value_float", 0.0)
    op.require(isinstance(missing, float) and not math.isfinite(missing) and op.integer("replaced_value_int64", 0) == 0, "a number that is replaced")
    return op.tensor(0)


def array_feature_extractor(op: Operator) -> Value:
    """Columns of x, or an entry of a constant row by an index that depends on the input."""
    x, chosen = op.value(0), op.value(1)
    if isinstance(chosen, Tensor):
        return _looked_up(op, x, chosen)
    columns, given = chosen.value.reshape(-1), op.tensor(0)
    op.require(chosen.value.dtype == np.int64 and bool(((columns >= 0) & (columns < given.shape[-1])).all()), f"columns {columns.tolist()}")
    index = indices(given.shape).reshape(-1, given.shape[-1])[:, columns]
    return op.end(op.builder.gather(given, index), "moves", element=given.element)


def _looked_up(op: Operator, row: Value, index: Tensor) -> Value:
    fits = isinstance(row, Known) and row.size == row.shape[-1] and row.value.dtype in (np.int32, np.int64, np.float32)
    op.require(fits and index.element == "int64", "no constant row of numbers, or no whole number for an index")
    values = [float(v) for v in row.value.reshape(-1).tolist()] if isinstance(row, Known) else []
    op.require(len(set(values)) > 1 and all(abs(v) <= 2**24 for v in values), "numbers that are all equal, or beyond 2^24")
    found = op.builder.elementwise(table(0, values), index)
    return op.end(op.builder.reshape(found, (1, index.size)), "exact", element=row.value.dtype.name if isinstance(row, Known) else "")


def _scores(op: Operator, rows: int) -> Tensor:
    """x times the coefficients of each row, plus its intercept."""
    x, coefficients, intercepts = op.tensor(0), _reals(op, "coefficients", 0.0), _reals(op, "intercepts", 0.0)
    count, features = (x.shape[0], x.shape[1]) if len(x.shape) == 2 else (1, x.size)
    op.require(rows >= 1 and coefficients.size == rows * features and intercepts.size in (1, rows), f"{coefficients.size} coefficients")
    found = op.builder.linear(Dense(coefficients.reshape(rows, features), count), x, (count, rows))
    return op.builder.plus(found, np.broadcast_to(intercepts, (count, rows))) if intercepts.any() else found


def _transformed(op: Operator, scores: Tensor) -> Tensor:
    match op.string("post_transform", "NONE"):
        case "NONE":
            return scores
        case "LOGISTIC":
            return op.builder.elementwise(Smooth("sigmoid"), scores)
        case "SOFTMAX":
            return softmax_rows(op.builder, scores, scores.shape[-1])
    raise op.refuse("post_transform")


def linear_regressor(op: Operator) -> Value:
    return op.end(_transformed(op, _scores(op, op.integer("targets", 1))), "refused", name=OWN)


def linear_classifier(op: Operator) -> list[Value]:
    """The label of the first largest score, and the scores; strings are numbered."""
    labels = op.integers("classlabels_ints") or tuple(range(len(op.strings("classlabels_strings") or ())))
    features = math.prod(op.value(0).shape[1:]) if len(op.value(0).shape) == 2 else op.value(0).size
    x = op.tensor(0)
    scores = op.stage(_scores(op, len(op.reals("coefficients") or ()) // features), "affine", features + 1, sources=(x,))
    if scores.shape[1] == 1 and len(labels) == 2:
        label, transformed = _of_two(op, scores, labels)
    else:
        op.require(len(labels) == scores.shape[1] > 1, f"{len(labels)} labels")
        chosen = first_largest(op, scores, indices(scores.shape))
        numbers = Dense(np.array(labels, dtype=np.float64)[None], scores.shape[0])
        label, transformed = op.builder.linear(numbers, chosen, scores.shape[:1]), _transformed(op, scores)
    whole = op.end(label, "refused", name=OWN, element="int64")
    return [whole, op.end(transformed, "refused", name=OWN)]


def _of_two(op: Operator, scores: Tensor, labels: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """One score: of the second class, against the first."""
    builder, n = op.builder, scores.size
    label = builder.elementwise(STEP, scores)
    if labels != (0, 1):
        label = builder.elementwise(table(0, [float(v) for v in labels]), label)
    flat = builder.reshape(label, scores.shape[:1])
    places = np.arange(2 * n).reshape(n, 2)
    negated = builder.linear(Diagonal(np.full(n, -1.0)), scores, scores.shape)
    parts: list[tuple[Map, Tensor]] = [
        (Index(np.where(places % 2 == side, places // 2, -1).reshape(-1), n), x) for side, x in ((0, negated), (1, scores))
    ]
    return flat, _transformed(op, builder.affine(parts, None, (n, 2)))
