"""Graph traps: networks whose tensors are used more than once, carried past layers, renamed, cancelled or not used at all.

The bugs behind them are those of research/soundness.md 1.8 and research/verifiers.md 3.3: the residual carrier without an activation, the
adjoint of a gather that copies instead of adding, concatenated copies taken for one another, aliases that are lost, dead nodes that count, a
weight scaled for one of its readers. As with the attributes, each has a misreading in which one use of a tensor is lost, stale or doubled, and a
property that is true of exactly one of the two. Scores are convex: first layers have weights of any sign, what follows a hinge has positive ones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from benchmarks.soundness.families.graph_waves import WAVES
from benchmarks.soundness.instance import Instance
from benchmarks.soundness.net import Array, Net
from benchmarks.soundness.traps import CONVEX, RISING, Features, Trap, instances_of

WIDTH, CHAIN = 4, 60


def _affine(net: Net, value: str, positive: bool = False) -> str:
    """A Gemm from WIDTH to WIDTH; behind hinges the constants are large, so that what is lost may be of either sign."""
    return net.node("Gemm", value, net.numbers(WIDTH, WIDTH, positive=positive), net.constant(net.draw(WIDTH) * (16 if positive else 2)))


def _hinges(net: Net, x: str) -> str:
    """A convex tensor [1, WIDTH]: a layer of hinges, and a layer of positive weights."""
    return _affine(net, net.node("Relu", _affine(net, x)), positive=True)


def _linear(net: Net, x: str) -> str:
    return net.node("MatMul", x, net.constant(net.draw(WIDTH, WIDTH) * 2))


def _plus(net: Net, kept: str, other: str, lost: bool) -> str:
    """kept + other; or, misread, kept alone (the nodes of `other` are there, and dead)."""
    return kept if lost else net.node("Add", kept, other)


def _masked(net: Net, value: str, mask: Sequence[int] | Array, wrongly: bool) -> str:
    """Misread, only the elements of the mask arrive."""
    return net.node("Mul", value, net.constant(mask)) if wrongly else value


# --- diamonds and carriers -----------------------------------------------------------------------------------------------------------


def _branches(net: Net, x: str, wrongly: bool) -> str:
    t = _affine(net, x)
    first, second = _affine(net, net.node("Relu", t), True), _affine(net, net.node("Abs", t), True)
    return _plus(net, first, second, wrongly)


def _three_branches(net: Net, x: str, wrongly: bool) -> str:
    t = _affine(net, x)
    both = net.node("Add", net.node("Relu", t), net.node("Abs", t))
    return _plus(net, both, _affine(net, t), wrongly)


def _stale(net: Net, x: str, wrongly: bool) -> str:
    t = _affine(net, x)
    hinged = net.node("Relu", t)
    return net.node("Add", _affine(net, hinged, True), _affine(net, t if wrongly else hinged, True))


def _nested(net: Net, x: str, wrongly: bool) -> str:
    t = net.node("Relu", _affine(net, x))
    inner = _plus(net, _affine(net, t, True), _affine(net, t, True), wrongly)
    return net.node("Add", net.node("LeakyRelu", inner, alpha=0.5), t)


def _exchanged(net: Net, x: str, wrongly: bool) -> str:
    t = _affine(net, x)
    parts = [net.node("Relu", t), t]
    value = net.node("Concat", *(parts[::-1] if wrongly else parts), axis=1)
    return net.node("MatMul", value, net.numbers(2 * WIDTH, WIDTH, positive=True))


def _extremes(net: Net, x: str, wrongly: bool) -> str:
    """max + min is the sum, whatever they are; misread, it is the difference, which is convex too."""
    a, b = _affine(net, x), _affine(net, x)
    return net.node("Sub" if wrongly else "Add", net.node("Max", a, b), net.node("Min", a, b))


def _opposites(net: Net, x: str, wrongly: bool) -> str:
    """relu(t) - relu(-t) is t; misread, relu(t) + relu(-t)."""
    t = _affine(net, x)
    return net.node("Add" if wrongly else "Sub", net.node("Relu", t), net.node("Relu", net.node("Neg", t)))


def _carried(how: Callable[[Net, str], str]) -> Features:
    """Hinges, plus the input past them, by way of `how`; misread, what is carried is lost."""

    def features(net: Net, x: str, wrongly: bool) -> str:
        main, carrier = _hinges(net, x), how(net, x)
        return _plus(net, main, carrier, wrongly)

    return features


def _reshaped(net: Net, x: str) -> str:
    value = net.node("Transpose", net.node("Reshape", x, net.whole(1, 2, 2)), perm=[0, 2, 1])
    return net.node("Reshape", net.node("Mul", value, net.numbers(2, 2)), net.whole(1, WIDTH))


def _subtracted(net: Net, x: str, wrongly: bool) -> str:
    main, carrier = _hinges(net, x), _linear(net, x)
    return net.node("Sub", main, carrier if wrongly else net.node("Neg", carrier))


def _blocks(lost: int, scale: float) -> Features:
    """Four residual blocks t + relu(W t); misread, block `lost` does not carry t, or carries it without `scale`."""

    def features(net: Net, x: str, wrongly: bool) -> str:
        value = _affine(net, x)
        for k in range(4):
            added = net.node("Mul", net.node("Relu", _affine(net, value, True)), net.constant(0.25))
            carried = value if scale == 1 or (wrongly and k == lost) else net.node("Mul", value, net.constant(scale))
            value = _plus(net, added, carried, wrongly and k == lost and scale == 1)
        return value

    return features


def _convolved_carrier(net: Net, x: str, wrongly: bool) -> str:
    """Input, Conv, Relu, Reshape, MatMul beside a branch without any activation that is added to the output."""
    hidden = net.node("Relu", net.node("Conv", x, net.numbers(2, 1, 2, 2), net.numbers(2)))
    main = net.node("MatMul", net.row(hidden), net.numbers(8, WIDTH, positive=True))
    carrier = net.node("MatMul", net.row(net.node("Conv", x, net.numbers(1, 1, 2, 2))), net.constant(net.draw(4, WIDTH) * 4))
    return _plus(net, main, carrier, wrongly)


MERGES = (
    Trap("diamond_branch", "one of the branches of a diamond is lost", ("Relu", "Abs", "Add"), (1, WIDTH), _branches, CONVEX),
    Trap("diamond_three", "of three branches the linear one is lost", ("Relu", "Abs", "Add"), (1, WIDTH), _three_branches, CONVEX),
    Trap("diamond_stale", "the second reader of an activation gets what went into it", ("Relu", "Add"), (1, WIDTH), _stale, CONVEX, truths=(True,)),
    Trap("diamond_nested", "a branch of the inner diamond is lost", ("Relu", "Add"), (1, WIDTH), _nested, CONVEX),
    Trap("diamond_concat", "the parts of a Concat are exchanged", ("Concat", "Relu"), (1, WIDTH), _exchanged, CONVEX),
    Trap("diamond_extremes", "max + min is max - min", ("Max", "Min", "Add"), (1, WIDTH), _extremes, CONVEX),
    Trap("diamond_opposites", "relu(t) - relu(-t) is |t|", ("Relu", "Neg", "Sub"), (1, WIDTH), _opposites, CONVEX, truths=(False,)),
    Trap("carrier_linear", "a branch without activations that is added to the output is lost", ("Add", "MatMul"), (1, WIDTH), _carried(_linear),
         CONVEX),
    Trap("carrier_affine", "a branch of one Gemm that is added to the output is lost", ("Add", "Gemm"), (1, WIDTH), _carried(_affine), CONVEX),
    Trap("carrier_input", "the input itself, added to the output, is lost", ("Add",), (1, WIDTH), _carried(lambda net, x: x), CONVEX),
    Trap("carrier_reshaped", "a branch that is reshaped and transposed is lost", ("Add", "Reshape", "Transpose"), (1, WIDTH), _carried(_reshaped),
         CONVEX),
    Trap("carrier_subtracted", "x - (-c) is x - c", ("Sub", "Neg"), (1, WIDTH), _subtracted, CONVEX),
    Trap("carrier_first_block", "the first of four blocks does not carry its input", ("Add", "Relu"), (1, WIDTH), _blocks(0, 1.0), CONVEX),
    Trap("carrier_last_block", "the last of four blocks does not carry its input", ("Add", "Relu"), (1, WIDTH), _blocks(3, 1.0), CONVEX),
    Trap("carrier_scaled", "what a block carries is not scaled", ("Add", "Mul", "Relu"), (1, WIDTH), _blocks(2, 0.5), CONVEX, truths=(False,)),
    Trap("carrier_conv", "a convolved branch without activations is lost", ("Add", "Conv", "MatMul"), (1, 1, 3, 3), _convolved_carrier, CONVEX),
)  # fmt: skip

# --- shared constants ------------------------------------------------------------------------------------------------------------------


def _weight_twice(turned: bool) -> Features:
    """One weight for two layers, in the second as it is or transposed; misread, the other way."""

    def features(net: Net, x: str, wrongly: bool) -> str:
        weight, value = net.numbers(WIDTH, WIDTH, positive=True), _affine(net, x)
        hidden = net.node("Relu", net.node("MatMul", value, weight))
        return net.node("Gemm", hidden, weight, transB=int(turned != wrongly))

    return features


def _scaled_reader(net: Net, x: str, wrongly: bool) -> str:
    """One of two readers of a weight is scaled; misread, the scale went into the weight, and both are."""
    weight, scale = net.constant(net.draw(WIDTH, WIDTH)), net.constant(net.draw(WIDTH, positive=True) * 2)
    first, second = net.node("MatMul", x, weight), net.node("MatMul", net.node("Abs", x), net.numbers(WIDTH, WIDTH, positive=True))
    other = net.node("MatMul", net.node("Mul", x, net.numbers(1, WIDTH)), weight)
    other = net.node("Mul", other, scale) if wrongly else other
    return net.node("Add", net.node("Add", net.node("Mul", first, scale), second), other)


def _bias_twice(net: Net, x: str, wrongly: bool) -> str:
    bias = net.constant(net.draw(WIDTH) * 2)
    hidden = net.node("Relu", net.node("Add", _linear(net, x), bias))
    value = net.node("MatMul", hidden, net.numbers(WIDTH, WIDTH, positive=True))
    return value if wrongly else net.node("Add", value, bias)


def _kernel_twice(net: Net, x: str, wrongly: bool) -> str:
    """Two convolutions with one kernel; misread, the second has it turned round."""
    kernel = net.draw(1, 1, 2, 2, positive=True)
    first = net.constant(kernel)
    second = net.constant(kernel[:, :, ::-1, ::-1]) if wrongly else first
    hidden = net.node("Relu", net.node("Conv", net.node("Mul", x, net.numbers(3, 3)), first))
    return net.node("Conv", hidden, second, pads=[1, 1, 0, 0])


def _operand_twice(net: Net, x: str, wrongly: bool) -> str:
    constant = net.constant(net.draw(1, WIDTH, positive=True) * 4)
    scaled = net.node("Mul", _hinges(net, x), constant)
    return scaled if wrongly else net.node("Sub", scaled, constant)


SHARED = (
    Trap("shared_weight", "the second reader of a weight gets it transposed", ("Gemm", "MatMul"), (1, WIDTH), _weight_twice(False), CONVEX),
    Trap("shared_transposed", "the second reader of a weight does not get it transposed", ("Gemm", "MatMul"), (1, WIDTH), _weight_twice(True),
         CONVEX),
    Trap("shared_scaled", "a weight that one reader scales is scaled for the other too", ("MatMul", "Mul"), (1, WIDTH), _scaled_reader, CONVEX),
    Trap("shared_bias", "a bias is added for its first reader only", ("Add",), (1, WIDTH), _bias_twice, CONVEX),
    Trap("shared_kernel", "the second reader of a kernel gets it turned round", ("Conv",), (1, 1, 3, 3), _kernel_twice, CONVEX),
    Trap("shared_operand", "a constant is known to its first reader only", ("Mul", "Sub"), (1, WIDTH), _operand_twice, CONVEX, truths=(False,)),
)  # fmt: skip

# --- fan-outs ------------------------------------------------------------------------------------------------------------------------


def _weighed(net: Net, value: str, size: int) -> str:
    """[1, size] to [1, WIDTH] with weights of any sign."""
    return net.node("MatMul", value, net.constant(net.draw(size, WIDTH)))


def _gathered(places: Sequence[int]) -> Features:
    """Misread, of the copies of an element the last one alone counts, as where an adjoint copies instead of adding."""

    def features(net: Net, x: str, wrongly: bool) -> str:
        last = [int(p not in places[k + 1 :]) for k, p in enumerate(places)]
        value = net.node("Gather", _affine(net, x), net.whole(*places), axis=1)
        return _weighed(net, _masked(net, value, last, wrongly), len(places))

    return features


def _windows(net: Net, x: str, wrongly: bool) -> str:
    value = net.node("Gather", _affine(net, x), net.constant([[0, 1], [1, 2], [2, 3]], np.int64), axis=1)
    return _weighed(net, net.row(_masked(net, value, [[1, 0], [1, 0], [1, 1]], wrongly)), 6)


def _slices(net: Net, x: str, wrongly: bool) -> str:
    t = _affine(net, x)
    first, second = (net.node("Slice", t, net.whole(a), net.whole(a + 3), net.whole(1)) for a in (0, 1))
    return _weighed(net, _masked(net, net.node("Concat", first, second, axis=1), [1, 0, 0, 1, 1, 1], wrongly), 6)


def _tiled(net: Net, x: str, wrongly: bool) -> str:
    value = net.node("Tile", _affine(net, x), net.whole(1, 2))
    return _weighed(net, _masked(net, value, [0] * WIDTH + [1] * WIDTH, wrongly), 2 * WIDTH)


def _expanded(net: Net, x: str, wrongly: bool) -> str:
    value = net.node("Mul", net.node("Expand", _affine(net, x), net.whole(3, WIDTH)), net.numbers(3, WIDTH))
    return net.sum_over(_masked(net, value, [[0], [0], [1]], wrongly), [0], keepdims=1)


def _copies(net: Net, x: str, wrongly: bool) -> str:
    t = _affine(net, x)
    value = net.node("Concat", t, t, t, axis=1)
    return _weighed(net, _masked(net, value, [0] * 2 * WIDTH + [1] * WIDTH, wrongly), 3 * WIDTH)


def _hinged_copies(net: Net, x: str, wrongly: bool) -> str:
    t = net.node("Relu", _affine(net, x))
    value = net.node("Concat", t, net.node("Sub", t, net.constant(2.0)), axis=1)
    value = _masked(net, value, [1] * WIDTH + [0] * WIDTH, wrongly)
    return net.node("MatMul", value, net.numbers(2 * WIDTH, WIDTH, positive=True))


def _swapped(net: Net, x: str, wrongly: bool) -> str:
    first, second = net.nodes_of("Split", [_affine(net, x), net.whole(2, 2)], 2, axis=1)
    parts = [net.node("Relu", second), net.node("Abs", first)]
    value = net.node("Concat", *(parts[::-1] if wrongly else parts), axis=1)
    return net.node("MatMul", value, net.numbers(WIDTH, WIDTH, positive=True))


def _dense(net: Net, x: str, wrongly: bool) -> str:
    """Every layer reads all before it; misread, the last one does not read the input."""
    first = net.node("Concat", x, net.node("Relu", _affine(net, x)), axis=1)
    mixed = np.concatenate([net.draw(WIDTH, WIDTH), net.draw(WIDTH, WIDTH, positive=True)])
    second = net.node("Relu", net.node("MatMul", first, net.constant(mixed)))
    value = net.node("Concat", first, second, axis=1)
    value = _masked(net, value, [0] * WIDTH + [1] * 2 * WIDTH, wrongly)
    weights = np.concatenate([net.draw(WIDTH, WIDTH) * 4, net.draw(2 * WIDTH, WIDTH, positive=True)])
    return net.node("MatMul", value, net.constant(weights))


FANS = (
    Trap("fanout_gather", "of the copies that Gather makes only the last counts", ("Gather",), (1, WIDTH), _gathered([0, 3, 0, 1, 0, 3])),
    Trap("fanout_gather_all", "of the copies that Gather makes only the last counts", ("Gather",), (1, WIDTH), _gathered([2] * 5)),
    Trap("fanout_windows", "an element in two windows counts in one", ("Gather",), (1, WIDTH), _windows),
    Trap("fanout_slice", "what two slices share counts in the second only", ("Slice", "Concat"), (1, WIDTH), _slices),
    Trap("fanout_tile", "of the copies that Tile makes only the last counts", ("Tile",), (1, WIDTH), _tiled),
    Trap("fanout_expand", "of the rows that Expand makes only the last counts", ("Expand",), (1, WIDTH), _expanded),
    Trap("fanout_concat", "of three copies in a Concat only the last counts", ("Concat",), (1, WIDTH), _copies),
    Trap("fanout_hinged", "of two copies of hinges in a Concat only the first counts", ("Concat", "Relu"), (1, WIDTH), _hinged_copies, CONVEX),
    Trap("fanout_swapped", "parts come back in the order in which they were split", ("Split", "Concat"), (1, WIDTH), _swapped, CONVEX),
    Trap("fanout_dense", "the last layer does not read the input", ("Concat", "Relu"), (1, WIDTH), _dense, CONVEX),
)  # fmt: skip

# --- aliases, chains and constants ------------------------------------------------------------------------------------------------------


def _aliased(around: Callable[[Net, str], str]) -> Features:
    """A scale between nodes that change nothing; misread, the scale is lost with them."""

    def features(net: Net, x: str, wrongly: bool) -> str:
        value = around(net, _hinges(net, x))
        scaled = net.node("Add", value, net.constant(net.draw(1, WIDTH) * 8))
        return net.row(around(net, value if wrongly else scaled))

    return features


def _repeated(kinds: Sequence[str]) -> Callable[[Net, str], str]:
    def around(net: Net, value: str) -> str:
        for kind in kinds:
            value = net.node(kind, value)
        return value

    return around


def _there_and_back(net: Net, value: str) -> str:
    value = net.node("Squeeze", net.node("Unsqueeze", value, net.whole(0, 3)), net.whole(0, 3))
    value = net.node("Flatten", net.node("Reshape", value, net.whole(1, 2, 2)))
    return net.node("Transpose", net.node("Transpose", value, perm=[1, 0]), perm=[1, 0])


def _cast(net: Net, value: str) -> str:
    return net.node("Cast", net.node("Cast", value, to=1), to=1)


def _long_chain(lost: int) -> Features:
    """CHAIN nodes that never decrease; misread, one of them is lost."""

    def features(net: Net, x: str, wrongly: bool) -> str:
        value = x
        for k in range(CHAIN):
            shift, scale = net.numbers(1, WIDTH), net.constant(0.875 + net.draw(1, WIDTH, positive=True) / 8)
            made = [("Add", shift), ("LeakyRelu", None), ("Mul", scale), ("Identity", None)][k % 4]
            if not (wrongly and k == lost):
                value = net.node(made[0], value, *([] if made[1] is None else [made[1]]))
        return value

    return features


def _sign_chain(net: Net, x: str, wrongly: bool) -> str:
    """CHAIN nodes that are affine; misread, one Neg is lost."""
    value = x
    for k in range(CHAIN // 2):
        value = net.node("Add" if k % 3 else "Sub", value, net.numbers(1, WIDTH))
        value = value if wrongly and k == CHAIN // 4 else net.node("Neg", value)
    return value


def _with_bias(make: Callable[[Net, Array], str]) -> Features:
    """A bias [1, WIDTH] that `make` provides; misread, it is 0."""

    def features(net: Net, x: str, wrongly: bool) -> str:
        value, bias = _hinges(net, x), make(net, net.draw(1, WIDTH) * 4)
        return value if wrongly else net.node("Add", value, bias)

    return features


def _listed(net: Net, bias: Array) -> str:
    return net.listed(net.constant(bias))


def _of_shape(net: Net, bias: Array) -> str:
    value = net.tensor(np.array([bias.reshape(-1)[0]], dtype=np.float32))
    return net.node("ConstantOfShape", net.whole(1, WIDTH), value=value)


def _computed(net: Net, x: str, wrongly: bool) -> str:
    """A bias that constants compute; misread, it is the first of them."""
    value, first, second = _hinges(net, x), net.numbers(1, WIDTH), net.constant(net.draw(1, WIDTH) * 4)
    return net.node("Add", value, first if wrongly else net.node("Sub", net.node("Mul", first, second), second))


def _measured(net: Net, x: str, wrongly: bool) -> str:
    """Reshape to a shape that is computed from the input's; misread, its numbers are not exchanged."""
    shape = net.node("Gather", net.node("Shape", x), net.whole(*((0, 1) if wrongly else (1, 0))), axis=0)
    matrix = net.node("Reshape", net.node("Mul", x, net.numbers(2, 3, positive=True)), shape)
    return net.sum_over(net.node("ReduceMax", matrix, axes=[1], keepdims=1), [0], keepdims=1)


