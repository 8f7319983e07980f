"""The wandb dashboard: which panels, in which sections, with which lines.

The layout is plain data over the keys of metrics.py, so that it can be looked at and tested without
wandb. Saving it as a view of a project takes the package `wandb-workspaces`;
`launch/wandb_dashboard.py` is the command.
"""

import importlib.util
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from grpo.common.errors import UserError
from grpo.tracking.redact import wandb_key_source

DEFAULT_NAME = "GRPO training"
INSTALL = "pip install wandb-workspaces"


@dataclass(frozen=True, kw_only=True, slots=True)
class LinePanel:
    """Curves over `step`."""

    title: str
    lines: tuple[str, ...]  # panel keys (metrics.panel_key)
    unit: str = ""
    share: bool = False  # the y axis is 0..1
    log: bool = False  # the y axis is logarithmic


@dataclass(frozen=True, kw_only=True, slots=True)
class Section:
    """A group of panels."""

    name: str  # a panel group
    panels: tuple[LinePanel, ...]
    open: bool = True


LAYOUT = (
    Section(
        name="eval",
        panels=(
            LinePanel(
                title="Held-out accuracy",
                lines=("eval/sampled_accuracy", "eval/greedy_accuracy"),
                unit="share",
                share=True,
            ),
            LinePanel(
                title="Held-out format",
                lines=("eval/sampled_format", "eval/greedy_format"),
                unit="share",
                share=True,
            ),
            LinePanel(
                title="Held-out response length",
                lines=("eval/sampled_response_length", "eval/greedy_response_length"),
                unit="tokens",
            ),
        ),
    ),
    Section(
        name="reward",
        panels=(
            LinePanel(title="Reward", lines=("reward/mean",), unit="reward"),
            LinePanel(
                title="Accuracy and format",
                lines=("reward/accuracy", "reward/format"),
                unit="share",
                share=True,
            ),
            LinePanel(title="Reward spread", lines=("reward/std",), unit="reward"),
            LinePanel(
                title="Groups without gradient",
                lines=("reward/zero_variance_share",),
                unit="share",
                share=True,
            ),
            LinePanel(
                title="Groups",
                lines=("reward/groups_sampled", "reward/groups_trained", "reward/refills"),
                unit="groups, rounds",
            ),
        ),
    ),
    Section(
        name="length",
        panels=(
            LinePanel(title="Response length", lines=("length/mean", "length/max"), unit="tokens"),
            LinePanel(
                title="Truncated", lines=("length/truncation_share",), unit="share", share=True
            ),
        ),
    ),
    Section(
        name="stage",
        panels=(
            LinePanel(title="Stage, and where one ends", lines=("stage/number", "stage/switch")),
        ),
    ),
    Section(
        name="policy",
        panels=(
            LinePanel(title="Entropy", lines=("policy/entropy",), unit="nats per token"),
            LinePanel(title="KL to the reference", lines=("policy/kl",), unit="nats per token"),
            LinePanel(title="Gradient norm", lines=("policy/grad_norm",)),
            LinePanel(
                title="Clipped tokens",
                lines=("policy/clip_share", "policy/dual_clip_share"),
                unit="share",
            ),
            LinePanel(title="Coefficients", lines=("policy/kl_coef", "policy/entropy_coef")),
            LinePanel(title="Largest ratio", lines=("policy/ratio_max",), unit="ratio"),
            LinePanel(title="Loss", lines=("policy/loss",)),
            LinePanel(
                title="Negative log-likelihood (sft)", lines=("policy/nll",), unit="nats per token"
            ),
            LinePanel(
                title="Rewards of pairs (dpo)",
                lines=(
                    "policy/chosen_reward",
                    "policy/rejected_reward",
                    "policy/reward_margin",
                ),
            ),
            LinePanel(
                title="Pairs in the right order (dpo)",
                lines=("policy/pair_accuracy",),
                unit="share",
                share=True,
            ),
            LinePanel(title="Perplexity (sft)", lines=("policy/perplexity",), log=True),
            LinePanel(title="Learning rate", lines=("policy/lr",)),
        ),
    ),
    Section(
        name="speed",
        panels=(
            LinePanel(title="Throughput", lines=("speed/tokens_per_second",), unit="tokens / s"),
            LinePanel(
                title="Where the time of a step goes",
                lines=tuple(
                    f"speed/seconds_{part}"
                    for part in ("generate", "sample", "score", "learn", "transfer", "idle")
                ),
                unit="s",
            ),
            LinePanel(title="Time of evaluations", lines=("speed/seconds_evaluate",), unit="s"),
            LinePanel(
                title="Tokens of a step",
                lines=("speed/generated_tokens", "speed/trained_tokens"),
                unit="tokens",
            ),
        ),
        open=False,
    ),
    Section(
        name="health",
        panels=(
            LinePanel(
                title="Log-prob gap, engine to learner",
                lines=("health/logprob_gap_mean", "health/logprob_gap_max"),
                unit="nats",
                log=True,
            ),
            LinePanel(
                title="Mismatch of engine and learner", lines=("health/mismatch_kl",), log=True
            ),
            LinePanel(
                title="Effective samples",
                lines=("health/effective_share",),
                unit="share",
                share=True,
            ),
            LinePanel(
                title="Age of the weights that sampled",
                lines=("health/staleness", "health/staleness_max"),
                unit="updates",
            ),
            LinePanel(title="Largest weight", lines=("health/weight_max",), log=True),
            LinePanel(title="Weight version", lines=("health/weight_version",), unit="updates"),
            LinePanel(title="Epoch (sft)", lines=("health/epoch",)),
            LinePanel(title="Examples of a step (sft)", lines=("health/examples",)),
        ),
        open=False,
    ),
)


