-- One row per generation that learned from traces that were forgotten since, or whose weights or
-- lessons descend from one that did.
WITH RECURSIVE learned AS (
    SELECT s.experiment, s.generation, count(*) AS forgotten
    FROM {{ ref('stg_decisions') }} AS s
    JOIN {{ source('warehouse', 'forgotten') }} AS f ON f.trace = s.trace
    WHERE s.kept
    GROUP BY s.experiment, s.generation
),
descent AS (
    SELECT experiment, generation, experiment AS from_experiment, parent AS from_generation
    FROM {{ source('warehouse', 'generations') }}
    WHERE start = 'parent'
    UNION
    -- Runs that are crossed learn each other's traces.
    SELECT s.experiment, s.generation, t.experiment, s.from_generation
    FROM {{ ref('stg_decisions') }} AS s
    JOIN {{ source('warehouse', 'traces') }} AS t ON t.trace = s.trace
    WHERE s.kept AND t.purpose NOT IN ('correction', 'ingest')
        AND (SELECT count(*) FROM learned) > 0
),
reached AS (
    SELECT experiment, generation FROM learned
    UNION
    SELECT d.experiment, d.generation
    FROM reached AS r
    JOIN descent AS d
        ON d.from_experiment = r.experiment AND d.from_generation = r.generation
)
SELECT r.experiment, r.generation, coalesce(l.forgotten, 0) AS forgotten
FROM reached AS r
LEFT JOIN learned AS l ON l.experiment = r.experiment AND l.generation = r.generation