MOVES = (
    Trap("alias_identity", "what lies between Identity nodes is lost", ("Identity",), (1, WIDTH), _aliased(_repeated(["Identity"] * 6)), CONVEX),
    Trap("alias_dropout", "what lies between Dropout nodes is lost", ("Dropout", "Identity"), (1, WIDTH),
         _aliased(_repeated(["Dropout", "Identity", "Dropout"])), CONVEX),
    Trap("alias_shape", "what lies between changes of shape is lost", ("Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose"), (1, WIDTH),
         _aliased(_there_and_back), CONVEX),
    Trap("alias_cast", "what lies between Cast nodes is lost", ("Cast",), (1, WIDTH), _aliased(_cast), CONVEX),
    Trap("chain_early", "of a long chain an early node is lost", ("Add", "LeakyRelu", "Mul"), (1, WIDTH), _long_chain(4), RISING),
    Trap("chain_middle", "of a long chain a node in the middle is lost", ("Add", "LeakyRelu", "Mul"), (1, WIDTH), _long_chain(30), RISING),
    Trap("chain_late", "of a long chain a late node is lost", ("Add", "LeakyRelu", "Mul"), (1, WIDTH), _long_chain(CHAIN - 2), RISING),
    Trap("chain_signs", "of a long chain one Neg is lost", ("Add", "Sub", "Neg"), (1, WIDTH), _sign_chain),
    Trap("constant_node", "what a Constant node holds is 0", ("Constant",), (1, WIDTH),
         _with_bias(lambda net, bias: net.node("Constant", value=net.tensor(bias.astype(np.float32)))), CONVEX),
    Trap("constant_floats", "what a Constant node holds as value_floats is 0", ("Constant",), (1, WIDTH),
         _with_bias(lambda net, bias: net.node("Constant", value_floats=bias.reshape(-1).tolist())), CONVEX),
    Trap("constant_listed", "a constant that is also a graph input is 0", (), (1, WIDTH), _with_bias(_listed), CONVEX),
    Trap("constant_shape", "ConstantOfShape is always 0", ("ConstantOfShape",), (1, WIDTH), _with_bias(_of_shape), CONVEX),
    Trap("constant_computed", "what constants compute is the first of them", ("Mul", "Sub"), (1, WIDTH), _computed, CONVEX),
    Trap("constant_target", "a shape that is computed is that of the input", ("Shape", "Gather", "Reshape"), (2, 3), _measured, RISING),
)  # fmt: skip

