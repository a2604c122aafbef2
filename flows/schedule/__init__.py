"""Generations on a schedule, as Prefect flows."""

PORT = 4200
"""Prefect's default port, for a server whose pages people look at."""
