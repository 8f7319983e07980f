"""What a recipe needs before it is started: memory of every actor and time of every phase.

Formulas are pure functions (`memory`, `seconds`). `plan` puts a recipe, a model shape and a device
into them.
"""
