"""The operator cases of `onnx.backend.test` against the engine and the checker: an oracle that is not ours (issue 4, point 2)."""