# --- what cancels, what is repeated, what is dead -------------------------------------------------------------------------------------------


def _cancelled(right: Callable[[Net, str], str], wrong: Callable[[Net, str], str]) -> Features:
    """Hinges, plus what `right` makes of an affine t; misread, what `wrong` makes of it."""

    def features(net: Net, x: str, wrongly: bool) -> str:
        value, t = _hinges(net, x), _affine(net, net.node("Mul", x, net.constant(2.0)))
        return net.node("Add", value, (wrong if wrongly else right)(net, t))

    return features


def _itself(net: Net, t: str) -> str:
    return t


def _less_itself(net: Net, t: str) -> str:
    return net.node("Sub", t, t)


def _less_itself_hinged(net: Net, t: str) -> str:
    return net.node("Sub", net.node("Relu", t), net.node("Relu", t))


def _plus_negative(net: Net, t: str) -> str:
    return net.node("Add", t, net.node("Neg", net.node("Identity", t)))


def _around(net: Net, t: str) -> str:
    """(t + c) - t is c."""
    return net.node("Sub", net.node("Add", t, net.constant([[3.0, -2.0, 4.0, -5.0]])), t)


def _nothing(net: Net, t: str) -> str:
    return net.constant([[0.0] * WIDTH])


def _multiples(first: float, second: float) -> Callable[[Net, str], str]:
    return lambda net, t: net.node("Sub", net.node("Mul", t, net.constant(first)), net.node("Mul", t, net.constant(second)))


