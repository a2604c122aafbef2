-- One row per experiment, generation and day: its answers to users, and what they said of them. The
-- interval of the share that was accepted is Wilson's, at 95%, as if each answer had another user.
WITH answers AS (
    SELECT
        t.experiment,
        t.generation,
        date_trunc('day', r.received_at) AS day,
        r.latency_ms,
        r.user_hash,
        v.outcome,
        f.accepted
    FROM {{ source('warehouse', 'traces') }} AS t
    JOIN {{ source('warehouse', 'requests') }} AS r ON r.trace = t.trace
    LEFT JOIN {{ ref('stg_verdicts') }} AS v ON v.trace = t.trace
    LEFT JOIN {{ source('warehouse', 'feedback') }} AS f ON f.trace = t.trace
    WHERE t.purpose = 'request'
),
counted AS (
    SELECT
        experiment,
        generation,
        day,
        count(*) AS requests,
        count(DISTINCT user_hash) AS users,
        median(latency_ms) AS latency_ms,
        quantile_cont(latency_ms, 0.99) AS latency_ms_p99,
        count(outcome) AS judged,
        count(*) FILTER (WHERE outcome = 'VALID') AS valid,
        count(accepted) AS told,
        count(*) FILTER (WHERE accepted) AS accepted
    FROM answers
    GROUP BY experiment, generation, day
)
SELECT
    *,
    accepted / nullif(told, 0) AS acceptance,
    (accepted + 1.92 - 1.96 * sqrt(accepted * (told - accepted) / nullif(told, 0) + 0.96))
        / nullif(told + 3.84, 3.84) AS acceptance_low,
    (accepted + 1.92 + 1.96 * sqrt(accepted * (told - accepted) / nullif(told, 0) + 0.96))
        / nullif(told + 3.84, 3.84) AS acceptance_high
FROM counted
