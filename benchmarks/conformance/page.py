"""docs/operators.md: the generated table of operators."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

Line = Mapping[str, str]


def counted(lines: Sequence[Line]) -> list[Line]:
    """The operator's own cases with float data."""
    return [line for line in lines if line["data"] == "float" and line["expanded"] == "no" and line["outcome"] != "apart"]


def sentence(operator: str, lines: Sequence[Line]) -> str:
    """One operator in a line."""
    own = counted(lines)
    passed = sum(line["outcome"] == "pass" for line in own)
    others = [f"{line['case']}: {line['outcome']}: {line['reason']}" for line in own if line["outcome"] != "pass"]
    return f"{operator} {passed}/{len(own)}" + (f" [{others[0]}]" if others else "")


def page(lines: Sequence[Line]) -> str:
    return "\n".join(_page(lines)) + "\n"


def _page(lines: Sequence[Line]) -> Iterator[str]:
    yield "# Operators"
    for operator in sorted({line["operator"] for line in lines}):
        yield sentence(operator, [line for line in lines if line["operator"] == operator])
