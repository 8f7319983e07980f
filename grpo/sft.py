"""Supervised fine-tuning: examples, their log-likelihood, an update. The second loop.

    grpo sft --config-name sft_tiny trainer.max_steps=5

The learner is that of `grpo train`. Maximum likelihood is its REINFORCE objective with the
advantage 1 on tokens that somebody else chose, so micro-batches, ranks and the order of a batch
leave the gradient as it is. With `dpo` the examples are pairs, and the advantage of a response is
what its pair teaches (`grpo.algorithm.dpo`). The folder `policy` of a run is what `grpo train
model.path=...` starts from.

A recipe that cannot work is refused in under two seconds, before torch is imported.
"""

from __future__ import annotations

import math
import random
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from grpo.common.command_line import Parser, add_recipe, run, say
from grpo.common.errors import UserError
from grpo.common.provenance import git_hash, versions
from grpo.common.signals import held, limit_grace
from grpo.config.load import load_sft_config
from grpo.config.sft import SftConfig
from grpo.recovery import Resumable

if TYPE_CHECKING:
    from data.examples import Encoder, Example
    from grpo.checkpoint.folder import Checkpoint
    from grpo.inputs import Inputs, ModelInputs
    from grpo.rollout.scoring import GroupScorer
    from grpo.runtime.protocols import Learner, Rollouts
    from grpo.state import Evaluations
    from grpo.types import StepSettings, TrainSample

    # What one example of a batch is: a conversation, or the chosen and the rejected one of a pair.
    Unit = tuple[TrainSample, ...]

# What the learner says of an update that means something without engine, reward or ratio.
LEARNER_METRICS = ("loss", "entropy", "grad_norm", "lr", "weight_max")


def main(arguments: Sequence[str] | None = None) -> int:
    """Fine-tune from the command line; returns the exit code."""
    return run(_main, arguments)


def _main(arguments: Sequence[str] | None) -> int:
    parser = Parser("grpo sft", "Supervised fine-tuning as a recipe says.")
    add_recipe(parser)
    args = parser.parse(arguments)
    config = load_sft_config(args.config_name, args.overrides, args.config_dir)
    if config.supervise:
        from grpo.supervise import supervise

        return supervise("grpo.sft", args.config_name, args.overrides, args.config_dir, config)
    if config.runtime == "torchrun":
        from grpo.runtime.torchrun.launch import take_part

        take_part(config, lambda: run_sft(args.config_name, config))
    run_sft(args.config_name, config)
    return 0


def run_sft(recipe: str, config: SftConfig) -> Path:
    """Fine-tune as the recipe says and leave everything in its output folder, which is returned.

    Raises:
        UserError: a model, tokenizer, data set or cluster that cannot be used; found before any
            step.
        LostError, StorageError, Stopped: as `grpo.run.run_training`.
    """
    started = time.perf_counter()
    from grpo.checkpoint.folder import Checkpoints
    from grpo.checkpoint.resume import is_finished, recorded_bytes, starting_point
    from grpo.run import accuracy_gain, verdict, whole
    from grpo.tracking.folder import run_folder

    start = starting_point(config, say)
    if start is not None and is_finished(config, start, start.state["steps"]):
        return whole(start)
    with run_folder(config.output_dir, recipe, config.resume) as output_dir:
        inputs = load_sft_inputs(config, say)
        from grpo.tracking import open_run
        from grpo.tracking.record import cut_back

        tree, steps = config.as_tree(), num_steps(config, len(inputs.train))
        state = SftState.read(start)
        if start is not None:
            say(f"going on after step {state.step}, from {start.folder}")
        cut_back(output_dir, state.step, recorded_bytes(start, output_dir))
        limit_grace(config.checkpoint.grace_seconds)
        with (
            open_run(
                output_dir,
                tree,
                config.tracking,
                recipe,
                steps,
                git_hash(),
                state.step,
                goes_on=start is not None,
            ) as run,
            ExitStack() as processes,
        ):
            tuning = Tuning(
                config=config,
                inputs=inputs,
                state=state,
                scorer=None if config.rewards is None else config.rewards.scorer(),
                checkpoints=Checkpoints(output_dir),
                run=run,
                processes=processes,
            )
            final = tuning.to_the_end(start)
            run.status("saving the policy")
            with tuning.ending():
                policy = str(output_dir / "policy")
                sha256 = tuning.learner.save(policy, inputs.model.model_folder)
                summary: dict[str, Any] = {
                    "base": tuning.state.base,
                    "final": final,
                    "steps": tuning.state.step,
                    "trained_tokens": tuning.state.trained_tokens,
                    "wall_seconds": round(time.perf_counter() - started, 1),
                    "weights_sha256": sha256,
                    "versions": versions(),
                }
                if "sampled" in final:
                    gain = accuracy_gain(tuning.state.base["sampled"], final["sampled"])
                    summary = {"verdict": verdict(gain), **summary}
                run.close(summary)
    return output_dir


