"""What every room may use: errors, files, names, and how a recipe is read. It imports nothing else
of the project.
"""
