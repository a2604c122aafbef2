-- One row per experiment, trained generation and trait: its mean over the valid traces of the pool and
-- over those that were kept, if each had the mean of its task. By `posterity audit`.
SELECT
    experiment,
    generation,
    name AS trait,
    max(value) FILTER (WHERE measure = 'mean_pool') AS mean_pool,
    max(value) FILTER (WHERE measure = 'mean_kept') AS mean_kept,
    max(value) FILTER (WHERE measure = 'shift') AS shift,
    max(value) FILTER (WHERE measure = 'q') AS q
FROM audits
WHERE question = 'between-tasks'
GROUP BY ALL
ORDER BY ALL