# --- what a run starts from ---------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, slots=True)
class SftInputs:
    """What a run starts from: checked, and found before anything expensive is started."""

    model: ModelInputs | Inputs  # `Inputs`, with problems to sample, where there are any
    train: list[Unit]
    held_out: list[TrainSample]


def load_sft_inputs(config: SftConfig, status: Callable[[str], None]) -> SftInputs:
    """Examples, held-out problems, model folder and tokenizer.

    Raises:
        UserError: any of them cannot be used, or this machine, where nothing but it is asked for,
            is too small.
    """
    from data.examples import Encoder, load_examples, load_pairs
    from grpo.inputs import Inputs, ModelInputs, engine_context
    from grpo.learner.model_folder import (
        check_model,
        embedding_rows,
        end_token_ids,
        load_tokenizer,
        model_folder,
        pad_token_id,
    )
    from grpo.rollout.prompts import check_rewards, load_problems, make_prompts, make_template
    from grpo.types import SamplingSettings

    data = config.data
    train: Sequence[tuple[Example, ...]]
    if config.dpo is None:
        train = [(e,) for e in load_examples(data.train, "data.train", config.seed, "train")]
    else:
        train = load_pairs(data.train, "data.train")
    held_out: list[Example] = []
    if data.held_out_examples is not None:
        held_out = load_examples(data.held_out_examples, "data.held_out_examples", 0, "held_out")
    problems = [] if data.held_out is None else load_problems("held_out", data.held_out, 0)
    seen = {unit[0].question for unit in train}
    check_apart(seen, "data.held_out_examples", [(e.question, e.where) for e in held_out])
    questions = [(" ".join(p.question.casefold().split()), p.id) for p in problems]
    check_apart(seen, "data.held_out", questions)
    limit = config.evaluation.max_response_tokens or 0
    if config.rewards is not None:
        with config.rewards.scorer() as scorer:
            check_rewards(problems, scorer, "data.held_out", limit)
    if config.runtime == "ray":
        from grpo.runtime.ray.cluster import check_machine

        check_machine(config, with_learner=True, with_engines=bool(problems))
    folder = model_folder(config.model, status)
    tokenizer = load_tokenizer(folder)
    context, rows = check_model(folder), embedding_rows(folder)
    template = make_template(data, tokenizer)
    model = ModelInputs(
        model_folder=str(folder),
        pad_token_id=pad_token_id(folder, tokenizer),
        end_token_ids=end_token_ids(folder, tokenizer),
        keeps_reference=config.dpo is not None,
    )
    if problems:
        prompts = make_prompts(problems, template, tokenizer)
        limits = {"evaluation.max_response_tokens": limit}
        model = Inputs(
            model_folder=model.model_folder,
            pad_token_id=model.pad_token_id,
            end_token_ids=model.end_token_ids,
            keeps_reference=model.keeps_reference,
            prompts=[],
            held_out=prompts,
            sampling=SamplingSettings(
                num_samples=1,
                temperature=config.evaluation.temperature,
                max_tokens=limit,
                stop=template.stop,
                cut=template.cut,
                seed=config.seed,
                prompt_opens_think=template.opens_think,
            ),
            max_model_len=engine_context(
                config.rollout.max_model_len, prompts, limits, context, rows
            ),
        )
    encoder = Encoder(
        tokenizer=tokenizer,
        template=data.template,
        # In a pair, earlier turns of the assistant belong to the prompt that both answers share.
        train_on=data.train_on if config.dpo is None else "last_assistant",
        end_token_ids=model.end_token_ids,
        system_prompt=data.system_prompt,
        enable_thinking=data.enable_thinking,
    )
    longest = data.max_tokens or context
    if longest > context:
        raise UserError(
            f"data.max_tokens={longest}: the context of the model is {context} tokens; lower it, "
            "or leave it null"
        )

    def samples(units: Sequence[tuple[Example, ...]], name: str) -> list[Unit]:
        return make_samples(
            units, encoder, name, longest, rows, status, drop=data.too_long == "drop"
        )

    measured = samples([(e,) for e in held_out], "data.held_out_examples") if held_out else []
    return SftInputs(
        model=model, train=samples(train, "data.train"), held_out=[unit[0] for unit in measured]
    )


