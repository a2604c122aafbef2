-- One row per generation: its parent, its weights, the generations whose traces it learned, and
-- whether it is tainted: something that it rests on was forgotten since.
WITH sources AS (
    SELECT experiment, generation, from_generation, count(*) AS traces
    FROM curated
    GROUP BY ALL
),
taught AS (
    SELECT
        experiment,
        generation,
        sum(traces)::BIGINT AS traces,
        map_from_entries(list((from_generation, traces) ORDER BY from_generation)) AS traces_by_source
    FROM sources
    GROUP BY ALL
)
SELECT
    g.experiment,
    g.generation,
    g.parent,
    g.start,
    g.checkpoint,
    g.weights_hash,
    g.training_set_hash,
    coalesce(t.traces, 0) AS traces,
    t.traces_by_source,
    d.generation IS NOT NULL AS tainted
FROM generations AS g
LEFT JOIN taught AS t ON t.experiment = g.experiment AND t.generation = g.generation
LEFT JOIN tainted AS d ON d.experiment = g.experiment AND d.generation = g.generation
ORDER BY ALL
