"""Prompts: from a task to the text that a model reads, and from its answer back to a plan."""
