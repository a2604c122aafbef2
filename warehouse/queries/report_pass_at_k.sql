-- One row per experiment, generation, samples and valid samples: how many training tasks have that.
SELECT experiment, generation, samples, valid, count(*) AS tasks
FROM stg_task_results
WHERE split = 'train'
GROUP BY ALL
ORDER BY ALL