def _by_weights(net: Net, t: str) -> str:
    """Two copies, and weights that cancel."""
    eye = np.eye(WIDTH)
    return net.node("MatMul", net.node("Concat", t, t, axis=1), net.constant(np.concatenate([eye, -eye])))


def _by_zero(net: Net, t: str) -> str:
    return net.node("Mul", t, net.constant(0.0))


def _twice(right: Callable[[Net, str], str], wrong: Callable[[Net, str], str], hinged: bool) -> Features:
    """One tensor as both operands; misread, something else."""

    def features(net: Net, x: str, wrongly: bool) -> str:
        t = _hinges(net, x) if hinged else _affine(net, x)
        return (wrong if wrongly else right)(net, t)

    return features


def _operand(kind: str) -> Callable[[Net, str], str]:
    return lambda net, t: net.node(kind, t, t)


def _squares(net: Net, t: str) -> str:
    """t t', a number."""
    return net.node("MatMul", t, net.node("Transpose", t, perm=[1, 0]))


def _magnitudes(net: Net, t: str) -> str:
    return net.sum_over(net.node("Abs", t), [1], keepdims=1)


def _dead(last: bool) -> Features:
    """A branch that nothing reads, stored before or behind the others; misread, it is added."""

    def features(net: Net, x: str, wrongly: bool) -> str:
        if last:
            value, idle = _hinges(net, x), _linear(net, x)
        else:
            idle, value = _linear(net, x), _hinges(net, x)
        return net.node("Add", value, idle) if wrongly else value

    return features


