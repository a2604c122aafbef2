-- One row per trace of a generation and a share of the tasks, with its verdict, for export; without
-- those that were forgotten.
SELECT
    t.trace, t.experiment, t.generation, t.purpose, t.task, k.domain, k.size, e.horizon,
    t.sample, t.text, t.reasoning_tokens, t.plan_tokens, t.finish_reason, t.logprob,
    t.sampling_logprob, t.policy, t.written_at, t.turn_characters, j.outcome, j.step, j.detail,
    j.plan_length, j.cost, j.checker, j.checker_version, f.accepted, e.split
FROM (
    FROM traces
    WHERE experiment = $experiment AND generation = $generation AND hash(task) % $shares = $share
        AND trace NOT IN (SELECT g.trace FROM forgotten AS g)
) AS t
JOIN tasks AS k ON k.task = t.task
LEFT JOIN experiment_tasks AS e ON e.experiment = t.experiment AND e.task = t.task
LEFT JOIN (
    FROM stg_verdicts
    WHERE experiment = $experiment AND generation = $generation AND hash(task) % $shares = $share
) AS j ON j.trace = t.trace
LEFT JOIN feedback AS f ON f.trace = t.trace
