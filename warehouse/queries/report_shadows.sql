-- One row per generation that answered in silence, and the one beside it that users had.
SELECT * FROM shadows ORDER BY experiment, generation, beside
