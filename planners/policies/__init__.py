"""Policies, which sample completions: a local model, a model server, or a baseline."""
