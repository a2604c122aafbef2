"""Answers to users: written down durably, then loaded into the warehouse."""
