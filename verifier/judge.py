"""The second line behind a `sat`, as a process: python -I -m verifier.judge MODEL PROPERTY < what is about to be printed (DESIGN 1); of a query
of several networks: PROPERTY --network NAME=MODEL ...

Reads the texts of an answer, not what the engine meant by them; runs the file in onnxruntime; decides the property with the reader of
the checker, comparison by comparison as it is written, in exact rationals. Nothing of graph/, specs/ or bounds/ is used, so an error of
these, of the replay or of the printing does not get past both. Standard input is JSON: {"stdout": text, "results": text}, the standard
output and the results file of a run. Ends with one line and exit code 0 or 5:

    CONFIRMED {"inside_exact_box": bool}    onnxruntime's outputs at the printed inputs are the printed outputs, and they violate
    REFUTED {"why": text}
"""

from __future__ import annotations

import json
import math
import re
import sys
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from verifier.checker.read_property import CONSTANT, INPUTS, And, Item, Reader
from verifier.checker.read_property2 import QUERY, QueryReader
from verifier.checker.refusal import Refusal

Array = NDArray[Any]
Models = Mapping[str, Path]
GOOD, BAD = 0, 5
TRUE, FALSE = (And(np.array(numbers, np.int32), [], 1) for numbers in ([], [0]))
ELEMENT_TYPES = {"tensor(float)": np.float32, "tensor(double)": np.float64}
_HEADER = re.compile(r"(\S+) (\S+) \[([0-9,]*)\]")
_PAIR = re.compile(r"\(([A-Za-z]\w*_\d+) ([^\s()]+)\)")


class Refuted(ValueError):
    """The answer is not confirmed; the text says why."""


@dataclass(frozen=True, eq=False)
class Point:
    """An execution: x float32 [n_in], y as the file returned it [n_out]. In the `exact` box a bound is met as written, otherwise as
    its nearest float32 is."""

    x: Array = field(repr=False)
    y: Array = field(repr=False)
    exact: bool


class Decider(Reader):
    """Reads as the checker does, and decides instead of listing: a comparison is true or false at `point`, and so is every formula above it."""

    def __init__(self, text: bytes, point: Point) -> None:
        super().__init__(text)
        self.point = point

    def violated(self) -> bool:
        """Whether all asserts hold: the point is unsafe."""
        self._commands()
        return holds(self._conjunction(self._asserted))

    def _conjunction(self, items: list[Item]) -> And:
        return TRUE if all(map(holds, items)) else FALSE

    def _at_most(self, left: Item, right: Item, strict: bool) -> And:
        term = self._arithmetic(b"-", [self._term(left), self._term(right)])
        bound = -term.pop(CONSTANT, Fraction(0))
        total = sum((c * self._value(v) for v, c in term.items()), Fraction(0))
        met = total <= bound
        if len(term) == 1 and max(term) >= INPUTS and not self.point.exact:
            ((variable, coefficient),) = term.items()
            value, side = self._value(variable), Fraction(nearest_float32(bound / coefficient))
            met = value <= side if coefficient > 0 else value >= side
        return TRUE if met and (total < bound or not strict) else FALSE

    def _value(self, variable: int) -> Fraction:
        values, index = (self.point.x, variable - INPUTS) if variable >= INPUTS else (self.point.y, variable)
        if index >= len(values):
            raise Refuted(f"the property speaks of element {index} of {len(values)}")
        return Fraction(float(values[index]))


class QueryDecider(Decider, QueryReader):
    """The same for VNN-LIB 2."""

    def _value(self, variable: int) -> Fraction:
        parts = self.parts(variable)
        if len(parts) == 1:
            return super()._value(variable)
        return math.prod((super(QueryDecider, self)._value(part) for part in parts), start=Fraction(1))

    def violated(self) -> bool:
        if not super().violated():
            return False
        if not self._tensors or not self._asserted:
            raise Refuted("the property declares no network, or asserts nothing")
        return True


def holds(item: Item) -> bool:
    """What a formula, decided, says."""
    if isinstance(item, list):
        return any(map(holds, item))
    if not isinstance(item, And):
        raise Refuted("a formula is expected where a word, a term or a command stands")
    return not item.comparisons.size


def violates(text: bytes, point: Point) -> bool:
    """Whether the property (VNN-LIB 1.0 or 2) calls `point` unsafe. Raises Refusal where the checker's reader does."""
    return (QueryDecider if QUERY.match(text) else Decider)(text, point).violated()


def nearest_float32(value: Fraction) -> float:
    """RN32, ties to even: by the double next to it with an odd last bit, which lies on the same side of all midpoints."""
    near = value.numerator / value.denominator
    if Fraction(near) != value and not np.float64(near).view(np.int64) & 1:
        near = float(np.nextafter(near, np.inf if value > Fraction(near) else -np.inf))
    return float(np.float32(near))


def assignment(text: str) -> Array:
    """All values of the printed tensors, one after the other, float64. Each must be written so that it reads back to a float32."""
    first, *lines = text.split("\n")
    if first != "sat" or not lines or lines.pop():
        raise Refuted("what is printed is not `sat` and an assignment")
    values: list[float] = []
    while lines:
        header = _HEADER.fullmatch(lines.pop(0))
        if header is None:
            raise Refuted("a line NAME TYPE [SHAPE] is missing in the assignment")
        count = int(np.prod([int(n) for n in header[3].split(",") if n], dtype=np.int64))
        values.extend(_numbers(lines[:count], count))
        del lines[:count]
    return np.array(values, np.float32).astype(np.float64)


