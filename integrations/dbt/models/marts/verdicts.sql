-- One row per experiment, generation, domain and outcome; the outcome of unjudged traces is NULL.
WITH written AS (
    SELECT experiment, generation, purpose, task, count(*) AS traces
    FROM {{ source('warehouse', 'traces') }}
    GROUP BY ALL
),

judged AS (
    SELECT experiment, generation, purpose, task, outcome, count(*) AS traces
    FROM {{ ref('stg_verdicts') }}
    GROUP BY ALL
),

counted AS (
    SELECT * FROM judged
    UNION ALL
    SELECT w.experiment, w.generation, w.purpose, w.task, NULL, w.traces - coalesce(j.traces, 0)
    FROM written AS w
    LEFT JOIN (
        SELECT experiment, generation, purpose, task, sum(traces)::BIGINT AS traces
        FROM judged
        GROUP BY ALL
    ) AS j
        ON j.experiment = w.experiment AND j.generation = w.generation
        AND j.purpose = w.purpose AND j.task = w.task
    WHERE w.traces > coalesce(j.traces, 0)
)

SELECT
    c.experiment,
    c.generation,
    k.domain,
    c.outcome,
    sum(c.traces)::BIGINT AS traces,
    coalesce(sum(c.traces) FILTER (WHERE c.purpose = 'deploy'), 0)::BIGINT AS deployed,
    coalesce(sum(c.traces) FILTER (WHERE c.purpose = 'evaluate'), 0)::BIGINT AS evaluated
FROM counted AS c
JOIN {{ source('warehouse', 'tasks') }} AS k ON k.task = c.task
GROUP BY ALL
ORDER BY ALL
