"""A backend of reward models that scores a response by its length, unless the response says that it
should fail.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rewards.preference.model import MODELS, Exchange, Prepared


class Faulty:
    def prepare(self, exchange: Exchange) -> Prepared:
        return Prepared(content=exchange.response, num_tokens=len(exchange.response))

    def score(self, batch: Sequence[Prepared]) -> list[float]:
        for one in batch:
            what, _, where = one.content.partition(" ")
            if what == "die" or (what == "die_once" and not Path(where).exists()):
                if what == "die_once":
                    Path(where).touch()
                os._exit(3)
            if what == "hang_once" and not Path(where).exists():
                Path(where).touch()
                time.sleep(600)
            if what == "raise":
                raise RuntimeError("no memory for this one")
        return [
            math.nan if one.content.startswith("nan") else float(one.num_tokens) for one in batch
        ]


@MODELS.register("faulty")
def faulty(options: Mapping[str, Any]) -> Faulty:
    if options["model"] == "broken":
        raise ValueError("there is no such model")
    return Faulty()
