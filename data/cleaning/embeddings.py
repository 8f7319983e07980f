"""Near duplicates by sentence embeddings, as DeepScaleR does (all-MiniLM-L6-v2). Optional: needs a
model.

Install the extra (`pip install sentence-transformers`) and have the model at hand. Embeddings see
through other wordings, and they also take "smallest" for "largest"; so the numbers must agree here
too, and the answer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar

import numpy as np

from data.cleaning import text
from data.cleaning.answers import answer_key
from data.cleaning.base import Context, Dropped, Result, Stage
from data.cleaning.duplicates import groups
from data.types import Problem
from grpo.common.errors import UserError

Embed = Callable[[Sequence[str]], np.ndarray]  # texts -> [N, D] rows of length 1


class EmbeddingDuplicates(Stage):
    """Takes out a problem whose embedding has a cosine of at least `threshold` with an
    earlier one.
    """

    name: ClassVar[str] = "embedding_duplicates"
    threshold: float = 0.95
    model: str = "sentence-transformers/all-MiniLM-L6-v2"

    def check(self) -> None:
        """See `Stage.check`."""
        load_model(self.model)

    def run(self, problems: list[Problem], context: Context) -> Result:
        """See `Stage.run`."""
        matches = repeats(problems, load_model(self.model), self.threshold)
        dropped = [
            Dropped(problem=problem, stage=self.name, reason="embedding_duplicate",
                    matched_id=problems[matches[i][0]].id, similarity=matches[i][1])
            for i, problem in enumerate(problems)
            if i in matches
        ]  # fmt: skip
        return Result([problem for i, problem in enumerate(problems) if i not in matches], dropped)


def repeats(
    problems: Sequence[Problem], embed: Embed, threshold: float
) -> dict[int, tuple[int, float]]:
    """Position of each repeat -> position of the earlier problem that is kept, and their cosine."""
    found: dict[int, tuple[int, float]] = {}
    for block in groups(_block(problem) for problem in problems):
        vectors = embed([problems[i].question for i in block])  # [n, D]
        cosines = vectors @ vectors.T  # [n, n]
        for n, i in enumerate(block):
            earlier = [m for m in range(n) if block[m] not in found and cosines[n, m] >= threshold]
            if earlier:
                found[i] = (block[earlier[0]], float(cosines[n, earlier[0]]))
    return found


def _block(problem: Problem) -> str:
    numbers = " ".join(sorted(text.first_view(problem.question).numbers))
    return f"{numbers} | {answer_key(problem.answer)}"


def load_model(name: str) -> Embed:
    """An embedding function.

    Raises:
        UserError: the extra is not installed, or the model cannot be loaded.
    """
    try:
        from sentence_transformers import SentenceTransformer
    except ImportError as error:
        raise UserError(
            "stage embedding_duplicates needs sentence-transformers (pip install "
            "sentence-transformers); "
            "near_duplicates works without it"
        ) from error
    try:
        model = SentenceTransformer(name, device="cpu")
    except (OSError, ValueError) as error:
        raise UserError(f"embedding model {name}: cannot be loaded: {str(error)[:200]}") from error
    return lambda texts: np.asarray(model.encode(list(texts), normalize_embeddings=True))
