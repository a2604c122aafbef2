-- One row per experiment, generation and split: coverage, unanimous and pass@1, as shares of tasks.
SELECT experiment, generation, split,
    sum(solved) / sum(tasks) AS coverage,
    sum(unanimous) / sum(tasks) AS unanimous,
    sum(pass_at_1 * tasks) / sum(tasks) AS pass_at_1
FROM coverage
GROUP BY ALL
ORDER BY ALL
