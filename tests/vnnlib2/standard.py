"""What the VNN-LIB standard says, and its own parser (`vnnlib` on PyPI, C++) in an environment of its own: an oracle of tests, no dependency.

It holds numbers as doubles and knows no models, so it is asked whether it takes a text, and no more.
"""

from __future__ import annotations

import json
import subprocess
import sys
import venv
from collections.abc import Sequence
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
HOME, REQUIREMENT = ROOT / "build" / "oracles" / "vnnlib", "vnnlib==1.0.2"
SCRIPT = """
import json, sys, vnnlib

def taken(text):
    try:
        vnnlib.parse_query_string(text)
    except vnnlib.VNNLibException:
        return False
    return True

print(json.dumps([taken(text) for text in json.load(sys.stdin)]))
"""

PRODUCTIONS = (  # labels of syntax/grammar.cf, and its tokens
    "VNNLibQuery", "VNNLibVersion", "VersionToken", "Number", "OnnxString", "VariableName", "ScalarDims", "TensorDims", "ScalarVarExpr",
    "TensorVarExpr", "ValExpr", "Negate", "Plus", "Minus", "Multiply", "GreaterThan", "LessThan", "GreaterEqual", "LessEqual", "NotEqual", "Equal",
    "And", "Or", "Assert", "NodeName", "InitializedOption", "InputDef", "OutputDef", "HiddenDef", "IsomorphicTo", "EqualTo", "NetworkDef", "comment",
)  # fmt: skip
THEORIES = {  # what `supports` may print, by its flag
    "--hidden-node-theories": ("NH", "H"),
    "--multiple-input-output-theories": ("SIO", "MIO"),
    "--multiple-network-theories": ("SNET", "MENET", "MINET", "MNET"),
    "--multiple-node-comparison-theories": ("SNC", "MNC"),
    "--arithmetic-complexity-theories": ("BND", "OUTC", "LIN", "POLY"),
    "--onnx-element-types": ("real", "float32", "float64", "float16", "int8"),
}


def environment(folders: pytest.TempPathFactory) -> Path:
    """A Python with the parser: the one under build/, or a new one; skips where PyPI is out of reach."""
    if (HOME / "bin" / "python").exists():
        return HOME / "bin" / "python"
    home = folders.mktemp("vnnlib") / "environment"
    venv.create(home, with_pip=True)
    python = home / "bin" / "python"
    done = subprocess.run([python, "-m", "pip", "install", "-q", REQUIREMENT], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"{REQUIREMENT} cannot be installed here: {done.stderr[-300:]}")
    return python


def accepted(texts: Sequence[str], folders: pytest.TempPathFactory) -> list[bool]:
    """Whether the standard's parser and type checker take each text."""
    command = [environment(folders), "-c", SCRIPT]
    done = subprocess.run(command, input=json.dumps(list(texts)), capture_output=True, text=True, check=True, timeout=300)
    found: list[bool] = json.loads(done.stdout)
    return found


if __name__ == "__main__":
    venv.create(HOME, with_pip=True)
    sys.exit(subprocess.run([HOME / "bin" / "python", "-m", "pip", "install", "-q", REQUIREMENT], check=False).returncode)
