"""One module per family of the suite: `instances(seed)` yields its instances; `benchmarks.soundness.build` lists the modules."""
