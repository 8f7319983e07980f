"""Test vectors for GRPO-family algorithms that no framework is needed to read.

`cases/` holds them, `derive/` made them, `run.py` runs an implementation on them. README.md says
what every field means.
"""