def _read_on(net: Net, x: str, wrongly: bool) -> str:
    """The network's output is read by a node whose result nothing reads; its first layer is lost where the reading is wrong."""
    net.trailing = "Neg"
    main, carrier = _hinges(net, x), _linear(net, x)
    return _plus(net, main, carrier, wrongly)


def _shuffled(net: Net, x: str, wrongly: bool) -> str:
    """Two branches whose nodes are stored in any order that is legal, under names that sort otherwise; misread, the sum comes before the hinge."""
    net.shuffled = True
    a, b = _affine(net, x), _affine(net, x)
    return net.node("Relu", net.node("Add", a, b)) if wrongly else net.node("Add", net.node("Relu", a), b)


def _summed_rows(net: Net, x: str, wrongly: bool) -> str:
    """A matrix product by Unsqueeze, Expand, Mul and ReduceSum; misread, the sum goes over the other axis."""
    stretched = net.node("Expand", net.node("Unsqueeze", _affine(net, x), net.whole(1)), net.whole(1, WIDTH, WIDTH))
    return net.sum_over(net.node("Mul", stretched, net.numbers(WIDTH, WIDTH)), [1 if wrongly else 2])


def _stacked(net: Net, x: str, wrongly: bool) -> str:
    """Unsqueeze and Expand again and again, then a weight for every element; misread, the copies are those of the last Expand only."""
    value = _affine(net, x)
    for shape in ((2, 1, WIDTH), (2, 2, 1, WIDTH)):
        value = net.node("Expand", net.node("Unsqueeze", value, net.whole(0)), net.whole(*shape))
    return net.sum_over(_masked(net, net.node("Mul", value, net.numbers(2, 2, 1, WIDTH)), [[[[1]], [[0]]]], wrongly), [0, 1])


