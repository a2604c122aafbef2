"""What users asked and were answered: written down durably, then loaded into the warehouse."""
