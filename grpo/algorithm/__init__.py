"""Every formula as a pure function with its source. Knows torch and nothing of the project but
names.
"""
