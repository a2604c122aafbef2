"""Users' SQL: which queries are allowed, and the process that runs them."""
