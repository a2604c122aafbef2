"""What is kept of the traces, and why: pure functions over frames."""
