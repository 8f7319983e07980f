"""What a run leaves behind, and what one sees of it while it works.

`metrics.jsonl` and `rollouts/` are the record and are written by the training process itself;
TensorBoard and wandb are copies for looking at, written by side threads that may fail without harm.
Importing this package loads the standard library only; wandb, TensorBoard, matplotlib and rich are
loaded by the part that needs them.
"""

from grpo.tracking.run import Run, open_run

__all__ = ["Run", "open_run"]
