-- Traces in the pool of one generation, kept or dropped for one reason, from :skip on.
WITH chosen AS (
    SELECT trace, from_generation AS generation, task, plan_length AS actions, kept, reason, weight
    FROM stg_decisions
    WHERE experiment = :experiment AND generation = :pool AND reason = :reason
    ORDER BY task, trace
    LIMIT :most OFFSET :skip
)

SELECT c.*, k.domain, k.size, e.horizon, t.purpose, t.sample, t.logprob,
    t.reasoning_tokens + t.plan_tokens AS tokens
FROM chosen AS c
JOIN tasks AS k ON k.task = c.task
LEFT JOIN experiment_tasks AS e ON e.experiment = :experiment AND e.task = c.task
JOIN traces AS t ON t.trace = c.trace
ORDER BY c.task, c.trace
