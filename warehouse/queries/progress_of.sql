-- One row per generation of an experiment that was evaluated: its figures.
SELECT generation, coverage, unanimous, heldout, larger, longest, new_solved
FROM progress
WHERE experiment = :experiment
ORDER BY generation
