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


OBJECTIVE = ("tests/algorithm/test_objectives.py",)
ADVANTAGES = ("tests/algorithm/test_advantages.py", "tests/algorithm/test_zero_variance.py")
BATCH = ("tests/algorithm/test_advantages_of_a_batch.py",)
TERMS = ("tests/algorithm/test_policy_terms.py",)
MISMATCH = ("tests/algorithm/test_importance.py",)
RULES = ("tests/rollout/test_batch_rules.py",)
ALGORITHMS = ("tests/stack/test_algorithms.py",)
CASES = ("tests/test_conformance.py",)
RATE = ("tests/algorithm/test_learning_rate.py",)
PACKING = ("tests/learner/test_packing.py", "tests/learner/test_samples.py")
HEAD = ("tests/learner/test_head.py",)
TRAINER = ("tests/test_trainer.py",)
SFT = ("tests/test_sft.py",)
SCORER = (
    "tests/rewards/test_scorer.py::test_the_total_is_the_weighted_sum_and_components_are_kept",
)
GATE = ("tests/rewards/test_scorer.py::test_accuracy_can_require_the_format",)
FORMULAS = ("tests/rewards/test_formulas.py",)
CURRICULUM = ("tests/data/test_curriculum.py",)
CLEAN = ("tests/data/test_decontaminate.py",)
SEEDS = ("tests/rollout/test_data_flow.py",)
STEP = ("tests/stack/test_learner_step.py",)
CHANNEL = "tests/stack/test_channel.py::"
HASHES = ("tests/weights/test_hashes.py",)
NCCL = ("tests/weights/test_nccl.py",)
WEIGHTS = ("tests/stack/test_weight_check.py",)
STATISTICS = ("tests/evaluation/test_statistics.py",)
EVALUATIONS = ("tests/evaluation/test_evaluations.py",)
HEADS = ("tests/stack/test_float32_head.py",)

