-- One row per experiment and generation: its figures.
SELECT * FROM progress ORDER BY experiment, generation
