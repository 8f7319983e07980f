"""One learner rank. A batch is prepared, then optimised, then the new weights go out of the
partitions.
"""

from __future__ import annotations

import gc
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor

from grpo.algorithm.aggregation import token_weights
from grpo.algorithm.importance import Correction, effective_sample_share
from grpo.algorithm.kl import k3
from grpo.algorithm.objectives import OBJECTIVES, Coefficients, Loss, LossInputs, PolicyTerm
from grpo.algorithm.objectives.base import masked_max, masked_mean
from grpo.common.faults import fault
from grpo.common.names import import_modules
from grpo.learner import lora, partitions, zero
from grpo.learner.export import save_pretrained
from grpo.learner.packing import (
    MicroBatch,
    advantages_of,
    collate,
    plan_microbatches,
    values_of,
)
from grpo.learner.spec import LearnerSpec
from grpo.types import (
    Advantage,
    Fingerprint,
    Measured,
    StepSettings,
    TrainSample,
    WeightReport,
)
from grpo.weights.gloo import meeting_point
from grpo.weights.hashes import MASK, HashedSource, compare
from grpo.weights.sender import GlooSender, NcclSender, WeightSender
from grpo.weights.wire import EngineClient, announcement

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Update:
    """One optimizer step of a batch, with what `prepare` found out about it; whole on every rank.

    Log-probs are [N] arrays, one for each sample. They belong to samples and not to micro-batches,
    because the samples are dealt again as soon as their advantages are known.
    """

    first: int  # index of its first sample in the batch
    samples: Sequence[TrainSample]
    weights: list[float]  # of every trained token of a sample, in the whole update
    old_logp: list[NDArray[np.float32]] | None  # None: the policy itself, which is on-policy
    reference_logp: list[NDArray[np.float32]] | None


