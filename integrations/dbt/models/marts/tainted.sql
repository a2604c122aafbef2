-- One row per generation that learned from traces that were forgotten since, or whose weights or
-- lessons descend from one that did.
WITH RECURSIVE learned AS (
    SELECT s.experiment, s.generation, count(*) AS forgotten
    FROM {{ ref('stg_decisions') }} AS s
    JOIN {{ source('warehouse', 'forgotten') }} AS f ON f.trace = s.trace
    WHERE s.kept
    GROUP BY s.experiment, s.generation
),
taught AS (
    SELECT DISTINCT s.experiment, s.generation, s.from_generation
    FROM {{ ref('stg_decisions') }} AS s
    JOIN {{ source('warehouse', 'traces') }} AS t ON t.trace = s.trace
    WHERE s.kept AND s.experiment IN (SELECT experiment FROM learned)
        AND t.experiment = s.experiment AND t.purpose != 'correction'
),
reached AS (
    SELECT experiment, generation FROM learned
    UNION
    SELECT d.experiment, d.generation
    FROM reached AS r
    JOIN (
        SELECT experiment, generation, parent FROM {{ source('warehouse', 'generations') }} WHERE start = 'parent'
        UNION ALL
        SELECT experiment, generation, from_generation FROM taught
    ) AS d ON d.experiment = r.experiment AND d.parent = r.generation
)
SELECT r.experiment, r.generation, coalesce(l.forgotten, 0) AS forgotten
FROM reached AS r
LEFT JOIN learned AS l ON l.experiment = r.experiment AND l.generation = r.generation
