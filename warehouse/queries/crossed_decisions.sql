-- One row per generation of other experiments whose deployed traces were in a generation's pool.
SELECT DISTINCT t.experiment, t.generation
FROM stg_decisions AS s
JOIN traces AS t ON t.trace = s.trace
WHERE s.experiment = :experiment
    AND s.generation = :generation
    AND t.experiment <> :experiment
    AND t.purpose = 'deploy'
ORDER BY ALL
