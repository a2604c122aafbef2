-- One row per experiment, generation and split: coverage, unanimous and pass@1, as shares of tasks.
SELECT experiment, generation, split,
    sum(solved) / sum(tasks) AS coverage,
    sum(unanimous) / sum(tasks) AS unanimous,
    sum(pass_at_1 * tasks) / sum(tasks) AS pass_at_1,
    sum(tasks)::BIGINT AS tasks
FROM coverage
GROUP BY ALL
ORDER BY ALL
