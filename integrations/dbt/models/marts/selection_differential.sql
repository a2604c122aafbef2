-- One row per experiment, trained generation and trait: the Price equation, by `posterity audit`.
SELECT
    experiment,
    generation,
    name AS trait,
    max(value) FILTER (WHERE measure = 'mean_before') AS mean_before,
    max(value) FILTER (WHERE measure = 'mean_kept') AS mean_kept,
    max(value) FILTER (WHERE measure = 'checker') AS checker,
    max(value) FILTER (WHERE measure = 'between') AS between_tasks,
    max(value) FILTER (WHERE measure = 'within') AS within_tasks,
    max(value) FILTER (WHERE measure = 'selection') AS selection,
    max(value) FILTER (WHERE measure = 'transmission') AS transmission,
    max(value) FILTER (WHERE measure = 'mean_after') AS mean_after
FROM {{ source('warehouse', 'audits') }}
WHERE question = 'change'
GROUP BY ALL
ORDER BY ALL
