-- The number of traces that the experiment with this hash kept for a generation.
SELECT count(*) AS traces
FROM stg_decisions AS s
JOIN experiments AS e ON e.experiment = s.experiment
WHERE e.hash = :hash AND s.generation = :generation AND s.kept