FAULTS = [
    # advantages, aggregation, learning rate
    Fault("no standard deviation", "grpo/algorithm", "centred_PG / (spread_P1 + eps)",
          "centred_PG", ADVANTAGES),
    Fault("baseline over the batch, not the group", "grpo/algorithm",
          "rewards_PG.mean(dim=1, keepdim=True)", "rewards_PG.mean()", ADVANTAGES),
    Fault("an empty response counts as one token", "grpo/algorithm",
          "lengths_B.sum().clamp(min=1)", "lengths_B.clamp(min=1).sum()", CASES),
    Fault("equal rewards without eps give NaN", "grpo/algorithm",
          "torch.where(centred_PG == 0, 0.0, centred_PG / (spread_P1 + eps))",
          "centred_PG / (spread_P1 + eps)", CASES),
    Fault("population and sample deviation swapped", "grpo/algorithm",
          '0 if std == "population" else 1', '1 if std == "population" else 0', ADVANTAGES),
    Fault("all-equal groups get rounding noise", "grpo/algorithm",
          "centred_PG = torch.where(zero_variance(rewards_PG)[:, None], 0.0, centred_PG)",
          "pass", ADVANTAGES),
    Fault("zero-variance groups are those of any equal pair", "grpo/algorithm",
          "(rewards_PG == rewards_PG[:, :1]).all(dim=1)",
          "(rewards_PG == rewards_PG[:, :1])[:, 1]", ADVANTAGES),
    Fault("what could not be graded counts as 0", "grpo/algorithm",
          "if graded_PG is not None and not graded_PG.all():", "if False:", ADVANTAGES),
    Fault("a sum over tokens is no mean over responses", "grpo/algorithm",
          "1.0 / (constant * num_responses)", "1.0 / constant", OBJECTIVE),
    Fault("token-mean is by responses", "grpo/algorithm",
          "torch.full_like(lengths_B, 1.0) / tokens",
          "torch.full_like(lengths_B, 1.0) / num_responses", OBJECTIVE),
    Fault("leave-one-out counts itself", "grpo/algorithm",
          "(graded_P1 - 1).clamp(min=1)", "graded_P1", BATCH),
    Fault("the batch's deviation counts what was not graded", "grpo/algorithm",
          "graded = values_PG[inputs.graded_PG]", "graded = values_PG", BATCH),
    Fault("GDPO forgets weights", "grpo/algorithm", "total_PG + weight * group_advantages(",
          "total_PG + group_advantages(", BATCH),
    Fault("token scores reach forward", "grpo/algorithm", "in reversed(scores_T)", "in scores_T",
          BATCH),
    Fault("dual clip for good tokens", "grpo/algorithm", "(inputs.advantage_N < 0) & ", "", TERMS),
    Fault("GSPO sums where it should average", "grpo/algorithm",
          "inputs.row_sums_N(inputs.log_ratio_N) / inputs.row_lengths_N()",
          "inputs.row_sums_N(inputs.log_ratio_N)", TERMS),
    Fault("CISPO's weight carries a gradient", "grpo/algorithm",
          "inputs.log_ratio_N.exp().detach()", "inputs.log_ratio_N.exp()", TERMS),
    Fault("Kimi's pull per token", "grpo/algorithm",
          "way_N.square() / inputs.row_lengths_N()", "way_N.square()", TERMS),
    Fault("mismatch the wrong way round", "grpo/algorithm",
          "(old_logp_N - behaviour_logp_N).detach()", "(behaviour_logp_N - old_logp_N).detach()",
          MISMATCH),
    Fault("a mask keeps weights of 1", "grpo/algorithm",
          "torch.where(inside_N, ratio_N, 0.0)", "inside_N.to(ratio_N.dtype)", MISMATCH),
    Fault("k2 without its half", "grpo/algorithm", "0.5 * (logp_N - reference_logp_N).square()",
          "(logp_N - reference_logp_N).square()", MISMATCH),
    Fault("the KL coefficient falls when KL is high", "grpo/algorithm", "kl / target - 1.0",
          "1.0 - kl / target", MISMATCH),
    Fault("prompt-mean over responses", "grpo/algorithm",
          "lengths_B.view(-1, group_size).sum(dim=1)", "lengths_B.view(-1, group_size)[:, 0]",
          MISMATCH),
    Fault("the reference is never refreshed", "grpo/learner", "q.ds_tensor.copy_(p.ds_tensor)",
          "pass", ALGORITHMS),
    Fault("KL in the reward with the wrong sign", "grpo/trainer.py",
          "rewards_PG - kl_coef * kl_B", "rewards_PG + kl_coef * kl_B", TRAINER),
    Fault("dropped groups are trained on", "grpo/rollout",
          "[dropping and equal[i] for i in chosen]", "[False for i in chosen]", RULES),
    Fault("refills repeat their samples", "grpo/rollout",
          "Counter() if drawn is None else drawn", "Counter()", RULES),
    Fault("warm-up starts at nought", "grpo/algorithm", "peak * (step + 1) / warmup_steps",
          "peak * step / warmup_steps", RATE),
    Fault("schedule ends at nought whatever final_share", "grpo/algorithm",
          "peak * (final_share + (1.0 - final_share) * falling)", "peak * falling", RATE),
    # the objective
    Fault("KL the other way round", "grpo/algorithm", "d_N = reference_logp_N - logp_N",
          "d_N = logp_N - reference_logp_N", OBJECTIVE),
    Fault("sign of KL", "grpo/algorithm", "loss + coefficients.kl_coef",
          "loss - coefficients.kl_coef", OBJECTIVE),
    Fault("sign of entropy", "grpo/algorithm", "loss - coefficients.entropy_coef",
          "loss + coefficients.entropy_coef", OBJECTIVE),
    Fault("clip widths swapped", "grpo/algorithm/objectives/grpo.py",
          "clamp(1 - coefficients.clip_low, 1 + coefficients.clip_high)",
          "clamp(1 - coefficients.clip_high, 1 + coefficients.clip_low)", OBJECTIVE),
    Fault("clipping off", "grpo/algorithm/objectives/grpo.py",
          "torch.minimum(plain_N, bounded_N)", "plain_N", OBJECTIVE),
    Fault("ratio fixed at 1", "grpo/algorithm",
          "(self.logp_N - self.old_logp_N).clamp(", "(self.logp_N - self.logp_N.detach()).clamp(",
          OBJECTIVE),
    # packing, masks, output layer
    Fault("trained positions shifted by one", "grpo/learner", "= sample.loss_mask_T[1:]",
          "= sample.loss_mask_T[:-1]", PACKING),
    Fault("micro-batches one row too large", "grpo/learner",
          "max(1, tokens_per_microbatch // longest[i])",
          "1 + tokens_per_microbatch // longest[i]", PACKING),
    Fault("the dummy row of an idle rank weighs something", "grpo/learner",
          "            [0.0],\n        )", "            [1.0],\n        )", PACKING),
    Fault("entropy's gradient has the wrong sign", "grpo/learner",
          ".mul_(grad_entropy_N[rows, None])", ".mul_(-grad_entropy_N[rows, None])", HEAD),
    Fault("tokens of a tool are trained", "grpo/types.py", "mask += [False] * len(tokens)",
          "mask += [start > 0] * len(tokens)", PACKING),
    # the loop
    Fault("weights of another version pass", "grpo/trainer.py",
          "if (versions != weight_version).any():", "if False:", TRAINER),
    Fault("wrong aggregation constant", "grpo/trainer.py",
          "aggregation_constant=config.sampling.max_response_tokens",
          "aggregation_constant=config.rollout.max_model_len", TRAINER),
    Fault("scores of tokens are dropped", "grpo/trainer.py",
          "advantage + np.array(returns, np.float32)", "advantage", TRAINER),
    Fault("losses that are not finite never end a run", "grpo/trainer.py",
          "state.bad_steps + 1 if broken else 0", "0", TRAINER),
    Fault("a problem drawn twice repeats its samples", "grpo/rollout",
          "drawn[name] += 1", "drawn[name] += 0", SEEDS),
    Fault("all samples of a group have one seed", "grpo/rollout",
          "sample_seed(settings.seed, step, name, first + j)",
          "sample_seed(settings.seed, step, name, first)", SEEDS),
    Fault("the end token is cut off and never trained", "grpo/rollout",
          "return kept, text.removesuffix(tokenizer.decode(kept[-1:]))",
          "return kept[:-1], text.removesuffix(tokenizer.decode(kept[-1:]))", SEEDS),
    # weights: hashes, their comparison, the sender for GPUs
    Fault("a hash does not see where a number lies", "grpo/weights", "_mix((index << 32) | bits)",
          "_mix(bits)", HASHES),
    Fault("a hash is computed and never compared", "grpo/weights",
          "for found, where in places[0] if found != wanted]",
          "for found, where in places[0] if False]", HASHES),
    Fault("sums of sharded tensors are never compared", "grpo/weights",
          "& MASK != wanted:", "& MASK != wanted and False:",
          ("tests/stack/test_weight_check.py::test_another_value_in_a_sharded_tensor_is_seen",)),
    Fault("a tensor that no engine holds passes", "grpo/weights",
          "if meta.name not in tied:", "if False:", HASHES),
    Fault("unequal weights end no run", "grpo/trainer.py", "    if report.differing:\n",
          "    if False:\n", TRAINER),
    Fault("weights that cannot be compared pass", "grpo/trainer.py",
          "    if report.unproven:\n", "    if False:\n", TRAINER),
    Fault("only the first hand-over is proven", "grpo/trainer.py",
          "(first or version % every == 0)", "first", TRAINER),
    Fault("messages over NCCL are cut unlike vLLM's", "grpo/weights", "if size > limit:",
          "if size >= limit:", NCCL),
    Fault("a dead engine hangs the sender for ever", "grpo/weights", "    timer.start()\n",
          "", NCCL),
    Fault("engines sample on after a transfer that failed", "grpo/weights",
          "    client.pause()\n    yield\n    client.resume()",
          "    client.pause()\n    try:\n        yield\n    finally:\n        client.resume()",
          NCCL),
    Fault("a self-test overlooks log-probs that moved", "grpo/commands",
          "all(difference == 0 for difference in engines)", "True",
          ("tests/commands/test_self_test.py",)),
    Fault("a float32 head of the learner rounds its logits", "grpo/learner",
          "return left.float() @ right.float()", "return left @ right", HEAD),
    # rewards
    Fault("weights of rewards ignored", "rewards", "weight = self.components[name].weight",
          "weight = 1.0", SCORER),
    Fault("a gate lets nought through", "rewards",
          "if name in rewards and rewards[name].score <= 0)",
          "if name in rewards and rewards[name].score < 0)", GATE),
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
    # evaluation
    Fault("pass@k as if samples were drawn again", "grpo/evaluation",
          "1 - math.comb(num_samples - num_right, k) / math.comb(num_samples, k)",
          "1 - (1 - num_right / num_samples) ** k", STATISTICS),
    Fault("a tie of votes counts as won", "grpo/evaluation",
          "shares = row / np.arange(1, len(row) + 1)", "shares = row", STATISTICS),
    Fault("responses count as independent", "grpo/evaluation",
          "effective = min(most, mean * (1 - mean) / spread) if spread > 0 else most",
          "effective = most", STATISTICS),
    Fault("unfinished problems count as finished", "grpo/evaluation",
          "if len(group) == self.num_samples and", "if", EVALUATIONS),
    Fault("answers are compared as text", "grpo/evaluation",
          "if by_grader and _equal(sample, first, options)", "if first == text",
          ("tests/evaluation/test_votes.py",)),
    # files and messages
    Fault("a broken line inside a JSONL file passes", "grpo/common",
          "                    raise\n", "                    pass\n",
          ("tests/common/test_files.py",)),
    Fault("a failed write leaves a torn file", "grpo/common",
          'temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")', "temporary = path",
          ("tests/common/test_files.py",)),
    # engine and channel; those that need living engines and ranks come last
    Fault("stop strings lost", "grpo/rollout", "stop=[*settings.stop, *settings.cut]",
          "stop=[*settings.cut]", ("tests/rollout/test_sampling_params.py",)),
    Fault("every engine gets the same transfer ranks", "grpo/runtime/ray",
          "first + i * self.workers_per_engine", "first", ("tests/runtime/test_actors.py",)),
    Fault("learning rate never reaches the optimizer", "grpo/learner",
          'group["lr"] = settings.lr', "pass", STEP),
    Fault("reference at another temperature", "grpo/learner",
          "self._measure(self.reference, chunk, settings.temperature)",
          "self._measure(self.reference, chunk, 1.0)", STEP),
    Fault("old log-probs are never kept", "grpo/learner",
          "old if first > 0 else None", "None", STEP),
    Fault("samples that teach run forward only", "grpo/learner",
          "(teaching if teaches and", "(teaching if teaches and i and",
          ("tests/stack/test_learner_invariance.py",)),
    Fault("norms and biases decay", "grpo/learner", '"weight_decay": 0.0}',
          '"weight_decay": optimizer.weight_decay}', ("tests/stack/test_learner_invariance.py",)),
    Fault("micro-batches add up in the type of the model", "grpo/learner",
          '"data_types": {"grad_accum_dtype": "fp32"}',
          '"data_types": {"grad_accum_dtype": "bf16" if self.dtype is torch.bfloat16 else "fp32"}',
          ("tests/learner/test_zero.py",)),
    Fault("only the learner has a float32 head", "grpo/rollout",
          'args["hf_overrides"] = {"head_dtype": "float32"}', "pass", HEADS),
    Fault("only the engines have a float32 head", "grpo/learner",
          "float32_head=spec.float32_head", "float32_head=False", HEADS),
    Fault("repacked layers are taken on trust", "grpo/weights",
          'yield f"{self.where} as repacked", self._multiplied(parameter.dtype)', "pass", WEIGHTS),
    Fault("gradients are averaged over ranks", "grpo/learner",
          "found.loss * self.spec.world_size", "found.loss",
          ("tests/stack/test_learner_invariance.py",)),
    Fault("prefix cache never reset", "grpo/rollout",
          "if not await self.engine.reset_prefix_cache(reset_running_requests=True):",
          "if False:",
          (CHANNEL + "test_a_prompt_of_several_kv_blocks_is_computed_anew_under_new_weights",)),
    Fault("engines report the version of the step before", "grpo/rollout",
          "await self.engine.update_weight_version(version)",
          "await self.engine.update_weight_version(str(int(version) - 1))",
          (CHANNEL + "test_the_channel_can_be_closed_and_opened_again",)),
    # supervised fine-tuning
    Fault("a token may reach from the prompt into the answer", "data/examples.py",
          "if joined else whole[len(ids) :]", "if False else whole[len(ids) :]", SFT),
    Fault("what follows the end token is trained", "data/examples.py",
          "return ends[0] + 1", "return len(piece)", SFT),
    Fault("the text of a user may hold control tokens", "data/examples.py",
          "[range(part.start - start, part.stop - start) for part in plain]", "[]", SFT),
    Fault("all epochs in one order", "grpo/sft.py",
          'f"sft-{config.seed}-{epoch}"', 'f"sft-{config.seed}"', SFT),
    Fault("held-out likelihood is a mean over examples", "grpo/sft.py",
          "tokens = sum(map(len, logps))", "tokens = len(logps)", SFT),
]  # fmt: skip
