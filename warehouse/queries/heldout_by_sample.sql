-- One row per judged evaluation of a held-out task: task, sample and generation of an experiment, and
-- whether it was solved.
SELECT t.task, t.sample, t.generation, CAST(v.outcome = 'VALID' AS INT) AS solved
FROM traces AS t
JOIN stg_verdicts AS v ON v.trace = t.trace
JOIN experiment_tasks AS k ON k.experiment = t.experiment AND k.task = t.task
WHERE t.experiment = :experiment AND t.purpose = 'evaluate' AND k.split = 'heldout'
    AND t.generation IN (:generation, :parent)
