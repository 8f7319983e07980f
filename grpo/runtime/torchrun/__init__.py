"""SPMD under torchrun: every process is a learner rank with a vLLM engine of its own.

All processes run the same command. Rank 0 reads the recipe's data, runs the loop and writes the
record; the other ranks take part in each of its calls, in the same order (`ranks`). What decides
the next step is thus in one process, and ranks cannot come to different ends: not by a grader that
runs out of time, a disk that is full on one node, or a signal between two steps.

The engine of a rank is a process that knows nothing of torchrun (`engine_process`). Messages
between ranks, and between a rank and its engine, are plain values (`messages`).
"""
