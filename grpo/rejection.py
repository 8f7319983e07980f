"""Rejection sampling: responses of a model, graded and filtered, become examples for `grpo sft`.

    grpo sample --config-name tiny model.base=null model.path=FOLDER batch.num_samples=8

Stage 3 of DeepSeek-R1 (arXiv:2501.12948, section 2.3.3): several responses to each problem, of
which the right and readable ones are kept. Every response that is not kept is counted by its
reason. With `rejection.hint_on_fail` a problem without a right response is sampled again with the
answer as a hint (STaR, arXiv:2203.14465). `rejection.shortest` keeps the shortest right ones, and
`rejection.pairs` sets the shortest one against longer ones (Kimi k1.5, arXiv:2501.12599,
long2short).

A seed decides every response, and a round is written when it is done. So a command that was
interrupted makes the rest of the same file when it is started again.
"""

from __future__ import annotations

import json
import re
import sys
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from grpo.common.command_line import Parser, add_recipe, run
from grpo.common.errors import UserError
from grpo.config.load import load_sample_config
from grpo.config.sample import RejectionConfig, SampleConfig

if TYPE_CHECKING:
    from grpo.inputs import Inputs
    from grpo.rollout.scoring import GroupScorer
    from grpo.runtime.protocols import Rollouts
    from grpo.types import Prompt, ScoredGroup

