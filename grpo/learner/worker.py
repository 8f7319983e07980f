"""One learner rank: log-probs, the GRPO update, and the way of the new weights out of the
partitions.
"""

from __future__ import annotations

import gc
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from grpo.algorithm import losses
from grpo.algorithm.learning_rate import learning_rate
from grpo.learner import zero
from grpo.learner.export import save_pretrained
from grpo.learner.packing import MicroBatch, collate, plan_microbatches
from grpo.learner.spec import LearnerSpec
from grpo.types import Batch, TrainSample
from grpo.weights.sender import GlooSender, NcclSender, WeightSender
from grpo.weights.wire import EngineClient


class LearnerWorker:
    """One rank of the learner. Every method is a collective: call it on all ranks, with the same
    arguments.
    """

    def __init__(self, spec: LearnerSpec, rank: int) -> None:
        self.spec, self.rank = spec, rank
        self.device = torch.device(spec.device)
        self.sender: WeightSender | None = None

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
        zero.init_distributed(
            rank, spec.world_size, address, port, "gloo" if spec.device == "cpu" else "nccl"
        )
        settings = zero.ZeroSettings(
            folder=Path(spec.model_folder),
            dtype=getattr(torch, spec.dtype),
            max_grad_norm=spec.optimizer.max_grad_norm,
            param_persistence_threshold=spec.learner.param_persistence_threshold,
            logits_per_chunk=spec.learner.logits_per_chunk,
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
        if spec.algorithm.kl_coef > 0:
            self.reference = zero.wrap(zero.build_policy(settings), settings, optimizer=None)
        gc.freeze()  # what start-up made stays; the collector need not look at it again

    # --- the update
    # ---------------------------------------------------------------------------------------------

    def update(self, batch: Batch, step: int) -> dict[str, float]:
        """Train on one batch, in `num_updates` optimizer steps, and return the metrics of all ranks
        together.

        An update without any gradient term leaves weights and momentum as they are. The learning
        rate goes by `step`.
        """
        lr = self._set_learning_rate(step)
        chunks = _chunks(batch.samples, self.spec.num_updates)
        plans = [self._plan(chunk) for chunk in chunks]
        sums, num_updates = _Sums(self.device), 0
        # One update per batch is on-policy: the old log-probs are the current ones, at no cost.
        old: list[list[Tensor] | None] = [None] * len(plans)
        if len(plans) > 1:
            old = [
                [self._forward(self.engine, mb, batch.temperature)[0] for mb in plan]
                for plan in plans
            ]
        for chunk, plan, old_logp in zip(chunks, plans, old, strict=True):
            if self._has_gradient(chunk):
                self._update_once(plan, old_logp, batch.temperature, sums)
                num_updates += 1
            else:
                self._measure(plan, old_logp, batch.temperature, sums)
        return {"lr": lr, **sums.reduce(num_updates)}

    def _measure(
        self,
        plan: Sequence[MicroBatch],
        old_logp: Sequence[Tensor] | None,
        temperature: float,
        sums: _Sums,
    ) -> None:
        """The metrics of samples that nothing can be learned from."""
        for i, mb in enumerate(plan):
            logp_N, entropy_N = self._forward(self.engine, mb, temperature)
            sums.add(mb, entropy_N)
            sums.add_gap(mb, logp_N if old_logp is None else old_logp[i])

    def _update_once(
        self,
        plan: Sequence[MicroBatch],
        old_logp: Sequence[Tensor] | None,
        temperature: float,
        sums: _Sums,
    ) -> None:
        """Forward and backward over all micro-batches, then one optimizer step."""
        algorithm = self.spec.algorithm
        for i, mb in enumerate(plan):
            logp_N, entropy_N = self.engine(
                mb.input_ids_BT, mb.predicts_BT, mb.targets_N, temperature
            )
            old_N = logp_N.detach() if old_logp is None else old_logp[i]
            pieces = losses.policy_loss(
                logp_N,
                old_N,
                mb.advantage_N,
                mb.weight_N,
                clip_low=algorithm.clip_low,
                clip_high=algorithm.clip_high,
            )
            loss = pieces.loss
            if self.reference is not None:
                kl_N = losses.k3(logp_N, self._forward(self.reference, mb, temperature)[0])
                loss = loss + algorithm.kl_coef * (kl_N * mb.weight_N).sum()
                sums.add_kl(mb, kl_N.detach())
            if algorithm.entropy_coef:
                loss = loss - algorithm.entropy_coef * (entropy_N * mb.weight_N).sum()
            self.engine.set_gradient_accumulation_boundary(i == len(plan) - 1)
            # DeepSpeed averages gradients over ranks; ours are parts of one global sum.
            self.engine.backward(loss * self.spec.world_size, scale_wrt_gas=False)
            self.engine.step()
            sums.add(mb, entropy_N.detach(), loss.detach(), pieces)
            sums.add_gap(mb, old_N)
        sums.grad_norm += float(self.engine.get_global_grad_norm())

    def _plan(self, samples: Sequence[TrainSample]) -> list[MicroBatch]:
        """This rank's micro-batches of one update, with token weights of the global batch."""
        algorithm = self.spec.algorithm
        response_lengths = torch.tensor([len(s.response_token_ids) for s in samples])
        weights = losses.token_weights(
            response_lengths, algorithm.aggregation, self.spec.aggregation_constant
        ).tolist()
        lengths = [len(s.prompt_token_ids) + len(s.response_token_ids) for s in samples]
        plan = plan_microbatches(
            lengths, self.spec.world_size, self.spec.learner.tokens_per_microbatch
        )
        mine = [micro[self.rank] for micro in plan]
        batches = [
            collate([samples[i] for i in rows], [weights[i] for i in rows], self.spec.pad_token_id)
            for rows in mine
        ]
        return [MicroBatch(*(tensor.to(self.device) for tensor in mb)) for mb in batches]

    def _has_gradient(self, samples: Sequence[TrainSample]) -> bool:
        algorithm = self.spec.algorithm
        always = bool((algorithm.kl_coef and self.reference) or algorithm.entropy_coef)
        return any(s.response_token_ids and (always or s.advantage) for s in samples)

    def _set_learning_rate(self, step: int) -> float:
        optimizer = self.spec.optimizer
        lr = learning_rate(
            step,
            peak=optimizer.lr,
            max_steps=self.spec.max_steps,
            warmup_steps=optimizer.warmup_steps,
            schedule=optimizer.schedule,
            final_share=optimizer.final_lr_share,
        )
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        return lr

    @torch.no_grad()
    def _forward(self, engine: Any, mb: MicroBatch, temperature: float) -> tuple[Tensor, Tensor]:
        return engine(mb.input_ids_BT, mb.predicts_BT, mb.targets_N, temperature)

    def logprobs(self, samples: Sequence[TrainSample], temperature: float) -> list[list[float]]:
        """Log-probs of the response tokens of some samples, in order, whole on every rank."""
        lengths = [len(s.prompt_token_ids) + len(s.response_token_ids) for s in samples]
        plan = plan_microbatches(
            lengths, self.spec.world_size, self.spec.learner.tokens_per_microbatch
        )
        mine: dict[int, list[float]] = {}
        for micro in plan:
            rows = micro[self.rank]
            mb = collate([samples[i] for i in rows], [1.0] * len(rows), self.spec.pad_token_id)
            logp_N, _ = self._forward(
                self.engine, MicroBatch(*(t.to(self.device) for t in mb)), temperature
            )
            parts = (
                logp_N.cpu().split([len(samples[i].response_token_ids) for i in rows])
                if rows
                else []
            )
            mine.update({i: part.tolist() for i, part in zip(rows, parts, strict=True)})
        everyone: list[Any] = [None] * self.spec.world_size
        dist.all_gather_object(everyone, mine)
        whole = {i: values for part in everyone for i, values in part.items()}
        return [whole[i] for i in range(len(samples))]

    # --- weights out
    # --------------------------------------------------------------------------------------------

    def connect(self, client: EngineClient, address: str, port: int, num_workers: int) -> None:
        """Open the channel to all engine workers; rank 0 sends, the others take part in the
        gathers.
        """
        if self.spec.device == "cpu":
            self.sender = GlooSender(client, address, port, num_workers)
        else:
            self.sender = NcclSender(client, address, port, num_workers)
        self.sender.open(self.weights, self.rank)

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

    def partition_report(self) -> dict[str, float]:
        """How much of the model this rank holds between steps."""
        return zero.partition_report(self.policy)


class _Sums:
    """Metrics of one batch, summed over micro-batches here and over ranks in `reduce`."""

    def __init__(self, device: torch.device) -> None:
        # loss, clipped, entropy, tokens, gap, kl
        self.total = torch.zeros(6, dtype=torch.float64, device=device)
        self.largest = torch.zeros(2, dtype=torch.float64, device=device)  # ratio, gap
        self.grad_norm = 0.0  # already a norm over all ranks
        self.with_kl = False

    def add(
        self,
        mb: MicroBatch,
        entropy_N: Tensor,
        loss: Tensor | None = None,
        pieces: losses.PolicyLoss | None = None,
    ) -> None:
        """One micro-batch: entropy, and what training on it came to."""
        real_N = mb.weight_N > 0
        self.total[2] += (entropy_N * real_N).sum()
        self.total[3] += real_N.sum()
        if loss is not None and pieces is not None:
            self.total[0] += loss
            self.total[1] += pieces.clipped
            self.largest[0] = max(self.largest[0], pieces.ratio_max)

    def add_gap(self, mb: MicroBatch, logp_N: Tensor) -> None:
        """Distance to the engine's log-probs of one micro-batch, under the weights that both
        sampled it with.
        """
        gap_N = (logp_N - mb.engine_logp_N).abs() * (mb.weight_N > 0)
        self.total[4] += gap_N.sum()
        if gap_N.numel():  # responses may be empty
            self.largest[1] = max(self.largest[1], gap_N.max())

    def add_kl(self, mb: MicroBatch, kl_N: Tensor) -> None:
        """KL to the reference of one micro-batch."""
        self.with_kl = True
        self.total[5] += (kl_N * (mb.weight_N > 0)).sum()

    def reduce(self, num_updates: int) -> dict[str, float]:
        """Metrics over all ranks: means per token; the loss and gradient norm as means over
        updates.
        """
        dist.all_reduce(self.total)
        dist.all_reduce(self.largest, op=dist.ReduceOp.MAX)
        loss, clipped, entropy, tokens, gap, kl = self.total.tolist()
        ratio_max, gap_max = self.largest.tolist()
        metrics = {
            "entropy": entropy / max(tokens, 1),
            "loss": loss / max(num_updates, 1),
            "ratio_max": ratio_max if num_updates else 1.0,
            "clip_share": clipped / max(tokens, 1),
            "grad_norm": self.grad_norm / max(num_updates, 1),
            "logprob_gap_mean": gap / max(tokens, 1),
            "logprob_gap_max": gap_max,
        }
        return {**metrics, "kl": kl / max(tokens, 1)} if self.with_kl else metrics


def free_address() -> tuple[str, int]:
    """This machine's address as others of the cluster see it, and a free port."""
    with socket.socket() as probe:
        probe.bind(("", 0))
        return _own_address(), probe.getsockname()[1]


def _own_address() -> str:
    try:
        return socket.gethostbyname(socket.gethostname())
    except OSError:
        return "127.0.0.1"


def _chunks(samples: Sequence[TrainSample], count: int) -> list[Sequence[TrainSample]]:
    size = len(samples) // count
    return [samples[i * size : (i + 1) * size] for i in range(count)]
