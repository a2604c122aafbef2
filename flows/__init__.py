"""The loop, its stages, schedules, command line and presets. The only code that imports Prefect."""