def check_apart(trained: set[str], name: str, held_out: Sequence[tuple[str, str]]) -> None:
    """No held-out question may be trained on.

    Args:
        trained: questions in plain words.
        name: what messages call the held-out ones.
        held_out: each question in plain words, and where it comes from.

    Raises:
        UserError: names how many are in both, and one of them.
    """
    shared = [where for question, where in held_out if question in trained]
    if shared:
        raise UserError(
            f"{name}: {len(shared)} of {len(held_out)} questions are in data.train too, the first "
            f"is that of {shared[0]}; take them out of one"
        )


def make_samples(
    units: Sequence[tuple[Example, ...]],
    encoder: Encoder,
    name: str,
    longest: int,
    rows: int,
    status: Callable[[str], None],
    *,
    drop: bool,
) -> list[Unit]:
    """Token sequences of examples or pairs, all of them checked.

    Args:
        units: one conversation each, or the two of a pair.
        encoder: of the recipe.
        name: what messages call them.
        longest: tokens that a conversation may have.
        rows: tokens that have an embedding.
        status: told how many are left out.
        drop: leave longer ones out. A pair goes as a whole.

    Raises:
        UserError: examples that cannot be used, the first few by name, or too long ones that are
            not to be dropped.
    """
    import numpy as np

    from data.examples import refuse
    from data.sources.mappings import RowFault
    from grpo.types import TrainSample

    what = "pairs" if len(units[0]) > 1 else "examples"
    found: list[Unit] = []
    faults, long = [], []
    for unit in units:
        samples, said = [], ""
        for example in unit:
            try:
                encoded = encoder.encode(example)
                if (highest := max(encoded.token_ids)) >= rows:
                    raise RowFault(
                        "messages",
                        f"has the token {highest}, and the embedding of the model has {rows} rows; "
                        "resize it (resize_token_embeddings), or take the tokenizer of the model",
                    )
            except RowFault as fault:
                faults.append(f"{example.where}: {fault}")
                break
            size = len(encoded.token_ids)
            if size > longest:
                said = f"{example.where}: {size} tokens, and data.max_tokens is {longest}"
            samples.append(
                TrainSample(
                    token_ids_T=np.array(encoded.token_ids, np.int32),
                    loss_mask_T=np.array(encoded.loss_mask, np.bool_),
                    # Whoever wrote the text chose it with probability 1. So the gap to the policy,
                    # in nats, is the negative log-likelihood.
                    behaviour_logp_T=np.zeros(size, np.float32),
                    weight_version_T=np.full(size, -1, np.int32),
                )
            )
        else:
            if said:
                long.append(said)
            else:
                found.append(tuple(samples))
    refuse(name, faults, len(units), what)
    if long and not drop:
        advice = "raise data.max_tokens, or leave them out with data.too_long=drop"
        refuse(name, [f"{one}; {advice}" for one in long], len(units), what)
    if not found:
        raise UserError(f"{name}: all {len(long)} {what} are too long; the first: {long[0]}")
    if long:
        status(f"{name}: left out {len(long)} of {len(units)} {what}; the first: {long[0]}")
    return found


