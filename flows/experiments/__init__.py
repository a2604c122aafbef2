"""Experiments: the settings that determine a run, the presets, and how both are read."""
