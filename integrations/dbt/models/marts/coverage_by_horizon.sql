-- One row per experiment, generation, split, domain and horizon.
SELECT
    experiment,
    generation,
    split,
    domain,
    horizon,
    count(*) AS tasks,
    count(*) FILTER (WHERE valid > 0) AS solved,
    count(*) FILTER (WHERE valid = samples) AS unanimous,
    count(*) FILTER (WHERE valid > 0) / count(*) AS coverage,
    -- Added up in order: threads would decide the last digits of a mean of fractions.
    list_sum(list_sort(list(valid / samples))) / count(*) AS pass_at_1
FROM {{ ref('stg_task_results') }}
GROUP BY ALL
ORDER BY ALL
