# Shared by the three scripts.

root=$(cd -- "$here/../.." && pwd)
python=${SOUNDPROOF_PYTHON:-$root/.venv/bin/python}
pid_files=${TMPDIR:-/tmp}/soundproof-vnncomp-$(id -u)-
pid_file=$pid_files$$

fail() { echo "$(basename "$0"): $1" >&2; exit 1; }

expect_version() { test "$1" = v1 || fail "expected v1 as the first argument, and found '$1'"; }

# Sets `networks` (files) and `names` (empty for one network without a name).
networks_of() {
  local fields
  fields=$("$python" -c '
import sys
from benchmarks.contest.layout import parse_networks
for name, path in parse_networks(sys.argv[1]):
    print(name or "", path, sep="\t")' "$1") || fail "no networks in '$1'"
  networks=() names=()
  while IFS=$'\t' read -r name path; do
    if [ -z "$path" ]; then path=$name name=; fi
    test -r "$path" || fail "$path cannot be read"
    networks+=("$path")
    if [ -n "$name" ]; then names+=("$name"); fi
  done <<< "$fields"
}

# When a process began, so that another one with its number is not taken for it; nothing where there is none.
started() { ps -o lstart= -p "$1" 2>/dev/null || true; }
running() { test -n "$2" && test "$(started "$1")" = "$2"; }

# Ends the verifiers of instances whose run_instance.sh was killed. A verifier ends its own worker.
end_last_instance() {
  local file lines
  for file in "$pid_files"*; do
    test -f "$file" || continue
    mapfile -t lines < "$file"
    test ${#lines[@]} -eq 4 || { rm -f "$file"; continue; }
    if running "${lines[0]}" "${lines[1]}"; then continue; fi  # its script is still there: an instance beside this one
    if running "${lines[2]}" "${lines[3]}"; then
      kill -TERM "${lines[2]}" 2>/dev/null || true
      for _ in 1 2 3 4 5 6; do running "${lines[2]}" "${lines[3]}" || break; sleep 0.5; done
      if running "${lines[2]}" "${lines[3]}"; then kill -KILL "${lines[2]}" 2>/dev/null || true; fi
    fi
    rm -f "$file"
  done
}
