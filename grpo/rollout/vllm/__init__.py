"""vLLM: engines that turn seeded requests into responses. Knows tokens, not rewards."""
