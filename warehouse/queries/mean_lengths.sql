-- One row per generation of an experiment: the mean length of its plans for training tasks.
SELECT v.generation, avg(v.plan_length) AS length
FROM stg_verdicts AS v
JOIN experiment_tasks AS k ON k.experiment = v.experiment AND k.task = v.task
WHERE v.experiment = :experiment AND v.purpose = 'evaluate' AND k.split = 'train'
    AND v.plan_length IS NOT NULL
GROUP BY ALL