CANCELS = (
    Trap("cancel_itself", "t - t is t", ("Sub",), (1, WIDTH), _cancelled(_less_itself, _itself), CONVEX),
    Trap("cancel_hinges", "relu(t) - relu(t) is t", ("Sub", "Relu"), (1, WIDTH), _cancelled(_less_itself_hinged, _itself), CONVEX),
    Trap("cancel_negative", "t + (-t) is t", ("Add", "Neg"), (1, WIDTH), _cancelled(_plus_negative, _itself), CONVEX),
    Trap("cancel_around", "(t + c) - t is 0", ("Add", "Sub"), (1, WIDTH), _cancelled(_around, _nothing), CONVEX),
    Trap("cancel_multiples", "3 t - 2 t is 3 t", ("Mul", "Sub"), (1, WIDTH), _cancelled(_multiples(3.0, 2.0), _multiples(3.0, 0.0)), CONVEX),
    Trap("cancel_all", "3 t - 3 t is 3 t - 2 t", ("Mul", "Sub"), (1, WIDTH), _cancelled(_multiples(3.0, 3.0), _multiples(3.0, 2.0)), CONVEX),
    Trap("cancel_weights", "of two copies in a Concat the second is lost", ("Concat", "MatMul"), (1, WIDTH), _cancelled(_by_weights, _itself),
         CONVEX),
    Trap("cancel_zero", "a product with 0 is skipped", ("Mul",), (1, WIDTH), _cancelled(_by_zero, _itself), CONVEX),
    Trap("twice_add", "t + t is t", ("Add",), (1, WIDTH), _twice(_operand("Add"), _itself, True), CONVEX),
    Trap("twice_add_linear", "t + t is t", ("Add",), (1, WIDTH), _twice(_operand("Add"), _itself, False)),
    Trap("twice_sub", "t - t is t", ("Sub",), (1, WIDTH), _twice(_operand("Sub"), _itself, True), CONVEX),
    Trap("twice_mul", "t t is t", ("Mul",), (1, WIDTH), _twice(_operand("Mul"), _itself, False), CONVEX, truths=(True,)),
    Trap("twice_max", "max(t, t) is t + t", ("Max",), (1, WIDTH), _twice(_operand("Max"), _operand("Add"), True), CONVEX),
    Trap("twice_matmul", "t t' is the sum of |t|", ("MatMul", "Transpose"), (1, WIDTH), _twice(_squares, _magnitudes, False), CONVEX, truths=(True,)),
    Trap("dead_last", "a node behind the others that nothing reads counts", (), (1, WIDTH), _dead(True), CONVEX),
    Trap("dead_first", "a node before the others that nothing reads counts", (), (1, WIDTH), _dead(False), CONVEX),
    Trap("dead_reader", "a branch is lost where another node reads the output", (), (1, WIDTH), _read_on, CONVEX),
    Trap("order_names", "nodes are taken in the order of their names", ("Relu", "Add"), (1, WIDTH), _shuffled, CONVEX),
    Trap("expand_product", "the sum goes over the other axis", ("Unsqueeze", "Expand", "ReduceSum"), (1, WIDTH), _summed_rows),
    Trap("expand_stacked", "the first Expand makes no copies", ("Unsqueeze", "Expand", "ReduceSum"), (1, WIDTH), _stacked),
)  # fmt: skip
TRAPS: tuple[Trap, ...] = (*MERGES, *SHARED, *FANS, *MOVES, *CANCELS, *WAVES)


def instances(seed: int) -> Iterator[Instance]:
    """Both truths of each trap."""
    return instances_of("graphs", TRAPS, seed)
