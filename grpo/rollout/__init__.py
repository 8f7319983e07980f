"""Rollouts: prompts become requests, requests become responses, responses become scored groups."""
