-- One row per trace of the pool of one trained generation of an experiment: the decision.
SELECT trace, kept, weight, reason, task, from_generation, reasoning_tokens
FROM stg_decisions
WHERE experiment = :experiment AND generation = :generation
ORDER BY trace
