# ruff: noqa: E501  (the text of a prompt breaks where the prompt does)
r"""Prompt templates: how a question becomes the text that the model continues, and where the answer
stops.

The text around a question is ours and may hold special tokens; the question is data and may not.
`Template.encode` keeps them apart: whatever a question says, no part of it becomes a control token.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from grpo.common.encoding import encode_text
from grpo.common.names import hint

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

SLOT = "{question}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Template:
    """Text around a question.

    `stop` strings belong to the answer and stay in the response. `cut` strings end it too, but are
    not part of it (a base model that goes on to play the user): text and tokens from there on are
    the caller's to cut.
    """

    name: str
    text: str  # holds `{question}` once
    stop: tuple[str, ...] = ()
    cut: tuple[str, ...] = ()
    adds_special_tokens: bool = (
        True  # False where the text itself has all of them, as chat markup does
    )

    def __post_init__(self) -> None:
        if self.text.count(SLOT) != 1:
            raise ValueError(
                f"template {self.name}: needs {SLOT} exactly once, has it {self.text.count(SLOT)} times"
            )

    @property
    def opens_think(self) -> bool:
        """True when the prompt already ends in `<think>`, so that the response must not repeat it."""
        return self.text.rstrip().endswith("<think>")

    def render(self, question: str) -> str:
        """The prompt text for one question."""
        return self.text.replace(SLOT, question)

    def encode(
        self, tokenizer: PreTrainedTokenizerBase, question: str, answer: str = ""
    ) -> list[int]:
        """Token ids of the prompt, and of an answer behind it. The question never yields a special
        or added token.
        """
        before, after = self.text.split(SLOT)
        return encode_text(
            tokenizer,
            before + question + after + answer,
            [range(len(before), len(before) + len(question))],
            adds_special_tokens=self.adds_special_tokens,
        )


_R1_ZERO = (
    "The User asks a question and the Assistant solves it. The Assistant first reasons in private, then "
    "gives the answer. The reasoning stands between <think> and </think>, the answer between <answer> and "
    "</answer>."
    "\nUser: {question}\nAssistant:"
)

# The wording of the two published instructions is part of what is reproduced.
_DEEPSCALER = "{question} Let's think step by step and output the final answer within \\boxed{}."
_QWEN_MATH = (
    "<|im_start|>system\nPlease reason step by step, and put your final answer within \\boxed{}.<|im_end|>\n"
    "<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n"
)

# Four worked examples of our own for a base model without instructions; answers in the GSM8K
# manner.
_FEW_SHOT = """Question: A baker fills 6 trays with 8 rolls each and sells 35 rolls. How many rolls are left?
Answer: 6 trays of 8 rolls are 6 * 8 = 48 rolls. After selling 35 there are 48 - 35 = 13. \
The answer is \\boxed{13}.

Question: What is the sum of the solutions of $x^2 - 7x + 10 = 0$?
Answer: The polynomial factors as $(x - 2)(x - 5)$, so the solutions are 2 and 5, and 2 + 5 = 7. \
The answer is \\boxed{7}.

Question: A fair die is rolled twice. What is the probability that both rolls are even?
Answer: Each roll is even with probability 3/6 = 1/2, and the rolls are independent: 1/2 * 1/2 = 1/4. \
The answer is \\boxed{1/4}.

Question: The legs of a right triangle measure 9 and 12. How long is the hypotenuse?
Answer: The square of the hypotenuse is 81 + 144 = 225, and 15 * 15 = 225. The answer is \\boxed{15}.

Question: {question}
Answer:"""

# A base model that has answered goes on to write the next turn of the dialogue.
_NEXT_TURN = ("\nUser:",)

TEMPLATES = {
    template.name: template
    for template in (
        Template(name="r1_zero", text=_R1_ZERO, stop=("</answer>",), cut=_NEXT_TURN),
        Template(
            name="r1_zero_open_think",
            text=_R1_ZERO + " <think>",
            stop=("</answer>",),
            cut=_NEXT_TURN,
        ),
        # The frame of R1-Zero without its instructions: a small base model has seen it in
        # pre-training.
        Template(
            name="dialogue",
            text="User: {question}\nAssistant:",
            stop=("</answer>",),
            cut=_NEXT_TURN,
        ),
        Template(name="deepscaler_boxed", text=_DEEPSCALER),
        Template(
            name="qwen_math",
            text=_QWEN_MATH,
            cut=("<|im_end|>", "<|endoftext|>"),
            adds_special_tokens=False,
        ),
        Template(name="few_shot", text=_FEW_SHOT, cut=("\n\nQuestion:", "\nQuestion:")),
        Template(name="question_only", text="{question}"),
    )
}

# `chat:deepscaler_boxed` is that template as the user turn of the tokenizer's own chat template
CHAT_PREFIX = "chat:"


def resolve(
    name: str,
    tokenizer: PreTrainedTokenizerBase,
    system_prompt: str | None = None,
    enable_thinking: bool | None = None,
) -> Template:
    """The template called `name`. `chat` and `chat:NAME` use the chat template of the tokenizer.

    Args:
        system_prompt: the system message, chat templates only.
        enable_thinking: the thinking switch of the chat template. None leaves it alone.

    Raises:
        ValueError: no such template, the tokenizer has no chat template, or its chat template does
            not look at a setting.
    """
    inner = name.removeprefix(CHAT_PREFIX)
    if name == "chat" or (inner != name and inner in TEMPLATES):
        inner = "question_only" if name == "chat" else inner
        return chat_template(tokenizer, TEMPLATES[inner], system_prompt, enable_thinking)
    if inner not in TEMPLATES:
        raise ValueError(f"{name!r} is no template; {hint(inner, ['chat', *TEMPLATES])}")
    if system_prompt is not None or enable_thinking is not None:
        raise ValueError(
            f"template {name!r} is plain text; system_prompt and enable_thinking go with chat and "
            "chat:NAME"
        )
    return TEMPLATES[name]


def chat_template(
    tokenizer: PreTrainedTokenizerBase,
    inner: Template = TEMPLATES["question_only"],
    system_prompt: str | None = None,
    enable_thinking: bool | None = None,
) -> Template:
    """The tokenizer's chat template around `inner`, with the assistant's turn opened.

    Raises:
        ValueError: the tokenizer has no chat template, or one that does not look at a setting or
            does not repeat the user's text.
    """
    if not tokenizer.chat_template:
        raise ValueError(
            "the tokenizer has no chat template; a base model takes r1_zero or few_shot"
        )
    messages = [{"role": "user", "content": inner.text}]
    if system_prompt is not None:
        if SLOT in system_prompt:
            raise ValueError(f"system_prompt: holds {SLOT}, which stands in the user's turn")
        messages.insert(0, {"role": "system", "content": system_prompt})

    def render(**switch: bool) -> str:
        text = tokenizer.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=True, **switch
        )
        assert isinstance(text, str)
        return text

    text = render() if enable_thinking is None else render(enable_thinking=enable_thinking)
    if enable_thinking is not None and render(enable_thinking=not enable_thinking) == text:
        raise ValueError(
            f"enable_thinking={enable_thinking}: the tokenizer's chat template has no thinking "
            "switch; leave it null"
        )
    for what, part in (("system message", system_prompt), ("user's text", inner.text)):
        if part is not None and part.strip() not in text:
            raise ValueError(f"the tokenizer's chat template does not repeat the {what}")
    return Template(
        name=f"{CHAT_PREFIX}{inner.name}",
        text=text,
        stop=inner.stop,
        cut=inner.cut,
        adds_special_tokens=False,
    )
