"""How each tool is called and how its answer is read.

No tool but Marabou and our own has been here: the outputs below are written from the sources and documents that the adapters name.
"""

from __future__ import annotations

import inspect
from pathlib import Path

import numpy as np
import pytest

from benchmarks.formula import parse
from benchmarks.soundness import adapters
from benchmarks.soundness.adapters.base import AdapterError, Output, Task, Tool
from benchmarks.soundness.adapters.template import Template
from benchmarks.soundness.answers import Answer

WITNESS = "((X_0 0.25)\n(X_1 -0.5)\n(Y_0 1.0))"
READ = ("0.25", "-0.5")


@pytest.fixture
def tool(tmp_path: Path) -> Tool:
    """A folder in which every checkout's files are."""
    for name in ("complete_verifier/abcrown.py", "src/main.py", "pyrat.pyc", "bin/python", "bin/Marabou", "prepare_instance.sh", "run_instance.sh"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    return Tool(tmp_path, config=tmp_path / "c.yaml", options=("--extra", "1"))


def task(tmp_path: Path, **changes: object) -> Task:
    return Task(**{"model": tmp_path / "m.onnx", "property": tmp_path / "p.vnnlib", "out": tmp_path / "out.txt", "timeout": 7.0, **changes})  # type: ignore[arg-type]


SAMPLES = [
    ("alpha-beta-crown", Output(0, "Result: sat\nunsat core\n", "", "sat\n" + WITNESS), Answer("sat", READ)),
    ("alpha-beta-crown", Output(0, "Result: unsat in 3.1 seconds\n", "", "unsat\n"), Answer("unsat")),
    ("alpha-beta-crown", Output(0, "unsat\n", "", None), None),
    ("alpha-beta-crown", Output(1, "unsat\n", "Traceback\nCUDA out of memory", "unsat\n"), None),
    ("neuralsat", Output(0, "", "", "sat,3.123456\n" + WITNESS), Answer("sat", READ)),
    ("neuralsat", Output(0, "unsat,12.3456\n", "", "unsat,12.345678\n"), Answer("unsat")),
    ("neuralsat", Output(0, "", "", "timeout,5.000000\n"), Answer("timeout")),
    ("neuralsat", Output(0, "", "", "unsat\n"), None),
    ("neuralsat", Output(0, "", "", "unsatisfiable,1.0\n"), None),
    ("nnenum", Output(0, "Result: network is SAFE\n", "", "unsat"), Answer("unsat")),
    ("nnenum", Output(0, "", "", "sat\n" + WITNESS), Answer("sat", READ)),
    ("nnenum", Output(0, "", "", "none"), Answer("unknown")),
    ("nnenum", Output(2, "", "FloatingPointError", "error"), None),
    ("pyrat", Output(0, "Using zonotopes\nResult = True, Time = 1.23 s, Safe space = 100.00 %, number of analysis = 5\n", "", None), Answer("unsat")),
    ("pyrat", Output(0, "Result = Unknown, Time = 1.23 s, Safe space = 12.00 %, number of analysis = 5\n", "", None), Answer("unknown")),
    ("pyrat", Output(0, WITNESS + "\nResult = False, Time = 0.1 s, Safe space = 0.00 %, number of analysis = 1\n", "", None), Answer("sat", READ)),
    ("pyrat", Output(0, "Result = True\nResult = True, Time = 1 s\nResult = False, Time = 2 s\n", "", None), None),
    ("marabou", Output(0, "Property: p\n", "", "sat\n" + WITNESS), Answer("sat", READ)),
    ("marabou", Output(1, "unsat\n", "KeyError: 'ERROR'", None), None),
    ("marabou-command", Output(0, "Property: p\n\nsat\nInput assignment:\n\tx0 = 0.250000\n\tx1 = -0.500000\n\nOutput:\n\ty0 = 1.0\n", "", None),
     Answer("sat", ("0.250000", "-0.500000"))),
    ("marabou-command", Output(0, "Network: unsat.onnx\nunsat\n", "", None), Answer("unsat")),
    ("marabou-command", Output(0, "Timeout\n", "", None), Answer("timeout")),
    ("marabou-command", Output(1, "unsat\n", "Caught a MarabouError error", None), None),
    ("auto-lirpa", Output(0, "", "", "unsat\n"), Answer("unsat")),
    ("vnncomp", Output(1, "unsat\n", "", "holds\n"), Answer("unsat")),
    ("vnncomp", Output(0, "unsat\n", "", None), None),
    ("soundproof", Output(10, "sat\nX float32 [1,2]\n0.25\n-0.5\n", "", "sat\n" + WITNESS), Answer("sat", READ)),
    ("soundproof", Output(0, "unsat\n", "", "unsat\n"), Answer("unsat")),
    ("soundproof", Output(20, "unsat\n", "", "unsat\n"), None),
    ("soundproof", Output(4, "", "internal error", "error"), None),
]  # fmt: skip


@pytest.mark.parametrize(("name", "output", "expected"), SAMPLES)
def test_answers_are_read_from_what_the_tool_writes(name: str, output: Output, expected: Answer | None, tool: Tool, tmp_path: Path) -> None:
    """None: an error, with something said."""
    answer = adapters.adapter(name, tool).answer(task(tmp_path), output)
    if expected is None:
        assert answer.result == "error" and answer.error
    else:
        assert answer == expected


def test_every_adapter_has_a_sample_and_calls_with_model_property_and_limit(tool: Tool, tmp_path: Path) -> None:
    assert {name for name, _, _ in SAMPLES} == set(adapters.ADAPTERS)
    for name in adapters.ADAPTERS:
        command = list(adapters.adapter(name, tool).command(task(tmp_path)))
        assert str(tmp_path / "m.onnx") in " ".join(command) and str(tmp_path / "p.vnnlib") in command, name
        assert "7" in command or name == "auto-lirpa", command
        assert name == "vnncomp" or command[-2:] == ["--extra", "1"]


def test_every_file_of_the_adapters_is_registered() -> None:
    folder = Path(inspect.getfile(adapters)).parent
    homes = {Path(inspect.getfile(made)).name for made in adapters.ADAPTERS.values()}  # type: ignore[arg-type]
    assert {p.name for p in folder.glob("*.py")} - {"__init__.py", "base.py", "template.py"} == homes


def test_without_attack(tool: Tool, tmp_path: Path) -> None:
    """A tool runs without concrete executions, or says that it cannot."""
    without = task(tmp_path, attack=False)
    assert "--no-attack" in adapters.adapter("soundproof", tool).command(without)
    assert list(adapters.adapter("alpha-beta-crown", tool).command(without))[-4:-2] == ["--pgd_order", "skip"]
    assert "skip" in adapters.adapter("pyrat", tool).command(without)
    for name in ("neuralsat", "nnenum", "marabou", "marabou-command", "vnncomp"):
        with pytest.raises(AdapterError):
            adapters.adapter(name, tool).command(without)


def test_a_tool_that_is_not_there_is_named(tmp_path: Path) -> None:
    for name in sorted(set(adapters.ADAPTERS) - {"soundproof"}):
        with pytest.raises(AdapterError, match=r"--tool"):
            adapters.adapter(name, Tool(tmp_path / "nowhere")).command(task(tmp_path))
    with pytest.raises(AdapterError, match="no adapter"):
        adapters.adapter("crown", Tool())


def test_templates(tmp_path: Path) -> None:
    template = Template("'my verifier' --net={onnx} {vnnlib} -t {timeout} {out}")
    assert template.command(task(tmp_path)) == ["my verifier", f"--net={tmp_path}/m.onnx", f"{tmp_path}/p.vnnlib", "-t", "7", f"{tmp_path}/out.txt"]
    assert template.answer(task(tmp_path), Output(0, "", "", "sat\n" + WITNESS)) == Answer("sat", READ)
    assert template.answer(task(tmp_path), Output(-11, "unsat\n", "", "unsat")).result == "error"
    for text in ("verify {onnx}", "verify {vnnlib}", "verify {onnx} {vnnlib} '"):
        with pytest.raises(AdapterError):
            Template(text)


def lirpa() -> dict[str, object]:
    """The oracle's own part, without auto_LiRPA and torch."""
    source = Path(inspect.getfile(adapters)).parent / "foreign" / "lirpa_bound.py"
    lines = [line for line in source.read_text().splitlines() if not line.startswith(("from auto_LiRPA", "from onnx2pytorch", "import torch"))]
    names: dict[str, object] = {"__name__": "lirpa_bound"}
    exec(compile("\n".join(lines), str(source), "exec"), names)
    return names


def test_the_bound_oracle_needs_an_excluded_atom_in_every_case() -> None:
    text = "".join(f"(declare-const {v} Real)\n" for v in ("X_0", "Y_0", "Y_1"))
    text += "(assert (<= X_0 1))\n(assert (>= X_0 0.1))\n(assert (or (and (<= Y_0 1) (<= Y_1 2)) (and (>= Y_0 5))))\n"
    names = lirpa()
    low, high, cases = names["box"](parse(text))  # type: ignore[operator]
    assert low.dtype == np.float32 and low[0] < 0.1 <= np.nextafter(low[0], 1, dtype=np.float32) * 1.000001 and high[0] > 1
    assert [len(case) for case in cases] == [2, 1]

    def bounds(y0: tuple[float, float], y1: tuple[float, float]) -> bool:
        def of(rows: np.ndarray) -> np.ndarray:
            return np.array([sum(c * (lo if c > 0 else hi) for c, (lo, hi) in zip(row, (y0, y1), strict=True)) for row in rows])
        return bool(names["refuted"](cases, 2, of))  # type: ignore[operator]

    assert bounds((1.5, 4.5), (0, 9)) and bounds((0, 4.5), (2.5, 9))
    assert not bounds((0, 4.5), (0, 9)) and not bounds((1.5, 5.0), (0, 9)) and not bounds((1.0, 4.5), (0, 9))
