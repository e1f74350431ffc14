"""The command line: parses options, calls a room, prints. No logic. Rooms are imported by the command that needs them."""

from __future__ import annotations

import os
import sys
import time
import traceback
from types import TracebackType
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from soundproof import bench_cli, certify_cli, fuzz_cli, inspect_cli, soundness_cli
from soundproof.origin import ForeignPackage, check_origin

if TYPE_CHECKING:
    from verifier.result import Assignment

EXIT_USAGE, EXIT_INPUT, EXIT_INTERNAL = 2, 3, 4

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="Decide whether a neural network (ONNX) satisfies a property (VNN-LIB), and prove the answer.",
)
app.add_typer(soundness_cli.app, name="soundness")
app.add_typer(bench_cli.app, name="bench")
app.command()(fuzz_cli.fuzz)
app.command()(inspect_cli.inspect)
app.command()(certify_cli.certify)
app.command()(certify_cli.recheck)


def main() -> None:
    """Entry point of the console script. Exit codes: DESIGN 10."""
    sys.excepthook = _internal_error
    try:
        check_origin()
    except ForeignPackage as error:
        _fail(EXIT_INTERNAL, str(error))
    typer.main.get_command(app)(prog_name="soundproof")  # `app()` would put a hook of its own in the place of ours


def _internal_error(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """The last resort: an exception that nothing expected is a defect of ours, and exit code 4 rather than Python's 1."""
    traceback.print_exception(kind, error, trace)
    print("soundproof: internal error; please report the lines above", file=sys.stderr, flush=True)
    os._exit(EXIT_INTERNAL)


def _fail(code: int, text: str) -> NoReturn:
    print(f"soundproof: {text}", file=sys.stderr)
    raise SystemExit(code)


def _print_and_exit(attribute: str, wanted: bool) -> None:
    if wanted:
        from verifier import version

        print(getattr(version, attribute))
        raise typer.Exit


def _show_name(wanted: bool) -> None:
    _print_and_exit("NAME", wanted)


def _show_version(wanted: bool) -> None:
    _print_and_exit("VERSION", wanted)


@app.callback()
def _root(
    name: Annotated[bool, typer.Option("--name", callback=_show_name, is_eager=True, help="Print the tool's name and exit.")] = False,
    version: Annotated[bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version and exit.")] = False,
) -> None:
    pass


@app.command()
def verify(
    files: Annotated[list[str], typer.Argument(metavar="MODEL PROPERTY", help="ONNX and VNN-LIB file (.gz allowed); with --network only PROPERTY.")],
    network: Annotated[list[str] | None, typer.Option(metavar="NAME=MODEL", help="A network, the VNN-LIB standard's way; may be repeated.")] = None,
    timeout: Annotated[float, typer.Option(metavar="S", help="Seconds for everything.")] = 300.0,
    memory: Annotated[float | None, typer.Option(metavar="GB", help="Limit on resident memory.")] = None,
    nodes: Annotated[int | None, typer.Option(metavar="N", help="Limit on sub-problems; makes a run repeatable.")] = None,
    results_file: Annotated[str | None, typer.Option(metavar="F", help="Write the verdict and the witness as VNN-COMP wants them.")] = None,
    json: Annotated[str | None, typer.Option(metavar="F", help="Write everything about the run as JSON.")] = None,
    no_attack: Annotated[bool, typer.Option("--no-attack", help="No concrete execution may end the run.")] = False,
    seed: Annotated[int, typer.Option(metavar="N", help="Seed of everything random.")] = 0,
    device: Annotated[str, typer.Option(metavar="auto|cpu|cuda", help="Where bounds are computed.")] = "cpu",
    threads: Annotated[int | None, typer.Option(metavar="N", help="Threads [default: all cores].")] = None,
    trust: Annotated[str, typer.Option(metavar="LIST", help="Engines whose unsat needs no accepted certificate: engine,milp,smt.")] = "",
    engine: Annotated[str, typer.Option(metavar="auto|bab|smt|milp|smt-float32", help="Branch and bound, or an exact solver.")] = "auto",
    semantics: Annotated[
        str | None,
        typer.Option(metavar="real|float32", help="What unsat speaks of: the file over the reals, or in float32.", show_default="as declared"),
    ] = None,
    certificate: Annotated[str | None, typer.Option(metavar="F", help="Keep the certificate of an unsat.")] = None,
    serialise_assignments: Annotated[str | None, typer.Option(metavar="DIR", help="Write a witness as DIR/NAME.pb, and not on stdout.")] = None,
    output: Annotated[list[str] | None, typer.Option(metavar="NAME", help="Take this tensor for the output; may be repeated.")] = None,
    shape: Annotated[list[str] | None, typer.Option(metavar="NAME=N", help="Give a symbolic dimension its size; may be repeated.")] = None,
    self_check: Annotated[bool, typer.Option("--self-check", help="Compare known executions with every bound; slow, for debugging.")] = False,
    verbose: Annotated[bool, typer.Option("-v", "--verbose", help="Show progress.")] = False,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="Show only warnings.")] = False,
) -> None:
    """Decide whether MODEL satisfies PROPERTY.

    Line 1 of standard output is sat (violated; the witness follows), unsat (holds), unknown or timed-out.
    With --output or --shape the verdict is about a file written with these choices, kept as F.onnx beside the certificate F.
    Exit code: 0 unsat, 10 sat, 20 unknown, 30 timed out, 2 usage, 3 unusable input, 4 internal error.
    """
    from verifier.options import OptionError, Options, available_threads
    from verifier.watchdog import Failure, refused, supervise

    ((name, model), *more), prop = _paths(files, network or [], bool(output or shape))
    _check_folder(serialise_assignments)
    started, file, choices, refusal = time.monotonic(), model, "", ""
    if output or shape:
        file, choices, refusal = inspect_cli.specialised_for(model, output or [], shape or [], certificate)
    try:
        options = Options(
            started=started, model_path=file, property_path=prop, network=name, more=tuple(more), original=model if choices else "", choices=choices,
            timeout=timeout, memory=memory, nodes=nodes, results_file=results_file, json=json, no_attack=no_attack, seed=seed, device=device,
            threads=available_threads() if threads is None else threads,
            trust=tuple(filter(None, trust.split(","))), semantics=semantics or ("float32" if engine == "smt-float32" else "auto"),
            certificate=certificate, self_check=self_check, engine=engine, verbosity=int(verbose) - int(quiet),
        )
    except OptionError as error:
        _fail(EXIT_USAGE, str(error))
    ending = refused(options, refusal, _say) if refusal else supervise(options, _say)
    if isinstance(ending, Failure):
        _fail(ending.exit_code, ending.text)
    from soundproof.summary import summary

    sys.stdout.write(ending.to_stdout(bare=ending.verdict == "sat" and _serialised(ending.assignments(), serialise_assignments)))
    sys.stdout.flush()
    for line in summary(ending, options.verbosity):
        print(line, file=sys.stderr)
    raise SystemExit(ending.exit_code)


