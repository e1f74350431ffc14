"""How the checker says no. Every refusal names a rule and a place; nothing else ends a check but acceptance."""

from __future__ import annotations


class Refusal(Exception):
    """Base of both refusals; `rule` is a fixed word, `place` says where (untrusted text: it is printed as JSON)."""

    def __init__(self, rule: str, place: str) -> None:
        super().__init__(f"{rule}: {place}")
        self.rule, self.place = rule, place


class Rejected(Refusal):
    """The certificate does not prove the property, or the checker has no rule for something it meets."""


class Malformed(Refusal):
    """The certificate is not one: bad container, bad numbers, a stream that does not fit."""
