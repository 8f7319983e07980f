"""What a learner rank must know. Light to import: the driver makes it, the rank's process uses it."""

from __future__ import annotations

from dataclasses import dataclass

from grpo.config import AlgorithmConfig, LearnerConfig, OptimizerConfig


@dataclass(frozen=True, kw_only=True, slots=True)
class LearnerSpec:
    """Everything that a learner rank must know, apart from its rank."""

    model_folder: str
    device: str  # "cpu" or "cuda"
    dtype: str  # "float32" or "bfloat16"
    world_size: int
    num_updates: int
    max_steps: int
    pad_token_id: int
    aggregation_constant: int  # tokens; the longest response that can be sampled
    algorithm: AlgorithmConfig
    optimizer: OptimizerConfig
    learner: LearnerConfig

    def environment(self) -> dict[str, str]:
        """Variables that must be set before the rank's process starts."""
        common = {"TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1"}
        if self.device != "cpu":
            return common
        return {
            **common,
            "DS_ACCELERATOR": "cpu",
            "OMP_NUM_THREADS": str(self.learner.threads_per_rank),
        }