def competition(text: str) -> Array:
    """The values in a results file, in the order X_0, X_1, ..., Y_0, ...: float64, exactly as printed."""
    if not text.startswith("sat\n(("):
        return assignment(text)
    pairs = _PAIR.findall(text)
    if re.sub(r"\s", "", text) != "sat(" + "".join(f"({name}{value})" for name, value in pairs) + ")":
        raise Refuted("the results file holds something else than pairs of a name and a number")
    names = [name for name, _ in pairs]
    count = sum(name.startswith("X_") for name in names)
    if names != [f"X_{i}" for i in range(count)] + [f"Y_{i}" for i in range(len(names) - count)]:
        raise Refuted("the results file does not name X_0, X_1, ..., Y_0, Y_1, ... in this order")
    return np.array(_numbers([value for _, value in pairs], len(pairs)))


def _numbers(words: Sequence[str], count: int) -> list[float]:
    try:
        values = [float(word) for word in words]
    except ValueError as error:
        raise Refuted(f"a printed value is no number: {error}") from error
    if len(values) != count or not np.isfinite(values).all():
        raise Refuted("a printed tensor lacks values, or one of them is not finite")
    return values


def run(model: Path, values: Array, hidden: Sequence[str] = ()) -> tuple[Array, Array]:
    """(x, y): the first of `values` as the inputs of the file, in its order, and what onnxruntime makes of them: the tensors `hidden`, then the
    file's outputs. Axes without a length have 1."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    content = model.read_bytes()
    whole = content[:2] != b"\x1f\x8b" and not hidden  # else its external data, if any, would not be found
    source = str(model) if whole else with_outputs(unpacked(content), hidden)
    session = onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    feed, at = {}, 0
    for tensor in session.get_inputs():
        shape = [axis if isinstance(axis, int) else 1 for axis in tensor.shape]
        size = int(np.prod(shape, dtype=np.int64))
        if tensor.type not in ELEMENT_TYPES or at + size > len(values):
            raise Refuted(f"input {tensor.name!r} of the file is {tensor.type} {tensor.shape}; {len(values)} values are printed")
        feed[tensor.name] = values[at : at + size].astype(np.float32).astype(ELEMENT_TYPES[tensor.type]).reshape(shape)
        at += size
    own = [tensor.name for tensor in session.get_outputs() if tensor.name not in hidden]
    outputs = [np.asarray(y) for y in session.run([*hidden, *own], feed)]
    return values[:at].astype(np.float32), np.concatenate([y.reshape(-1).astype(np.float64) for y in outputs])


def with_outputs(content: bytes, hidden: Sequence[str]) -> bytes:
    """The file with further outputs. Protobuf merges messages that stand one after the other: a second model, which has a graph (field 7) that has
    nothing but outputs (field 12) that have nothing but names (field 1), adds its outputs to those of the first."""
    for name in hidden:
        content += _field(7, _field(12, _field(1, name.encode())))
    return content


def _field(number: int, content: bytes) -> bytes:
    """A protobuf field of bytes."""
    length, size = bytearray(), len(content)
    while size > 127:
        length.append(size & 127 | 128)
        size >>= 7
    return bytes([number << 3 | 2, *length, size]) + content


def run_all(text: bytes, models: Models, values: Array) -> tuple[Array, Array]:
    """(x, y) of the property's networks, one after the other, each as `run` has it; `values` are printed in this order.

    Raises Refuted where these are not the numbers of tensors, or the outputs not what onnxruntime returns.
    """
    networks, at = QueryReader(text).declared() if QUERY.match(text) else [], 0
    asked = [(declared.other if declared.relation == b"equal-to" else declared.name, [n for n, _ in declared.hidden]) for declared, _ in networks]
    found, one = [], next(iter(models.values()))
    for name, hidden in asked or [("", [])]:
        x, y = run(models.get(name, one) if len(models) > 1 else one, values[at:], hidden)
        if not np.isfinite(y).all():
            raise Refuted("the file returns NaN or an infinity there")
        at += len(x)
        if y.astype(np.float32).tolist() != values[at : at + len(y)].tolist():
            raise Refuted("the printed outputs are not what onnxruntime returns for the printed inputs")
        at += len(y)
        found.append((x, y))
    if at != len(values):
        raise Refuted("more values are printed than the networks have")
    return np.concatenate([x for x, _ in found]), np.concatenate([y for _, y in found])


def unpacked(data: bytes) -> bytes:
    """What a gzip file holds; anything else as it is."""
    return zlib.decompress(data, 31) if data[:2] == b"\x1f\x8b" else data


def judge(model: Path | Models, prop: Path, stdout: str, results: str) -> bool:
    """Whether the witness lies in the exact box, too. Raises Refuted or Refusal where it is none. Several models have names."""
    values = assignment(stdout)
    if values.tolist() != competition(results).tolist():
        raise Refuted("standard output and results file tell two different witnesses")
    text = unpacked(prop.read_bytes())
    x, y = run_all(text, {"": model} if isinstance(model, Path) else model, values)
    if not violates(text, Point(x, y, exact=False)):
        raise Refuted("the outputs do not violate the property as it is written, or the inputs lie outside of its region")
    return violates(text, Point(x, y, exact=True))


def main() -> NoReturn:
    """Judge what the arguments and the standard input name; print one line; end the process."""
    asked = json.load(sys.stdin)
    models: Path | Models
    if len(sys.argv) == 3:
        models, prop = Path(sys.argv[1]), Path(sys.argv[2])
    else:
        models, prop = {name: Path(path) for name, _, path in (text.partition("=") for text in sys.argv[3::2])}, Path(sys.argv[1])
    try:
        line, code = f"CONFIRMED {json.dumps({'inside_exact_box': judge(models, prop, **asked)})}", GOOD
    except (Refuted, Refusal) as error:
        line, code = f"REFUTED {json.dumps({'why': str(error)})}", BAD
    sys.stdout.write(line + "\n")
    sys.exit(code)


if __name__ == "__main__":
    main()
