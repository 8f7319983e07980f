"""The faults that `benchmarks.mutants` plants."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Fault:
    """name: what it means. where: folder or file. old, new: the text. tests: who should notice."""

    name: str
    where: str
    old: str
    new: str
    tests: tuple[str, ...]


ALGORITHM = ("tests/algorithm",)
LEARNER = ("tests/algorithm", "tests/learner")
STACK = ("tests/stack/test_shared_stack.py",)
RUN = ("tests/stack/test_run.py",)
FORMULAS = ("tests/rewards/test_formulas.py",)
COMPOSE = ("tests/rewards/test_compose.py",)
CURRICULUM = ("tests/data/test_curriculum.py",)
CLEAN = ("tests/data/test_decontaminate.py",)

FAULTS = [
    # advantages and aggregation
    Fault("no standard deviation", "grpo/algorithm", "centred_PG / (spread_P1 + eps)",
          "centred_PG", ALGORITHM),
    Fault("baseline over the batch, not the group", "grpo/algorithm",
          "rewards_PG.mean(dim=1, keepdim=True)", "rewards_PG.mean()", ALGORITHM),
    Fault("population and sample deviation swapped", "grpo/algorithm",
          '0 if std == "population" else 1', '1 if std == "population" else 0', ALGORITHM),
    Fault("all-equal groups get rounding noise", "grpo/algorithm",
          "centred_PG = torch.where(zero_variance(rewards_PG)[:, None], 0.0, centred_PG)",
          "pass", ALGORITHM),
    Fault("zero-variance groups are those of any equal pair", "grpo/algorithm",
          "(rewards_PG == rewards_PG[:, :1]).all(dim=1)",
          "(rewards_PG == rewards_PG[:, :1])[:, 1]", ALGORITHM),
    Fault("wrong aggregation constant", "grpo/algorithm", "1.0 / (constant * num_responses)",
          "1.0 / constant", ALGORITHM),
    Fault("token-mean is by responses", "grpo/algorithm",
          "torch.full_like(lengths_B, 1.0) / lengths_B.sum()",
          "torch.full_like(lengths_B, 1.0) / num_responses", ALGORITHM),
    Fault("warm-up starts at nought", "grpo/algorithm", "peak * (step + 1) / warmup_steps",
          "peak * step / warmup_steps", ALGORITHM),
    Fault("schedule ends at nought whatever final_share", "grpo/algorithm",
          "peak * (final_share + (1.0 - final_share) * falling)", "peak * falling", ALGORITHM),
    Fault("KL the other way round", "grpo/algorithm", "d_N = reference_logp_N - logp_N",
          "d_N = logp_N - reference_logp_N", ALGORITHM),
    # packing and masks
    Fault("trained positions shifted by one", "grpo/learner", "position_T >= first_B[:, None]",
          "position_T > first_B[:, None]", LEARNER),
    Fault("micro-batches one row too large", "grpo/learner",
          "max(1, tokens_per_microbatch // max(lengths[order[0]], 1))",
          "1 + tokens_per_microbatch // max(lengths[order[0]], 1)", LEARNER),
    Fault("entropy's gradient has the wrong sign", "grpo/learner",
          "grad_logits_CV -= p_CV * (logp_CV + entropy_C1)",
          "grad_logits_CV += p_CV * (logp_CV + entropy_C1)", LEARNER),
    # rewards
    Fault("weights of rewards ignored", "rewards",
          "self.components[name].weight * reward.score for", "reward.score for", COMPOSE),
    Fault("a gate lets nought through", "rewards", "if rewards[name].score <= 0)",
          "if rewards[name].score < 0)", COMPOSE),
    Fault("tags may repeat", "rewards", "if (count := text.count(tag)) != 1:",
          "if (count := text.count(tag)) < 1:", FORMULAS),
    Fault("repeated share counts from the wrong side", "rewards",
          "return 1 - len({tuple(units[i : i + ngram])", "return len({tuple(units[i : i + ngram])",
          ("tests/rewards/test_repetition.py",)),
    Fault("dense penalty forgets what it saw", "rewards", "        seen.add(gram)", "        pass",
          FORMULAS),
    Fault("overlong penalty positive", "rewards", "(expected - length) / cache_tokens",
          "(length - expected) / cache_tokens", FORMULAS),
    Fault("Kimi's length reward rewards length", "rewards",
          "share = 0.5 - (length - shortest)", "share = (length - shortest) - 0.5", FORMULAS),
    Fault("truncation unpunished", "rewards",
          'Reward(penalty, "truncated") if sample.truncated',
          'Reward(0.0, "truncated") if sample.truncated', FORMULAS),
    Fault("subtraction adds", "rewards", 'value + term if sign == "+" else value - term',
          "value + term", (*FORMULAS, "tests/data/test_checkers.py")),
    # data
    Fault("evaluation problems stay in training", "data",
          "        matches = map_ordered(", "        matches = [None] * len(problems) or (",
          CLEAN),
    Fault("n-grams one word short", "data", "range(len(words) - size + 1)",
          "range(len(words) - size)", CLEAN),
    Fault("shared numbers not asked for", "data",
          "self.numbers[position] <= reading.views[0].numbers", "True", CLEAN),
    Fault("cosine curriculum runs backwards", "data", "0.5 * (1 + math.cos(math.pi * u))",
          "0.5 * (1 - math.cos(math.pi * u))", CURRICULUM),
    Fault("the easiest level is the hardest", "data",
          "sorted(problems, key=_pass_rate, reverse=True)", "sorted(problems, key=_pass_rate)",
          CURRICULUM),
    Fault("levels sort as words", "data", "return (0, float(level), level)",
          "return (0, 0.0, level)", CURRICULUM),
    Fault("the bell loses its floor", "data", "if floor and count > 1 else 0.0",
          "if False else 0.0", CURRICULUM),
    # files and messages
    Fault("a broken line inside a JSONL file passes", "grpo/common",
          "                    raise\n", "                    pass\n",
          ("tests/tracking",)),
    # The core: objective, learner, engine, weights.
    Fault("sign of KL", "grpo/algorithm", "loss + coefficients.kl_coef",
          "loss - coefficients.kl_coef", LEARNER),
    Fault("sign of entropy", "grpo/algorithm", "loss - coefficients.entropy_coef",
          "loss + coefficients.entropy_coef", LEARNER),
    Fault("clip widths swapped", "grpo/algorithm",
          "clamp(1 - coefficients.clip_low, 1 + coefficients.clip_high)",
          "clamp(1 - coefficients.clip_high, 1 + coefficients.clip_low)", LEARNER),
    Fault("clipping off", "grpo/algorithm", "torch.minimum(plain_N, bounded_N)", "plain_N",
          LEARNER),
    Fault("ratio fixed at 1", "grpo/algorithm",
          "(inputs.logp_N - inputs.old_logp_N).exp()",
          "(inputs.logp_N - inputs.logp_N.detach()).exp()", LEARNER),
    Fault("learning rate never reaches the optimizer", "grpo/learner",
          'group["lr"] = settings.lr', "pass", LEARNER),
    Fault("reference at another temperature", "grpo/learner",
          "self._forward(self.reference, mb, settings.temperature)",
          "self._forward(self.reference, mb, 1.0)", LEARNER),
    Fault("prefix cache never reset", "grpo/rollout",
          "if not await self.engine.reset_prefix_cache(reset_running_requests=True):",
          "if False:", STACK),
    Fault("stop strings lost", "grpo/rollout", "stop=[*settings.stop, *settings.cut]",
          "stop=[*settings.cut]", STACK),
    Fault("weights of another version pass", "grpo/trainer.py",
          "if (versions != weight_version).any():", "if False:",
          ("tests/runtime", "tests/rollout")),
]  # fmt: skip
