-- One row per trace in the pool of a generation whose verdict then was another version's.
SELECT DISTINCT s.trace
FROM stg_decisions AS s
JOIN judgements AS j ON j.trace = s.trace
WHERE s.experiment = :experiment AND s.generation = :generation AND j.superseded
