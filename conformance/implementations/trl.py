"""TRL's GRPOTrainer, in an environment of its own (docs/conformance.md).

A real trainer of a tiny random model is built once. Its own code then runs on the numbers of a
case: `_generate_and_score_completions` for advantages and the correction of the engine's
probabilities, `_compute_loss` for everything else. Three things are replaced on the trainer, all of
them inputs: `_generate` returns tokens of the case's lengths, reward functions return its rewards,
and `_get_per_token_logps_and_entropies` returns its log-probs. TRL works in float32.
"""

from __future__ import annotations

import tempfile
from typing import Any

import datasets
import tokenizers
import torch
import transformers
import trl
from torch import Tensor
from transformers import Qwen2Config, Qwen2ForCausalLM
from trl.rewards import get_soft_overlong_punishment

from conformance.vectors import Case, NotOfferedError, filled

NAME = f"trl {trl.__version__}, transformers {transformers.__version__}, torch {torch.__version__}"
LOSS_TYPES = {
    "seq-mean-token-mean": "grpo",
    "token-mean": "dapo",
    "seq-sum-constant": "dr_grpo",
}


def compute(case: Case) -> dict[str, Any]:
    """What `expected` of the case holds, by TRL's code.

    Raises:
        NotOfferedError: a setting that TRL's GRPOTrainer does not have.
    """
    if case["kind"] not in _BY_KIND:
        raise NotOfferedError(case["kind"])
    return _BY_KIND[case["kind"]](case["input"], case["settings"])


def _trainer() -> Any:
    """A trainer of a model with 16 tokens and one layer, which is never asked for anything."""
    words = {name: i for i, name in enumerate(["<pad>", "<eos>", *"abcdefghijklmn"])}
    model = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="a"))
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=model, pad_token="<pad>", eos_token="<eos>"
    )
    policy = Qwen2ForCausalLM(
        Qwen2Config(
            vocab_size=16,
            hidden_size=8,
            intermediate_size=8,
            num_hidden_layers=1,
            num_attention_heads=2,
            num_key_value_heads=2,
            pad_token_id=0,
            eos_token_id=1,
        )
    )
    settings = trl.GRPOConfig(
        output_dir=tempfile.mkdtemp(),
        use_cpu=True,
        bf16=False,
        report_to=[],
        per_device_train_batch_size=2,
        num_generations=2,
        gradient_accumulation_steps=1,
    )
    return trl.GRPOTrainer(
        policy,
        lambda completions, **_: [0.0] * len(completions),
        args=settings,
        train_dataset=datasets.Dataset.from_dict({"prompt": ["a", "b"]}),
        processing_class=tokenizer,
    )


TRAINER = _trainer()


def _scored(lengths: list[int]) -> Any:
    """TRL's batch after sampling and scoring: responses of these lengths."""
    number = len(lengths)
    ids = [[2] * max(length, 1) for length in lengths]
    logps = TRAINER.sampling_logps
    TRAINER._generate = lambda prompts: (
        [[2]] * number,
        ids,
        None,
        ["a"] * number,
        logps,
        {},
        None,
        None,
    )
    TRAINER.model.train()
    return TRAINER._generate_and_score_completions([{"prompt": "a"} for _ in range(number)])


def _advantage(input: Case, settings: Case) -> dict[str, Any]:
    rewards = input["rewards"]
    size = len(rewards[0])
    scale = {"grpo": "none" if settings.get("std") == "none" else "group", "batch_std": "batch"}
    if settings["estimator"] not in (*scale, "gdpo"):
        raise NotOfferedError(f"estimator={settings['estimator']}")
    if settings.get("eps_place", "outside") != "outside":
        raise NotOfferedError("eps inside the root")
    components = input.get("components") or {"total": rewards}
    weights = input.get("weights") or {"total": 1.0}
    graded = input.get("graded") or [[True] * size for _ in rewards]

    def reward(rows: list[list[float]]) -> Any:
        values = [
            value if there else None
            for row, flags in zip(rows, graded, strict=True)
            for value, there in zip(row, flags, strict=True)
        ]
        return lambda **_: values

    TRAINER.num_generations = size
    TRAINER.use_vllm, TRAINER.beta, TRAINER.sampling_logps = False, 0.0, None
    TRAINER.scale_rewards = scale.get(settings["estimator"], "group")
    is_gdpo = settings["estimator"] == "gdpo"
    TRAINER.multi_objective_aggregation = "normalize_then_sum" if is_gdpo else "sum_then_normalize"
    TRAINER.reward_funcs = [reward(components[name]) for name in components]
    TRAINER.reward_func_names = list(components)
    TRAINER.reward_processing_classes = [None] * len(components)
    TRAINER.reward_weights = torch.tensor([weights[name] for name in components])
    flat = _scored([1] * (size * len(rewards)))["advantages"]
    return {"advantages": flat.view(len(rewards), size).tolist()}


