-- The number of traces that the experiment with this hash kept for a generation. Experiments that
-- differ by name alone have the same hash, and kept the same.
SELECT coalesce(max(traces), 0) AS traces
FROM (
    SELECT count(*) AS traces
    FROM stg_decisions AS s
    JOIN experiments AS e ON e.experiment = s.experiment
    WHERE e.hash = :hash AND s.generation = :generation AND s.kept
    GROUP BY s.experiment
)
