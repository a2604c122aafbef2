"""Studies: arms that differ in a few settings, each with the same seeds, compared."""
