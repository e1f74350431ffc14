"""One check as a process: files are read once, hashed and parsed from the same bytes; every ending but ACCEPTED is a refusal.

Exit code 0 *and* a last line ACCEPTED with the three hashes and the semantics mean that the certificate was accepted. What is printed
from a file is printed as JSON, so that no name can imitate a line. The process ends by os._exit: nothing runs after the last line.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import resource
import select
import signal
import sys
import zlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import FrameType, TracebackType
from typing import NoReturn, TypeVar

import numpy as np

from verifier.checker import certificate as certificates
from verifier.checker import compose, exact, ledger, orders, read_model, read_property, read_property2, shares, slack, tree, walk
from verifier.checker.arithmetic import Array, probe_machine
from verifier.checker.bounds import Checker
from verifier.checker.network import Affine, Network
from verifier.checker.refusal import Malformed, Refusal, Rejected

GOOD, BAD, CRASHED = 0, 5, 4
FILE_BYTES = 2_000_000_000  # of a model or a property, unpacked
GB = 10**9
BATCH, ELEMENTS = 512, 1 << 20  # nodes of trees evaluated together at most, and elements of all their states
LONGEST_PLACE = 1000
FEW_INPUTS = 100  # up to here --diagnose tells boxes
PART, NEEDLESS = b"part\t", f"REJECTED {json.dumps({'rule': 'open', 'place': 'a part of a proof, and the whole is there'})}"
Files = tuple[Path, Path, Path]
Networks = tuple[tuple[str, Path], ...]
T = TypeVar("T")


class Process:
    """What outlives one certificate of a batch: options, and the last few models and properties by hash."""

    def __init__(self, options: argparse.Namespace) -> None:
        signal.signal(signal.SIGALRM, _time_is_up)  # of `outcome`
        self.options, self.memory = options, int(options.memory * GB)
        self.models: dict[str, Network] = {}
        self.properties: dict[str, read_property.PropertyText | read_property2.Query] = {}
        self.parts: list[ledger.Entry] = []  # of a proof that is followed

    def outcome(self, files: Files, networks: Networks = ()) -> tuple[str, bool]:
        """The result line of one certificate, and whether it was accepted. `networks` are those of a query that names several, by name; then
        the first of `files` is not read."""
        try:
            try:
                signal.setitimer(signal.ITIMER_REAL, self.options.timeout, 1.0 if self.options.timeout else 0.0)
                found = self._check(files, networks)
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0.0)
            facts = {"certificate": found.sha256, "model": found.model, "property": found.property, "semantics": found.semantics}
            return f"ACCEPTED {json.dumps(facts)}", True
        except Refusal as refusal:
            word = "MALFORMED" if isinstance(refusal, Malformed) else "REJECTED"
            return f"{word} {json.dumps({'rule': refusal.rule, 'place': refusal.place[:LONGEST_PLACE]})}", False
        except (MemoryError, RecursionError) as error:
            rule = "memory" if isinstance(error, MemoryError) else "recursion"
            return f"REJECTED {json.dumps({'rule': rule, 'place': 'the limit of this process'})}", False
        except SystemExit as error:
            raise RuntimeError("a library wanted to end the process") from error

    def _check(self, files: Files, networks: Networks = ()) -> certificates.Certificate:
        """The certificate, if it proves the property; raises otherwise."""
        probe_machine()
        limit = self.options.limit_bytes
        given = networks or (("", files[0]),)
        models = {name: _model(path) for name, path in given}
        text = _unpacked(_content(files[1], FILE_BYTES), files[1])
        certificate = certificates.read(_content(files[2], certificates.TOTAL * limit), limit)
        if hashlib.sha256(text).hexdigest() != certificate.property:
            raise Malformed("hash", "the certificate was made for another property")
        prop = _kept(self.properties, certificate.property, lambda: read_property2.read(text))
        needed = compose.files(prop)
        if len(models) != len(given) or (len(needed) == 1) != (len(given) == 1) or (len(needed) > 1 and {f.name for f in needed} != {*models}):
            raise Rejected("networks", f"models are given for {[name for name, _ in given]}, and needed for {[file.name for file in needed]}")
        data = [models[file.name] if len(given) > 1 else models[given[0][0]] for file in needed]
        hashes = [_joint([hashlib.sha256(part).hexdigest() for part in (model, *external.values())]) for model, external in data]
        if certificate.model != _joint(hashes):
            raise Malformed("hash", "the certificate was made for another model")
        keys = [f"{found} {file.hidden}" for found, file in zip(hashes, needed, strict=True)]
        parts = [_kept(self.models, key, partial(read_model.read, model, file.hidden, external))
                 for key, (model, external), file in zip(keys, data, needed, strict=True)]
        network = compose.network_of(prop, parts)
        cases = read_property2.bind(prop, network, certificate.semantics)
        if cases.dropped:
            sys.stderr.write(f"{cases.dropped} cases are vacuous: their input sets are empty{'' if len(cases) else '; no other case is left'}\n")
        network = orders.by_arguments(network, cases) if certificate.semantics == "real" else network
        forest = tree.grow(certificate, cases, tree.sizes(certificate, network))
        self._walk(_shifted(network, certificate.shift), cases, certificate, forest)
        probe_machine()
        return certificate

    def _walk(self, network: Network, cases: read_property.Cases, certificate: certificates.Certificate, forest: tree.Forest) -> None:
        part = bool((forest.mode == tree.OPEN).any())
        if part and not self.options.follow:
            raise Rejected("open", "a part of a proof: it has leaves of which it claims nothing")
        loss = slack.Slack(network) if certificate.semantics == "float32" else None
        if loss is not None:
            sys.stderr.write(f"activations in float32: {loss.table.key}, {'assumed' if loss.table.assumed else 'measured'}\n")
        if self.options.arithmetic == "exact":
            exact.check(network, cases, certificate, forest, loss)
            return
        width = 64 * sum(node.size for node in network.nodes)  # bytes of one node's state: eight doubles an element
        block = max(1, min(BATCH, self.memory // 4 // self.options.processes // width, max(32, ELEMENTS * 64 // width)))
        checker = Checker(network, loss)
        check = walk.check if self.options.processes == 1 else partial(shares.check, self.options.processes)
        if part:
            self.parts.append(ledger.walk_part(self.parts, checker, cases, certificate, forest, block))
            raise Rejected("open", "a part of a proof")
        if self.options.follow:
            check = partial(shares.check, self.options.processes, entries=self.parts)
        if self.options.diagnose is None:
            check(checker, cases, certificate, forest, block)
            return
        with open(self.options.diagnose, "w", encoding="utf-8") as file:

            def write(node: int, rule: str, best: float, lower: Array, upper: Array, cases: Array) -> None:
                box = {"lower": lower.tolist(), "upper": upper.tolist()} if len(lower) <= FEW_INPUTS else {}
                file.write(json.dumps({"node": node, "rule": rule, "best": repr(best), "cases": cases.tolist(), **box}) + "\n")

            check(checker, cases, certificate, forest, block, write)


def main(options: argparse.Namespace, parser: argparse.ArgumentParser) -> NoReturn:
    """Check what the options name, print one line for each certificate, end the process."""
    sys.excepthook = _crash
    networks = tuple(_named(text, parser) for text in options.network)
    single = ["", *options.files] if networks else options.files
    work = _followed(single) if options.follow else [_files(single, parser)] if options.batch is None else _list(Path(options.batch), parser)
    _limit_memory(int(options.memory * GB))
    np.seterr(all="ignore")  # whatever is not finite is refused where it is used
    process, accepted = Process(options), list[bool]()
    for files in work:
        line, good = (NEEDLESS, False) if files is None else process.outcome(files, networks)
        accepted.append(good)
        sys.stdout.write(line + "\n")
        sys.stdout.flush()
    os._exit(GOOD if accepted and all(accepted[-1:] if options.follow else accepted) else BAD)


def _followed(names: list[str]) -> Iterator[Files | None]:
    """Certificates about one model and property, whose paths are lines of standard input; None for a part that comes before a whole proof which
    is there already. Paths of parts follow the word "part" and a tab."""
    lines, rest, ended = list[bytes](), b"", False
    while lines or not ended:
        while not ended and (not lines or select.select([0], [], [], 0)[0]):
            data = os.read(0, 1 << 16)
            *found, rest = (rest + data).split(b"\n")
            lines, ended = lines + found, not data
        if lines:
            part, line = lines[0].startswith(PART), os.fsdecode(lines.pop(0).removeprefix(PART))
            needless = part and any(not other.startswith(PART) for other in lines)
            yield None if needless else (Path(names[0]), Path(names[1]), Path(line))


def _files(names: list[str], parser: argparse.ArgumentParser) -> Files:
    if len(names) != 3:
        parser.error("a line of --batch must be MODEL<TAB>PROPERTY<TAB>CERTIFICATE")
    return Path(names[0]), Path(names[1]), Path(names[2])


def _named(text: str, parser: argparse.ArgumentParser) -> tuple[str, Path]:
    name, sign, path = text.partition("=")
    if not (name and sign and path):
        parser.error(f"--network {text}: expected NAME=MODEL")
    return name, Path(path)


def _list(path: Path, parser: argparse.ArgumentParser) -> list[Files]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        parser.error(f"--batch {path}: {error}")
    if not lines:
        parser.error(f"--batch {path}: no lines")
    return [_files(line.split("\t"), parser) for line in lines]


def _limit_memory(size: int) -> None:
    """Address space: what is to be used, and 2 GB that libraries and threads map without using."""
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    size += 2 * GB
    resource.setrlimit(resource.RLIMIT_AS, (size if hard == resource.RLIM_INFINITY else min(size, hard), hard))


def _time_is_up(number: int, frame: FrameType | None) -> NoReturn:
    raise Rejected("time", "the limit of this process")


def _crash(kind: type[BaseException], value: BaseException, trace: TracebackType | None) -> None:
    """An error of the checker itself: no last line, exit code 4."""
    sys.__excepthook__(kind, value, trace)
    sys.stderr.flush()
    os._exit(CRASHED)


def _content(path: Path, limit: int) -> bytes:
    try:
        with open(path, "rb") as file:
            data = file.read(limit + 1)
    except OSError as error:
        raise Rejected("file", f"{path}: {error.strerror}") from error
    if len(data) > limit:
        raise Rejected("file", f"{path}: more than {limit} bytes")
    return data


def _model(path: Path) -> tuple[bytes, dict[str, bytes]]:
    """A model, and the files in its folder that hold its external data, by location, in order."""
    data, folder, external = _unpacked(_content(path, FILE_BYTES), path), path.parent.resolve(), dict[str, bytes]()
    for location in read_model.locations(data):
        if "\0" in location or not (file := (folder / location).resolve()).is_relative_to(folder):
            raise Rejected("file", f"{path}: external data outside its folder")
        external[location] = _content(file, FILE_BYTES)
    return data, external


def _joint(hashes: list[str]) -> str:
    return hashes[0] if len(hashes) == 1 else hashlib.sha256("".join(hashes).encode()).hexdigest()


def _unpacked(data: bytes, path: Path) -> bytes:
    """What a gzip file of one part holds; anything else as it is (neither a model nor a property can begin like a gzip file)."""
    if data[:2] != b"\x1f\x8b":
        return data
    inflate = zlib.decompressobj(31)
    try:
        data = inflate.decompress(data, FILE_BYTES)
    except zlib.error as error:
        raise Rejected("file", f"{path}: {error}") from error
    if not inflate.eof or inflate.unused_data:
        raise Rejected("file", f"{path}: not one complete gzip stream, or more than {FILE_BYTES} bytes")
    return data


def _kept(cache: dict[str, T], key: str, make: Callable[[], T]) -> T:
    if key not in cache:
        if len(cache) >= 4:
            cache.clear()
        cache[key] = make()
    return cache[key]


def _shifted(network: Network, shift: Array) -> Network:
    """Softmax is computed as exp(x - c) / sum exp(x - c): the same function for every c; the certificate chooses one for each row."""
    nodes, at = list(network.nodes), 0
    for softmax in network.softmaxes:
        node = nodes[softmax.node]
        if not isinstance(node, Affine):
            raise Rejected("no-rule", f"softmax {node.place}")
        nodes[softmax.node] = replace(node, bias=-shift[at : at + softmax.rows][softmax.row_of])
        at += softmax.rows
    return replace(network, nodes=tuple(nodes))
