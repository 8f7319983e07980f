"""Supervised fine-tuning: examples, their log-likelihood, an update. The second loop.

    grpo sft --config-name sft_tiny trainer.max_steps=5

The learner is that of `grpo train`. Maximum likelihood is its REINFORCE objective with the
advantage 1 on tokens that somebody else chose, so micro-batches, ranks and the order of a batch
leave the gradient as it is. The folder `policy` of a run is what `grpo train model.path=...` starts
from.

A recipe that cannot work is refused in under two seconds, before torch is imported.
"""

from __future__ import annotations

import math
import random
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from grpo.common.command_line import Parser, add_recipe, run
from grpo.common.errors import UserError
from grpo.config.load import load_sft_config
from grpo.config.sft import SftConfig

if TYPE_CHECKING:
    from data.examples import Encoder, Example
    from grpo.checkpoint.folder import Checkpoints
    from grpo.rollout.scoring import GroupScorer
    from grpo.run import Inputs, ModelInputs
    from grpo.runtime.protocols import Learner, Rollouts
    from grpo.state import Evaluations
    from grpo.tracking import Run
    from grpo.types import StepSettings, TrainSample

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
    run_sft(args.config_name, config)
    return 0


def run_sft(recipe: str, config: SftConfig) -> Path:
    """Fine-tune as the recipe says and leave everything in its output folder, which is returned.

    Raises:
        UserError: a model, tokenizer, data set or cluster that cannot be used; found before any
            step.
    """
    started = time.perf_counter()
    from grpo.checkpoint.folder import Checkpoints
    from grpo.checkpoint.resume import is_finished, starting_point
    from grpo.run import accuracy_gain, git_hash, say, start_any, verdict, versions, whole
    from grpo.tracking.folder import run_folder

    start = starting_point(config, say)
    if start is not None and is_finished(config, start, start.state["steps"]):
        return whole(start)
    with run_folder(config.output_dir, recipe, config.resume) as output_dir:
        inputs = load_sft_inputs(config, say)
        from grpo.tracking import open_run
        from grpo.tracking.record import cut_back

        tree, steps = config.as_tree(), num_steps(config, len(inputs.train))
        state, bytes_then = SftState(), 0
        if start is not None:
            bytes_then = start.state["metrics_bytes"]
            state = SftState(**{key: start.state[key] for key in SftState.__slots__})
            say(f"going on after step {state.step}, from {start.folder}")
        cut_back(output_dir, state.step, bytes_then)
        with (
            start_any(config, inputs.model, say) as (rollouts, learner),
            open_run(
                output_dir, tree, config.tracking, recipe, steps, git_hash(), state.step
            ) as run,
        ):
            assert learner is not None
            if start is not None:
                learner.load_state(start.learner_folder)
            parts = SftParts(
                inputs=inputs,
                rollouts=rollouts,
                learner=learner,
                scorer=None if config.rewards is None else config.rewards.scorer(),
                run=run,
                checkpoints=Checkpoints(output_dir),
            )
            final = tune(config, state, parts)
            run.status("saving the policy")
            sha256 = learner.save(str(output_dir / "policy"), inputs.model.model_folder)
            summary: dict[str, Any] = {
                "base": state.base,
                "final": final,
                "steps": state.step,
                "trained_tokens": state.trained_tokens,
                "wall_seconds": round(time.perf_counter() - started, 1),
                "weights_sha256": sha256,
                "versions": versions(),
            }
            if "sampled" in final:
                gain = accuracy_gain(state.base["sampled"], final["sampled"])
                summary = {"verdict": verdict(gain), **summary}
            run.close(summary)
    return output_dir


# --- what a run starts from ---------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, slots=True)
class SftInputs:
    """What a run starts from: checked, and found before anything expensive is started."""

    model: ModelInputs | Inputs  # `Inputs`, with problems to sample, where there are any
    train: list[TrainSample]
    held_out: list[TrainSample]


