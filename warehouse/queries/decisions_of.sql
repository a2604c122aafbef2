-- One row per trained generation of an experiment and trace of its pool: the decision.
SELECT generation, trace, kept, weight, reason, task, from_generation, reasoning_tokens
FROM selections
WHERE experiment = :experiment
ORDER BY trace
