"""Instances that show what mutants of our own engine survived the other families: one defect each, as small as it can be.

Every network is a few operators on one to three inputs, moved by a drawn shift of the inputs; the property is written by hand in the form that
the defect needs. Where it is violated, a point is planted, and the least margin of the text at that point is computed in exact rationals from the
file; where it is not, the network is monotone, or the unsafe set does not depend on it, and the sentence says why. Named after the catalogues of
bugs that really happened (research/soundness.md 5.1, research/verifiers.md 3.3), where they are about one of those.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import onnx
import onnxruntime

from benchmarks import formula
from benchmarks.formula import Formula, Junction
from benchmarks.soundness import rational
from benchmarks.soundness.instance import Instance, Planted, SuiteError
from benchmarks.soundness.net import Net
from benchmarks.soundness.property import decimal

Build = Callable[[Net, str], str]
SHIFTED = re.compile(r"<(-?)(\d+):(-?[0-9.]+)>")  # <i:v> is v moved by the shift of input i, <-i:v> moved the other way
LEAST = Fraction(1, 1000)
INFINITE = Fraction(10**30)


@dataclass(frozen=True)
class Question:
    """`build` makes the outputs [1, m] from the shifted input; `unsafe`: asserts, besides the bounds of `box` (one pair of decimals for every
    input; None: the asserts bound it). `point`: where it is violated, before the shift; None: it holds, `because`."""

    name: str
    box: tuple[tuple[str, str] | None, ...]
    outputs: int
    operators: tuple[str, ...]
    build: Build
    unsafe: tuple[str, ...]
    point: tuple[float, ...] | None
    because: str


def _linear(*rows: Sequence[float], bias: Sequence[float] | None = None) -> Build:
    """y = W x + b, a row for every output."""

    def build(net: Net, x: str) -> str:
        return net.node("Gemm", x, net.constant(np.array(rows, dtype=float).T), net.constant(np.zeros(len(rows)) if bias is None else bias))

    return build


def _loose(net: Net, x: str) -> str:
    """y = x in such a way that intervals do not see it: x + relu(x + 4) - relu(x + 4)."""
    halves = net.node("Relu", net.node("Gemm", x, net.constant([[1.0, 1.0]]), net.constant([4.0, 4.5])))
    return net.node("Add", net.node("Gemm", halves, net.constant([[1.0], [-1.0]]), net.constant([0.5])), x)


def _chain(*operators: str) -> Build:
    def build(net: Net, x: str) -> str:
        for operator in operators:
            x = net.node(operator, x)
        return x

    return build


def _column(net: Net, x: str, i: int) -> str:
    return net.node("Gather", x, net.whole(i), axis=1)


def _product(net: Net, x: str) -> str:
    return net.node("Mul", _column(net, x, 0), _column(net, x, 1))


def _squares(net: Net, x: str) -> str:
    """(x_0, x_1) (x_1, x_0), summed: 2 x_0 x_1."""
    product = net.node("Mul", x, net.node("Gather", x, net.whole(1, 0), axis=1))
    return net.node("Gemm", product, net.constant([[1.0], [1.0]]), net.constant([0.0]))


def _pooled(windows: int, **attributes: Any) -> Build:
    """The sum of the maxima over some windows of the inputs."""

    def build(net: Net, x: str) -> str:
        pooled = net.node("MaxPool", net.node("Unsqueeze", x, net.whole(0)), **attributes)
        flat = net.node("Reshape", pooled, net.whole(1, windows))
        return net.node("Gemm", flat, net.constant(np.ones((windows, 1))), net.constant([0.0]))

    return build


def _steep(net: Net, x: str) -> str:
    return net.node("Mul", net.node("Relu", x), net.constant([2.0**20]))


def _needle(net: Net, x: str) -> str:
    """relu(1 - 2048 |x|)."""
    size = net.node("Relu", net.node("Gemm", x, net.constant([[1.0, -1.0]]), net.constant([0.0, 0.0])))
    return net.node("Relu", net.node("Gemm", size, net.constant([[-2048.0], [-2048.0]]), net.constant([1.0])))


def _fan_out(net: Net, x: str) -> str:
    """relu(x) + relu(x), of an input that is gathered twice."""
    return net.node("Gemm", net.node("Relu", net.node("Gather", x, net.whole(0, 0), axis=1)), net.constant([[1.0], [1.0]]), net.constant([0.0]))


def _diamond(net: Net, x: str) -> str:
    """r + relu(r - 1/4) with r = relu(x)."""
    r = net.node("Relu", x)
    return net.node("Add", r, net.node("Relu", net.node("Sub", r, net.constant([0.25]))))


def _carrier(net: Net, x: str) -> str:
    """relu(relu(2 x) + x): a branch without an activation carries x past the first layer."""
    return net.node("Relu", net.node("Add", net.node("Relu", net.node("Mul", x, net.constant([2.0]))), x))


def _carried(net: Net, x: str) -> str:
    """relu(relu(2 x) + x - 3/2)."""
    total = net.node("Add", net.node("Relu", net.node("Mul", x, net.constant([2.0]))), x)
    return net.node("Relu", net.node("Sub", total, net.constant([1.5])))


def _tilted(slope: str) -> Build:
    """sigmoid(x) - slope x."""
    return lambda net, x: net.node("Sub", net.node("Sigmoid", x), net.node("Mul", x, net.constant([float(slope)])))


def _bent(net: Net, x: str) -> str:
    """x - relu(x)."""
    return net.node("Sub", x, net.node("Relu", x))


def _tent(net: Net, x: str) -> str:
    """relu(3/8 - |relu(x) - 1/2|)."""
    size = net.node("Abs", net.node("Sub", net.node("Relu", x), net.constant([0.5])))
    return net.node("Relu", net.node("Sub", net.constant([0.375]), size))


def _sum_with_bias(net: Net, x: str) -> str:
    """relu(x) + x + 2."""
    return net.node("Add", net.node("Add", net.node("Relu", x), x), net.constant([2.0]))


def _maximum(net: Net, x: str) -> str:
    return net.node("Max", _column(net, x, 0), _column(net, x, 1))


def _difference_of_ramps(net: Net, x: str) -> str:
    """relu(relu(x) - relu(-x)) = relu(x)."""
    r = net.node("Relu", net.node("Gemm", x, net.constant([[1.0, -1.0]]), net.constant([0.0, 0.0])))
    return net.node("Relu", net.node("Gemm", r, net.constant([[1.0], [-1.0]]), net.constant([0.0])))


def _valley(net: Net, x: str) -> str:
    """relu(x - 1/2) + relu(-x - 1/2): 0 around 0."""
    r = net.node("Relu", net.node("Gemm", x, net.constant([[1.0, -1.0]]), net.constant([-0.5, -0.5])))
    return net.node("Gemm", r, net.constant([[1.0], [1.0]]), net.constant([0.0]))


def _distance(net: Net, x: str) -> str:
    """|x_0 - 1/4| + |x_1 + 3/8|."""
    w, b = np.hstack([np.eye(2), -np.eye(2)]), [-0.25, 0.375, 0.25, -0.375]
    r = net.node("Relu", net.node("Gemm", x, net.constant(w), net.constant(b)))
    return net.node("Gemm", r, net.constant(np.ones((4, 1))), net.constant([0.0]))


def _exponentials(net: Net, x: str) -> str:
    return net.node("Sub", net.node("Exp", _column(net, x, 0)), net.node("Exp", _column(net, x, 1)))


def _one_and_a_half(net: Net, x: str) -> str:
    return net.node("Add", x, net.node("Mul", x, net.constant([0.5])))


ONE, CENTRED = (("0", "1"),), (("-1", "1"),)
AFFINE = "the output is the input, up to the shift, so that it never leaves the box"
QUESTIONS = (
    Question(
        "first_of_two", ONE, 1, ("Relu",), _loose, ("(or (>= Y_0 0.75) (>= Y_0 1.5))",), (1.0,), "the first alternative holds, the second never"
    ),
    Question(
        "second_of_two", ONE, 1, ("Relu",), _loose, ("(or (>= Y_0 1.5) (>= Y_0 0.75))",), (1.0,), "the second alternative holds, the first never"
    ),
    Question(
        "middle_of_three", ONE, 1, ("Relu",), _loose, ("(or (>= Y_0 1.5) (>= Y_0 0.75) (<= Y_0 -0.5))",), (1.0,), "only the middle alternative holds"
    ),
    Question(
        "boxes_of_their_own",
        (None,),
        1,
        ("Relu",),
        _loose,
        ("(or (and (>= X_0 <0:0>) (<= X_0 <0:1>) (>= Y_0 1.5)) (and (>= X_0 <0:0>) (<= X_0 <0:1.25>) (>= Y_0 1.125)))",),
        (1.25,),
        "the second alternative has a larger box and a smaller threshold",
    ),
    Question(
        "distant_boxes",
        (None,),
        1,
        ("Gemm",),
        _linear((1.0,)),
        ("(or (and (>= X_0 <0:0>) (<= X_0 <0:1>) (>= Y_0 2.5)) (and (>= X_0 <0:2>) (<= X_0 <0:3>) (>= Y_0 2.5)))",),
        (3.0,),
        "the atom of both alternatives holds on the box of the second only",
    ),
    Question(
        "far_ends",
        CENTRED,
        1,
        ("Gemm",),
        _linear((1.0,)),
        ("(or (>= Y_0 0.75) (and (<= Y_0 0.25) (>= Y_0 0.125)))",),
        (0.1875,),
        "two alternatives leave disjoint parts of the upper half",
    ),
    Question(
        "single_clause",
        ONE,
        1,
        ("Gemm",),
        _linear((1.0,)),
        ("(or (and (>= Y_0 0.75)))",),
        (1.0,),
        "an `or` of one clause is that clause (Marabou #607)",
    ),
    Question("number_on_the_left", ONE, 1, ("Gemm",), _linear((1.0,), bias=(3.0,)), ("(<= 2.5 Y_0)",), (1.0,), "the number stands on the left"),
    Question(
        "negative_input",
        (None,),
        1,
        ("Gemm",),
        _linear((1.0,)),
        ("(<= (* -1 X_0) <-0:0.5>)", "(>= X_0 <0:-2>)", "(<= X_0 <0:1>)", "(>= Y_0 0.75)"),
        (1.0,),
        "a bound of the input is written with a negative coefficient",
    ),
    Question(
        "minus_of_three",
        ONE,
        3,
        ("Gemm",),
        _linear((0.0,), (0.25,), (0.0,), bias=(1.0, 0.5, 0.75)),
        ("(<= (- Y_0 Y_1 Y_2) 0)",),
        (0.0,),
        "(- a b c) is a - b - c",
    ),
    Question(
        "twelve_outputs",
        ONE,
        12,
        ("Gemm",),
        _linear(*[(0.125,)] * 12, bias=[float(i) for i in range(12)]),
        ("(>= Y_10 9.5)",),
        (0.0,),
        "the names of outputs are in the order of their numbers, not of their letters",
    ),
    Question("mixed_atom", ONE, 1, ("Gemm",), _linear((1.0,)), ("(>= (+ Y_0 X_0) <0:1.5>)",), (1.0,), "an atom mixes an input and an output"),
    Question(
        "positive_threshold",
        ONE,
        1,
        ("Gemm",),
        _linear((1.0,), bias=(0.25,)),
        ("(<= Y_0 0.5)",),
        (0.0,),
        "the threshold is not 0, and lies on the side of what is safe",
    ),
    Question("a_point", (("0.5", "0.5"),), 1, ("Relu",), _loose, ("(>= Y_0 0.25)",), (0.5,), "the box is a point (Marabou #670)"),
    Question(
        "a_fixed_input",
        (("0", "1"), ("0.5", "0.5")),
        1,
        ("Gemm",),
        _linear((1.0, 1.0)),
        ("(>= Y_0 1.25)",),
        (1.0, 0.5),
        "an input is fixed (Marabou #670)",
    ),
    Question(
        "almost_fixed",
        (("-1", "0.000003814697265625"),),
        1,
        ("Relu",),
        _steep,
        ("(>= Y_0 1)",),
        (2.0**-18,),
        "a ReLU is almost always 0, and its weight is 2^20 (Marabou #568)",
    ),
    Question(
        "narrow_input",
        (("-1", "1"), ("-0.125", "0.125")),
        1,
        ("Gemm",),
        _linear((0.0, -8.0)),
        ("(>= Y_0 0.875)",),
        (0.0, -0.125),
        "the narrow input decides",
    ),
    Question(
        "between_halves", CENTRED, 1, ("Relu",), _needle, ("(>= Y_0 0.5)",), (0.0,), "the violation lies where the box is halved, and nowhere else"
    ),
    Question(
        "product_of_signs",
        (("-1", "1"),) * 2,
        1,
        ("Mul",),
        _product,
        ("(<= Y_0 -0.5)",),
        (1.0, -1.0),
        "a product is least where its factors differ in sign",
    ),
    Question(
        "product_of_positives",
        (("1", "2"),) * 2,
        1,
        ("Mul",),
        _product,
        ("(<= Y_0 1.5)",),
        (1.0, 1.0),
        "the planes of a product have constants (McCormick)",
    ),
    Question("product_of_vectors", (("-1", "1"),) * 2, 1, ("Mul",), _squares, ("(<= Y_0 -1)",), (1.0, -1.0), "factors of one shape are not equal"),
    Question(
        "dilated_window",
        (("0", "0"), ("0", "0"), ("0", "1")),
        1,
        ("MaxPool",),
        _pooled(1, kernel_shape=[2], dilations=[2]),
        ("(>= Y_0 0.75)",),
        (0.0, 0.0, 1.0),
        "a window with a dilation of 2 reads the first and the last of three",
    ),
    Question(
        "ceiled_windows",
        (("0", "0"), ("0", "1"), ("0", "0"), ("0", "0")),
        1,
        ("MaxPool",),
        _pooled(2, kernel_shape=[2], strides=[3], ceil_mode=1),
        ("(>= Y_0 0.75)",),
        (0.0, 1.0, 0.0, 0.0),
        "with ceil_mode a window more begins at the end",
    ),
    Question("absolute", CENTRED, 1, ("Abs",), _chain("Abs"), ("(<= Y_0 0.5)",), (0.0,), "the least value is at the kink, not at an end"),
    Question("sigmoid_top", (("-4", "4"),), 1, ("Sigmoid",), _chain("Sigmoid"), ("(>= Y_0 0.9375)",), (4.0,), "a sigmoid is largest at the end"),
    Question(
        "sigmoid_end", (("0.25", "4"),), 1, ("Sigmoid",), _tilted("0.25"), ("(<= Y_0 0.0625)",), (4.0,), "sigmoid(x) - x / 4 is least at the far end"
    ),
    Question(
        "carrier_low",
        CENTRED,
        1,
        ("Relu", "Add"),
        _carried,
        ("(>= Y_0 1)",),
        (1.0,),
        "where the centre of a hidden layer is negative, some of it is not (alpha-beta-CROWN #103)",
    ),
    Question(
        "inactive_side",
        CENTRED,
        1,
        ("Relu", "Add"),
        _bent,
        ("(<= Y_0 -0.5)",),
        (-1.0,),
        "it is violated where the neuron is inactive, and nowhere else",
    ),
    Question(
        "tent", CENTRED, 1, ("Relu", "Abs"), _tent, ("(>= Y_0 0.25)",), (0.5,), "a slope is negative, and what it multiplies is not known exactly"
    ),
    Question("fan_out", (("1", "2"),), 1, ("Gather",), _fan_out, ("(>= Y_0 3)",), (2.0,), "an element is read twice"),
    Question(
        "diamond_high", (("0.5", "1"),), 1, ("Relu", "Add"), _diamond, ("(>= Y_0 1.5)",), (1.0,), "a node is read by two others, and both count"
    ),
    Question(
        "diamond_low",
        (("0.5", "1"),),
        1,
        ("Relu", "Add"),
        _diamond,
        ("(<= Y_0 0.875)",),
        (0.5,),
        "a node is read by two others, and each counts once",
    ),
    Question(
        "carrier",
        CENTRED,
        1,
        ("Relu", "Add"),
        _carrier,
        ("(>= Y_0 2.5)",),
        (1.0,),
        "a branch without an activation carries the input past a layer (alpha-beta-CROWN #103)",
    ),
    Question("sum_with_bias", CENTRED, 1, ("Relu", "Add"), _sum_with_bias, ("(>= Y_0 3.5)",), (1.0,), "a sum of two branches has a bias"),
    Question(
        "maximum",
        (("0.5", "0.625"), ("0", "1")),
        1,
        ("Max",),
        _maximum,
        ("(>= Y_0 0.875)",),
        (0.5, 1.0),
        "the element with the larger lower bound is not the larger one",
    ),
    Question("two_layers", CENTRED, 1, ("Relu",), _difference_of_ramps, ("(>= Y_0 0.96875)",), (1.0,), "a hidden layer has to be bounded exactly"),
    Question("valley", CENTRED, 1, ("Relu",), _valley, ("(<= Y_0 0.25)",), (0.0,), "slopes of ReLU outside of [0, 1] prove what is false"),
    Question(
        "distance",
        (("-1", "1"),) * 2,
        1,
        ("Relu",),
        _distance,
        ("(<= Y_0 0.015625)",),
        (0.25, -0.375),
        "the violation is a needle that no half of a box shows but the right one",
    ),
    Question(
        "a_sign_at_zero", CENTRED, 1, ("Sign",), _chain("Sign"), ("(<= Y_0 0.5)", "(>= Y_0 -0.5)"), (0.0,), "Sign is 0 at 0 only (Marabou #605)"
    ),
    Question("a_negative_sign", CENTRED, 1, ("Sign",), _chain("Sign"), ("(<= Y_0 -0.5)",), (-1.0,), "Sign is -1 below 0 (Marabou #605)"),
    Question(
        "sigmoid_inside",
        (("0.5", "4.5"),),
        1,
        ("Sigmoid",),
        _tilted("0.125"),
        ("(>= Y_0 0.632)",),
        (1.75,),
        "sigmoid(x) - x / 8 is largest inside the box (Marabou #720)",
    ),
    Question(
        "sigmoid_inside_low",
        (("-4.5", "-0.5"),),
        1,
        ("Sigmoid",),
        _tilted("0.125"),
        ("(<= Y_0 0.368)",),
        (-1.75,),
        "sigmoid(x) - x / 8 is least inside the box (Marabou #720)",
    ),
    Question(
        "overflow",
        (("0", "1000"),) * 2,
        1,
        ("Exp",),
        _exponentials,
        ("(<= Y_0 -1)",),
        (0.0, 1.0),
        "no float bounds exp over the box; an overflow is no proof",
    ),
    Question("twice_the_same", ONE, 1, ("Add", "Mul"), _one_and_a_half, ("(>= Y_0 1.25)",), (1.0,), "a sum reads one tensor twice"),
    # what holds: a `sat` needs a wrong witness
    Question("or_and_more", CENTRED, 1, ("Gemm",), _linear((1.0,)), ("(or (>= Y_0 0.5) (<= Y_0 -0.5))", "(>= Y_0 3)"), None, AFFINE),
    Question("two_ors", CENTRED, 1, ("Gemm",), _linear((1.0,)), ("(or (>= Y_0 0.5) (<= Y_0 -0.5))", "(or (>= Y_0 3) (<= Y_0 -3))"), None, AFFINE),
    Question(
        "contradictory_atoms", CENTRED, 1, ("Gemm",), _linear((1.0,)), ("(and (>= Y_0 0.5) (<= Y_0 0.25))",), None, "no output meets both atoms"
    ),
    Question(
        "the_first_bound_counts",
        (None,),
        1,
        ("Gemm",),
        _linear((1.0,)),
        ("(>= X_0 <0:0>)", "(<= X_0 <0:1>)", "(<= X_0 <0:2>)", "(>= Y_0 1.5)"),
        None,
        AFFINE,
    ),
    Question("just_outside", ONE, 1, ("Gemm",), _linear((1.0,)), ("(> Y_0 1)",), None, AFFINE + ", rounded or not"),
    Question("a_tenth_outside", ONE, 1, ("Gemm",), _linear((1.0,)), ("(>= Y_0 1.0625)",), None, AFFINE),
    Question("equation_beyond", ONE, 1, ("Gemm",), _linear((1.0,)), ("(== Y_0 3)",), None, AFFINE),
    Question("almost", ONE, 1, ("Gemm",), _linear((1.0,)), ("(>= Y_0 1.0005)",), None, AFFINE),
    Question("never_negative", CENTRED, 1, ("Relu",), _chain("Relu"), ("(< Y_0 0)",), None, "a ReLU is never negative"),
)


def instances(seed: int) -> Iterator[Instance]:
    """Every question once; the seed draws the shifts."""
    for number, question in enumerate(QUESTIONS):
        yield _instance(question, np.random.default_rng([seed, 71, number]))


def _instance(question: Question, rng: np.random.Generator) -> Instance:
    n = len(question.box)
    shift = [Fraction(int(k), 8) for k in rng.integers(-8, 9, n)]
    net = Net(rng)
    model = net.model(question.build(net, net.node("Sub", "x", net.constant([[float(s) for s in shift]]))), (1, n), question.outputs)
    text, text2 = _texts(question, shift)
    planted = None
    if question.point is not None:
        planted = _planted(question, model.SerializeToString(), text, np.array([p + float(s) for p, s in zip(question.point, shift, strict=True)]))
    truth = "unsat" if planted is None else "sat"
    return Instance(
        f"regress_{question.name}", "regress", model, text, text2, truth, truth, "planted" if planted else "theorem", question.because,
        question.operators, {"shift": [str(s) for s in shift]}, planted,
    )  # fmt: skip


def _texts(question: Question, shift: Sequence[Fraction]) -> tuple[str, str]:
    """VNN-LIB 1.0 and 2.0."""
    lines = list[str]()
    for i, ends in enumerate(question.box):
        if ends is not None:
            lines += [f"(>= X_{i} <{i}:{ends[0]}>)", f"(<= X_{i} <{i}:{ends[1]}>)"]
    made = [f"(assert {SHIFTED.sub(lambda match: _moved(match, shift), line)})" for line in (*lines, *question.unsafe)]
    n, m = len(question.box), question.outputs
    first = [f"(declare-const X_{i} Real)" for i in range(n)] + [f"(declare-const Y_{j} Real)" for j in range(m)] + made
    head = ["(vnnlib-version <2.0>)", "(declare-network N", f"  (declare-input X float32 [1, {n}])", f"  (declare-output Y float32 [1, {m}]))"]
    second = head + [re.sub(r"([XY])_(\d+)", r"\1[0, \2]", line) for line in made]
    return "\n".join(first) + "\n", "\n".join(second) + "\n"


def _moved(match: re.Match[str], shift: Sequence[Fraction]) -> str:
    sign, i, value = match.groups()
    moved = Fraction(value) + (-shift[int(i)] if sign else shift[int(i)])
    return f"{decimal(float(moved)):f}"


def _planted(question: Question, model: bytes, text: str, point: np.ndarray) -> Planted:
    """The point with its margins; raises SuiteError where it does not violate the text by enough."""
    x = point.astype(np.float32)
    exact = [Fraction(float(v)) for v in x]
    outputs = rational.enclose(onnx.load_model_from_string(model), exact)
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    ran = [Fraction(float(v)) for v in np.ravel(session.run(None, {"x": x.reshape(1, -1)})[0])]
    tree = formula.parse(text).formula
    ends = [[low for low, _ in outputs], [high for _, high in outputs]]
    margins = [min(margin(tree, exact, y) for y in ends), margin(tree, exact, ran)]
    if min(margins) < LEAST or any(Fraction(float(v)) != Fraction(w) for v, w in zip(x, point.tolist(), strict=True)):
        raise SuiteError(f"regress_{question.name}: margins {[float(m) for m in margins]} at {point.tolist()}")
    return Planted(x, margins[0], float(margins[1]))


def margin(part: Formula, x: Sequence[Fraction], y: Sequence[Fraction]) -> Fraction:
    """How far inside the formula an execution is: the least over `and`, the largest over `or`; bounds of single inputs hold or do not."""
    if isinstance(part, Junction):
        found = [margin(inner, x, y) for inner in part.parts]
        return min(found) if part.kind == "and" else max(found)
    values = {"X": x, "Y": y}
    spare = part.bound - sum((c * values[t][i] for t, i, c in part.terms), Fraction(0))
    if part.bounds_one_input:
        return INFINITE if spare >= 0 else -INFINITE
    return -abs(spare) if part.relation == "==" else spare