def load_sft_inputs(config: SftConfig, status: Callable[[str], None]) -> SftInputs:
    """Examples, held-out problems, model folder and tokenizer.

    Raises:
        UserError: any of them cannot be used, or this machine, where nothing but it is asked for,
            is too small.
    """
    from data.examples import Encoder, load_examples
    from grpo.learner.model_folder import (
        check_model,
        embedding_rows,
        end_token_ids,
        load_tokenizer,
        model_folder,
        pad_token_id,
    )
    from grpo.rollout.prompts import check_rewards, load_problems, make_prompts, make_template
    from grpo.run import Inputs, ModelInputs, engine_context
    from grpo.types import SamplingSettings

    data = config.data
    train = load_examples(data.train, "data.train", config.seed, "train")
    held_out: list[Example] = []
    if data.held_out_examples is not None:
        held_out = load_examples(data.held_out_examples, "data.held_out_examples", 0, "held_out")
    problems = [] if data.held_out is None else load_problems("held_out", data.held_out, 0)
    seen = {example.question for example in train}
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
    )
    if problems:
        prompts = make_prompts(problems, template, tokenizer)
        limits = {"evaluation.max_response_tokens": limit}
        model = Inputs(
            model_folder=model.model_folder,
            pad_token_id=model.pad_token_id,
            end_token_ids=model.end_token_ids,
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
        train_on=data.train_on,
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

    def samples(examples: Sequence[Example], name: str) -> list[TrainSample]:
        return make_samples(
            examples, encoder, name, longest, rows, status, drop=data.too_long == "drop"
        )

    return SftInputs(
        model=model,
        train=samples(train, "data.train"),
        held_out=samples(held_out, "data.held_out_examples") if held_out else [],
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
    examples: Sequence[Example],
    encoder: Encoder,
    name: str,
    longest: int,
    rows: int,
    status: Callable[[str], None],
    *,
    drop: bool,
) -> list[TrainSample]:
    """Token sequences of examples, all of them checked.

    Args:
        examples: conversations.
        encoder: of the recipe.
        name: what messages call them.
        longest: tokens that one may have.
        rows: tokens that have an embedding.
        status: told how many are left out.
        drop: leave longer ones out.

    Raises:
        UserError: examples that cannot be used, the first few by name, or too long ones that are
            not to be dropped.
    """
    import numpy as np

    from data.examples import refuse
    from data.sources.mappings import RowFault
    from grpo.types import TrainSample

    samples, faults, long = [], [], []
    for example in examples:
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
            continue
        size = len(encoded.token_ids)
        if size > longest:
            long.append(f"{example.where}: {size} tokens, and data.max_tokens is {longest}")
            continue
        samples.append(
            TrainSample(
                token_ids_T=np.array(encoded.token_ids, np.int32),
                loss_mask_T=np.array(encoded.loss_mask, np.bool_),
                # Whoever wrote the text chose it with probability 1. So the gap to the policy, in
                # nats, is the negative log-likelihood.
                behaviour_logp_T=np.zeros(size, np.float32),
                weight_version_T=np.full(size, -1, np.int32),
            )
        )
    refuse(name, faults, len(examples))
    if long and not drop:
        advice = "raise data.max_tokens, or leave them out with data.too_long=drop"
        refuse(name, [f"{one}; {advice}" for one in long], len(examples))
    if not samples:
        raise UserError(f"{name}: all {len(long)} examples are too long; the first: {long[0]}")
    if long:
        status(f"{name}: left out {len(long)} of {len(examples)} examples; the first: {long[0]}")
    return samples


# --- the loop -----------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, slots=True)
class SftParts:
    """What a run is made of, besides its recipe."""

    inputs: SftInputs
    rollouts: Rollouts | None  # None where there are no problems to sample
    learner: Learner
    scorer: GroupScorer | None
    run: Run
    checkpoints: Checkpoints


@dataclass(slots=True)
class SftState:
    """Where a run stands. Batches and the learning rate are functions of `step`."""

    step: int = 0  # updates done
    bad_steps: int = 0  # in a row, up to now
    trained_tokens: int = 0
    base: Evaluations = field(default_factory=dict)  # by name: `held_out`, `sampled` and `greedy`


def tune(config: SftConfig, state: SftState, parts: SftParts) -> Evaluations:
    """Maximum likelihood on shuffled epochs, with evaluations before, between and after.

    Returns:
        The last evaluations.
    """
    from grpo.trainer import count_bad_steps, is_due

    learner, train = parts.learner, parts.inputs.train
    steps = num_steps(config, len(train))
    if parts.rollouts is not None:
        learner.connect(parts.rollouts)
    if not state.base:
        state.base = _evaluate(config, parts, state.step, whole=True)

    while state.step < steps:
        start = time.perf_counter()
        batch = [train[i] for i in batch_indices(config, len(train), state.step)]
        settings = step_settings(config, state.step, steps)
        learner.prepare(batch, settings)
        stats = learner.optimise([1.0] * len(batch), settings)
        nll = stats["logprob_gap_mean"]  # to a writer with probability 1
        numbers = {key: stats[key] for key in LEARNER_METRICS} | {"nll": nll}
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
                "perplexity": perplexity(nll),
                "epoch": examples_seen / len(train),
                "examples": len(batch),
                "trained_tokens": counted,
                "bad_steps": state.bad_steps,
                "tokens_per_second": sum(sample.num_tokens for sample in batch) / seconds,
                "seconds/learn": seconds,
            }
        )
        if is_due(config.evaluation.every, state.step) and state.step < steps:
            _evaluate(config, parts, state.step, whole=False)
        if is_due(config.checkpoint.every, state.step) or state.step == steps:
            tree = {**asdict(state), "steps": steps, "metrics_bytes": parts.run.position()}
            parts.checkpoints.write(tree, learner.save_state)
            parts.checkpoints.prune(parts.checkpoints.steps()[-config.checkpoint.keep :])

    return _evaluate(config, parts, state.step, whole=True)


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


