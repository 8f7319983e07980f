"""R1-Zero in miniature: a base model that is pre-trained here, problems, and a probe of how it
answers.

Nothing in the core imports it. A recipe makes its parts known with `modules: [grpo.miniature]`.
"""

from grpo.miniature import answer_style, base_model, bilingual_parts, generator, shape

__all__ = ["answer_style", "base_model", "bilingual_parts", "generator", "shape"]
