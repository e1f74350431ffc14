"""Oracles that keep the engines honest: small random instances, decided by enumeration in exact rationals (`python -m benchmarks.exact`)."""
