"""A reward model of transformers: sequence classification with one label, from a local folder."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from grpo.common.encoding import encode_text
from rewards.preference.model import Exchange, Prepared

# Stand for the texts while a chat template is rendered; private characters of Unicode.
_MARKS = ("\ue000question\ue001", "\ue000response\ue001")
_LEFT_OUT = " [...] "
_SURROGATE = re.compile("[\ud800-\udfff]")


class SequenceClassifier:
    """Loads safetensors only and runs no code of the folder.

    Args:
        options: fields of `PreferenceSettings`.

    Raises:
        ValueError: the folder cannot be loaded, has more than one label or lacks weights; a
            template without both texts, or with no room for them.
    """

    def __init__(self, options: Mapping[str, Any]) -> None:
        import torch
        from transformers import AutoModelForSequenceClassification, AutoTokenizer

        folder = Path(options["model"]).expanduser()
        self.device = torch.device(options["device"])
        if self.device.type == "cuda" and not torch.cuda.is_available():
            raise ValueError(f"device={options['device']}: no GPU is visible; use device=cpu")
        dtype = options["dtype"]
        if dtype == "auto":
            dtype = "float32" if self.device.type == "cpu" else "bfloat16"
        local: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
        try:
            self.tokenizer = AutoTokenizer.from_pretrained(folder, **local)
            model, loading = AutoModelForSequenceClassification.from_pretrained(
                folder,
                dtype=getattr(torch, dtype),
                use_safetensors=True,
                output_loading_info=True,
                **local,
            )
        except Exception as error:  # whatever a library raises about a folder
            raise ValueError(f"the folder cannot be loaded ({str(error)[:300]})") from error
        # transformers draws missing weights at random, without more than a warning
        if missing := sorted(loading["missing_keys"]):
            raise ValueError(
                f"{len(missing)} weights are not in the files of the folder, the first is "
                f"{missing[0]}; save the model with save_pretrained, or download it again"
            )
        if model.config.num_labels != 1:
            raise ValueError(f"the model has {model.config.num_labels} labels; one is needed")
        self.model = model.to(self.device).eval()
        config = model.config.get_text_config()
        named = self.tokenizer.pad_token_id
        self.pad_token_id = named if named is not None else (config.pad_token_id or 0)
        # The model finds the end of a text as the last token that is not this one.
        config.pad_token_id = self.pad_token_id
        context = config.max_position_embeddings
        self.max_tokens = min(options["max_tokens"] or context, context)
        self.before, self.between, self.after = self._frame(options["template"])
        room = self.max_tokens - len(self._encode("", ""))
        if room < 4:
            raise ValueError(f"max_tokens={self.max_tokens}: the template leaves {room} tokens")

    def _frame(self, template: str | None) -> tuple[str, str, str]:
        """The text before the question, between the two, and after the response."""
        if template is not None:
            before, _, rest = template.partition("{question}")
            between, _, after = rest.partition("{response}")
            return before, between, after
        if not self.tokenizer.chat_template:
            raise ValueError(
                "its tokenizer has no chat template; set template to a text with {question} and "
                "{response}"
            )
        text = self.tokenizer.apply_chat_template(
            [
                {"role": "user", "content": _MARKS[0]},
                {"role": "assistant", "content": _MARKS[1]},
            ],
            tokenize=False,
        )
        parts = re.split("|".join(map(re.escape, _MARKS)), text)
        if len(parts) != 3 or text.index(_MARKS[0]) > text.index(_MARKS[1]):
            raise ValueError("its chat template does not repeat question and response once each")
        return parts[0], parts[1], parts[2]

    def _encode(self, question: str, response: str) -> list[int]:
        """Token ids. Neither text yields a special or added token, so neither can end its turn."""
        first = len(self.before)
        second = first + len(question) + len(self.between)
        return encode_text(
            self.tokenizer,
            self.before + question + self.between + response + self.after,
            [range(first, first + len(question)), range(second, second + len(response))],
            adds_special_tokens=False,  # the template has all that there should be
        )

    def prepare(self, exchange: Exchange) -> Prepared:
        """Token ids of an exchange. The middle is left out of a response that is too long, and of a
        question that takes more than half of the room.
        """
        question, response = (_SURROGATE.sub("\ufffd", text) for text in exchange)
        ids = self._encode(question, response)
        too_long = max(0, len(ids) - self.max_tokens)
        limit = self.max_tokens // 2  # tokens of the frame and the question
        if too_long:
            question = self._shortened(question, lambda text: len(self._encode(text, "")) - limit)
            response = self._shortened(
                response, lambda text: len(self._encode(question, text)) - self.max_tokens
            )
            ids = self._encode(question, response)
        return Prepared(content=ids, num_tokens=len(ids), cut_tokens=too_long)

    def _shortened(self, text: str, excess: Any) -> str:
        """A text without its middle, so that `excess` of it, in tokens, is not above 0."""
        head = tail = len(text) // 2
        shown = text
        while (over := excess(shown)) > 0 and head + tail > 0:
            # a token has one character or more, so this takes no more than needed
            head, tail = max(0, head - (over + 1) // 2), max(0, tail - over // 2)
            shown = text[:head] + _LEFT_OUT + text[len(text) - tail :]
        return shown

    def score(self, batch: Sequence[Prepared]) -> list[float]:
        """The one logit of each text. [B, T] token ids are padded to the right."""
        import torch

        longest = max(one.num_tokens for one in batch)
        ids_BT = torch.full((len(batch), longest), self.pad_token_id, dtype=torch.long)
        mask_BT = torch.zeros((len(batch), longest), dtype=torch.long)
        for row, one in enumerate(batch):
            ids_BT[row, : one.num_tokens] = torch.tensor(one.content, dtype=torch.long)
            mask_BT[row, : one.num_tokens] = 1
        with torch.inference_mode():
            output = self.model(
                input_ids=ids_BT.to(self.device), attention_mask=mask_BT.to(self.device)
            )
        return [float(value) for value in output.logits[:, 0].float().cpu()]
