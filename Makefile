# Every target sets up what it needs in .venv, on a machine that has Python >= 3.11, a C compiler and pip.
#   make TORCH_INDEX=https://download.pytorch.org/whl/cpu demo     takes torch from another package index

PYTHON ?= python3
VENV ?= .venv
TORCH_INDEX ?=
BIN := $(VENV)/bin
STAMP := $(VENV)/.soundproof-stamp
# Two instances at a time, one thread each, where only verdicts matter; tables of times run one instance at a time, with both cores.
JOBS ?= --jobs 2 --threads 1
ALONE ?= --jobs 1
JUDGE := $(patsubst %,--judge %,$(wildcard ../shared/tools/replay.py))
DEV_TABLE := benchmarks/results/dev.csv
# For each fuzzer of the readers, in test-all.
FUZZ_SECONDS ?= 600

.PHONY: browser demo test test-apart test-others check coverage-checker test-all fuzz-onnx fuzz-vnnlib bench bench-dev bench-long bench-float32 bench-certificates bench-conformance bench-models bench-exact bench-speed bench-kernels bench-forgery bench-mutants bench-soundness bench-soundness-mutants docs dist clean

demo: $(STAMP)
	$(BIN)/python examples/demo.py

# Two processes, one for each core; what one leaves out the other takes. Random tests draw a quarter of what `test-all` draws (tests/effort.py).
APART := checker benchmarks
SELECT := -m "not slow"
test: $(STAMP)
	$(MAKE) --no-print-directory -j2 --output-sync=target test-apart test-others

test-apart:
	$(BIN)/python -m pytest -q $(SELECT) $(APART:%=tests/%)

test-others:
	$(BIN)/python -m pytest -q $(SELECT) $(APART:%=--ignore=tests/%)

check: $(STAMP)
	$(BIN)/python -m ruff check .
	$(BIN)/python -m mypy
	$(BIN)/python -m pytest -q tests/architecture

# Every line and branch of the checker's kernel is taken by some quick test, each refusal with them: tests/architecture/test_checker.py says what it is.
KERNEL := activations arithmetic bounds certificate crop factors forward functions kernels ledger maps refusal shapes slack state tree walk
empty :=
comma := ,
coverage-checker: $(STAMP)
	SOUNDPROOF_THOROUGH=1 $(BIN)/python -m pytest -q -m "not slow" tests/checker --cov=verifier.checker --cov-branch --cov-report=
	$(BIN)/python -m coverage report --show-missing --fail-under=100 --include=$(subst $(empty) ,$(comma),$(KERNEL:%=verifier/checker/%.py))

# Everything: also slow tests (the wheel in an empty environment), the kernel's coverage, the attack-off gate, an attack on every committed `unsat`.
test-all: $(STAMP)
	$(MAKE) --no-print-directory -j2 --output-sync=target check coverage-checker browser
	SOUNDPROOF_REQUIRE_BROWSER=1 SOUNDPROOF_THOROUGH=1 $(MAKE) --no-print-directory test SELECT=
	$(MAKE) --no-print-directory -j2 --output-sync=target fuzz-onnx fuzz-vnnlib
	$(BIN)/python -m benchmarks.vnncomp --only-expected sat --no-attack --timeout 20 --gate $(JOBS)
	$(BIN)/python -m benchmarks.vnncomp --out $(DEV_TABLE) --confront 5 $(JOBS)

# The page of `soundproof certify` is tested in Debian's chromium.
browser:
	command -v chromium >/dev/null && command -v chromedriver >/dev/null || apt-get install -y -q chromium chromium-driver || { apt-get update -q && apt-get install -y -q chromium chromium-driver; }

fuzz-onnx fuzz-vnnlib: fuzz-%:
	$(BIN)/python -m benchmarks.fuzz_readers --reader $* --seconds $(FUZZ_SECONDS)

bench: $(STAMP)
	$(BIN)/python -m benchmarks.vnncomp --timeout 60 $(JOBS) --out results.csv

bench-dev: $(STAMP)
	mkdir -p $(dir $(DEV_TABLE))
	$(BIN)/python -m benchmarks.vnncomp --timeout 60 $(ALONE) $(JUDGE) --out $(DEV_TABLE)

