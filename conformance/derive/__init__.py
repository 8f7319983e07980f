"""Where the expected values come from: the papers' formulas in eighty digits, and no framework.

Nothing here knows this project or a tensor library. Gradients are difference quotients of the loss
itself, so no formula of a gradient has to be trusted.
"""
