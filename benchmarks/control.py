"""Control experiment: the embedded default with rewards that are shuffled within each group, so
they teach nothing.

Every group keeps its rewards, and with them the size of its advantages, but they fall on random
responses. Whatever accuracy such a run gains did not come from the rewards. The paper's effect must
vanish:

    python -m benchmarks.control [--seed 0] [key=value ...]
"""

from __future__ import annotations

import argparse
import random
import sys
from collections.abc import Sequence

from benchmarks.seeds import run
from grpo.config import load_config
from rewards import Sample, Score, Scorer

ALLOWED = 0.05  # change of held-out accuracy


class ShuffledScorer:
    """Scores a group as the recipe says, then deals the scores out anew. Evaluations are scored as
    they are.

    Which responses are training is told by their prompts: held-out problems never occur in
    training.
    """

    def __init__(self, scorer: Scorer, held_out: set[str], seed: int) -> None:
        self.scorer, self.held_out, self.seed = scorer, held_out, seed
        self.needs_tokens = scorer.needs_tokens

    def score_groups(self, groups: Sequence[Sequence[Sample]]) -> list[list[Score]]:
        """Scores of some groups, in random order within each group of training."""
        scored = self.scorer.score_groups(groups)
        for samples, scores in zip(groups, scored, strict=True):
            if samples[0].question not in self.held_out:
                # Groups arrive in any order, so each is shuffled by what it is.
                random.Random(f"{self.seed}/{[sample.response for sample in samples]}").shuffle(
                    scores
                )
        return scored


def main() -> int:
    """Train with shuffled rewards; 0 when accuracy stayed where it was."""
    from grpo.rollout.prompts import load_problems

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("overrides", nargs="*")
    args = parser.parse_args()
    config = load_config("tiny", [*args.overrides, f"seed={args.seed}"])
    held_out = {
        problem.question for problem in load_problems("held_out", config.data.held_out, config.seed)
    }
    scorer = ShuffledScorer(config.rewards.scorer(), held_out, args.seed)
    summary = run("tiny", [*args.overrides, f"seed={args.seed}"], scorer)  # type: ignore[arg-type]
    base, final = (summary[side]["sampled"]["accuracy"] for side in ("base", "final"))
    print(
        f"shuffled rewards: accuracy {base:.3f} -> {final:.3f}, change {final - base:+.3f} "
        f"(allowed {ALLOWED})"
    )
    return 0 if abs(final - base) <= ALLOWED else 1


if __name__ == "__main__":
    sys.exit(main())
