#!/bin/bash
# run_instance.sh v1 CATEGORY ONNX VNNLIB RESULTS TIMEOUT: writes sat (and the witness), unsat, unknown, timeout or error to RESULTS.
# ONNX may name several networks, [('f', 'a.onnx'), ('g', 'b.onnx')]. What kind of problem it is decides how it is solved, not CATEGORY.
# SOUNDPROOF_OPTIONS adds options of `soundproof verify`.
set -euo pipefail

here=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
. "$here/common.sh"
expect_version "${1:-}"
test $# -eq 6 || fail "usage: run_instance.sh v1 CATEGORY ONNX VNNLIB RESULTS TIMEOUT"
networks_of "$3"
property=$4 results=$5 timeout=$6

rm -f "$results"
models=("${networks[@]}")
if [ ${#names[@]} -gt 0 ]; then
  models=()
  for i in "${!names[@]}"; do models+=(--network "${names[$i]}=${networks[$i]}"); done
fi

set +e
"$python" -m soundproof verify "${models[@]}" "$property" --timeout "$timeout" --results-file "$results" --quiet ${SOUNDPROOF_OPTIONS:-} &
child=$!
trap 'kill -TERM $child' TERM INT
printf '%s\n' "$$" "$(started $$)" "$child" "$(started $child)" > "$pid_file"
wait $child
code=$?
while kill -0 $child 2>/dev/null; do wait $child; code=$?; done  # a signal ended the first wait: the verifier writes its answer and ends
set -e
rm -f "$pid_file"

# The verifier always writes its results file; without one (it was killed) the answer is an error.
test -s "$results" || echo error > "$results"
case $code in 0|10|20|30) exit 0 ;; *) exit "$code" ;; esac
