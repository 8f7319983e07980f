"""How a step gets its groups. One small file for each strategy; a recipe names it as
`rollout.strategy`.
"""

from grpo.rollout.strategies import partial, plain
from grpo.rollout.strategies.base import STRATEGIES, Strategy

__all__ = ["STRATEGIES", "Strategy", "partial", "plain"]