def _mismatch(input: Case, settings: Case) -> dict[str, Any]:
    ratio_BT = _correction(input, settings)
    lengths = [sum(flags) for flags in input["mask"]]
    return {
        "weights": [
            row[:length] + [None] * (len(row) - length)
            for row, length in zip(ratio_BT.tolist(), lengths, strict=True)
        ]
    }


def _correction(input: Case, settings: Case) -> Tensor:
    """[B, T] weights as TRL computes them from its own and the engine's log-probs."""
    if settings["level"] == "geometric":
        raise NotOfferedError("level=geometric")
    lengths = [sum(flags) for flags in input["mask"]]
    pairs = zip(input["behaviour_logp"], lengths, strict=True)
    TRAINER.sampling_logps = [row[:length] for row, length in pairs]
    TRAINER.use_vllm, TRAINER.vllm_importance_sampling_correction = True, True
    TRAINER.vllm_importance_sampling_mode = f"{settings['level']}_{settings['kind']}"
    TRAINER.vllm_importance_sampling_clip_min = settings["low"] or None
    TRAINER.vllm_importance_sampling_clip_max = settings["high"]
    TRAINER.num_generations, TRAINER.beta = 1, 0.0
    TRAINER.multi_objective_aggregation, TRAINER.scale_rewards = "sum_then_normalize", "none"
    TRAINER.reward_funcs, TRAINER.reward_func_names = [lambda **_: [0.0] * len(lengths)], ["none"]
    TRAINER.reward_processing_classes, TRAINER.reward_weights = [None], torch.ones(1)
    old_BT = torch.tensor(filled(input["old_logp"]))
    TRAINER._get_per_token_logps_and_entropies = lambda *_, **__: (old_BT, old_BT * 0, None)
    return _scored(lengths)["importance_sampling_ratio"].expand_as(old_BT)


def _loss(input: Case, settings: Case) -> dict[str, Any]:
    kl, correction, objective = (
        settings.get("kl"),
        settings.get("correction"),
        settings["objective"],
    )
    if objective not in ("grpo", "gspo", "cispo"):
        raise NotOfferedError(f"objective={objective}")
    if settings["aggregation"] not in LOSS_TYPES:
        raise NotOfferedError(f"aggregation={settings['aggregation']}")
    if settings.get("log_ratio_bound") is not None:
        raise NotOfferedError(f"log_ratio_bound={settings['log_ratio_bound']}")
    if kl and (kl["place"] != "loss" or kl["estimator"] != "k3"):
        raise NotOfferedError(f"kl.estimator={kl['estimator']} kl.place={kl['place']}")
    micro_batches = input.get("micro_batches") or [list(range(len(input["mask"])))]
    if len({len(rows) for rows in micro_batches}) > 1:
        raise NotOfferedError("micro-batches of different size")
    weights_BT = _correction(input, correction) if correction else None

    TRAINER.use_vllm = TRAINER.vllm_importance_sampling_correction = weights_BT is not None
    TRAINER.loss_type = "cispo" if objective == "cispo" else LOSS_TYPES[settings["aggregation"]]
    TRAINER.importance_sampling_level = "sequence" if objective == "gspo" else "token"
    TRAINER.epsilon_low = settings["clip_low"]
    TRAINER.epsilon_high = settings["clip_high"] + (1 if objective == "cispo" else 0)
    TRAINER.args.delta = settings.get("dual_clip")
    TRAINER.args.use_bias_correction_kl = bool(kl and kl.get("times_ratio"))
    TRAINER.args.steps_per_generation = len(micro_batches)
    TRAINER.current_gradient_accumulation_steps = len(micro_batches)
    TRAINER.beta = kl["coef"] if kl else 0.0
    TRAINER.max_completion_length = settings["constant"]
    TRAINER.model.train()

    padding = float("nan") if settings.get("padding") == "nan" else -7.0

    def tensor(name: str) -> Tensor:
        return torch.tensor(filled(input[name], padding))

    logp_BT = tensor("logp").requires_grad_()
    mask_BT = torch.tensor(input["mask"]).long()
    loss = torch.zeros(())
    for rows in micro_batches:
        one_BT = logp_BT[rows]

        def logps(*_: Any, one_BT: Tensor = one_BT, **__: Any) -> Any:
            return one_BT, torch.zeros_like(one_BT), None

        TRAINER._get_per_token_logps_and_entropies = logps
        batch = {
            "prompt_ids": torch.full((len(rows), 1), 2),
            "prompt_mask": torch.ones(len(rows), 1, dtype=torch.long),
            "completion_ids": torch.full(mask_BT[rows].shape, 2),
            "completion_mask": mask_BT[rows],
            "advantages": tensor("advantages")[rows],
            "old_per_token_logps": tensor("old_logp")[rows],
            "num_items_in_batch": mask_BT.sum(),
        }
        if kl:
            batch["ref_per_token_logps"] = tensor("reference_logp")[rows]
        if weights_BT is not None:
            batch["importance_sampling_ratio"] = weights_BT[rows]
        loss = loss + TRAINER._compute_loss(TRAINER.model, batch)
    (gradient_BT,) = torch.autograd.grad(loss, logp_BT)
    return {"loss": loss.item(), "gradient": gradient_BT.tolist()}


