"""Imported by the workers of a recipe with `accuracy.symbolic`: loads SymPy before the time of the
first answer runs.
"""

from rewards import symbolic

symbolic.load()