# What that table leaves open, with more time.
bench-long: $(STAMP)
	$(BIN)/python -m benchmarks.vnncomp --open-in $(DEV_TABLE) --timeout 300 $(JOBS) $(JUDGE) --out benchmarks/results/long.csv

# The same as the table in float32 semantics, instances that are known to be unsat.
bench-float32: $(STAMP)
	$(BIN)/python -m benchmarks.vnncomp --timeout 60 $(JOBS) --only-expected unsat --semantics float32 --out benchmarks/results/float32.csv

# Sizes, times and memory of the checks of that table's certificates; the largest of each category are made again.
bench-certificates: $(STAMP)
	$(BIN)/python -m benchmarks.certificates $(DEV_TABLE) --memory 1 --out docs/certificates.md

# Every operator case of onnx: docs/operators.md. Public architectures as files: docs/models.md. Both resumable.
bench-conformance: $(STAMP)
	$(BIN)/python -m benchmarks.conformance

bench-models: $(STAMP)
	$(BIN)/python -m benchmarks.models

# All engines on 2,000 small random instances; resumable.
bench-exact: $(STAMP)
	$(BIN)/python -m benchmarks.exact

# onnxruntime's activations on every float32 input; minutes a kernel, resumable.
bench-kernels: $(STAMP)
	$(BIN)/python -m benchmarks.kernels

# Attempts to have a false certificate accepted; resumable.
bench-forgery: $(STAMP)
	$(BIN)/python -m benchmarks.forgery

# Which of a sample of mutants of the checker's kernel the tests kill; resumable.
bench-mutants: $(STAMP)
	$(BIN)/python -m benchmarks.mutants

# Our own verifier on the soundness suite, 5 s each, attack on and off, in both semantics; resumable, also when the suite has grown.
SUITE := build/suite
bench-soundness: $(STAMP)
	test -f $(SUITE)/manifest.json || $(BIN)/soundproof soundness build --out $(SUITE)
	for s in real float32; do \
	  $(BIN)/soundproof soundness run --suite $(SUITE) --adapter soundproof --attack both --timeout 5 --jobs 2 --semantics $$s --results benchmarks/results/soundness_$$s.csv && \
	  $(BIN)/soundproof soundness score --suite $(SUITE) benchmarks/results/soundness_$$s.csv || exit 1; done

# Broken engines against the suite, broken checkers against forgers; resumable.
bench-soundness-mutants: $(STAMP)
	test -f $(SUITE)/manifest.json || $(BIN)/soundproof soundness build --out $(SUITE)
	$(BIN)/python -m benchmarks.soundness.mutants $(SUITE)
	$(BIN)/python -m benchmarks.soundness.mutants --report docs/soundness_mutants.md

bench-speed: $(STAMP)
	$(BIN)/python -m benchmarks.speed

# The documentation's site, in build/site; a link that leads nowhere is an error (with `--quiet` it would not be).
docs: $(STAMP)
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

dist: $(STAMP)
	$(BIN)/python -m build --no-isolation --outdir dist .

clean:
	rm -rf build dist *.egg-info

# pip compiles what it installs, but not an editable project: where PYTHONDONTWRITEBYTECODE is set every start would.
ROOMS := soundproof verifier graph bounds specs benchmarks

# Installs once, and again when a requirement changes. A torch that is already in the environment is kept, whatever its build.
# (A build such as 2.13.0+cpu of TORCH_INDEX ranks above the plain 2.13.0 of the usual index.)
$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -c 'import sys; sys.exit(sys.version_info < (3, 11) and "soundproof needs Python 3.11 or newer; try make PYTHON=python3.12")'
	$(BIN)/python -m pip install -q -c constraints.txt 'setuptools>=77'
	$(BIN)/python -c 'import torch' 2>/dev/null || $(BIN)/python -m pip install -q -c constraints.txt $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX)) torch
	$(BIN)/python -m pip install -q -c constraints.txt --no-build-isolation -e '.[dev]'
	$(BIN)/python -m compileall -q $(ROOMS)
	touch $(STAMP)
