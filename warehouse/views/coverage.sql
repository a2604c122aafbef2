-- One row per experiment, generation, split, domain and size, of tasks with a judged sample; samples
-- that are not judged count neither as solved nor as unsolved.
SELECT
    experiment,
    generation,
    split,
    domain,
    size,
    count(*) AS tasks,
    count(*) FILTER (WHERE valid > 0) AS solved,
    count(*) FILTER (WHERE valid = samples) AS unanimous,
    count(*) FILTER (WHERE valid > 0) / count(*) AS coverage,
    -- Added up in order: threads would decide the last digits of a mean of fractions.
    list_sum(list_sort(list(valid / samples))) / count(*) AS pass_at_1
FROM stg_task_results
GROUP BY ALL
ORDER BY ALL