PLAIN = {
    "objective": "grpo",
    "clip_low": 1.0,
    "clip_high": 1e9,
    "aggregation": "seq-mean-token-mean",
    "constant": 1,
}


def _one(logp: float, old: float, advantage: float = -1.0, **settings: Any) -> dict[str, Any]:
    """One response of one token."""
    case = {"logp": [[logp]], "old_logp": [[old]], "mask": [[True]], "advantages": [advantage]}
    case["reference_logp"] = [[settings.pop("reference", 0.0)]]
    return _loss(case, {**PLAIN, **settings})


def _ratio(input: Case, settings: Case) -> dict[str, Any]:
    """The loss of advantage -1 without a clip is the ratio."""
    if settings.get("log_ratio_bound") is not None:
        raise NotOfferedError(f"log_ratio_bound={settings['log_ratio_bound']}")
    rows = zip(input["logp"], input["old_logp"], input["mask"], strict=True)
    if settings["level"] == "token":
        return {
            "ratios": [
                [_one(a, b)["loss"] if there else None for a, b, there in zip(*row, strict=True)]
                for row in rows
            ]
        }
    sequence = {**PLAIN, "objective": "gspo"}
    return {
        "ratios": [
            _loss({"logp": [a], "old_logp": [b], "mask": [m], "advantages": [-1.0]}, sequence)[
                "loss"
            ]
            if any(m)
            else None
            for a, b, m in rows
        ]
    }


def _kl(input: Case, settings: Case) -> dict[str, Any]:
    """The loss of advantage 0 and coefficient 1 is the estimate."""
    kl = {"estimator": settings["estimator"], "place": "loss", "coef": 1.0}
    pairs = zip(input["logp"], input["reference_logp"], strict=True)
    found = [_one(a, a, 0.0, reference=b, kl=kl) for a, b in pairs]
    return {
        "kl": [one["loss"] for one in found],
        "gradient": [one["gradient"][0][0] for one in found],
    }


def _aggregation(input: Case, settings: Case) -> dict[str, Any]:
    """At a ratio of 1 the loss of advantages -v is the aggregate of v; of -1, its gradient are the
    weights.
    """
    zeros = [[0.0] * len(flags) for flags in input["mask"]]
    batch = {**input, "logp": zeros, "old_logp": zeros}
    values = [[-v for v in row] for row in filled(input["values"])]
    given = {**PLAIN, **settings}
    weights = _loss({**batch, "advantages": [-1.0] * len(zeros)}, given)["gradient"]
    return {"weights": weights, "aggregate": _loss({**batch, "advantages": values}, given)["loss"]}


def _learning_rate(input: Case, settings: Case) -> dict[str, Any]:
    """The scheduler that a trainer of transformers builds."""
    name = {
        "constant": "constant_with_warmup",
        "linear": "linear",
        "cosine": "cosine_with_min_lr",
    }[settings["schedule"]]
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=settings["peak"])
    extra = {"min_lr_rate": settings["final_share"]} if settings["schedule"] == "cosine" else {}
    scheduler = transformers.get_scheduler(
        name,
        optimizer,
        settings["warmup_steps"],
        settings["max_steps"],
        scheduler_specific_kwargs=extra or None,
    )
    rates = []
    for _ in range(max(input["steps"]) + 1):
        rates.append(scheduler.get_last_lr()[0])
        optimizer.step()
        scheduler.step()
    return {"learning_rates": [rates[step] for step in input["steps"]]}


def _reward(input: Case, settings: Case) -> dict[str, Any]:
    if settings["reward"] != "soft_overlong":
        raise NotOfferedError(f"reward={settings['reward']}")
    reward = get_soft_overlong_punishment(settings["max_tokens"], settings["cache_tokens"])
    return {"rewards": reward([[0] * length for length in input["lengths"]])}


_BY_KIND = {
    "advantage": _advantage,
    "ratio": _ratio,
    "mismatch": _mismatch,
    "kl": _kl,
    "aggregation": _aggregation,
    "loss": _loss,
    "reward": _reward,
    "learning_rate": _learning_rate,
}
