"""What determines a run: its settings, the presets, and reading them."""