# --- the loop -----------------------------------------------------------------------------------


@dataclass(slots=True)
class SftState:
    """Where a run stands. Batches and the learning rate are functions of `step`."""

    step: int = 0  # updates done
    bad_steps: int = 0  # in a row, up to now
    trained_tokens: int = 0
    base: Evaluations = field(default_factory=dict)  # by name: `held_out`, `sampled` and `greedy`

    @classmethod
    def read(cls, start: Checkpoint | None) -> SftState:
        """The state of a checkpoint, or that of the beginning."""
        return cls(**{key: start.state[key] for key in cls.__slots__}) if start else cls()


@dataclass(kw_only=True)
class Tuning(Resumable["Evaluations"]):
    """A run of `grpo sft` at work."""

    config: SftConfig
    inputs: SftInputs
    state: SftState
    scorer: GroupScorer | None
    rollouts: Rollouts | None = field(default=None, init=False)  # None: no problems to sample
    learner: Learner = field(init=False)

    @property
    def step(self) -> int:
        """Updates done."""
        return self.state.step

    def attempt(self, start: Checkpoint | None) -> Evaluations:
        """Start the processes and fine-tune to the end."""
        from grpo.checkpoint.commits import Commits
        from grpo.parts import start_any

        run, config = self.run, self.config
        again = start is not None or self.commits is not None
        started = start_any(config, self.inputs.model, run.status, notice=run.notice, again=again)
        self.rollouts, learner = self.processes.enter_context(started)
        assert learner is not None
        self.learner = learner
        if start is not None:
            learner.load_state(start.learner_folder)
        self.commits = Commits(self.checkpoints, learner.save_state, run.notice)
        return tune(config, self.state, self)

    def rewind(self) -> Checkpoint | None:
        """Put state and record back to `newest`, or to the beginning."""
        from grpo.checkpoint.resume import recorded_bytes
        from grpo.tracking.record import cut_back

        start, run_dir = self.newest(), self.run.output_dir
        self.state = SftState.read(start)
        cut_back(run_dir, self.state.step, recorded_bytes(start, run_dir))
        return start


def tune(config: SftConfig, state: SftState, parts: Tuning) -> Evaluations:
    """Maximum likelihood or DPO on shuffled epochs, with evaluations before, between and after.

    Returns:
        The last evaluations.
    """
    from grpo.trainer import count_bad_steps, is_due

    learner, train = parts.learner, parts.inputs.train
    assert parts.commits is not None
    steps = num_steps(config, len(train))
    if parts.rollouts is not None:
        learner.connect(parts.rollouts)
    if not state.base:
        state.base = _evaluate(config, parts, state.step, whole=True)

    while state.step < steps:
        start = time.perf_counter()
        with held():  # Ctrl-C and SIGTERM wait for the commit
            units = [train[i] for i in batch_indices(config, len(train), state.step)]
            batch = [sample for unit in units for sample in unit]
            settings = step_settings(config, state.step, steps)
            if config.dpo is None:
                numbers = learn_likelihood(learner, batch, settings)
            else:
                numbers = learn_pairs(learner, batch, settings, config.dpo.beta)
            state.bad_steps = count_bad_steps(config, numbers, state.step + 1, state.bad_steps)

            state.step += 1
            counted = sum(sample.num_trained for sample in batch)
            state.trained_tokens += counted
            seconds = time.perf_counter() - start
            examples_seen = min(state.step * config.batch.num_examples, _total(config, len(train)))
            parts.run.log_step(
                {
                    "step": state.step,
                    **numbers,
                    "perplexity": perplexity(numbers["nll"]),
                    "epoch": examples_seen / len(train),
                    "examples": len(units),
                    "trained_tokens": counted,
                    "bad_steps": state.bad_steps,
                    "tokens_per_second": sum(sample.num_tokens for sample in batch) / seconds,
                    "seconds/learn": seconds,
                }
            )
            if is_due(config.evaluation.every, state.step) and state.step < steps:
                _evaluate(config, parts, state.step, whole=False)
            due = is_due(config.checkpoint.every, state.step) or state.step == steps
            tree = {**asdict(state), "steps": steps, "metrics_bytes": parts.run.position()}
            parts.commits.note(tree, due=due, keep=config.checkpoint.keep)

    return _evaluate(config, parts, state.step, whole=True)


