#!/bin/bash
# Installs Soundproof from this checkout into its .venv: install_tool.sh v1
# Needs Python 3.11 or newer (PYTHON names it) and network access. TORCH_INDEX names another index for torch, e.g. the one without CUDA.
set -euo pipefail

here=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
. "$here/common.sh"
expect_version "${1:-}"

cd "$root"
python=${PYTHON:-python3}
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || fail "$python is older than Python 3.11; set PYTHON"
test -x .venv/bin/python || "$python" -m venv .venv
pip=(.venv/bin/python -m pip install -q -c constraints.txt)
"${pip[@]}" 'setuptools>=77'
.venv/bin/python -c 'import torch' 2>/dev/null || "${pip[@]}" ${TORCH_INDEX:+--extra-index-url "$TORCH_INDEX"} torch
"${pip[@]}" --no-build-isolation -e .
.venv/bin/soundproof --version
