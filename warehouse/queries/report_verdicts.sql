-- One row per experiment, generation and outcome of its evaluation, which alone is of the same tasks
-- and samples in each generation.
SELECT experiment, generation, outcome, evaluated AS traces
FROM verdicts
WHERE evaluated > 0
ORDER BY ALL
