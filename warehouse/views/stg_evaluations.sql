-- One row an evaluation sample: was it judged, and was it valid.
SELECT
    t.experiment,
    t.generation,
    e.split,
    k.domain,
    k.size,
    k.horizon,
    t.task,
    t.sample,
    j.outcome,
    coalesce(j.outcome = 'VALID', false) AS valid,
    j.plan_length
FROM traces AS t
JOIN tasks AS k ON k.task = t.task
JOIN experiment_tasks AS e ON e.experiment = t.experiment AND e.task = t.task
LEFT JOIN judgements AS j ON j.trace = t.trace AND j.superseded IS NOT TRUE
WHERE t.purpose = 'evaluate'
