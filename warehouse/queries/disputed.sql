-- One row per referee, task and decision: valid traces of a generation's pool that it was asked about.
SELECT
    o.referee,
    s.task,
    s.kept,
    count(*) AS asked,
    count(*) FILTER (WHERE NOT o.valid) AS disputed
FROM stg_decisions AS s
JOIN stg_verdicts AS v ON v.trace = s.trace
JOIN opinions AS o ON o.trace = s.trace
WHERE s.experiment = :experiment AND s.generation = :generation
    AND v.outcome = 'VALID' AND o.valid IS NOT NULL
GROUP BY ALL
ORDER BY ALL
