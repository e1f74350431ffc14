"""Coverage-guided fuzzing of the ONNX readers and text mutations for the VNN-LIB readers, engine's and checker's: only their own errors come out.

    python -m benchmarks.fuzz_readers [--reader onnx|vnnlib] [--seconds 600] [--seed N]

What falls over is kept in build/fuzz/. Exit code 0: nothing found; anything else: a finding (1, or atheris' own code).
"""

from __future__ import annotations

import argparse
import contextlib
import random
import resource
import sys
import time
import traceback
from pathlib import Path
from typing import NoReturn

import atheris
import hypothesis
from hypothesis import HealthCheck, Phase, given, settings

from benchmarks import formula, query
from benchmarks.conformance.cases import collect
from benchmarks.formula import FormulaError

with atheris.instrument_imports(include=["graph", "specs", "verifier.checker"]):
    from benchmarks.strategies import broken
    from graph.errors import MalformedGraph, ModelError
    from graph.load import Limits, load
    from specs.errors import PropertyError
    from specs.vnnlib import parse
    from verifier.checker import read_model, read_property2
    from verifier.checker.refusal import Refusal

FOLDER = Path("build/fuzz")
LIMITS = Limits(decompressed_bytes=1 << 24, tensor_elements=1 << 16, core_nodes=2_000)
SEED_BYTES = 2_000  # of a case that goes into the corpus
LONGEST, MEMORY_MB, INPUT_BYTES = 60, 6144, 1 << 15  # seconds of one input, address space of the process, bytes of one input
COMPLAINTS = (ArithmeticError, AssertionError, AttributeError, LookupError, MemoryError, RuntimeError, TypeError, ValueError, MalformedGraph, Refusal)
EXAMPLES = 2_000  # of one round of text mutations


def read_onnx(data: bytes) -> None:
    """Both readers of models. Raises whatever is not one of their errors; the checker's process calls being out of memory a refusal."""
    with contextlib.suppress(ModelError):
        load(bytes(data), limits=LIMITS)
    with contextlib.suppress(Refusal, MemoryError):
        read_model.read(bytes(data))


def read_text(text: str) -> None:
    """The readers of properties: engine, checker, both of the judges. Raises whatever is not one of their errors."""
    with contextlib.suppress(PropertyError):
        parse(text)
    with contextlib.suppress(Refusal):
        read_property2.read(text.encode("utf-8", "surrogatepass"))
    for judge in (formula, query):
        with contextlib.suppress(FormulaError):
            judge.parse(text)


def mutate(data: bytes, largest: int, seed: int) -> bytes:
    """For libFuzzer: half of the time another structure, half of the time other bytes."""
    draw = random.Random(seed)
    if draw.random() < 0.5:
        with contextlib.suppress(UnicodeDecodeError):  # a name in these bytes is no text, and cannot be written again
            found = broken.broken_model(bytes(data), draw)
            if len(found) <= largest:
                return found
    return bytes(atheris.Mutate(data, largest))


def fuzz_models(seconds: int, seed: int) -> NoReturn:
    """Never returns: libFuzzer ends the process, with 0 after the time and another code at a finding."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_MB << 20, resource.getrlimit(resource.RLIMIT_AS)[1]))
    corpus = FOLDER / "corpus"
    corpus.mkdir(parents=True, exist_ok=True)
    for case in collect():
        data = case.model.SerializeToString()
        if len(data) <= SEED_BYTES:
            (corpus / case.name).write_bytes(data)
    limits = [f"-timeout={LONGEST}", f"-rss_limit_mb={2 * MEMORY_MB}", f"-max_len={INPUT_BYTES}", f"-artifact_prefix={FOLDER}/"]
    atheris.Setup([sys.argv[0], f"-max_total_time={seconds}", f"-seed={seed}", *limits, str(corpus)], read_onnx, custom_mutator=mutate)
    atheris.Fuzz()
    raise SystemExit(0)


def fuzz_texts(seconds: int, seed: int) -> int:
    """Rounds of Hypothesis until the time is over; what falls over is shrunk, printed and kept."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    end, rounds = time.monotonic() + seconds, 0
    last = ""

    def check(text: str) -> None:
        nonlocal last
        last = text
        read_text(text)

    while time.monotonic() < end:
        quiet = {"database": None, "deadline": None, "print_blob": False, "suppress_health_check": list(HealthCheck)}
        options = settings(max_examples=EXAMPLES, phases=(Phase.generate, Phase.shrink), **quiet)
        test = hypothesis.seed(seed + rounds)(options(given(broken.property_texts())(check)))
        try:
            test()
        except COMPLAINTS as error:
            (FOLDER / "text.vnnlib").write_text(last, encoding="utf-8", errors="surrogatepass")
            print(f"{FOLDER / 'text.vnnlib'}: {type(error).__name__}: {error}", file=sys.stderr)
            traceback.print_exception(error)
            return 1
        rounds += 1
    print(f"{rounds * EXAMPLES} texts: only refusals", file=sys.stderr)
    return 0


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fuzz_readers", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--reader", choices=("onnx", "vnnlib"), default="onnx")
    parser.add_argument("--seconds", type=int, default=600)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(arguments)
    if options.seconds < 1:
        parser.error("--seconds must be positive")
    if options.reader == "vnnlib":
        return fuzz_texts(options.seconds, options.seed)
    fuzz_models(options.seconds, options.seed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
