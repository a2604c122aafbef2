"""Audits: what the loop rewards, and whether the warehouse's contents can be derived again."""
