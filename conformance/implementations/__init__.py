"""One small adapter for each implementation.

`NAME` says what ran, with its version. `compute(case)` returns what `expected` of the case holds,
or raises `NotOfferedError`.
"""