def learn_likelihood(
    learner: Learner, batch: Sequence[TrainSample], settings: StepSettings
) -> dict[str, float]:
    """One update towards the examples of a batch."""
    learner.prepare(batch, settings)
    stats = learner.optimise([1.0] * len(batch), settings)
    nll = stats["logprob_gap_mean"]  # to a writer with probability 1
    return {key: stats[key] for key in LEARNER_METRICS} | {"nll": nll}


def learn_pairs(
    learner: Learner, batch: Sequence[TrainSample], settings: StepSettings, beta: float
) -> dict[str, float]:
    """One update of DPO.

    Args:
        learner: with a reference.
        batch: 2P responses: the chosen and the rejected one of each pair, side by side.
        settings: of the step. The learner divides the sum over tokens by the 2P responses alone,
            so its aggregation constant is 1.
        beta: of DPO.

    Returns:
        The learner's metrics with the loss of DPO, the implicit rewards beta (log policy - log
        reference), and `nll` of the chosen responses.
    """
    import torch

    from grpo.algorithm.dpo import dpo

    measured = learner.prepare(batch, settings, measure=True)
    assert measured is not None and settings.aggregation_constant == 1
    # `kl` is log policy - log reference, summed over the tokens of a response.
    ways_P2 = torch.tensor([one.kl for one in measured], dtype=torch.float64).view(-1, 2)
    pairs = dpo(ways_P2[:, 0], ways_P2[:, 1], beta)
    gradient_P2 = torch.stack([pairs.chosen_gradient_P, pairs.rejected_gradient_P], dim=1)
    # The learner minimises -(1 / 2P) sum_y advantage(y) log pi(y).
    advantages = (-len(batch) * gradient_P2).flatten().tolist()
    stats = learner.optimise(advantages, settings)
    tokens = [sample.num_trained for sample in batch[::2]]
    # The writer's probability is 1, so the mismatch is the mean log-prob.
    logp = sum(one.mismatch * size for one, size in zip(measured[::2], tokens, strict=True))
    chosen, rejected = (beta * ways_P2.mean(0)).tolist()
    return {key: stats[key] for key in LEARNER_METRICS} | {
        "loss": float(pairs.loss),
        "nll": -logp / sum(tokens),
        "reward_margin": float(pairs.margin_P.mean()),
        "pair_accuracy": float((pairs.margin_P > 0).double().mean()),
        "chosen_reward": chosen,
        "rejected_reward": rejected,
    }


def _total(config: SftConfig, num_examples: int) -> int:
    """Examples of the whole run, repeats included."""
    if config.trainer.epochs is not None:
        return config.trainer.epochs * num_examples
    assert config.trainer.max_steps is not None
    return config.trainer.max_steps * config.batch.num_examples


def num_steps(config: SftConfig, num_examples: int) -> int:
    """Steps of the whole run on so many examples."""
    return math.ceil(_total(config, num_examples) / config.batch.num_examples)