def _check_folder(folder: str | None) -> None:
    from verifier.tensor_file import refusal

    if folder is not None and (why := refusal(folder)):
        _fail(EXIT_USAGE, f"--serialise-assignments {folder}: {why}")


def _serialised(assignments: tuple[Assignment, ...], folder: str | None) -> bool:
    """Whether the tensors of a witness lie in `folder` now; a folder that cannot be written to does not cost the answer."""
    from verifier.tensor_file import write_assignments

    if folder is None:
        return False
    try:
        write_assignments(folder, assignments)
    except OSError as error:
        print(f"could not write to {folder}: {error.strerror or error} (the assignment is on standard output)", file=sys.stderr)
        return False
    return True


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _paths(files: list[str], networks: list[str], changed: bool) -> tuple[list[tuple[str, str]], str]:
    """(network name, model) of every network, and the property, from either form of the command. `changed`: with --output or --shape."""
    if changed and len(networks) > 1:
        _fail(EXIT_USAGE, "--output and --shape: these choices can be made for a single network only")
    if not networks and len(files) == 2:
        return [("", files[0])], files[1]
    named = [text.partition("=") for text in networks]
    for text, (name, sign, model) in zip(networks, named, strict=True):
        if not (name and sign and model):
            _fail(EXIT_USAGE, f"--network {text}: expected NAME=MODEL")
    if networks and len(files) == 1:
        return [(name, model) for name, _, model in named], files[0]
    _fail(EXIT_USAGE, f"expected MODEL PROPERTY, or PROPERTY --network NAME=MODEL, but got {len(files)} files and {len(networks)} networks")


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []})
def check(context: typer.Context) -> None:
    """Check a certificate, MODEL PROPERTY CERTIFICATE, with the independent checker; `soundproof check --help` shows its options."""
    import subprocess

    from verifier.check import checker_command

    raise SystemExit(subprocess.run([*checker_command(), *context.args], check=False).returncode)


