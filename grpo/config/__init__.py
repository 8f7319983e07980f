"""The recipe: its schema, how it is read, and which combinations of settings cannot work."""

from grpo.config.load import RECIPES, load_config, load_sample_config, load_sft_config
from grpo.config.sample import SampleConfig
from grpo.config.schema import (
    AlgorithmConfig,
    BatchConfig,
    ClusterConfig,
    DataConfig,
    EvaluationConfig,
    HealthConfig,
    LearnerConfig,
    ModelConfig,
    OptimizerConfig,
    RewardsConfig,
    RolloutConfig,
    SamplingConfig,
    TrackingConfig,
    TrainConfig,
    TrainerConfig,
    WandbConfig,
)
from grpo.config.sft import SftConfig

__all__ = [
    "RECIPES",
    "AlgorithmConfig",
    "BatchConfig",
    "ClusterConfig",
    "DataConfig",
    "EvaluationConfig",
    "HealthConfig",
    "LearnerConfig",
    "ModelConfig",
    "OptimizerConfig",
    "RewardsConfig",
    "RolloutConfig",
    "SampleConfig",
    "SamplingConfig",
    "SftConfig",
    "TrackingConfig",
    "TrainConfig",
    "TrainerConfig",
    "WandbConfig",
    "load_config",
    "load_sample_config",
    "load_sft_config",
]
