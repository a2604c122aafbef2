-- One row per experiment and generation that answered users: its answers, and what users said.
SELECT
    t.experiment,
    t.generation,
    count(*) AS requests,
    count(DISTINCT r.user_hash) AS users,
    median(r.latency_ms) AS latency_ms,
    count(v.outcome) AS judged,
    count(*) FILTER (WHERE v.outcome = 'VALID') AS valid,
    count(f.accepted) AS told,
    count(*) FILTER (WHERE f.accepted) AS accepted,
    count(*) FILTER (WHERE f.accepted AND v.outcome <> 'VALID') AS accepted_invalid,
    count(*) FILTER (WHERE NOT f.accepted AND v.outcome = 'VALID') AS rejected_valid
FROM traces AS t
JOIN requests AS r ON r.trace = t.trace
LEFT JOIN stg_verdicts AS v ON v.trace = t.trace
LEFT JOIN feedback AS f ON f.trace = t.trace
WHERE t.purpose = 'request'
GROUP BY ALL
ORDER BY ALL
