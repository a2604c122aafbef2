-- One row per experiment and generation that answered users: its answers, and what users said.
-- `opinions`: how many answers with feedback count, if those that one user judged are alike (Kish).
WITH by_user AS (
    SELECT
        t.experiment,
        t.generation,
        coalesce(f.user_hash, r.user_hash, if(g.trace IS NULL, t.trace, 'forgotten')) AS who,
        count(*) AS told
    FROM traces AS t
    JOIN requests AS r ON r.trace = t.trace
    JOIN feedback AS f ON f.trace = t.trace
    LEFT JOIN forgotten AS g ON g.trace = t.trace
    WHERE t.purpose = 'request'
    GROUP BY ALL
),
effective AS (
    SELECT experiment, generation, sum(told) ** 2 / sum(told * told) AS opinions
    FROM by_user
    GROUP BY experiment, generation
)
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
    count(*) FILTER (WHERE NOT f.accepted AND v.outcome = 'VALID') AS rejected_valid,
    coalesce(any_value(e.opinions), 0) AS opinions
FROM traces AS t
JOIN requests AS r ON r.trace = t.trace
LEFT JOIN stg_verdicts AS v ON v.trace = t.trace
LEFT JOIN feedback AS f ON f.trace = t.trace
LEFT JOIN effective AS e ON e.experiment = t.experiment AND e.generation = t.generation
WHERE t.purpose = 'request'
GROUP BY t.experiment, t.generation
ORDER BY ALL
