"""The toy: generated arithmetic and a small base model. A recipe names it with `modules`.

Importing it registers the generator `arithmetic`.
"""

from grpo.miniature import generator

__all__ = ["generator"]
