"""Whether two answers are the same, and what else a text may mean."""
