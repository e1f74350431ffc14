"""The soundness suite: instances whose truth is known by construction, run against any verifier (DESIGN 8)."""
