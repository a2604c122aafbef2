-- One row per experiment or source, and model that wrote its traces: how many, and how many are valid.
SELECT
    t.experiment,
    t.policy,
    count(*) AS traces,
    count(*) FILTER (WHERE v.outcome = 'VALID') AS valid,
    count(*) FILTER (WHERE t.purpose IN ('request', 'correction')) AS requests
FROM traces AS t
LEFT JOIN stg_verdicts AS v ON v.trace = t.trace
GROUP BY t.experiment, t.policy
ORDER BY t.experiment, t.policy
