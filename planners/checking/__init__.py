"""Judging plans: the checker, its oracle, canaries, and second opinions."""