EXAMPLES, PAIRS, SUMMARY = "examples.jsonl", "pairs.jsonl", "summary.json"
# Seeds of their own, apart from those of evaluations (-1) and of training steps.
_SAMPLING_STEP, _HINTED_STEP = -2, -3
# Settings that decide nothing of what is sampled and kept.
_FREE = ("output_dir", "resume", "allow_config_change", "tracking", "cluster", "health")
_FENCE = re.compile(r"^[ \t]*(?:```|~~~)", re.MULTILINE)
_BLANK_LINE = re.compile(r"\n[ \t]*\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Sample from the command line; returns the exit code."""
    return run(_main, arguments)


def _main(arguments: Sequence[str] | None) -> int:
    parser = Parser("grpo sample", "Rejection sampling: examples for grpo sft.")
    add_recipe(parser)
    args = parser.parse(arguments)
    config = load_sample_config(args.config_name, args.overrides, args.config_dir)
    run_sampling(args.config_name, config)
    return 0


def run_sampling(recipe: str, config: SampleConfig) -> Path:
    """Sample as the recipe says. The folder that is returned has `examples.jsonl`, which `grpo sft`
    reads, `pairs.jsonl` where pairs are wanted, and `summary.json`.

    Raises:
        UserError: a model, tokenizer, data set or cluster that cannot be used, a folder that holds
            something else, or not one response that is kept, or pair that is wanted.
    """
    started = time.perf_counter()
    from grpo.common.command_line import say
    from grpo.common.files import write_atomically
    from grpo.common.provenance import versions
    from grpo.inputs import load_inputs
    from grpo.parts import start_parts

    folder = claim(recipe, config)
    if (folder / SUMMARY).exists():
        say(f"{folder} holds these samples already; name another output_dir to sample again")
        return folder
    inputs = load_inputs(config, say, with_learner=False)
    hinted: dict[str, Prompt] = {}
    if config.rejection.hint_on_fail:
        inputs, hinted = with_hints(config, inputs)
    size = config.rejection.problems_per_round
    rounds = {
        folder / "rounds" / f"{start // size:06d}.json": inputs.prompts[start : start + size]
        for start in range(0, len(inputs.prompts), size)
    }
    missing = [file for file in rounds if not file.exists()]
    if missing:
        with (
            start_parts(config, inputs, say, with_learner=False) as (rollouts, _),
            config.rewards.scorer() as scorer,
        ):
            for file in missing:
                found = sample_round(config, inputs, rounds[file], hinted, rollouts, scorer)
                write_atomically({file: found})
                say(f"{file.stem} of {len(rounds) - 1:06d}: kept {len(found['rows'])} responses")
    parts = [json.loads(file.read_text(encoding="utf-8")) for file in rounds]
    rows = [row for part in parts for row in part["rows"]]
    summary = summarise(parts, len(inputs.prompts))
    say(told(summary))
    if not rows:
        raise UserError(
            f"{folder}: no response was kept; the reasons are above. Sample a better model or more "
            "responses (batch.num_samples), set rejection.hint_on_fail=true, or loosen rejection"
        )
    pairs = [pair for part in parts for pair in part["pairs"]]
    if config.rejection.pairs and not pairs:
        raise UserError(
            f"{folder}: no problem has a right response and one to reject; the reasons are above. "
            "Sample more responses (batch.num_samples), lower rejection.pair_length_ratio, or set "
            "rejection.pairs=false"
        )
    times = {"wall_seconds": round(time.perf_counter() - started, 1), "versions": versions()}
    # The summary comes last: where it is, everything is.
    write_atomically({folder / EXAMPLES: rows})
    if config.rejection.pairs:
        write_atomically({folder / PAIRS: pairs})
    write_atomically({folder / SUMMARY: summary | times})
    return folder


def claim(recipe: str, config: SampleConfig) -> Path:
    """The folder of these samples, with its config.yaml; it may hold a part of them.

    Raises:
        UserError: it holds something else.
    """
    import yaml  # type: ignore[import-untyped]

    from grpo.checkpoint.resume import leaves
    from grpo.common.files import check_writable, plain, write_yaml
    from grpo.tracking.folder import run_path
    from grpo.tracking.redact import redact

    folder = run_path(config.output_dir or Path("runs") / recipe / "samples")
    check_writable([], [folder])
    tree, file = redact(plain(config.as_tree())), folder / "config.yaml"
    if file.exists():
        then = leaves(yaml.safe_load(file.read_text(encoding="utf-8")))
        now = leaves(tree)
        differ = [
            f"{key}: {then.get(key)!r} then, {now.get(key)!r} now"
            for key in sorted({*then, *now})
            if then.get(key) != now.get(key) and key.partition(".")[0] not in _FREE
        ]
        if differ:
            raise UserError(
                f"output_dir={folder}: holds samples of other settings ({'; '.join(differ[:3])}); "
                "name another output_dir, or remove the folder"
            )
    elif folder.is_dir() and any(folder.iterdir()):
        raise UserError(f"output_dir={folder}: is not empty; name another folder")
    write_yaml(file, tree, comments=[f"recipe: {recipe}"])
    return folder


def with_hints(config: SampleConfig, inputs: Inputs) -> tuple[Inputs, dict[str, Prompt]]:
    """Inputs whose engines have room for hinted prompts too, and these prompts by problem id. A
    hinted prompt keeps its problem as it is, so it is graded as without the hint.
    """
    from grpo.inputs import engine_context
    from grpo.learner.model_folder import check_model, embedding_rows, load_tokenizer
    from grpo.rollout.prompts import make_prompts, make_template

    folder, rules = Path(inputs.model_folder), config.rejection
    tokenizer = load_tokenizer(folder)
    # What a reward model scores has no answer to hint at.
    problems = [prompt.problem for prompt in inputs.prompts if prompt.problem.answer]
    questions = [
        # replaced one by one, because a question may hold braces
        replace(p, question=_filled(rules.hint, {"question": p.question, "answer": p.answer}))
        for p in problems
    ]
    prompts = make_prompts(questions, make_template(config.data, tokenizer), tokenizer)
    hinted = {
        problem.id: replace(prompt, problem=problem)
        for problem, prompt in zip(problems, prompts, strict=True)
    }
    room = engine_context(
        config.rollout.max_model_len,
        [*inputs.prompts, *inputs.held_out, *prompts],
        {"sampling.max_response_tokens": config.sampling.max_response_tokens},
        check_model(folder),
        embedding_rows(folder),
    )
    return replace(inputs, max_model_len=max(room, inputs.max_model_len)), hinted


def _filled(text: str, values: Mapping[str, str]) -> str:
    return re.sub(r"\{(question|answer)\}", lambda slot: values[slot[1]], text)


def sample_round(
    config: SampleConfig,
    inputs: Inputs,
    prompts: Sequence[Prompt],
    hinted: Mapping[str, Prompt],
    rollouts: Rollouts,
    scorer: GroupScorer,
) -> dict[str, Any]:
    """Sample some problems, and those without a right response again with a hint.

    Args:
        hinted: prompts with a hint by problem id; none where there are to be none.

    Returns:
        The rows that are kept, and by `plain` and `hinted` how many problems and samples there were
        and how many samples had which reason. Where pairs are wanted, these too, and by
        `pair_reasons` what became of each sample. They are made of samples without a hint.
    """
    from grpo.rollout.scoring import sample_groups

    rows: list[dict[str, Any]] = []
    pairs: list[dict[str, Any]] = []
    found: dict[str, Any] = {"rows": rows, "pairs": pairs}
    pair_reasons: Counter[str] = Counter()
    asked = list(prompts)
    for name, step in (("plain", _SAMPLING_STEP), ("hinted", _HINTED_STEP)):
        reasons: Counter[str] = Counter()
        failed = []
        groups = (
            sample_groups(asked, inputs.sampling, step, rollouts, scorer).groups if asked else []
        )
        for group in groups:
            kept, told_reasons = select(group, config.rejection)
            rows += [example(group, index, hinted=name == "hinted") for index in kept]
            reasons += told_reasons
            if config.rejection.pairs and name == "plain":
                paired, told_reasons = pair_up(group, config.rejection)
                pairs += paired
                pair_reasons += told_reasons
            problem = group.group.prompt.problem
            if problem.id in hinted and not any(map(is_right, group.scores)):
                failed.append(hinted[problem.id])
        found[name] = {"problems": len(asked), "reasons": dict(reasons)}
        asked = failed
    found["pair_reasons"] = dict(pair_reasons)
    return found


def summarise(rounds: Iterable[Mapping[str, Any]], num_problems: int) -> dict[str, Any]:
    """What became of the samples of all rounds."""
    parts = list(rounds)
    rows = [row for part in parts for row in part["rows"]]
    summary: dict[str, Any] = {
        "problems": num_problems,
        "problems_kept": len({row["id"] for row in rows}),
        "kept": len(rows),
        "kept_hinted": sum(row["hinted"] for row in rows),
        "mean_tokens": sum(row["num_tokens"] for row in rows) / len(rows) if rows else 0.0,
    }
    for name in ("plain", "hinted"):
        reasons: Counter[str] = Counter()
        for part in parts:
            reasons.update(part[name]["reasons"])
        summary[name] = {
            "problems": sum(part[name]["problems"] for part in parts),
            "samples": sum(reasons.values()),
            "reasons": dict(reasons.most_common()),
        }
    pair_reasons: Counter[str] = Counter()
    for part in parts:
        pair_reasons.update(part["pair_reasons"])
    pairs = [pair for part in parts for pair in part["pairs"]]
    summary["pairs"] = {
        "problems": len({pair["id"] for pair in pairs}),
        "pairs": len(pairs),
        "reasons": dict(pair_reasons.most_common()),
    }
    return summary


def told(summary: Mapping[str, Any]) -> str:
    """A summary in words."""
    lines = [
        f"kept {summary['kept']} responses to {summary['problems_kept']} of "
        f"{summary['problems']} problems"
    ]
    for name in ("plain", "hinted"):
        reasons = summary[name]["reasons"]
        if reasons:
            listed = ", ".join(f"{reason} {count}" for reason, count in reasons.items())
            lines.append(f"{name}: {summary[name]['samples']} samples: {listed}")
    if reasons := summary["pairs"]["reasons"]:
        listed = ", ".join(f"{reason} {count}" for reason, count in reasons.items())
        lines.append(f"{summary['pairs']['pairs']} pairs: {listed}")
    return "\n".join(lines)


# --- what is kept -------------------------------------------------------------------------------


def select(group: ScoredGroup, rules: RejectionConfig) -> tuple[list[int], Counter[str]]:
    """The responses of a group that are kept, and how many have which reason; `kept` is one.

    Two responses that differ only in blanks are the same.
    """
    reasons: Counter[str] = Counter()
    passed = []
    for index in range(len(group.scores)):
        reason = fault(group, index, rules)
        if reason is None:
            passed.append(index)
        else:
            reasons[reason] += 1
    responses = group.group.responses
    if rules.shortest:
        passed.sort(key=lambda index: (len(responses[index].token_ids), index))
    kept: list[int] = []
    seen: set[str] = set()
    for index in passed:
        text = " ".join(responses[index].text.split())
        if text in seen:
            reasons["duplicate"] += 1
        elif len(kept) == rules.max_per_problem:
            reasons["over_limit"] += 1
        else:
            kept.append(index)
            seen.add(text)
    reasons["kept"] += len(kept)
    return kept, +reasons


def pair_up(
    group: ScoredGroup, rules: RejectionConfig
) -> tuple[list[dict[str, Any]], Counter[str]]:
    """The pairs of a group, and what became of each of its responses, by reason.

    The chosen one is the shortest right response that no filter takes out. Rejected are wrong ones
    that are longer (`wrong_longer`), and right ones of at least `pair_length_ratio` times its
    length (`right_longer`). A truncated response is left out: as an example it would end in an end
    token that the model never wrote.

    Source: Kimi k1.5 (arXiv:2501.12599), section 2.4.
    """
    responses, scores = group.group.responses, group.scores
    lengths = [len(response.token_ids) for response in responses]
    passed = [i for i in range(len(scores)) if fault(group, i, rules) is None]
    if not passed:
        return [], Counter(no_chosen=len(scores))
    chosen = min(passed, key=lambda i: (lengths[i], i))
    rows: list[dict[str, Any]] = []
    reasons: Counter[str] = Counter(chosen=1)
    seen = {" ".join(responses[chosen].text.split())}
    problem = group.group.prompt.problem
    for index, (response, score) in enumerate(zip(responses, scores, strict=True)):
        if index == chosen:
            continue
        text = " ".join(response.text.split())
        if not score.graded:
            reason = "not_graded"
        elif response.truncated:
            reason = "truncated"
        elif text in seen:
            reason = "duplicate"
        elif is_right(score):
            long = lengths[index] >= rules.pair_length_ratio * lengths[chosen]
            reason = "right_longer" if long and lengths[index] > lengths[chosen] else "right_near"
        else:
            reason = "wrong_longer" if lengths[index] > lengths[chosen] else "wrong_shorter"
        reasons[reason] += 1
        if reason not in ("wrong_longer", "right_longer"):
            continue
        seen.add(text)
        rows.append(
            {
                "prompt": [{"role": "user", "content": problem.question}],
                "chosen": [{"role": "assistant", "content": responses[chosen].text}],
                "rejected": [{"role": "assistant", "content": response.text}],
                "id": problem.id,
                "source": problem.source,
                "reason": reason,
                "chosen_tokens": lengths[chosen],
                "rejected_tokens": lengths[index],
            }
        )
    return rows, reasons


def fault(group: ScoredGroup, index: int, rules: RejectionConfig) -> str | None:
    """Why a response cannot be kept; None where it can."""
    from grpo.evaluation.metrics import checker_of, rate
    from rewards import Sample
    from rewards.shaping.language import thought

    response, score = group.group.responses[index], group.scores[index]
    if not score.graded:
        return "not_graded"
    if response.truncated:
        return "truncated"
    if checker_of(score) is None and not any(name in score.components for name in rules.min_scores):
        return "not_judged"
    if checker_of(score) is not None and not is_right(score):
        return "wrong"
    for name, least in rules.min_scores.items():
        # A component that does not score this row asks nothing of it.
        if name in score.components and rate(score, name) < least:
            return f"low_{name}"
    question = group.group.prompt.problem.question
    text = thought(Sample(response=response.text, gold=""))
    if language_share(text, question) < rules.min_language_share:
        return "mixed_language"
    longest = rules.max_paragraph_chars
    if longest is not None and longest_paragraph(text) > longest:
        return "long_paragraph"
    if not rules.allow_code and has_code_block(text):
        return "code_block"
    return None


def is_right(score: Any) -> bool:
    """Is the answer right, by the checker of its row?"""
    from grpo.evaluation.metrics import checker_of, rate

    checker = checker_of(score)
    return checker is not None and rate(score, checker) >= 1


def language_share(text: str, question: str) -> float:
    """Share of a text's words in the language of the question; 1 for a text without words.

    `rewards.shaping.language` says what a word is, and what is neutral.
    """
    from rewards.shaping.language import share_of_words

    share = share_of_words(text, question)
    return 1.0 if share is None else share


def longest_paragraph(text: str) -> int:
    """Characters of the longest paragraph. A blank line ends one."""
    return max(len(part.strip()) for part in _BLANK_LINE.split(text))


def has_code_block(text: str) -> bool:
    """Does a line open a fenced code block?"""
    return _FENCE.search(text) is not None


def example(group: ScoredGroup, index: int, *, hinted: bool) -> dict[str, Any]:
    """A kept response as a row that `grpo sft` reads. The question has no hint in it."""
    problem, response = group.group.prompt.problem, group.group.responses[index]
    return {
        "messages": [
            {"role": "user", "content": problem.question},
            {"role": "assistant", "content": response.text},
        ],
        "id": problem.id,
        "source": problem.source,
        "num_tokens": len(response.token_ids),
        "hinted": hinted,
    }


if __name__ == "__main__":
    sys.exit(main())
