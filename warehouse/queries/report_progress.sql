-- The figures of every generation.
SELECT * FROM progress ORDER BY experiment, generation
