-- One row per experiment or source: its settings, how many generations and tasks it has.
SELECT e.experiment, e.name, e.seed, e.config,
    coalesce(g.generations, 0) AS generations,
    coalesce(k.tasks, 0) AS tasks
FROM experiments AS e
LEFT JOIN (
    SELECT experiment, count(*) AS generations FROM generations GROUP BY ALL
) AS g ON g.experiment = e.experiment
LEFT JOIN (
    SELECT experiment, count(*) AS tasks FROM experiment_tasks GROUP BY ALL
) AS k ON k.experiment = e.experiment
ORDER BY e.name, e.seed, e.experiment
