"""`soundproof` from outside: forms of the command, exit codes, purity of standard output, files, capabilities."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from onnx import helper
from typer.main import get_command
from typer.testing import CliRunner

import soundproof
from soundproof.cli import app
from soundproof.origin import ROOMS
from soundproof.summary import UNCHECKED
from tests.soundproof.networks import property_file, relu_network, save
from verifier.options import OptionError, Options

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples"


def command(*arguments: str | Path, cwd: Path = ROOT, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "soundproof", *map(str, arguments)],
        cwd=cwd, env={**os.environ, **environment}, capture_output=True, text=True, check=False, timeout=120,
    )


def in_process(*arguments: str) -> tuple[int, str, str]:
    done = CliRunner().invoke(app, list(arguments))
    return done.exit_code, done.stdout, done.stderr


def test_sat_is_printed_written_and_true(tmp_path: Path) -> None:
    model, prop = relu_network(tmp_path / "m"), property_file(tmp_path / "p", "(assert (>= Y_0 0.75))")
    done = command("verify", model, prop, "--results-file", tmp_path / "r", "--json", tmp_path / "j", "--timeout", "60")
    lines = done.stdout.splitlines()
    assert done.returncode == 10 and lines[0] == "sat" and lines[1] == "X float32 [1,2]" and lines[4] == "Y float32 [1,2]" and len(lines) == 7
    x = np.array(lines[2:4], dtype=np.float32)
    run = onnxruntime.InferenceSession(model).run(None, {"x": x.reshape(1, 2)})[0]
    assert run[0, 0] >= 0.75 and np.abs(x).max() <= 1
    pairs = re.findall(r"\(([XY]_\d) ([^\s()]+)\)", (tmp_path / "r").read_text())
    assert [float(v) for k, v in pairs if k[0] == "X"] == x.astype(float).tolist()
    plain = json.loads((tmp_path / "j").read_text())
    assert plain["verdict"] == "sat" and plain["assurance"] == "replayed" and plain["witness"]["inside_exact_box"] is True


def test_unsat_is_certified_and_its_certificate_can_be_checked_again(tmp_path: Path) -> None:
    model, prop = relu_network(tmp_path / "m"), property_file(tmp_path / "p", "(assert (>= Y_0 1.25))")
    done = command("verify", prop, "--network", f"f={model}", "--json", tmp_path / "j", "--certificate", tmp_path / "c")
    assert done.returncode == 0 and done.stdout == "unsat\n" and "the independent checker accepted the certificate" in done.stderr
    plain, data = json.loads((tmp_path / "j").read_text()), (tmp_path / "c").read_bytes()
    assert plain["assurance"] == "certified" and plain["models"][0]["name"] == "f" and plain["seconds"]["check"] > 0
    facts = {"path": str(tmp_path / "c"), "sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data), "outcome": "accepted"}
    assert plain["certificate"] == {**facts, "seconds": plain["certificate"]["seconds"]}
    again = command("check", model, prop, tmp_path / "c")
    assert again.returncode == 0 and again.stdout.startswith("ACCEPTED {") and facts["sha256"] in again.stdout
    other = property_file(tmp_path / "q", "(assert (>= Y_0 1.5))")
    assert command("check", model, other, tmp_path / "c").returncode == 5
    assert command("check", model, prop).returncode == 2


def test_what_the_checker_cannot_read_is_unknown_or_unchecked(tmp_path: Path) -> None:
    """The engine reads some operators that no standard defines and the checker does not."""
    product = helper.make_node("MatMulIntegerToFloat", ["q", "w", "s", "s", "z"], ["y"], domain="com.microsoft")
    nodes = [helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]), product]
    weights = {"w": 100 * np.eye(2, dtype=np.int8), "s": np.array(0.01, np.float32), "z": np.array(128, np.uint8)}
    model, prop = save(tmp_path / "m", nodes, weights), property_file(tmp_path / "p")
    done = command("verify", model, prop, "--json", tmp_path / "j")
    plain = json.loads((tmp_path / "j").read_text())
    assert done.returncode == 20 and done.stdout == "unknown\n" and plain["reason"]["code"] == "unsupported-in-checker"
    kept = Path(plain["certificate"]["path"])
    assert kept.exists() and str(kept) in done.stderr
    trusting = command("verify", model, prop, "--trust", "engine", "--json", tmp_path / "j")
    assert trusting.returncode == 0 and trusting.stdout == "unsat\n"
    assert trusting.stderr.splitlines()[-1] == UNCHECKED == "unsat is UNCHECKED: no certificate was verified"
    again = json.loads((tmp_path / "j").read_text())
    assert again["assurance"] == "unchecked"
    narrow = command("verify", model, prop, "--trust", "engine", "--semantics", "float32", "--json", tmp_path / "j")
    assert narrow.returncode == 20 and narrow.stdout == "unknown\n"  # the engine reasons over the reals: that is not enough in float32
    for path in (kept, Path(again["certificate"]["path"]), Path(json.loads((tmp_path / "j").read_text())["certificate"]["path"])):
        path.unlink()
        path.parent.rmdir()


def test_no_nodes_no_attack_no_answer(tmp_path: Path) -> None:
    prop = EXAMPLES / "never_more.vnnlib"
    done = command("verify", EXAMPLES / "brake.onnx", prop, "--nodes", "1", "--no-attack", "--results-file", tmp_path / "r", "--json", tmp_path / "j")
    assert done.returncode == 20 and done.stdout == "unknown\n" and (tmp_path / "r").read_text() == "unknown\n"
    plain = json.loads((tmp_path / "j").read_text())
    assert plain["reason"]["code"] == "nodes" and plain["cases"]["open"] == 1


def test_all_vacuous_says_that_nothing_was_proven(tmp_path: Path) -> None:
    done = command("verify", relu_network(tmp_path / "m"), property_file(tmp_path / "p", upper="-2.0"))
    assert "Nothing was proven" in done.stderr and "1 of 1 cases are vacuous" in done.stderr and "UNCHECKED" not in done.stderr
    assert "a case is vacuous: X_0 >= -1" in done.stderr and "X_0 <= -2 (line " in done.stderr


def test_the_example_needs_search() -> None:
    """One property holds after one pass, one is violated, one is left open by the pass and decided by search."""
    left_open = soundproof.verify(EXAMPLES / "brake.onnx", EXAMPLES / "never_more.vnnlib", timeout=60, nodes=1)
    decided = soundproof.verify(EXAMPLES / "brake.onnx", EXAMPLES / "never_more.vnnlib", timeout=60)
    assert left_open.verdict == "unknown" and left_open.bound is not None and left_open.bound <= 0
    assert decided.verdict == "unsat" and decided.nodes > 1


def test_the_examples_can_be_made_again(tmp_path: Path) -> None:
    subprocess.run([sys.executable, str(EXAMPLES / "make_models.py"), str(tmp_path)], check=True, timeout=60)
    for path in EXAMPLES.glob("*.vnnlib"):
        assert (tmp_path / path.name).read_text() == path.read_text()
    points = np.random.default_rng(1).random((50, 1, 2)).astype(np.float32)
    ours, made = (onnxruntime.InferenceSession(folder / "brake.onnx") for folder in (EXAMPLES, tmp_path))
    for x in points:  # other processors sum in other orders, and training amplifies that: the same function, not the same bits
        assert abs(ours.run(None, {"situation": x})[0] - made.run(None, {"situation": x})[0]).max() < 0.1


@pytest.mark.parametrize(
    "arguments",
    [
        [], ["frobnicate"], ["verify"], ["verify", "one"], ["verify", "a", "b", "c"], ["verify", "p", "--network", "m"],
        ["verify", "a", "b", "--frob"],
        ["verify", "p", "--network", "f=m", "--network", "g=n", "--output", "y"],
        ["verify", "a", "b", "--timeout", "0"], ["verify", "a", "b", "--timeout", "nan"],
        ["verify", "a", "b", "--memory", "-1"], ["verify", "a", "b", "--nodes", "-1"], ["verify", "a", "b", "--threads", "0"],
        ["verify", "a", "b", "--device", "tpu"], ["verify", "a", "b", "--device", "cuda"],
        ["verify", "a", "b", "--trust", "me"], ["verify", "a", "b", "--semantics", "float16"], ["verify", "a", "b", "--seed", "-1"],
        ["verify", "a", "b", "--results-file", "/no/such/folder/r"], ["supports"], ["supports", "--onnx-operators", "--vnnlib-versions"],
    ],
    ids=" ".join,
)
def test_wrong_usage_exits_2_with_nothing_on_stdout(arguments: list[str]) -> None:
    code, out, err = in_process(*arguments)
    assert code == 2 and "Traceback" not in err
    assert out == "" or not arguments  # without any argument the help is shown


def test_name_version_help() -> None:
    assert in_process("--name")[:2] == (0, "soundproof\n")
    assert in_process("--version")[:2] == (0, soundproof.__version__ + "\n")
    code, out, _ = in_process("--help")
    assert code == 0 and all(name in out for name in ("verify", "inspect", "supports", "bench"))


def test_supports_every_capability() -> None:
    offered = [p.opts[0] for p in get_command(app).commands["supports"].params if p.opts[0] != "--help"]  # type: ignore[attr-defined]
    values = {flag: in_process("supports", flag) for flag in offered}
    assert all(code == 0 and out.strip() for code, out, _ in values.values())
    operators = set(values["--onnx-operators"][1].split())
    assert {"Gemm", "Relu", "Conv", "Softmax"} <= operators and not {"TreeEnsembleClassifier"} & operators
    assert values["--onnx-element-types"][1].split() == ["float32", "real"] and values["--vnnlib-versions"][1].split() == ["1.0", "2.0"]


def test_inspect_shows_nodes_and_refuses_bad_files(tmp_path: Path) -> None:
    code, out, _ = in_process("inspect", relu_network(tmp_path / "m"))
    assert code == 0 and "Affine Dense" in out and "Elementwise relu" in out and "Gemm 'fc'" in out
    (tmp_path / "bad").write_text("no")
    code, out, err = in_process("inspect", str(tmp_path / "bad"))
    assert code == 3 and out == "" and "ONNX" in err


def test_bench_shows_its_commands() -> None:
    code, out, _ = in_process("bench", "--help")
    assert code == 0 and all(name in out for name in ("run", "score", "compare", "plot"))


@pytest.mark.parametrize("room", ROOMS)
def test_a_foreign_package_is_named(room: str, tmp_path: Path) -> None:
    (tmp_path / room).mkdir()
    (tmp_path / room / "__init__.py").write_text("")
    code = f"import sys; sys.path[:0] = [{str(tmp_path)!r}, {str(ROOT)!r}]; sys.argv = ['soundproof', '--version']\nimport soundproof.cli"
    done = subprocess.run([sys.executable, "-P", "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode != 0 and str(tmp_path / room) in done.stderr and room in done.stderr


def test_python_raises_what_the_command_says(tmp_path: Path) -> None:
    model, prop = relu_network(tmp_path / "m"), property_file(tmp_path / "p", inputs=3)
    with pytest.raises(soundproof.PropertyError, match="3 input"):
        soundproof.verify(model, prop)
    with pytest.raises(soundproof.ModelError, match="nowhere"):
        soundproof.verify(tmp_path / "nowhere", prop)
    with pytest.raises(OptionError):
        soundproof.verify(model, prop, timeout=-1)
    assert all(getattr(soundproof, name) is not None for name in soundproof.__all__)
    with pytest.raises(AttributeError):
        _ = soundproof.frobnicate


def test_the_deadline_leaves_time_to_answer() -> None:
    for timeout in (0.1, 5.0, 300.0):
        options = Options("m", "p", timeout=timeout)
        assert options.started < options.deadline < options.limit
