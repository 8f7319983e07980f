"""One learner rank. A batch is prepared, then optimised, then the new weights go out of the
partitions.
"""

from __future__ import annotations

import gc
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from grpo.algorithm.aggregation import token_weights
from grpo.algorithm.objectives import OBJECTIVES, Coefficients, Loss, LossInputs
from grpo.algorithm.objectives.base import masked_max, masked_mean
from grpo.common.names import import_modules
from grpo.learner import zero
from grpo.learner.export import save_pretrained
from grpo.learner.packing import MicroBatch, advantages_of, collate, plan_microbatches
from grpo.learner.spec import LearnerSpec
from grpo.types import Advantage, Measured, StepSettings, TrainSample
from grpo.weights.sender import GlooSender, NcclSender, WeightSender
from grpo.weights.wire import EngineClient


@dataclass(frozen=True, slots=True)
class _Update:
    """This rank's share of one optimizer step, with what `prepare` found out about it."""

    first: int  # index of its first sample in the batch
    samples: Sequence[TrainSample]
    microbatches: list[MicroBatch]
    old_logp: (
        list[Tensor] | None
    )  # [N] for each micro-batch; None: the policy itself, which is on-policy
    reference_logp: list[Tensor] | None


class LearnerWorker:
    """One rank of the learner. Every method is a collective: call it on all ranks, with the same
    arguments.
    """

    def __init__(self, spec: LearnerSpec, rank: int) -> None:
        self.spec, self.rank = spec, rank
        self.device = torch.device(spec.device)
        self.sender: WeightSender | None = None
        self.num_updates = 0  # optimizer steps so far
        self._prepared: list[_Update] = []

    def rendezvous(self) -> tuple[str, int]:
        """An address of this machine and a port that is free now: where rank 0 lets the others
        meet.
        """
        return free_address()

    def start(self, address: str, port: int) -> None:
        """Join the other ranks, load the model in parts, and set up the optimizer."""
        spec, rank = self.spec, self.rank
        torch.set_num_threads(spec.learner.threads_per_rank)
        torch.manual_seed(
            0
        )  # nothing is drawn in training; a stray draw must not differ between runs
        import_modules(spec.modules)
        self.objective = OBJECTIVES[spec.objective]
        backend = "gloo" if spec.device == "cpu" else "nccl"
        zero.init_distributed(rank, spec.world_size, address, port, backend)
        settings = zero.ZeroSettings(
            folder=Path(spec.model_folder),
            dtype=getattr(torch, spec.dtype),
            max_grad_norm=spec.optimizer.max_grad_norm,
            param_persistence_threshold=spec.learner.param_persistence_threshold,
            head_chunk_tokens=spec.learner.head_chunk_tokens,
            gradient_checkpointing=spec.learner.gradient_checkpointing,
        )
        self.policy = zero.build_policy(settings)
        self.optimizer = torch.optim.AdamW(
            self.policy.parameters(),
            lr=spec.optimizer.lr,
            betas=(spec.optimizer.betas[0], spec.optimizer.betas[1]),
            eps=spec.optimizer.eps,
            weight_decay=spec.optimizer.weight_decay,
        )
        self.engine = zero.wrap(self.policy, settings, self.optimizer)
        self.weights = zero.GatheredWeights(self.policy)
        self.reference = None
        if spec.with_reference:
            self.reference = zero.wrap(zero.build_policy(settings), settings, optimizer=None)
        gc.freeze()  # what start-up made stays; the collector need not look at it again

    # --- a step: prepare, then optimise -----------------------------------------------------------

    def prepare(
        self, samples: Sequence[TrainSample], settings: StepSettings, *, measure: bool = False
    ) -> list[Measured] | None:
        """Plan the batch and compute what its optimisation needs of the policy as it is now.

        Old and reference log-probs stay on the ranks. One update per batch is on-policy, so the old
        log-probs are the current ones, at no cost.

        Args:
            samples: the batch, the same on all ranks; split into `settings.num_updates` equal
                updates, in order.
            settings: of the step; the same must be given to `optimise`.
            measure: also return KL, entropy and mismatch of every sample, for rewards, advantages
                and masks that need log-probs. It costs a forward pass.
        """
        size = len(samples) // settings.num_updates
        self._prepared = []
        mine: dict[int, Measured] = {}
        for first in range(0, size * settings.num_updates, size):
            chunk = samples[first : first + size]
            microbatches = self._plan(chunk, settings)
            old: list[Tensor] | None = None
            reference: list[Tensor] | None = None
            if settings.num_updates > 1 or measure:
                passes = [
                    self._forward(self.engine, mb, settings.temperature) for mb in microbatches
                ]
                old = [logp_N for logp_N, _ in passes]
            if self.reference is not None:
                reference = [
                    self._forward(self.reference, mb, settings.temperature)[0]
                    for mb in microbatches
                ]
            if measure:
                assert old is not None
                for i, mb in enumerate(microbatches):
                    kl_N = None if reference is None else old[i] - reference[i]
                    found = _measure(mb, old[i], passes[i][1], kl_N)
                    mine |= {first + row: measured for row, measured in found.items()}
            if settings.num_updates == 1:
                old = None  # bit-equal to the current ones, and it frees their memory
            self._prepared.append(_Update(first, chunk, microbatches, old, reference))
        if not measure:
            return None
        everyone: list[Any] = [None] * self.spec.world_size
        dist.all_gather_object(everyone, mine)
        whole = {i: measured for part in everyone for i, measured in part.items()}
        return [whole[i] for i in range(size * settings.num_updates)]

    def optimise(self, advantages: Sequence[Advantage], settings: StepSettings) -> dict[str, float]:
        """Train on the prepared batch and return the metrics of all ranks together.

        An update without any gradient term leaves weights and momentum as they are.

        Args:
            advantages: one for each sample of the batch, a number or one for every token.
            settings: learning rate, clips and coefficients of this step.
        """
        assert self._prepared, "prepare() comes first"
        for group in self.optimizer.param_groups:
            group["lr"] = settings.lr
        metrics = _Metrics(self.device)
        for update in self._prepared:
            mine = advantages[update.first : update.first + len(update.samples)]
            learn = self._has_gradient(update.samples, mine, settings)
            self._run(update, mine, settings, metrics, learn)
            if learn:
                metrics.add_update(float(self.engine.get_global_grad_norm()))
                self.num_updates += 1
        self._prepared = []
        metrics.maxima["weight_max"] = zero.largest_weight(self.policy, self.rank).to(self.device)
        return {"lr": settings.lr, **metrics.reduce()}

    def _run(
        self,
        update: _Update,
        advantages: Sequence[Advantage],
        settings: StepSettings,
        metrics: _Metrics,
        learn: bool,
    ) -> None:
        """Forward, objective and backward over all micro-batches, then one optimizer step.

        Without `learn` it only measures.
        """
        coefficients = Coefficients(
            clip_low=settings.clip_low,
            clip_high=settings.clip_high,
            kl_coef=settings.kl_coef,
            entropy_coef=settings.entropy_coef,
        )
        for i, mb in enumerate(update.microbatches):
            with torch.set_grad_enabled(learn):
                logp_N, entropy_N = self.engine(
                    mb.input_ids_BT, mb.predicts_BT, mb.targets_N, settings.temperature
                )
                inputs = LossInputs(
                    logp_N=logp_N,
                    old_logp_N=logp_N.detach() if update.old_logp is None else update.old_logp[i],
                    behaviour_logp_N=mb.behaviour_logp_N,
                    reference_logp_N=None
                    if update.reference_logp is None
                    else update.reference_logp[i],
                    entropy_N=entropy_N,
                    advantage_N=advantages_of(mb, update.samples, advantages),
                    weight_N=mb.weight_N,
                    row_N=mb.row_N,
                    num_rows=max(len(mb.rows), 1),
                )
                found = self.objective(inputs, coefficients)
            metrics.add(inputs, found, learn)
            if learn:
                self.engine.set_gradient_accumulation_boundary(i == len(update.microbatches) - 1)
                # DeepSpeed averages gradients over ranks; ours are parts of one global sum.
                self.engine.backward(found.loss * self.spec.world_size, scale_wrt_gas=False)
                self.engine.step()

    def _plan(self, samples: Sequence[TrainSample], settings: StepSettings) -> list[MicroBatch]:
        """This rank's micro-batches of one update, with token weights of the global batch."""
        trained_B = torch.tensor([sample.num_trained for sample in samples])
        aggregation = self.spec.algorithm.aggregation
        weights = token_weights(trained_B, aggregation, settings.aggregation_constant).tolist()
        return self._deal(samples, weights)

    def _deal(self, samples: Sequence[TrainSample], weights: Sequence[float]) -> list[MicroBatch]:
        lengths = [sample.num_tokens for sample in samples]
        budget = self.spec.learner.tokens_per_microbatch
        plan = plan_microbatches(lengths, self.spec.world_size, budget)
        return [
            collate(samples, ranks[self.rank], weights, self.spec.pad_token_id).to(self.device)
            for ranks in plan
        ]

    def _has_gradient(
        self,
        samples: Sequence[TrainSample],
        advantages: Sequence[Advantage],
        settings: StepSettings,
    ) -> bool:
        always = bool((settings.kl_coef and self.reference) or settings.entropy_coef)
        return any(
            sample.num_trained and (always or sample.advantage_N(advantage).any())
            for sample, advantage in zip(samples, advantages, strict=True)
        )

    @torch.no_grad()
    def _forward(self, engine: Any, mb: MicroBatch, temperature: float) -> tuple[Tensor, Tensor]:
        logp_N, entropy_N = engine(mb.input_ids_BT, mb.predicts_BT, mb.targets_N, temperature)
        return logp_N, entropy_N

    def logprobs(self, samples: Sequence[TrainSample], temperature: float) -> list[list[float]]:
        """Log-probs of the trained tokens of some samples, in order, whole on every rank."""
        mine: dict[int, list[float]] = {}
        for mb in self._deal(samples, [1.0] * len(samples)):
            logp_N = self._forward(self.engine, mb, temperature)[0].cpu()
            for b, row in enumerate(mb.rows):
                mine[row] = logp_N[mb.row_N.cpu() == b].tolist()
        everyone: list[Any] = [None] * self.spec.world_size
        dist.all_gather_object(everyone, mine)
        whole = {i: values for part in everyone for i, values in part.items()}
        return [whole[i] for i in range(len(samples))]

    # --- weights out ------------------------------------------------------------------------------

    def connect(self, client: EngineClient, address: str, port: int, num_workers: int) -> None:
        """Open the channel to all engine workers; rank 0 sends, the others take part in the
        gathers.

        Called again, it closes the old channel first. So engines may come and go during a run.
        """
        self.disconnect()
        kind = GlooSender if self.spec.device == "cpu" else NcclSender
        timeout = self.spec.transfer_timeout_seconds
        sender: WeightSender = kind(client, address, port, num_workers, timeout)
        sender.open(self.weights, self.rank)
        self.sender = sender

    def disconnect(self) -> None:
        """Close the channel; nothing where there is none."""
        if self.sender is not None:
            self.sender.close()
        self.sender = None

    def push_weights(self, version: int) -> None:
        """Hand the current weights to all engines, which from then on report `version`."""
        assert self.sender is not None, "connect() comes first"
        self.sender.send(self.weights, version)

    def save(self, folder: str, tokenizer_folder: str) -> str | None:
        """Write the policy as a Hugging Face folder on rank 0; returns the sha256 of its weights
        there.
        """
        return save_pretrained(
            self.policy, self.weights, Path(folder), Path(tokenizer_folder), self.rank
        )

    def state_dict(self) -> dict[str, int]:
        """Counters that decide what comes next. Weights and moments are partitioned and saved
        elsewhere.
        """
        return {"num_updates": self.num_updates}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on where `state_dict` stood."""
        self.num_updates = state["num_updates"]

    def partition_report(self) -> dict[str, float]:
        """How much of the model this rank holds between steps."""
        return zero.partition_report(self.policy)


def _measure(
    mb: MicroBatch, logp_N: Tensor, entropy_N: Tensor, kl_N: Tensor | None
) -> dict[int, Measured]:
    """Scalars of each sample of a micro-batch, by row of the batch."""
    found = {}
    for b, row in enumerate(mb.rows):
        own_N = mb.row_N == b
        count = max(int(own_N.sum()), 1)
        found[row] = Measured(
            kl=None if kl_N is None else float(kl_N[own_N].sum()),
            entropy=float(entropy_N[own_N].sum()) / count,
            mismatch=float((logp_N - mb.behaviour_logp_N)[own_N].sum()) / count,
        )
    return found


class _Metrics:
    """Metrics of one batch by name, over micro-batches here and over ranks in `reduce`."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.sums: dict[str, Tensor] = {}  # [2]: sum, count
        self.maxima: dict[str, Tensor] = {}
        self.loss = torch.zeros((), dtype=torch.float64, device=device)
        self.grad_norms: list[float] = []  # already norms over all ranks

    def add(self, inputs: LossInputs, found: Loss, learn: bool) -> None:
        """One micro-batch: what the objective says of itself, entropy, and the distance to the
        engine.
        """
        gap_N = (inputs.old_logp_N - inputs.behaviour_logp_N).abs()
        means = {
            "entropy": masked_mean(inputs.entropy_N, inputs.real_N),
            "logprob_gap_mean": masked_mean(gap_N, inputs.real_N),
            **found.means,
        }
        for name, (total, count) in means.items():
            pair = torch.stack([total.double(), count.double()]).detach()
            self.sums[name] = self.sums.get(name, torch.zeros_like(pair)) + pair
        maxima = {"logprob_gap_max": masked_max(gap_N, inputs.real_N), **found.maxima}
        for name, value in maxima.items():
            value = value.detach().double()
            # torch.maximum keeps NaN, which a comparison would lose
            self.maxima[name] = torch.maximum(self.maxima.get(name, value), value)
        if learn:
            self.loss += found.loss.detach()

    def add_update(self, grad_norm: float) -> None:
        """One optimizer step."""
        self.grad_norms.append(grad_norm)

    def reduce(self) -> dict[str, float]:
        """Metrics over all ranks: means per token; the loss and gradient norm as means over
        updates.
        """
        num_updates = max(len(self.grad_norms), 1)
        names, most = sorted(self.sums), sorted(self.maxima)
        sums = torch.stack([self.loss.expand(2), *(self.sums[name] for name in names)])
        dist.all_reduce(sums)
        largest = torch.stack([self.maxima[name] for name in most])
        # Reductions of MAX may lose a NaN: what is not a number is counted apart.
        broken = torch.isnan(largest).double()
        largest = torch.nan_to_num(largest, nan=0.0, posinf=torch.inf, neginf=-torch.inf)
        dist.all_reduce(largest, op=dist.ReduceOp.MAX)
        dist.all_reduce(broken, op=dist.ReduceOp.MAX)
        largest = torch.where(broken > 0, torch.nan, largest)
        rows = sums.tolist()
        means = {name: rows[i + 1][0] / max(rows[i + 1][1], 1) for i, name in enumerate(names)}
        return {
            "loss": rows[0][0] / num_updates,
            "grad_norm": sum(self.grad_norms) / num_updates,
            **means,
            **dict(zip(most, largest.tolist(), strict=True)),
        }


def free_address() -> tuple[str, int]:
    """This machine's address as others of the cluster see it, and a free port."""
    with socket.socket() as probe:
        probe.bind(("", 0))
        return own_address(), probe.getsockname()[1]


def own_address() -> str:
    """The address of the interface that leads out of this machine.

    The name of a machine may stand for 127.0.1.1, which no other machine can reach.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # reserved for documentation; UDP, so nothing is sent
            return str(probe.getsockname()[0])
        except OSError:
            return "127.0.0.1"
