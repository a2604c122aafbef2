-- One row per study, arm, seed, generation and split: coverage.
SELECT s.study, s.arm, s.position, s.seed, c.generation, c.split,
    sum(c.solved) / sum(c.tasks) AS coverage
FROM studies AS s
JOIN coverage AS c ON c.experiment = s.experiment
GROUP BY ALL
ORDER BY s.study, s.position, s.seed, c.generation, c.split
