-- One row per trace of a pool that came from users or sources, with its user's feedback then.
SELECT s.trace, s.accepted
FROM stg_decisions AS s
JOIN traces AS t ON t.trace = s.trace
WHERE s.experiment = :experiment AND s.generation = :generation AND t.purpose <> 'deploy'