def batch_indices(config: SftConfig, num_examples: int, step: int) -> list[int]:
    """The examples of step `step` (0-based), a function of seed and step alone.

    Epochs are shuffled one by one and stand one after the other. A batch may have the end of one
    and the beginning of the next; only the last batch of the run can be smaller.
    """
    first = step * config.batch.num_examples
    last = min(first + config.batch.num_examples, _total(config, num_examples))
    found: list[int] = []
    for epoch in range(first // num_examples, (last - 1) // num_examples + 1):
        order = list(range(num_examples))
        random.Random(f"sft-{config.seed}-{epoch}").shuffle(order)
        begin = epoch * num_examples
        found += order[max(first - begin, 0) : last - begin]
    return found


def step_settings(config: SftConfig, step: int, steps: int) -> StepSettings:
    """What the learner needs to know of step `step` (0-based) of `steps`."""
    from grpo.algorithm.learning_rate import learning_rate
    from grpo.types import StepSettings

    optimizer = config.optimizer
    return StepSettings(
        lr=learning_rate(
            step,
            peak=optimizer.lr,
            max_steps=steps,
            warmup_steps=optimizer.warmup_steps or math.ceil(optimizer.warmup_share * steps),
            schedule=optimizer.schedule,
            final_share=optimizer.final_lr_share,
        ),
        temperature=1.0,
    )


def perplexity(nll: float) -> float:
    """exp(nll), infinite where that is too large for a float."""
    return math.exp(nll) if nll < 700 else math.inf


def held_out_metrics(
    samples: Sequence[TrainSample], logps: Sequence[Sequence[float]]
) -> Mapping[str, float]:
    """Likelihood of held-out examples.

    Args:
        samples: B examples.
        logps: [B] log-probs of the trained tokens of each.
    """
    tokens = sum(map(len, logps))
    nll = -math.fsum(logp for row in logps for logp in row) / tokens
    return {"nll": nll, "perplexity": perplexity(nll), "num_examples": len(samples)}


def _evaluate(config: SftConfig, parts: Tuning, step: int, *, whole: bool) -> Evaluations:
    """Likelihood of the held-out examples, and the held-out problems sampled and graded.

    Args:
        config: of the run.
        parts: of the run.
        step: updates so far, which is the version of the weights.
        whole: all problems with `evaluation.num_samples`; otherwise `interim_problems` with one.
    """
    found: dict[str, dict[str, float]] = {}
    start = time.perf_counter()
    if parts.inputs.held_out:
        parts.run.status(f"likelihood of {len(parts.inputs.held_out)} held-out examples")
        logps = parts.learner.logprobs(parts.inputs.held_out, 1.0)
        found["held_out"] = dict(held_out_metrics(parts.inputs.held_out, logps))
        seconds = time.perf_counter() - start
        parts.run.log_evaluation(
            step,
            "held_out",
            found["held_out"],
            [],
            seconds=seconds if parts.rollouts is None else None,
        )
    if parts.rollouts is None:
        return found
    from grpo.evaluation import metrics
    from grpo.evaluation.evaluate import evaluate
    from grpo.inputs import Inputs
    from grpo.trainer import hand_over

    inputs = parts.inputs.model
    assert isinstance(inputs, Inputs) and parts.scorer is not None
    # Evaluations are few, so the weights of each are proven.
    hand_over(config, parts.learner, step, first=True)
    prompts = inputs.held_out if whole else inputs.held_out[: config.evaluation.interim_problems]
    parts.run.status(f"evaluating {len(prompts)} held-out problems")
    evaluations = evaluate(
        config.evaluation,
        inputs.sampling,
        prompts,
        parts.rollouts,
        parts.scorer,
        config.evaluation.num_samples if whole else 1,
    )
    seconds = time.perf_counter() - start
    for evaluation in evaluations:
        rows = metrics.sample_rows(step, evaluation.groups, limit=64)
        parts.run.log_evaluation(
            step,
            evaluation.name,
            evaluation.metrics,
            rows,
            seconds=seconds if evaluation is evaluations[-1] else None,
        )
        found[evaluation.name] = evaluation.metrics
    return found


if __name__ == "__main__":
    sys.exit(main())
