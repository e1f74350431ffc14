#!/bin/bash
# prepare_instance.sh v1 CATEGORY ONNX VNNLIB: ends what an earlier instance may have left, and has the files and libraries in memory.
# Not 0: the instance is skipped (the tool is not installed, or a file is missing).
set -euo pipefail

here=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
. "$here/common.sh"
expect_version "${1:-}"
test $# -eq 4 || fail "usage: prepare_instance.sh v1 CATEGORY ONNX VNNLIB"
networks_of "$3"
test -r "$4" || fail "$4 cannot be read"

end_last_instance
"$python" -c 'import onnx, onnxruntime, torch, verifier.worker'
cat "${networks[@]}" "$4" > /dev/null
