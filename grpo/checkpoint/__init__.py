"""Checkpoints of a run: whole and verified, or not there."""
