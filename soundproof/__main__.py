"""`python -m soundproof` is the command `soundproof`."""

from __future__ import annotations

from soundproof.cli import main

main()
