"""What the evidence does not say, in plain words: derived from what was asked."""

from __future__ import annotations

from benchmarks.certify.summary import Findings

SEMANTICS = {
    "float32": "Proofs speak of executions in which every operator is computed in float32 or wider, sums in any order, with or without fused "
               "multiply-add, and activations within the measured table; not of float16, bfloat16, quantised or otherwise converted versions.",
    "real": "Proofs speak of the network over the real numbers, not of its rounded execution.",
}


def sentences(findings: Findings, semantics: str, shard: tuple[int, int]) -> list[str]:
    """What a reader might believe and must not."""
    subjects, policy = findings.subjects, findings.subjects.policy
    total = len(subjects.samples)
    told = [
        f"These {len(findings.samples)} samples and no others: nothing is said of inputs outside of the regions around them.",
        "A radius, region or property that is not listed was not checked; perturbations of other kinds are not covered by those that are.",
        SEMANTICS[semantics],
    ]
    if len(findings.samples) < total:
        told.append(f"The data set has {total} samples; {total - len(findings.samples)} of them were not looked at"
                    + (f" here (shard {shard[0]} of {shard[1]})." if shard != (1, 1) else "."))
    if policy.preprocess.plain:
        told.append("The model was given the samples as they are in the data; whatever a program does before is not covered.")
    else:
        told.append("The preprocessing that the policy states is part of what was checked, computed in float32; "
                    "what a program does before it (decoding, resizing, cropping) is not covered.")
    if any(findings.outcome_counts().get(o) for o in ("unknown", "open")):
        told.append("`unknown` means that neither a proof nor a counterexample was found within the budget; it is not a weak form of certified.")
    told.append("Samples are rounded to float32, which is what the model is given; labels are taken as they are in the data.")
    return told
