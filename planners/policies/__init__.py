"""What samples completions: a model in this process, a server, or a baseline."""
