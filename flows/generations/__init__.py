"""What a generation is made of: its lineage, its pool, its weights."""
