-- One row per sample and generation of an experiment: the share of held-out tasks that it solved.
SELECT t.sample, t.generation, avg(CAST(v.outcome = 'VALID' AS INT)) AS solved
FROM traces AS t
JOIN stg_verdicts AS v ON v.trace = t.trace
JOIN experiment_tasks AS k ON k.experiment = t.experiment AND k.task = t.task
WHERE t.experiment = :experiment AND t.purpose = 'evaluate' AND k.split = 'heldout'
GROUP BY ALL
