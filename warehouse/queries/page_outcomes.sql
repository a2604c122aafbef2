-- One row per generation, purpose and outcome of an experiment's judged traces.
SELECT generation, purpose, outcome, count(*) AS traces
FROM stg_verdicts
WHERE experiment = :experiment
GROUP BY ALL
ORDER BY ALL
