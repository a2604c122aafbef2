-- One row per experiment and user who accepted plans that the checker calls invalid, or rejected
-- valid ones.
SELECT
    t.experiment,
    coalesce(f.user_hash, r.user_hash, 'nobody named') AS told_by,
    count(*) AS told,
    count(*) FILTER (WHERE f.accepted AND v.outcome <> 'VALID') AS accepted_invalid,
    count(*) FILTER (WHERE NOT f.accepted AND v.outcome = 'VALID') AS rejected_valid
FROM traces AS t
JOIN requests AS r ON r.trace = t.trace
JOIN feedback AS f ON f.trace = t.trace
JOIN stg_verdicts AS v ON v.trace = t.trace
WHERE t.purpose = 'request'
GROUP BY ALL
HAVING accepted_invalid + rejected_valid > 0
ORDER BY t.experiment, accepted_invalid DESC, rejected_valid DESC, told_by
