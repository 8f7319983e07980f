"""What a learner rank must know for life. What changes with the step is in `StepSettings`. Light to
import.
"""

from __future__ import annotations

from dataclasses import dataclass

from grpo.common.errors import UserError
from grpo.config.schema import AlgorithmConfig, LearnerConfig, OptimizerConfig


@dataclass(frozen=True, kw_only=True, slots=True)
class LearnerSpec:
    """Everything that a learner rank must know, apart from its rank and the settings of a step.

    Raises:
        UserError: settings that DeepSpeed cannot follow on this device.
    """

    model_folder: str
    device: str  # "cpu" or "cuda"
    dtype: str  # "float32" or "bfloat16"
    world_size: int
    float32_head: bool = False  # logits in float32 although the weights are not
    pad_token_id: int
    modules: tuple[str, ...]  # of the operator, which register objectives
    objective: str  # its registered name
    algorithm: AlgorithmConfig
    keeps_reference: bool = False  # although the algorithm needs none yet: a later stage does
    optimizer: OptimizerConfig
    learner: LearnerConfig
    transfer_timeout_seconds: int
    collective_timeout_seconds: int = 600  # longest wait of a rank for the others, once started
    transfer_buffer_bytes: int = 256 * 2**20  # GPU only
    colocated: bool = False  # engines are on the same GPUs

    def __post_init__(self) -> None:
        if problems := self.learner.problems(self.device, self.dtype):
            raise UserError("\n".join(problems))

    @property
    def with_reference(self) -> bool:
        """Is a frozen copy of the first policy kept? It costs the memory of a second model."""
        return self.keeps_reference or self.algorithm.needs_reference

    def environment(self) -> dict[str, str]:
        """Variables that must be set before the rank's process starts."""
        return self.environment_of(self.device, self.learner, colocated=self.colocated)

    @staticmethod
    def environment_of(device: str, learner: LearnerConfig, *, colocated: bool) -> dict[str, str]:
        """The same, of what decides it."""
        common = {"TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1"}
        if device != "cpu":
            # Batches differ in shape, so blocks of the allocator must be able to grow. Not beside
            # engines: such blocks are no plain allocation that CUDA IPC could hand to a process.
            grow = {} if colocated else {"PYTORCH_ALLOC_CONF": "expandable_segments:True"}
            return {**common, **grow}
        return {
            **common,
            "DS_ACCELERATOR": "cpu",
            "OMP_NUM_THREADS": str(learner.threads_per_rank),
        }