class LearnerWorker:
    """One rank of the learner. Every method is a collective: call it on all ranks, with the same
    arguments.
    """

    def __init__(self, spec: LearnerSpec, rank: int) -> None:
        self.spec, self.rank = spec, rank
        self.device = torch.device(spec.device)
        self.sender: WeightSender | None = None
        self.num_updates = 0  # optimizer steps so far
        self._store: dist.TCPStore | None = None  # where the ranks met; rank 0 hosts it
        self._prepared: list[_Update] = []
        self._squares: dict[str, float] = {}  # of this rank's gradient by layer, last `optimise`
        self._reference_moved = False  # is it another model than that of the folder?

    def rendezvous(self, address: str, port: int = 0) -> int:
        """Open the store through which the ranks find each other. For rank 0.

        Args:
            address: of this machine, as the other ranks see it.
            port: 0 lets the system choose one.

        Returns:
            The port. It is bound from now on, so that nothing else can take it.
        """
        self._store = meeting_point(address, port, zero.TIMEOUT.seconds, host=True)
        return int(self._store.port)

    def start(self, address: str, port: int) -> None:
        """Join the other ranks, load the model in parts, and set up the optimizer.

        Args:
            address, port: what `rendezvous` has opened. Rank 0 opens it here if it has not.
        """
        spec, rank = self.spec, self.rank
        torch.set_num_threads(spec.learner.threads_per_rank)
        torch.manual_seed(
            0
        )  # nothing is drawn in training; a stray draw must not differ between runs
        import_modules(spec.modules)
        self.objective = OBJECTIVES[spec.objective]
        backend = "gloo" if spec.device == "cpu" else "nccl"
        if rank == 0 and self._store is None and not dist.is_initialized():
            port = self.rendezvous(address, port)
        zero.init_distributed(rank, spec.world_size, address, port, backend, self._store)
        settings = zero.ZeroSettings(
            folder=Path(spec.model_folder),
            dtype=getattr(torch, spec.dtype),
            max_grad_norm=spec.optimizer.max_grad_norm,
            param_persistence_threshold=spec.learner.param_persistence_threshold,
            head_chunk_tokens=spec.learner.head_chunk_tokens,
            float32_head=spec.float32_head,
            gradient_checkpointing=spec.learner.gradient_checkpointing,
            stage=spec.learner.zero_stage,
            lora=spec.learner.lora,
            offload_optimizer=spec.learner.offload_optimizer,
            offload_parameters=spec.learner.offload_parameters,
        )
        self.policy = zero.build_policy(settings)
        self.optimizer = zero.adamw(self.policy, spec.optimizer)
        self.engine = zero.wrap(self.policy, settings, self.optimizer)
        self.weights = HashedSource(zero.GatheredWeights(self.policy))
        self.reference = None
        if spec.with_reference and spec.learner.lora is None:
            self.reference = zero.wrap(zero.build_policy(settings), settings, optimizer=None)
        zero.limit_collectives(spec.collective_timeout_seconds)
        gc.freeze()  # what start-up made stays; the collector need not look at it again

    # --- a step: prepare, then optimise -----------------------------------------------------------

    def prepare(
        self, samples: Sequence[TrainSample], settings: StepSettings, *, measure: bool = False
    ) -> list[Measured] | None:
        """Compute what the optimisation of a batch needs of the policy as it is now.

        The first update is on-policy, so its old log-probs are the current ones, at no cost.

        Args:
            samples: the batch, the same on all ranks; split into `settings.num_updates` equal
                updates, in order.
            settings: of the step; the same must be given to `optimise`.
            measure: also return KL, entropy and mismatch of every sample, for rewards, advantages
                and masks that need log-probs. It costs a forward pass.
        """
        if self.sender is not None:
            self.sender.make_room()
        size = len(samples) // settings.num_updates
        self._prepared = []
        everyone: list[Measured] = []
        for first in range(0, size * settings.num_updates, size):
            chunk = samples[first : first + size]
            trained_B = torch.tensor([sample.num_trained for sample in chunk])
            aggregation = self.spec.algorithm.aggregation
            weights = token_weights(
                trained_B, aggregation, settings.aggregation_constant, settings.group_size
            ).tolist()
            old = entropy = reference = None
            if first > 0 or measure:
                old, entropy = self._measure(self.engine, chunk, settings.temperature)
            if self.reference is not None:
                reference, _ = self._measure(self.reference, chunk, settings.temperature)
            elif self.spec.with_reference:
                with lora.switched_off(self.policy):
                    reference, _ = self._measure(self.engine, chunk, settings.temperature)
            if measure:
                assert old is not None and entropy is not None
                for i, sample in enumerate(chunk):
                    count = max(sample.num_trained, 1)
                    behaviour_N = sample.behaviour_logp_T[sample.loss_mask_T]
                    everyone.append(
                        Measured(
                            kl=None if reference is None else float((old[i] - reference[i]).sum()),
                            entropy=float(entropy[i].sum()) / count,
                            mismatch=float((old[i] - behaviour_N).sum()) / count,
                        )
                    )
            kept = old if first > 0 else None
            self._prepared.append(_Update(first, chunk, weights, kept, reference))
        return everyone if measure else None

    def optimise(self, advantages: Sequence[Advantage], settings: StepSettings) -> dict[str, float]:
        """Train on the prepared batch and return the metrics of all ranks together.

        An update without any gradient term leaves weights and momentum as they are. So does one
        whose gradient is not finite: its norm in the metrics is infinite, and it is not counted.

        Args:
            advantages: one for each sample of the batch, a number or one for every token.
            settings: learning rate, clips and coefficients of this step.
        """
        assert self._prepared, "prepare() comes first"
        self._squares = {}
        for group in self.optimizer.param_groups:
            group["lr"] = settings.lr
        metrics = _Metrics(self.device)
        for update in self._prepared:
            mine = advantages[update.first : update.first + len(update.samples)]
            self._run(update, mine, settings, metrics)
        self._prepared = []
        metrics.maxima["weight_max"] = zero.largest_weight(self.policy, self.rank).to(self.device)
        return {"lr": settings.lr, **metrics.reduce()}

    def _run(
        self,
        update: _Update,
        advantages: Sequence[Advantage],
        settings: StepSettings,
        metrics: _Metrics,
    ) -> None:
        """Forward and objective over all samples, backward over those that teach, one optimizer
        step.

        A sample whose advantages are all 0 has no gradient where neither KL nor entropy is in the
        loss. It runs forward only, for the metrics. Both kinds are dealt to the ranks apart, so
        each is balanced, and every rank makes the same calls.
        """
        coefficients = self._coefficients(settings)
        with_kl = self.spec.with_reference and coefficients.kl_coef
        always = bool(with_kl or coefficients.entropy_coef)
        if not isinstance(self.objective, PolicyTerm) or self.objective.always:
            always = True  # nobody but the objective knows which tokens have no gradient
        teaching: list[int] = []
        silent: list[int] = []
        for i, sample in enumerate(update.samples):
            if sample.counts_only:
                continue
            teaches = always or bool(np.any(sample.advantage_N(advantages[i])))
            (teaching if teaches and sample.num_trained else silent).append(i)
        if teaching:  # samples without a trained token are in no metric either
            silent = [i for i in silent if update.samples[i].num_trained]
        for chosen, learn in ((silent, False), (teaching, True)):
            plan = self._plan(update.samples, chosen)
            if not learn and not plan and not teaching:
                # Everything was dropped. A dummy row makes metrics of the usual names.
                plan = [[[]] * self.spec.world_size]
            for i, ranks in enumerate(plan):
                mb = self._collate(update.samples, ranks, update.weights)
                fault("learner.forward", rank=self.rank)
                with torch.set_grad_enabled(learn):
                    logp_N, entropy_N = self.engine(
                        mb.input_ids_BT, mb.predicts_BT, mb.targets_N, settings.temperature
                    )
                    old_logp_N, reference_logp_N = logp_N.detach(), None
                    if update.old_logp is not None:
                        old_logp_N = values_of(mb, update.old_logp, old_logp_N)
                    if update.reference_logp is not None:
                        reference_logp_N = values_of(mb, update.reference_logp, logp_N.detach())
                    inputs = LossInputs(
                        logp_N=logp_N,
                        old_logp_N=old_logp_N,
                        behaviour_logp_N=mb.behaviour_logp_N,
                        reference_logp_N=reference_logp_N,
                        entropy_N=entropy_N,
                        advantage_N=advantages_of(mb, update.samples, advantages),
                        weight_N=mb.weight_N,
                        row_N=mb.row_N,
                        num_rows=max(len(mb.rows), 1),
                    )
                    found = self.objective(inputs, coefficients)
                metrics.add(inputs, found)
                if learn:
                    self.engine.set_gradient_accumulation_boundary(i == len(plan) - 1)
                    # DeepSpeed averages gradients over ranks; ours are parts of one global sum.
                    self.engine.backward(found.loss * self.spec.world_size, scale_wrt_gas=False)
                    if i < len(plan) - 1:
                        self.engine.step()
        if teaching:
            pieces = partitions.trained(self.engine, self.optimizer, self.rank)
            for layer, square in partitions.layer_squares(pieces, self.rank).items():
                self._squares[layer] = self._squares.get(layer, 0.0) + square
            fault("learner.step", rank=self.rank)
            grad_norm = zero.step(self.engine)
            metrics.add_update(grad_norm)
            self.num_updates += math.isfinite(grad_norm)

    def fingerprint(self, with_weights: bool = True) -> Fingerprint:
        """What the last `optimise` left behind: norms of its gradient, and hashes of the weights.

        Each rank looks at what it holds, and nothing is gathered but one number a layer.

        Args:
            with_weights: False leaves the hashes out. They are some passes of integer arithmetic
                over the weights.
        """
        pieces = partitions.trained(self.engine, self.optimizer, self.rank)
        hashes = partitions.layer_hashes(pieces, self.rank) if with_weights else {}
        everyone: list[Any] = [None] * self.spec.world_size
        dist.all_gather_object(everyone, (self._squares, hashes))
        return Fingerprint(
            gradients={
                layer: math.sqrt(sum(squares[layer] for squares, _ in everyone))
                for layer in self._squares
            },
            weights={layer: sum(own[layer] for _, own in everyone) & MASK for layer in hashes},
        )

    def _coefficients(self, settings: StepSettings) -> Coefficients:
        """What the objective is told in this step."""
        algorithm, correction = self.spec.algorithm, None
        mismatch = algorithm.mismatch
        if mismatch.correction != "none":
            correction = Correction(
                kind=mismatch.correction,
                level=mismatch.level,
                low=mismatch.low,
                high=mismatch.high,
            )
        return Coefficients(
            clip_low=settings.clip_low,
            clip_high=settings.clip_high,
            dual_clip=algorithm.dual_clip,
            mirror_tau=algorithm.mirror_tau,
            kl_coef=settings.kl_coef if algorithm.kl_in == "loss" else 0.0,
            kl_estimator=algorithm.kl_estimator,
            entropy_coef=settings.entropy_coef,
            correction=correction,
        )

    def _plan(self, samples: Sequence[TrainSample], chosen: Sequence[int]) -> list[list[list[int]]]:
        """`plan[micro_batch][rank]`: indices into `samples`, each of the chosen ones once."""
        lengths = [samples[i].num_tokens for i in chosen]
        budget = self.spec.learner.tokens_per_microbatch
        plan = plan_microbatches(lengths, self.spec.world_size, budget)
        return [[[chosen[i] for i in rows] for rows in ranks] for ranks in plan]

    def _collate(
        self, samples: Sequence[TrainSample], ranks: list[list[int]], weights: Sequence[float]
    ) -> MicroBatch:
        rows = ranks[self.rank]
        return collate(samples, rows, weights, self.spec.pad_token_id).to(self.device)

    @torch.no_grad()
    def _measure(
        self, engine: Any, samples: Sequence[TrainSample], temperature: float
    ) -> tuple[list[NDArray[np.float32]], list[NDArray[np.float32]]]:
        """Log-probs and entropies, [N] each, of every sample; whole on every rank. Zeros stand for
        samples that only count.
        """
        mine: dict[int, tuple[NDArray[np.float32], NDArray[np.float32]]] = {}
        chosen = [i for i, sample in enumerate(samples) if not sample.counts_only]
        for ranks in self._plan(samples, chosen):
            mb = self._collate(samples, ranks, [1.0] * len(samples))
            logp_N, entropy_N = engine(mb.input_ids_BT, mb.predicts_BT, mb.targets_N, temperature)
            ends = np.cumsum([samples[i].num_trained for i in mb.rows])[:-1]
            parts = (np.split(x_N.float().cpu().numpy(), ends) for x_N in (logp_N, entropy_N))
            mine |= dict(zip(mb.rows, zip(*parts, strict=True), strict=False))
        everyone: list[Any] = [None] * self.spec.world_size
        dist.all_gather_object(everyone, mine)
        whole = {i: values for part in everyone for i, values in part.items()}
        for i, sample in enumerate(samples):
            nothing = np.zeros(sample.num_trained, np.float32)
            whole.setdefault(i, (nothing, nothing))
        found = [whole[i] for i in range(len(samples))]
        return [logp_N for logp_N, _ in found], [entropy_N for _, entropy_N in found]

    def logprobs(self, samples: Sequence[TrainSample], temperature: float) -> list[list[float]]:
        """Log-probs of the trained tokens of some samples, in order, whole on every rank."""
        return [logp_N.tolist() for logp_N in self._measure(self.engine, samples, temperature)[0]]

    # --- weights out ------------------------------------------------------------------------------

    def connect(
        self,
        client: EngineClient,
        address: str,
        num_workers: int,
        *,
        sends: bool | None = None,
    ) -> None:
        """Open the channel to all engine workers; the ranks that do not send take part in the
        gathers.

        Called again, it closes the old channel first. So engines may come and go during a run.

        Args:
            client: the engines' control calls.
            address: where the engines meet this rank.
            num_workers: of the engines that `client` calls.
            sends: this rank has engines of its own to send to. None: rank 0 sends to all.
        """
        self.disconnect()
        self.client = client
        timeout = self.spec.transfer_timeout_seconds
        sender: WeightSender
        if self.spec.device == "cpu":
            sender = GlooSender(client, address, num_workers, timeout)
        elif self.spec.colocated:
            from grpo.weights.ipc import IpcSender  # loads vLLM

            sender = IpcSender(client, self.spec.transfer_buffer_bytes)
        else:
            size = self.spec.transfer_buffer_bytes
            sender = NcclSender(client, address, num_workers, timeout, size)
        sender.open(self.weights, self.rank == 0 if sends is None else sends)
        self.sender = sender

    def disconnect(self) -> None:
        """Close the channel; nothing where there is none."""
        if self.sender is not None:
            self.sender.close()
        self.sender = None

    def push_weights(self, version: int, check: bool = False) -> WeightReport | None:
        """Hand the current weights to all engines, which from then on report `version`.

        Args:
            version: of these weights.
            check: hash each tensor as it is gathered and sent, then compare with what the engines
                compute with.

        Returns:
            The comparison, on rank 0 and with `check` only.
        """
        assert self.sender is not None, "connect() comes first"
        comparing = check and self.rank == 0
        fault("learner.transfer", rank=self.rank, version=version)
        self.weights.active = comparing
        self.sender.send(self.weights, version)
        self.weights.active = False
        if not comparing:
            return None
        metadata = self.weights.metadata()
        held = self.client.weight_hashes(announcement(metadata))
        report = compare(version, metadata, self.weights.hashes(), held, self.policy.tied_names)
        bad = sorted(self.weights.not_finite())
        report.differing.extend(f"{name} at version {version} is not finite" for name in bad)
        return report

    def save(self, folder: str, tokenizer_folder: str) -> str | None:
        """Write the policy as a Hugging Face folder on rank 0; returns the sha256 of its weights
        there. Adapters are merged into it, and are in its folder `adapter` alone.

        Raises:
            OSError: the disk does not take it. All ranks raise it.
        """
        place, tokenizer = Path(folder), Path(tokenizer_folder)
        sha256 = self._together(
            lambda: save_pretrained(self.policy, self.weights, place, tokenizer, self.rank)
        )
        if (settings := self.spec.learner.lora) is not None:
            base, adapter = self.spec.model_folder, place / "adapter"
            self._together(lambda: lora.save(self.policy, settings, base, adapter, self.rank))
        return sha256

    def _together(self, write: Callable[[], T]) -> T:
        """What a write returns, once all ranks are done with theirs.

        Whoever hears of the end of a write finds the files of all ranks, or hears that there are
        none. A rank that failed and left would be missed in the next collective of the others.

        Args:
            write: of this rank. A collective in it must not fail on some ranks only.

        Raises:
            OSError: the disk of a rank did not take its files. All ranks raise it.
            Exception: anything else on the rank that it happened to, and RuntimeError on the
                others.
        """
        failed: Exception | None = None
        try:
            with partitions.disk_errors():
                written = write()
        except Exception as error:
            failed = error
        trouble = None
        if isinstance(failed, OSError):
            trouble = True, f"rank {self.rank}: {failed.strerror or failed}"
        elif failed is not None:
            trouble = False, f"rank {self.rank}: {type(failed).__name__}: {failed}"
        everyone: list[Any] = [None] * self.spec.world_size
        dist.all_gather_object(everyone, trouble)
        told = [one for one in everyone if one is not None]
        if not told:
            return written
        if failed is not None and not isinstance(failed, OSError):
            raise failed
        kind = OSError if all(of_disk for of_disk, _ in told) else RuntimeError
        raise kind("; ".join(text for _, text in told)) from failed

    def refresh_reference(self) -> None:
        """The policy of this moment becomes the reference."""
        zero.copy_weights(self.policy, self._reference_module())
        self._reference_moved = True

    def _reference_module(self) -> torch.nn.Module:
        assert self.reference is not None, "the recipe keeps no reference"
        found: torch.nn.Module = getattr(self.reference, "module", self.reference)
        return found

    def save_state(self, folder: str) -> None:
        """Write what decides the future: weights and moments that this rank holds, and those of the
        reference where it is not the model that training began from.

        Raises:
            OSError: the disk of a rank does not take them. All ranks raise it.
        """
        name = f"{self.rank:03d}.safetensors"

        def write() -> None:
            fault("learner.save", rank=self.rank)
            pieces = partitions.trained(self.engine, self.optimizer, self.rank)
            partitions.save(pieces, self.optimizer, Path(folder) / f"rank_{name}", self.rank)
            if self._reference_moved:
                pieces = partitions.frozen(self._reference_module(), self.rank)
                partitions.save(pieces, None, Path(folder) / f"reference_{name}", self.rank)

        self._together(write)

    def load_state(self, folder: str, *, with_moments: bool = True) -> None:
        """Go on where `save_state` stood, whatever number of ranks wrote it.

        Args:
            folder: that `save_state` wrote.
            with_moments: False takes the weights alone, and AdamW begins anew.

        Raises:
            ValueError: it is of another model.
        """
        files, references = (
            sorted(Path(folder).glob(f"{kind}_*.safetensors")) for kind in ("rank", "reference")
        )
        pieces = partitions.trained(self.engine, self.optimizer, self.rank)
        self.num_updates = partitions.load(pieces, self.optimizer, files, with_moments=with_moments)
        if references and self.reference is not None:
            partitions.load(
                partitions.frozen(self._reference_module(), self.rank), None, references
            )
            self._reference_moved = True
        self._prepared = []

    def partition_report(self) -> dict[str, float]:
        """How much of the model this rank holds between steps."""
        return zero.partition_report(self.policy)


