"""A generation for others: its model card, and its upload to a hub."""
