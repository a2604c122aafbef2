-- One row per generation that an experiment trained and reason: traces of the pool.
SELECT generation, kept, reason, count(*) AS traces, sum(weight) AS weight
FROM stg_decisions
WHERE experiment = :experiment
GROUP BY ALL
ORDER BY generation, kept DESC, traces DESC, reason
