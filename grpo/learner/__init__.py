"""The learner: one policy, partitioned over ranks by DeepSpeed ZeRO-3. Knows tokens and advantages,
not text.
"""
