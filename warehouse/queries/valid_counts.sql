-- One row per generation of an experiment: its deployed traces, and how many are valid.
SELECT generation, count(*) FILTER (WHERE outcome = 'VALID') AS valid, count(*) AS traces
FROM stg_verdicts
WHERE experiment = :experiment AND purpose = 'deploy'
GROUP BY ALL
