"""Graph traps behind sines, cosines and an LSTM that is written out, as exporters do: a use of a tensor is lost or stale.

Sine rises on [-3/2, 3/2], cosine falls on [0, 3/2]; inputs, weights and states of the cell are not negative, so that it rises with all of them.
"""

from __future__ import annotations

from benchmarks.soundness.net import Net
from benchmarks.soundness.traps import RISING, Trap

WIDTH = 4
CELL = ("Sigmoid", "Tanh", "Mul", "Add")


def _positive(net: Net, value: str) -> str:
    return net.node("Gemm", value, net.constant(net.draw(WIDTH, WIDTH, positive=True) / 4), net.constant(net.draw(WIDTH, positive=True) / 4))


def _sine_lost(net: Net, x: str, wrongly: bool) -> str:
    carried = net.node("Mul", x, net.numbers(1, WIDTH, positive=True))
    wave = net.node("Sin", x)
    return carried if wrongly else net.node("Add", carried, wave)


def _carrier_lost(net: Net, x: str, wrongly: bool) -> str:
    wave, carried = net.node("Sin", x), net.node("Mul", x, net.numbers(1, WIDTH, positive=True))
    return wave if wrongly else net.node("Add", wave, carried)


def _sine_stale(net: Net, x: str, wrongly: bool) -> str:
    wave = net.node("Sin", x)
    return net.node("Add", _positive(net, wave), _positive(net, x if wrongly else wave))


def _cosine_lost(net: Net, x: str, wrongly: bool) -> str:
    carried = net.node("Mul", x, net.constant(-net.draw(1, WIDTH, positive=True)))
    wave = net.node("Mul", net.node("Cos", x), net.numbers(1, WIDTH, positive=True))
    return carried if wrongly else net.node("Add", carried, wave)


def _shifted(net: Net, x: str, wrongly: bool) -> str:
    """cos(x) and sin(x) of one x; misread, both are the cosine."""
    both = net.node("Sub", net.node("Mul", net.node("Cos", x), net.constant(2.0)), net.node("Cos" if wrongly else "Sin", x))
    return net.node("Mul", both, net.numbers(1, WIDTH, positive=True))


def _cell(net: Net, x: str, lost: str) -> str:
    """One step from a state that is not 0; `lost`: what a misreading leaves out."""
    i, o, f = (net.node("Sigmoid", _positive(net, x)) for _ in range(3))
    g, start = net.node("Tanh", _positive(net, x)), net.numbers(1, WIDTH, positive=True)
    kept, new = net.node("Mul", f, start), net.node("Mul", i, g)
    cell = new if lost == "carried" else net.node("Add", kept, new)
    hidden = net.node("Mul", o, cell if lost == "tanh" else net.node("Tanh", cell))
    return net.node("Concat", hidden, cell, axis=1)


def _carried(net: Net, x: str, wrongly: bool) -> str:
    return _cell(net, x, "carried" if wrongly else "")


def _bare(net: Net, x: str, wrongly: bool) -> str:
    return _cell(net, x, "tanh" if wrongly else "")


def _two_cells(net: Net, x: str, wrongly: bool) -> str:
    """Two steps, the second from the first one's state; misread, it reads the input again."""
    first = net.node("Slice", _cell(net, x, ""), net.whole(0), net.whole(WIDTH), net.whole(1))
    return _cell(net, x if wrongly else first, "")


WAVES = (
    Trap("sine_lost", "of two branches the sine is lost", ("Sin", "Add"), (1, WIDTH), _sine_lost, RISING),
    Trap("sine_carrier", "what is carried past a sine is lost", ("Sin", "Add"), (1, WIDTH), _carrier_lost, RISING),
    Trap("sine_stale", "the second reader of a sine gets what went into it", ("Sin", "Add"), (1, WIDTH), _sine_stale, RISING),
    Trap("cosine_lost", "of two branches the cosine is lost", ("Cos", "Add"), (1, WIDTH), _cosine_lost, RISING, low=0, signs=(-1,) * WIDTH),
    Trap("cosine_shifted", "a sine is the cosine beside it", ("Cos", "Sin"), (1, WIDTH), _shifted, RISING, low=0, signs=(-1,) * WIDTH),
    Trap("cell_carried", "the state that a cell carries is lost", CELL, (1, WIDTH), _carried, RISING, low=0, truths=(True,)),
    Trap("cell_bare", "the last tanh of a cell is left out", CELL, (1, WIDTH), _bare, RISING, low=0, truths=(False,)),
    Trap("cell_stale", "the second step of a cell reads the first one's input", CELL, (1, WIDTH), _two_cells, RISING, low=0),
)  # fmt: skip
