"""The recipe: its schema, how it is read, and which combinations of settings cannot work."""

from grpo.config.schema import (
    RECIPES,
    AlgorithmConfig,
    BatchConfig,
    ClusterConfig,
    DataConfig,
    EvaluationConfig,
    LearnerConfig,
    ModelConfig,
    OptimizerConfig,
    RewardsConfig,
    RolloutConfig,
    SamplingConfig,
    SourceConfig,
    TrainConfig,
    TrainerConfig,
    load_config,
)

__all__ = [
    "RECIPES",
    "AlgorithmConfig",
    "BatchConfig",
    "ClusterConfig",
    "DataConfig",
    "EvaluationConfig",
    "LearnerConfig",
    "ModelConfig",
    "OptimizerConfig",
    "RewardsConfig",
    "RolloutConfig",
    "SamplingConfig",
    "SourceConfig",
    "TrainConfig",
    "TrainerConfig",
    "load_config",
]
