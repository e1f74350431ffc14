"""Operators of ai.onnx.ml: what scikit-learn's preprocessing, linear models and classifiers are exported to."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graph.functions import build
from graph.linear_map import MINUS, Dense, Scale
from graph.lowering.arithmetic import add, concat, scale
from graph.lowering.builder import Known, Tensor, Value, indices, varying
from graph.lowering.linear import reshape
from graph.lowering.normalisation import softmax_in_bounds
from graph.lowering.norms import over_norm
from graph.lowering.operator import Operator
from graph.lowering.ordering import first_largest, weighted_index

Array = NDArray[Any]


def lower_scaler(op: Operator) -> Value:
    """(x - offset) scale, each a number or one for each feature."""
    x = op.variable(0)
    offset, factor = (np.array(op.reals(name) or (default,)) for name, default in (("offset", 0.0), ("scale", 1.0)))
    if any(v.size not in (1, x.shape[-1]) for v in (offset, factor)):
        raise op.malformed(f"{offset.size} offsets and {factor.size} scales for {x.shape[-1]} features")
    return scale(op.builder, add(op.builder, x, Known(-offset)), factor)


def lower_normalizer(op: Operator) -> Value:
    """Rows divided by their largest element, their sum of magnitudes or their Euclidean norm."""
    x, kind = op.variable(0), op.string("norm", "MAX")
    if kind not in ("L1", "L2"):
        raise op.refuse(f"norm {kind!r} is not supported (L1 and L2 are): runtimes read MAX in different ways")
    return over_norm(op.builder, x, len(x.shape) - 1, 1 if kind == "L1" else 2)


def lower_binarizer(op: Operator) -> Value:
    """1 where x is beyond the threshold."""
    x = op.variable(0)
    return op.builder.elementwise(build("step"), varying(add(op.builder, x, Known(np.array(-op.real("threshold"))))))


def lower_imputer(op: Operator) -> Value:
    """Of what is not missing: inputs are numbers, so nothing is replaced where NaN or an infinity is."""
    if math.isfinite(op.real("replaced_value_float")) or op.integer("replaced_value_int64"):
        raise op.refuse("only NaN and infinities are read as missing values, which inputs are not; a number is not replaced")
    return op.variable(0)


def lower_array_feature_extractor(op: Operator) -> Value:
    """Columns by constant indices, or an entry of a constant row by an index that depends on the input."""
    data, index = op.value(0), op.value(1)
    if isinstance(index, Known):
        x = op.variable(0)
        columns = index.value.reshape(-1).astype(np.int64)
        if not ((columns >= 0) & (columns < x.shape[-1])).all():
            raise op.malformed(f"an index outside of {x.shape[-1]} columns")
        return op.builder.gather(x, indices(x.shape).reshape(-1, x.shape[-1])[:, columns])
    if not isinstance(data, Known) or data.size != data.shape[-1] or data.value.dtype.kind not in "iufb":
        raise op.refuse("only numbers of one constant row can be picked by an index that depends on the input")
    found = look_up(op, index, 0, data.value.reshape(-1))
    return op.builder.convert(varying(reshape(found, (1, index.size))), data.value.dtype.name)


def look_up(op: Operator, index: Tensor, first: int, values: Array) -> Tensor:
    """values[index - first], a table as a function of the index."""
    numbers = [float(v) for v in values]
    if len(set(numbers)) == 1:
        zero = op.builder.linear(Scale(index.shape, index.shape, np.array([0.0])), index)
        return varying(add(op.builder, zero, Known(np.full(index.shape, numbers[0]))))
    return op.builder.elementwise(build("lookup", first, *numbers), index)


def lower_linear_regressor(op: Operator) -> Value:
    """x times the coefficients of each target, plus its intercept."""
    scores = _scores(op, op.integer("targets", 1))
    return _transformed(op, scores)


def lower_linear_classifier(op: Operator) -> list[Value]:
    """The label of the largest score, and the scores. Labels that are strings are numbered: their output is cut off (`graph.load`)."""
    labels = op.integers("classlabels_ints") or tuple(range(len(op.strings("classlabels_strings") or ())))
    coefficients = op.reals("coefficients") or ()
    features = op.value(0).shape[-1]
    rows = len(coefficients) // max(features, 1)
    scores = _scores(op, rows)
    if rows == 1 and len(labels) == 2:  # one score: the second class against the first
        won = op.builder.elementwise(build("step"), scores)
        label = look_up(op, op.builder.convert(won, "int64"), 0, np.array(labels)) if labels != (0, 1) else won
        flat = Tensor(label.node, label.shape[:-1], "int64")
        return [op.builder.convert(flat, "int64"), _transformed(op, _both(op, scores))]
    if len(labels) != rows:
        raise op.malformed(f"{len(labels)} labels for {rows} rows of coefficients")
    chosen = first_largest(op.builder, scores, indices(scores.shape))
    return [weighted_index(op.builder, chosen, np.array(labels), scores.shape[:1]), _transformed(op, scores)]


def _both(op: Operator, scores: Tensor) -> Tensor:
    """The scores of the first class, -s (1 - p once a logistic function is applied), and of the second."""
    negated = op.builder.linear(Scale(scores.shape, scores.shape, MINUS), scores)
    both = concat(op.builder, [negated, scores])
    return op.builder.gather(both, np.arange(2 * scores.size).reshape(2, -1).T)


def _scores(op: Operator, rows: int) -> Tensor:
    x, coefficients = op.variable(0), np.array(op.reals("coefficients") or ())
    matrix = x if len(x.shape) == 2 else Tensor(x.node, (1, x.size), x.element_type)
    if rows < 1 or coefficients.size != rows * matrix.shape[1]:
        raise op.malformed(f"{coefficients.size} coefficients for {rows} rows of {matrix.shape[1]} features")
    product = op.builder.linear(Dense(matrix.shape, (matrix.shape[0], rows), coefficients.reshape(rows, -1)), matrix)
    intercepts = np.array(op.reals("intercepts") or (0.0,))
    return varying(add(op.builder, product, Known(intercepts))) if intercepts.any() else product


def _transformed(op: Operator, scores: Tensor) -> Tensor:
    match op.string("post_transform", "NONE"):
        case "NONE":
            return scores
        case "LOGISTIC":
            return op.builder.elementwise(build("sigmoid"), scores)
        case "SOFTMAX":
            return softmax_in_bounds(op.builder, scores, scores.shape)
        case name:
            raise op.refuse(f"post_transform {name!r} is not supported (NONE, LOGISTIC and SOFTMAX are)")


def lower_zip_map(op: Operator) -> Value:
    """The probabilities themselves: `graph.load` reads an output that is a list of dictionaries as the tensor they are made of."""
    return op.variable(0)


def lower_tree_ensemble(op: Operator) -> Value:
    raise op.refuse("tree ensembles are not supported: their outputs jump between thousands of constants; this tool verifies neural networks")
