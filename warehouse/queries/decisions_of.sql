-- One row per generation trained of an experiment and trace of its pool.
SELECT generation, trace, kept, weight, reason, task, from_generation, reasoning_tokens
FROM selections
WHERE experiment = :experiment
ORDER BY trace
