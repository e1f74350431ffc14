"""What is measured: attacks, budgets. Without torch, for the page."""

from __future__ import annotations

from collections.abc import Mapping

OWN_ROUNDS = 4  # of the engine's attack: 256, 256, 512, 1024 starts on these networks, of 40 to 100 steps
CHOICE, PUBLISHED = 0, 1  # seeds of the attacks: models are chosen by the one, and what is published of them is the other
POINTS = 1000  # at which gradients are looked at
ATTACKS: Mapping[str, str] = {
    "pgd_100": "PGD, 100 restarts, 100 steps",
    "pgd_1000": "PGD, 1,000 restarts, 100 steps",
    "apgd_ce": "APGD, cross-entropy, 50 restarts, 100 steps",
    "apgd_margin": "APGD, margin, 50 restarts, 100 steps",
    "fab": "FAB-like, 50 restarts, 50 steps",
    "square": "Square-like, 50 restarts, 1,000 queries",
    "own": "the attack of our engine, 4 rounds",
}
ENSEMBLE = ("apgd_ce", "apgd_margin", "fab", "square")
