"""Certify a model on a data set: one query for each sample and region, evidence that others can check (`soundproof certify`, `recheck`).

It lies in benchmarks/ and not in verifier/ because it composes ONNX files and renders pages, and because nothing here can influence a
verdict: what is said of a query is what the checker process accepted, or what onnxruntime did at a witness.
"""
