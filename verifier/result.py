"""What a run found (`Outcome`, from the engine), what is told about it (`Result`), and the forms it is written in (DESIGN 10).

Light on purpose: the watchdog must be able to write a result without numpy, onnx or torch.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import TYPE_CHECKING, Any, Literal

from verifier.version import NAME, VERSION

if TYPE_CHECKING:
    from numpy import float32
    from numpy.typing import NDArray

Verdict = Literal["sat", "unsat", "unknown", "timed-out"]
Assurance = Literal["certified", "replayed", "unchecked", "none"]
ReasonCode = Literal[
    "not-certified", "certificate-rejected", "check-unfinished", "time", "memory", "nodes", "disk", "interrupted",
    "unsupported-in-checker", "solver-unknown", "numerical",
]
PHASES = ("load", "attack", "bound", "search", "check", "total")
EXIT_CODES: Mapping[Verdict, int] = {"unsat": 0, "sat": 10, "unknown": 20, "timed-out": 30}
COMPETITION_WORDS: Mapping[Verdict, str] = {"sat": "sat", "unsat": "unsat", "unknown": "unknown", "timed-out": "timeout"}


class InvalidResult(Exception):
    """A result contradicts itself or holds NaN or Inf. Always a defect of ours. Exit code 4."""


@dataclass(frozen=True)
class Reason:
    """Why there is no verdict: a code of DESIGN 10, and a sentence."""

    code: ReasonCode
    text: str


@dataclass(frozen=True)
class Cases:
    """Counts of unsafe cases. `total` includes the vacuous ones (empty boxes), which are also in `closed`."""

    total: int = 0
    closed: int = 0
    vacuous: int = 0
    open: int = 0


@dataclass(frozen=True, eq=False)
class Witness:
    """A replayed counterexample: all inputs and all outputs as the property orders them, float32, flat [n_in] and [n_out].

    `inside_exact_box`: the inputs lie in the box as written, not only in its float32 rounding. `float32_only`: the exact
    value of the network at the inputs does not violate the property, only the rounded execution does (None: not known).
    """

    inputs: NDArray[float32]
    outputs: NDArray[float32]
    inside_exact_box: bool
    float32_only: bool | None


@dataclass(frozen=True, eq=False)
class Outcome:
    """What the engine returns. `unknown` and `timed-out` carry a reason; `sat` carries a witness.

    `bound`, `gap`, `nodes`, `leaves`, `closed_volume`: as DESIGN 10 defines them, None where not known. `seconds` per phase
    (attack, bound, search). `portfolio`: what was chosen and why. `notes`: sentences for the user.
    `claimed_by`: the exact solver on whose word alone `unsat` rests (nothing: our own search proved it).
    """

    verdict: Verdict
    reason: Reason | None = None
    bound: float | None = None
    gap: float | None = None
    cases: Cases = field(default_factory=Cases)
    nodes: int = 0
    leaves: int = 0
    closed_volume: float | None = None
    witness: Witness | None = None
    seconds: Mapping[str, float] = field(default_factory=dict)
    portfolio: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    claimed_by: str = ""

    def __post_init__(self) -> None:
        if (self.verdict == "sat") != (self.witness is not None):
            raise InvalidResult(f"verdict {self.verdict!r} {'without' if self.witness is None else 'with'} a witness")
        if self.verdict in ("unknown", "timed-out") and self.reason is None:
            raise InvalidResult(f"verdict {self.verdict!r} without a reason")
        if self.verdict == "unsat" and self.cases.open:
            raise InvalidResult(f"verdict 'unsat' with {self.cases.open} open cases")


@dataclass(frozen=True)
class Assignment:
    """The value of one tensor: `values` are exact float32 numbers, in row-major order of `shape`."""

    name: str
    shape: tuple[int, ...]
    values: tuple[float, ...]
    element_type: str = "float32"
    network: str = ""  # of several


@dataclass(frozen=True)
class Counterexample:
    """A witness with names and shapes, as JSON and the text forms show it. All None when there is none."""

    inputs: tuple[Assignment, ...] | None = None
    outputs: tuple[Assignment, ...] | None = None
    inside_exact_box: bool | None = None
    float32_only: bool | None = None


@dataclass(frozen=True)
class FileIdentity:
    """A file that was read: `sha256` is of the decompressed bytes (of a model with external data: see graph.load.Model), None while unread.
    `name`: network name or VNN-LIB version."""

    path: str
    sha256: str | None = None
    name: str | None = None


@dataclass(frozen=True)
class CertificateFacts:
    """The certificate of an `unsat`, if one was written."""

    path: str | None = None
    sha256: str | None = None
    bytes: int | None = None
    outcome: str | None = None
    seconds: float | None = None


@dataclass(frozen=True)
class Result:
    """Everything that is told about a run: the JSON of DESIGN 10, schema 1, key for key (`property_file` is the key "property")."""

    models: tuple[FileIdentity, ...]
    property_file: FileIdentity
    verdict: Verdict
    assurance: Assurance
    statement: str
    semantics: str = "real"
    reason: Reason | None = None
    bound: float | None = None
    gap: float | None = None
    cases: Cases = field(default_factory=Cases)
    nodes: int = 0
    leaves: int = 0
    closed_volume: float | None = None
    witness: Counterexample = field(default_factory=Counterexample)
    certificate: CertificateFacts = field(default_factory=CertificateFacts)
    seconds: Mapping[str, float] = field(default_factory=dict)
    peak_memory_bytes: int | None = None
    seed: int = 0
    threads: int = 1
    device: str = "cpu"
    portfolio: tuple[str, ...] = ()
    tool: Mapping[str, str] = field(default_factory=lambda: {"name": NAME, "version": VERSION})
    schema: int = 1

    @property
    def models_sha256(self) -> str | None:
        """What a certificate says of the models: the SHA-256 of the file, of several that of their SHA-256s, one after the other."""
        hashes = [model.sha256 for model in self.models]
        if None in hashes or len(hashes) == 1:
            return hashes[0] if len(hashes) == 1 else None
        return hashlib.sha256("".join(map(str, hashes)).encode()).hexdigest()

    @property
    def exit_code(self) -> int:
        """The exit code of DESIGN 10: 0 unsat, 10 sat, 20 unknown, 30 timed out."""
        return EXIT_CODES[self.verdict]

    def to_dict(self) -> dict[str, Any]:
        """The JSON object. Raises InvalidResult if a number in it is not finite."""
        plain = {**asdict(self), "reason": {"code": None, "text": None} if self.reason is None else asdict(self.reason)}
        plain["seconds"] = {phase: self.seconds.get(phase) for phase in PHASES}
        for place, number in _numbers(plain):
            if not math.isfinite(number):
                raise InvalidResult(f"{place} is {number}")
        head = {key: plain.pop(key) for key in ("schema", "tool", "models")}
        return {**head, "property": plain.pop("property_file"), **plain}

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Result:
        """The inverse of `to_dict`, after a trip through JSON."""
        known = {f.name for f in fields(cls)}
        values = {name: value for name, value in plain.items() if name in known}
        witness = dict(plain["witness"])
        for side in ("inputs", "outputs"):
            if witness[side] is not None:
                witness[side] = tuple(Assignment(**{**a, "shape": tuple(a["shape"]), "values": tuple(a["values"])}) for a in witness[side])
        return cls(**{
            **values,
            "models": tuple(FileIdentity(**m) for m in plain["models"]),
            "property_file": FileIdentity(**plain["property"]),
            "reason": None if plain["reason"]["code"] is None else Reason(**plain["reason"]),
            "cases": Cases(**plain["cases"]),
            "witness": Counterexample(**witness),
            "certificate": CertificateFacts(**plain["certificate"]),
            "seconds": {k: v for k, v in plain["seconds"].items() if v is not None},
            "portfolio": tuple(plain["portfolio"]),
        })

    def to_json(self) -> str:
        """The text of the JSON file."""
        return json.dumps(self.to_dict(), allow_nan=False, indent=1) + "\n"

    def to_competition(self) -> str:
        """The text of the results file: a VNN-COMP word, then for `sat` the witness: `((X_0 v) ... (Y_0 v) ...)` for a property of VNN-LIB
        1.0, the assignment as on standard output for one of 2.

        Values are printed as the exact double, since judges read them as one.
        """
        word = COMPETITION_WORDS[self.verdict] + "\n"
        if self.verdict != "sat":
            return word
        if (self.property_file.name or "").startswith("2"):
            return word + "".join(f"{line}\n" for line in self._assignment_lines(repr))
        pairs = [f"({a.name}_{i} {value!r})" for a in self.assignments() for i, value in enumerate(a.values)]
        return word + "(" + "\n".join(pairs) + ")\n"

    def to_stdout(self, bare: bool = False) -> str:
        """The verdict, then, unless `bare`, for `sat` the assignment in the VNN-LIB standard's text form, tensor by tensor."""
        lines = self._assignment_lines(shortest_float32) if self.verdict == "sat" and not bare else ()
        return "".join(f"{line}\n" for line in (self.verdict, *lines))

    def _assignment_lines(self, shown: Callable[[float], str]) -> Iterator[str]:
        for a in self.assignments():
            yield f"{a.name} {a.element_type} [{','.join(map(str, a.shape))}]"
            yield from map(shown, a.values)

    def assignments(self) -> tuple[Assignment, ...]:
        """All tensors of the witness of a `sat`, as the property orders them: network by network, inputs first. Raises InvalidResult where
        there is none."""
        if not self.witness.inputs or not self.witness.outputs:
            raise InvalidResult("verdict 'sat' without a witness")
        networks = list(dict.fromkeys(a.network for a in self.witness.inputs))
        return tuple(sorted((*self.witness.inputs, *self.witness.outputs), key=lambda a: networks.index(a.network)))


