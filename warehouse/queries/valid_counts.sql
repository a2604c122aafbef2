-- One row per generation of an experiment: its deployed traces and, where it learns from users, its
-- answers to them; and how many are valid.
SELECT generation, count(*) FILTER (WHERE outcome = 'VALID') AS valid, count(*) AS traces
FROM stg_verdicts
WHERE experiment = :experiment AND (
    purpose = 'deploy'
    OR purpose = 'request' AND EXISTS (
        SELECT 1 FROM experiments AS e
        WHERE e.experiment = :experiment AND json_type(e.config, '$.deployment') = 'OBJECT'
    )
)
GROUP BY ALL
