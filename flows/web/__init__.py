"""The deployment's API: a generation answers users, who say what they think of it."""