class _Metrics:
    """Metrics of one batch by name, over micro-batches here and over ranks in `reduce`."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.sums: dict[str, Tensor] = {}  # [2]: sum, count
        self.maxima: dict[str, Tensor] = {}
        self.loss = torch.zeros((), dtype=torch.float64, device=device)
        self.grad_norms: list[float] = []  # already norms over all ranks

    def add(self, inputs: LossInputs, found: Loss) -> None:
        """One micro-batch: what the objective says of itself, entropy, and the distance to the
        engine.
        """
        gap_N = (inputs.old_logp_N - inputs.behaviour_logp_N).abs()
        means = {
            "entropy": masked_mean(inputs.entropy_N, inputs.real_N),
            "logprob_gap_mean": masked_mean(gap_N, inputs.real_N),
            "mismatch_kl": masked_mean(
                k3(inputs.behaviour_logp_N, inputs.old_logp_N), inputs.real_N
            ),
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
        if "importance" in means:
            mean, square = means.pop("importance"), means.pop("importance_square")
            means["effective_share"] = effective_sample_share(mean, square)
        return {
            "loss": rows[0][0] / num_updates,
            "grad_norm": sum(self.grad_norms) / num_updates,
            **means,
            **dict(zip(most, largest.tolist(), strict=True)),
        }
