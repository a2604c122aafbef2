"""Generations on a schedule, as Prefect flows."""
