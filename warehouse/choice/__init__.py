"""Which traces a generation learns from: curators as SQL, and decisions as they are stored."""