def _evaluate(config: SftConfig, parts: SftParts, step: int, *, whole: bool) -> Evaluations:
    """Likelihood of the held-out examples, and the held-out problems sampled and graded.

    Args:
        config: of the run.
        parts: of the run.
        step: updates so far, which is the version of the weights.
        whole: all problems with `evaluation.num_samples`; otherwise `interim_problems` with one.
    """
    found: dict[str, dict[str, float]] = {}
    if parts.inputs.held_out:
        parts.run.status(f"likelihood of {len(parts.inputs.held_out)} held-out examples")
        logps = parts.learner.logprobs(parts.inputs.held_out, 1.0)
        found["held_out"] = dict(held_out_metrics(parts.inputs.held_out, logps))
        parts.run.log_evaluation(step, "held_out", found["held_out"], [])
    if parts.rollouts is None:
        return found
    from grpo.evaluation import metrics
    from grpo.evaluation.evaluate import evaluate
    from grpo.run import Inputs
    from grpo.trainer import hand_over

    inputs = parts.inputs.model
    assert isinstance(inputs, Inputs) and parts.scorer is not None
    # Evaluations are few, so the weights of each are proven.
    hand_over(config, parts.learner, step, first=True)
    prompts = inputs.held_out if whole else inputs.held_out[: config.evaluation.interim_problems]
    parts.run.status(f"evaluating {len(prompts)} held-out problems")
    for evaluation in evaluate(
        config.evaluation,
        inputs.sampling,
        prompts,
        parts.rollouts,
        parts.scorer,
        config.evaluation.num_samples if whole else 1,
    ):
        rows = metrics.sample_rows(step, evaluation.groups, limit=64)
        parts.run.log_evaluation(step, evaluation.name, evaluation.metrics, rows)
        found[evaluation.name] = evaluation.metrics
    return found


if __name__ == "__main__":
    sys.exit(main())
