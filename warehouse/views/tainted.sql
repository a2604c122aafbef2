-- One row per generation that learned from traces that were forgotten since, or whose weights
-- descend from one that did.
WITH RECURSIVE learned AS (
    SELECT s.experiment, s.generation, count(*) AS forgotten
    FROM selections AS s
    JOIN forgotten AS f ON f.trace = s.trace
    WHERE s.kept
    GROUP BY s.experiment, s.generation
),
reached AS (
    SELECT experiment, generation FROM learned
    UNION
    SELECT g.experiment, g.generation
    FROM generations AS g
    JOIN reached AS r ON r.experiment = g.experiment AND r.generation = g.parent
    WHERE g.start = 'parent'
)
SELECT r.experiment, r.generation, coalesce(l.forgotten, 0) AS forgotten
FROM reached AS r
LEFT JOIN learned AS l ON l.experiment = r.experiment AND l.generation = r.generation