def finite_or_none(number: float | None) -> float | None:
    """`number`, or None if it is NaN or infinite: such a number says nothing."""
    return number if number is not None and math.isfinite(number) else None


def shortest_float32(value: float) -> str:
    """The shortest decimal that reads back to the same float32. Raises InvalidResult if `value` is not a finite float32."""
    if not math.isfinite(value):
        raise InvalidResult(f"the witness holds {value}")
    for digits in range(1, 10):
        text = f"{value:.{digits}g}"
        if _as_float32(float(text)) == value:
            return text
    raise InvalidResult(f"{value!r} is not a float32 number")


def _as_float32(value: float) -> float | None:
    """`value` rounded to the nearest float32, None if that overflows."""
    try:
        return float(struct.unpack("<f", struct.pack("<f", value))[0])
    except OverflowError:
        return None


def _numbers(plain: Any, place: str = "result") -> Iterator[tuple[str, float]]:
    """Every float inside `plain`, with where it is."""
    if isinstance(plain, float):
        yield place, plain
    elif isinstance(plain, Mapping):
        for key, value in plain.items():
            yield from _numbers(value, f"{place}.{key}")
    elif isinstance(plain, (list, tuple)):
        for i, value in enumerate(plain):
            yield from _numbers(value, f"{place}[{i}]")


def write_atomically(path: str, text: str) -> None:
    """Write `text` to `path` so that a reader sees the old file or the whole new one: `path.part`, fsync, rename. May raise OSError."""
    part = path + ".part"
    with open(part, "w", encoding="utf-8") as file:
        file.write(text)
    sync_and_rename(part, path)


def sync_and_rename(part: str, path: str) -> None:
    """Make sure that `part` is on the disk, then give it its name. May raise OSError."""
    with open(part, "rb") as file:
        os.fsync(file.fileno())
    os.replace(part, path)
