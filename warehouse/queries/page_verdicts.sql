-- Judged traces of an experiment with one outcome, as many as :most from :skip on.
WITH chosen AS (
    SELECT trace, generation, purpose, task, outcome, step, plan_length AS actions
    FROM stg_verdicts
    WHERE experiment = :experiment
        AND outcome = :outcome
        AND (:generation IS NULL OR generation = :generation)
        AND (:purpose IS NULL OR purpose = :purpose)
        AND (:task IS NULL OR task = :task)
    ORDER BY
        CASE :sort WHEN 'actions' THEN plan_length WHEN 'step' THEN step END * :sign NULLS LAST,
        generation, purpose, task, trace
    LIMIT :most OFFSET :skip
)

SELECT c.*, k.domain, k.size, e.horizon, t.sample, t.logprob,
    t.reasoning_tokens + t.plan_tokens AS tokens
FROM chosen AS c
JOIN tasks AS k ON k.task = c.task
LEFT JOIN experiment_tasks AS e ON e.experiment = :experiment AND e.task = c.task
JOIN traces AS t ON t.trace = c.trace
ORDER BY
    CASE :sort WHEN 'actions' THEN actions WHEN 'step' THEN step END * :sign NULLS LAST,
    c.generation, c.purpose, c.task, c.trace
