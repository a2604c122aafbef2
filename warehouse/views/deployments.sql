-- One row per experiment, generation and day: its answers to users, and what they said of them. The
-- interval of the share that was accepted is Wilson's, at 95%. A user who asks often counts as one
-- opinion, so that answers count as fewer where a few users gave most of them.
WITH answers AS (
    SELECT
        t.trace,
        t.experiment,
        t.generation,
        -- Older versions of DuckDB make another type of it, and would not open the view.
        CAST(date_trunc('day', r.received_at) AS TIMESTAMP) AS day,
        r.latency_ms,
        r.user_hash,
        v.outcome,
        f.accepted,
        -- Whose a forgotten answer was is not known any more: one user's, to be cautious.
        coalesce(f.user_hash, r.user_hash, if(g.trace IS NULL, t.trace, 'forgotten')) AS who
    FROM traces AS t
    JOIN requests AS r ON r.trace = t.trace
    LEFT JOIN stg_verdicts AS v ON v.trace = t.trace
    LEFT JOIN feedback AS f ON f.trace = t.trace
    LEFT JOIN forgotten AS g ON g.trace = t.trace
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
),
by_user AS (
    SELECT experiment, generation, day, count(accepted) AS told
    FROM answers
    GROUP BY experiment, generation, day, who
),
effective AS (
    -- Kish's effective number of answers, if those of a user are alike.
    SELECT experiment, generation, day, sum(told) ** 2 / nullif(sum(told * told), 0) AS opinions
    FROM by_user
    GROUP BY experiment, generation, day
),
shares AS (
    SELECT c.*, c.accepted / nullif(c.told, 0) AS acceptance, o.opinions AS n
    FROM counted AS c
    JOIN effective AS o
        ON o.experiment = c.experiment AND o.generation = c.generation AND o.day = c.day
)
SELECT
    * EXCLUDE (n),
    (n * acceptance + 1.9208 - 1.96 * sqrt(n * acceptance * (1 - acceptance) + 0.9604))
        / (n + 3.8416) AS acceptance_low,
    (n * acceptance + 1.9208 + 1.96 * sqrt(n * acceptance * (1 - acceptance) + 0.9604))
        / (n + 3.8416) AS acceptance_high
FROM shares