@app.command()
def relaxations(
    model: Annotated[str, typer.Argument(help="ONNX file (.gz allowed).")],
    prop: Annotated[str, typer.Argument(metavar="PROPERTY", help="VNN-LIB file (.gz allowed).")],
    timeout: Annotated[float, typer.Option(metavar="S", help="Seconds for each solver.")] = 60.0,
    case: Annotated[int | None, typer.Option(metavar="K", help="The case to bound [default: the one that is hardest for linear bounds].")] = None,
    json: Annotated[str | None, typer.Option(metavar="F", help="Write the table as JSON.")] = None,
    picture: Annotated[str | None, typer.Option(metavar="F.svg", help="Draw the gaps.")] = None,
) -> None:
    """Compare ways of bounding: interval, forward linear, CROWN, alpha-CROWN, linear and semidefinite programs, and the exact value.

    One atom of one case is bounded over its box: the bound of its margin, the gap to the exact value, the time. Exit code 0.
    """
    if not 0 < timeout < float("inf"):
        _fail(EXIT_USAGE, f"--timeout {timeout}: it must be a positive number of seconds")
    if picture is not None and not picture.endswith(".svg"):
        _fail(EXIT_USAGE, f"--picture {picture}: pictures are drawn as SVG; give a name that ends in .svg")
    from graph.errors import ModelError
    from soundproof.relaxations import report
    from specs.errors import PropertyError
    from verifier.relaxations import NothingToBound

    try:
        report(model, prop, timeout, case, json, picture)
    except (ModelError, PropertyError, NothingToBound) as error:
        _fail(EXIT_INPUT, str(error))
    except OSError as error:
        _fail(EXIT_USAGE, f"{error.filename or 'a file'} cannot be written: {error.strerror or error}")


@app.command()
def supports(
    onnx_operators: Annotated[bool, typer.Option("--onnx-operators", help="ONNX operators with a lowering.")] = False,
    onnx_element_types: Annotated[bool, typer.Option("--onnx-element-types", help="Element types of networks.")] = False,
    onnx_opset_versions: Annotated[bool, typer.Option("--onnx-opset-versions", help="Oldest and newest opset.")] = False,
    vnnlib_versions: Annotated[bool, typer.Option("--vnnlib-versions", help="Versions of VNN-LIB.")] = False,
    hidden_node_theories: Annotated[bool, typer.Option("--hidden-node-theories", help="NH, H: also hidden nodes.")] = False,
    multiple_input_output_theories: Annotated[bool, typer.Option("--multiple-input-output-theories", help="SIO, MIO: one or more inputs.")] = False,
    multiple_network_theories: Annotated[bool, typer.Option("--multiple-network-theories", help="SNET, ..., MNET: one network or more.")] = False,
    multiple_node_comparison_theories: Annotated[bool, typer.Option("--multiple-node-comparison-theories", help="MNC: atoms over several.")] = False,
    arithmetic_complexity_theories: Annotated[bool, typer.Option("--arithmetic-complexity-theories", help="LIN, POLY: what atoms may be.")] = False,
    optimised_disjunctive_reasoning: Annotated[bool, typer.Option("--optimised-disjunctive-reasoning", help="Whether `or` is optimised.")] = False,
    serialise_assignments: Annotated[bool, typer.Option("--serialise-assignments", help="Whether witnesses can be written as tensors.")] = False,
) -> None:
    """Say what is supported, one value a line (the VNN-LIB standard's capabilities)."""
    from soundproof.capabilities import capability

    asked = [name for name, wanted in locals().items() if wanted is True]
    if len(asked) != 1:
        _fail(EXIT_USAGE, "supports: name exactly one capability, for example --onnx-operators")
    for value in capability(asked[0]):
        print(value)
