-- The traces of an experiment that a bundle shows: of every generation and outcome about as many,
-- none of a user's.
WITH ranked AS (
    SELECT trace, generation, purpose, task, outcome, step, plan_length AS actions,
        row_number() OVER (PARTITION BY generation, outcome ORDER BY trace) AS place
    FROM stg_verdicts
    WHERE experiment = :experiment AND purpose IN ('deploy', 'evaluate', 'ingest')
),

chosen AS (
    SELECT * EXCLUDE (place) FROM ranked ORDER BY place, generation, outcome LIMIT :most
)

SELECT c.*, k.domain, k.size, e.horizon, t.sample, t.logprob,
    t.reasoning_tokens + t.plan_tokens AS tokens
FROM chosen AS c
JOIN tasks AS k ON k.task = c.task
LEFT JOIN experiment_tasks AS e ON e.experiment = :experiment AND e.task = c.task
JOIN traces AS t ON t.trace = c.trace
ORDER BY c.generation, c.purpose, c.task, t.sample, c.trace
