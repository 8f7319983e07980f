"""Learner -> vLLM weight transfer through vLLM's weight-transfer API: gloo between CPUs, vLLM's
nccl between GPUs.
"""
