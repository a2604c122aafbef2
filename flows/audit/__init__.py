"""What the loop rewards, and whether the warehouse still says what is so."""
