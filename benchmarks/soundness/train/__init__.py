"""Training of hidden counterexamples. The only folder of benchmarks/ that may import torch; nothing that defines a truth imports it.

Method: Zhou, Xu, Xu, Shi, Hsieh, Zhang, "SoundnessBench: A Soundness Benchmark for Neural Network Verifiers" (arXiv 2412.03154).
"""
