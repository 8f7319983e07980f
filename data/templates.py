"""Prompt templates: how a question becomes the text that the model continues, and where the answer stops."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Template:
    """Text around a question. `stop` strings belong to the answer and stay in the response."""

    name: str
    text: str  # holds `{question}` once
    stop: tuple[str, ...] = ()

    @property
    def opens_think(self) -> bool:
        """True when the prompt already ends in `<think>`, so that the response must not repeat it."""
        return self.text.rstrip().endswith("<think>")

    def render(self, question: str) -> str:
        """The prompt text for one question."""
        return self.text.replace("{question}", question)


_R1_ZERO = (
    "The User asks a question and the Assistant solves it. The Assistant first reasons in private, then gives "
    "the answer. The reasoning stands between <think> and </think>, the answer between <answer> and </answer>."
    "\nUser: {question}\nAssistant:"
)

TEMPLATES = {
    template.name: template
    for template in (
        Template(name="r1_zero", text=_R1_ZERO, stop=("</answer>",)),
        Template(name="r1_zero_open_think", text=_R1_ZERO + " <think>", stop=("</answer>",)),
        # The frame of R1-Zero without its instructions: a small base model has seen it in pre-training.
        Template(name="dialogue", text="User: {question}\nAssistant:", stop=("</answer>",)),
    )
}
