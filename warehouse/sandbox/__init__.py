"""Users' SQL: what may be asked, and the process that asks it."""
