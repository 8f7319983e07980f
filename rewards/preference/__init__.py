"""Rewards from a model of preferences: which of two responses would people rather have?

DeepSeek-R1 section 2.3.4 uses such models where no rule can check a response. Nothing heavy is
imported here; the model lives in a process of its own (`serve`).
"""
