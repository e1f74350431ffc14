"""python -I -m verifier.checker MODEL PROPERTY CERTIFICATE: is the certificate a proof? The last line of stdout says so (FORMAT.md 8)."""

import argparse
import ctypes
import os

parser = argparse.ArgumentParser("python -I -m verifier.checker", description="Check that a certificate proves a property.", allow_abbrev=False)
parser.add_argument("files", nargs="*", metavar="MODEL PROPERTY CERTIFICATE", help="the model and the property may be gzip files")
parser.add_argument("--network", action="append", default=[], metavar="NAME=MODEL", help="of a query that names several; then give no MODEL")
parser.add_argument("--batch", metavar="LIST", help="a file of lines MODEL<TAB>PROPERTY<TAB>CERTIFICATE; one result line for each")
parser.add_argument(
    "--follow", action="store_true",
    help="give no CERTIFICATE: lines of standard input are paths, of parts of a proof (after the word part and a tab) and at last of the whole, in "
    "which what was walked before is not walked again; one result line for each, and the exit code is that of the last",
)  # fmt: skip
parser.add_argument("--arithmetic", choices=("float64", "exact"), default="float64")
parser.add_argument("--memory", type=float, default=8.0, metavar="GB")
parser.add_argument("--timeout", type=float, default=0.0, metavar="S", help="for each certificate; 0: no limit")
parser.add_argument("--threads", type=int, default=1, metavar="N", help="of matrix products; 0: as many as there are cores")
parser.add_argument("--processes", type=int, default=1, metavar="N", help="that share the nodes of a large certificate")
parser.add_argument("--limit-bytes", type=int, default=100_000_000, metavar="N", help="of one array of a certificate")
parser.add_argument("--diagnose", metavar="FILE", help="do not stop at the first leaf that is not closed; write all of them as lines of JSON")
options = parser.parse_args()
if options.batch is not None and (options.files or options.network):
    parser.error("give MODEL PROPERTY CERTIFICATE, or --batch LIST")
if options.batch is None and len(options.files) != (2 if options.network else 3) - options.follow:
    parser.error("give MODEL PROPERTY CERTIFICATE, or PROPERTY CERTIFICATE --network NAME=MODEL ..., or --batch LIST")
if options.follow and (options.batch is not None or options.arithmetic == "exact"):
    parser.error("--follow goes neither with --batch nor with --arithmetic exact")
counts_hold = 0 <= options.threads < 10_000 and 0 < options.processes < 10_000 and 0 < options.limit_bytes < 1 << 40
if not (counts_hold and 0 < options.memory < 1e6 and 0 <= options.timeout < 1e9):
    parser.error("a limit must be a positive number")
if options.threads:
    os.environ.update({f"{library}_NUM_THREADS": str(options.threads) for library in ("OMP", "OPENBLAS", "MKL", "VECLIB_MAXIMUM")})

libc = ctypes.CDLL(None)
if hasattr(libc, "mallopt"):  # keep freed arrays: fresh pages for every temporary take more time than the arithmetic
    libc.mallopt(-1, 1 << 30)  # M_TRIM_THRESHOLD
    libc.mallopt(-3, 1 << 30)  # M_MMAP_THRESHOLD

from verifier.checker.main import main  # noqa: E402 (numpy reads the number of threads when it is imported)

main(options, parser)
