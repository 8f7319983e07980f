"""Where work runs. The loop sees the two protocols; each implementation is chosen by the recipe's
`runtime`.
"""
