-- One row per referee, task and decision: valid traces of a generation's pool that it was asked about,
-- those that it calls invalid, and those that it gave no answer on.
SELECT
    o.referee,
    s.task,
    s.kept,
    count(o.valid) AS asked,
    count(*) FILTER (WHERE NOT o.valid) AS disputed,
    count(*) FILTER (WHERE o.valid IS NULL) AS silent
FROM stg_decisions AS s
JOIN stg_verdicts AS v ON v.trace = s.trace
JOIN opinions AS o ON o.trace = s.trace
WHERE s.experiment = :experiment AND s.generation = :generation
    AND v.outcome = 'VALID'
GROUP BY ALL
ORDER BY ALL
