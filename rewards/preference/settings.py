"""What a recipe says about a component with `kind: preference`, and what is checked before any
model is loaded.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from grpo.common.names import hint
from rewards import registry
from rewards.preference.model import MODELS, RESPONSE_SLOT, SLOTS

_DEVICE = re.compile(r"cpu|cuda(?::\d+)?")
TRANSFORMERS = "transformers"  # the backend that comes with this package


@dataclass(frozen=True, kw_only=True, slots=True)
class PreferenceSettings:
    """Options of a component that a model of preferences scores.

    Attributes:
        model: folder of a model for sequence classification with one label.
        reads: `summary` is what follows the thought (helpfulness), `everything` is the whole
            response (harmlessness).
        rows: rows that it scores beside those whose `reward` names it. `unverifiable`: those that
            no checker scores.
        squash: `sigmoid` gives 1 / (1 + exp(-(r - shift) / scale)), `clip` gives (r - shift) /
            scale within -1 and 1.
        shift: the output r of the model that counts as neither good nor bad.
        scale: how much more than `shift` counts as much better; in the units of r.
        backend: what loads the model; a module of the recipe's may register others.
        template: text around question and response, with `{question}` and `{response}`; None is
            the chat template of the model's tokenizer.
        max_tokens: of question and response together; None is the model's context. The middle of
            what is longer is left out.
        batch_tokens: padded tokens of a batch. None is one text at a time on CPU, so that a score
            depends on its text alone to the last bit, and 16,384 on a GPU.
        device: `cpu`, `cuda` or `cuda:N`.
        dtype: of the weights. `auto` is float32 on CPU and bfloat16 on a GPU.
        threads: of the process, on CPU.
        timeout_seconds: for one batch. After it the process is killed and started again.
        start_timeout_seconds: for loading the model.
    """

    model: str
    reads: Literal["summary", "everything"] = "summary"
    rows: Literal["named", "unverifiable", "all"] = "named"
    squash: Literal["sigmoid", "clip"] = "sigmoid"
    shift: float = 0.0
    scale: float = 1.0
    backend: str = TRANSFORMERS
    template: str | None = None
    max_tokens: int | None = None
    batch_tokens: int | None = None
    device: str = "cpu"
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    threads: int = 1
    timeout_seconds: float = 120.0
    start_timeout_seconds: float = 600.0

    def of_process(self) -> PreferenceSettings:
        """The settings that the process depends on; components that agree in them share it."""
        return replace(self, reads="summary", rows="named", squash="sigmoid", shift=0.0, scale=1.0)

    def lowest(self) -> float:
        """The worst score that a response can get."""
        return 0.0 if self.squash == "sigmoid" else -1.0

    def bounded(self, output: float) -> float:
        """The score of an output of the model, within [0, 1] or [-1, 1]."""
        value = (output - self.shift) / self.scale
        if self.squash == "clip":
            return min(1.0, max(-1.0, value))
        # of a large exponent only the side without overflow is taken
        return 1 / (1 + math.exp(-value)) if value >= 0 else (e := math.exp(value)) / (1 + e)


def read_settings(name: str, options: Mapping[str, Any]) -> PreferenceSettings | list[str]:
    """The settings of component `name`, or everything that is wrong with them, as messages.

    Only files of the model folder that are quickly read are looked at.
    """
    where = f"rewards.components.{name}"
    errors = registry.check_arguments(PreferenceSettings, options, where)
    if errors:
        return errors
    settings = PreferenceSettings(**options)
    for key, least in (("max_tokens", 16), ("batch_tokens", 1), ("threads", 1)):
        value = getattr(settings, key)
        if value is not None and value < least:
            errors.append(f"{where}.{key}={value}: must be at least {least}")
    for key in ("scale", "timeout_seconds", "start_timeout_seconds"):
        if getattr(settings, key) <= 0:
            errors.append(f"{where}.{key}={getattr(settings, key)}: must be above 0")
    if not _DEVICE.fullmatch(settings.device):
        errors.append(f"{where}.device={settings.device}: must be cpu, cuda or cuda:N")
    template = settings.template
    if template is not None and any(template.count(slot) != 1 for slot in SLOTS):
        errors.append(f"{where}.template={template!r}: needs {' and '.join(SLOTS)} once each")
    elif template is not None and template.index(SLOTS[0]) > template.index(RESPONSE_SLOT):
        errors.append(f"{where}.template={template!r}: the question comes before the response")
    if settings.backend not in MODELS:
        errors.append(f"{where}.backend={settings.backend}: {hint(settings.backend, MODELS)}")
    elif settings.backend == TRANSFORMERS:
        errors += _folder_problems(f"{where}.model={settings.model}", Path(settings.model))
    return errors or settings


def _folder_problems(where: str, folder: Path) -> list[str]:
    """What config.json and the names of the files say against a folder."""
    folder = folder.expanduser()
    if not folder.is_dir():
        return [
            f"{where}: no such folder. Name a local Hugging Face folder; for a model of a hub, "
            "download it first (hf download MODEL --local-dir FOLDER)"
        ]
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        architectures, labels = config.get("architectures") or [], config.get("id2label")
    except (OSError, ValueError, AttributeError) as error:
        return [f"{where}: config.json cannot be read ({error}); download the folder again"]
    problems = []
    if not any(str(name).endswith("ForSequenceClassification") for name in architectures):
        problems.append(
            f"{where}: config.json names {', '.join(map(str, architectures)) or 'no architecture'}"
            "; a reward model is a ...ForSequenceClassification with one label"
        )
    else:
        # transformers takes two labels where the file says nothing
        count = len(labels) if isinstance(labels, dict) else config.get("num_labels", 2)
        if count != 1:
            problems.append(
                f"{where}: the model has {count} labels and a reward model has one; take a model "
                "that was trained to score responses (num_labels=1)"
            )
    if not any(folder.glob("*.safetensors")):
        problems.append(
            f"{where}: the folder has no weights (*.safetensors). Pickled weights are not read; "
            "save the model with save_pretrained"
        )
    if not any(folder.glob("tokenizer*")):
        problems.append(f"{where}: the folder has no tokenizer (tokenizer*)")
    return problems