def layout() -> list[dict[str, Any]]:
    """LAYOUT as JSON-able data."""
    return [asdict(section) for section in LAYOUT]


def missing(environ: Mapping[str, str] | None = None) -> str | None:
    """Why the dashboard cannot be saved here, with the fix; None when it can."""
    lacks = []
    if importlib.util.find_spec("wandb_workspaces") is None:
        lacks.append(f"the package wandb-workspaces is not installed ({INSTALL})")
    if wandb_key_source(environ) is None:
        lacks.append("there is no key for wandb (set WANDB_API_KEY, or run `wandb login`)")
    return "; ".join(lacks) or None


def workspace(entity: str, project: str, name: str) -> Any:
    """The layout as a `wandb_workspaces.workspaces.Workspace`, not yet saved; needs no network."""
    import wandb_workspaces.reports.v2 as wr  # type: ignore[import-not-found,import-untyped,unused-ignore]
    import wandb_workspaces.workspaces as ws  # type: ignore[import-not-found,import-untyped,unused-ignore]

    def line_plot(panel: LinePanel) -> Any:
        return wr.LinePlot(
            title=panel.title,
            x="step",
            y=list(panel.lines),
            title_x="step",
            title_y=panel.unit or None,
            range_y=(0.0, 1.0) if panel.share else (None, None),
            log_y=panel.log or None,
        )

    sections = [
        ws.Section(
            name=section.name, panels=[line_plot(p) for p in section.panels], is_open=section.open
        )
        for section in LAYOUT
    ]
    settings = ws.WorkspaceSettings(x_axis="step", group_by_prefix="first")
    return ws.Workspace(
        entity=entity, project=project, name=name, sections=sections, settings=settings
    )


def save(entity: str | None, project: str, name: str) -> str:
    """Save the layout as a view of the project on wandb and return its address. Needs the network.

    Args:
        entity: user or team; None means the key's default entity.

    Raises:
        UserError: the key has none.
    """
    import wandb

    owner = entity or wandb.Api().default_entity
    if owner is None:
        raise UserError("the key has no default entity: name one with --entity")
    return str(workspace(owner, project, name).save().url)
