-- One row per split, horizon and generation of an experiment: tasks, and how many are solved.
SELECT split, horizon, generation, sum(solved)::BIGINT AS solved, sum(tasks)::BIGINT AS tasks
FROM coverage_by_horizon
WHERE experiment = :experiment AND horizon IS NOT NULL
GROUP BY ALL
ORDER BY ALL
