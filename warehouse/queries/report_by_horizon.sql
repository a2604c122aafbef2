-- One row per experiment, generation and horizon: training tasks and how many are solved.
SELECT experiment, generation, horizon, sum(solved) AS solved, sum(tasks) AS tasks
FROM coverage_by_horizon
WHERE split = 'train' AND horizon IS NOT NULL
GROUP BY ALL
ORDER BY ALL
