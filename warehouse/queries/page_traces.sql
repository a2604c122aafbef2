-- Traces of an experiment as they were written, as many as :most from :skip on; a filter that is
-- NULL lets all through.
WITH chosen AS (
    SELECT trace, generation, purpose, task, sample,
        reasoning_tokens + plan_tokens AS tokens, logprob, rowid AS place
    FROM traces
    WHERE experiment = :experiment
        AND (:generation IS NULL OR generation = :generation)
        AND (:purpose IS NULL OR purpose = :purpose)
        AND (:task IS NULL OR task = :task)
    ORDER BY
        CASE :sort WHEN 'tokens' THEN tokens WHEN 'logprob' THEN logprob END * :sign NULLS LAST,
        place
    LIMIT :most OFFSET :skip
)

SELECT c.* EXCLUDE (place), k.domain, k.size, e.horizon, v.outcome, v.step, v.plan_length AS actions
FROM chosen AS c
JOIN tasks AS k ON k.task = c.task
LEFT JOIN experiment_tasks AS e ON e.experiment = :experiment AND e.task = c.task
LEFT JOIN stg_verdicts AS v ON v.trace = c.trace
ORDER BY
    CASE :sort WHEN 'tokens' THEN tokens WHEN 'logprob' THEN logprob END * :sign NULLS LAST,
    c.place
