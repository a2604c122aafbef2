-- One row per experiment, generation and size: training tasks and how many are solved.
SELECT experiment, generation, size, sum(solved) AS solved, sum(tasks) AS tasks
FROM coverage
WHERE split = 'train' AND size IS NOT NULL
GROUP BY ALL
ORDER BY ALL
