-- One row per generation and trait that was forecast before training: what was said, and what came.
WITH outcomes AS (
    -- What the next generation begins with is what became of its parent.
    SELECT experiment, parent AS generation, trait, min(before) AS actual
    FROM {{ source('warehouse', 'predictions') }}
    WHERE trait <> 'coverage'
    GROUP BY ALL

    UNION ALL

    SELECT experiment, generation, 'coverage', coverage
    FROM {{ ref('progress') }}
)

SELECT
    p.experiment,
    p.generation,
    p.trait,
    p.predicted,
    p.low,
    p.high,
    p.before AS persistence,
    o.actual,
    abs(p.predicted - o.actual) AS error,
    abs(p.before - o.actual) AS error_of_persistence,
    o.actual BETWEEN p.low AND p.high AS inside
FROM {{ source('warehouse', 'predictions') }} AS p
LEFT JOIN outcomes AS o
    ON o.experiment = p.experiment AND o.generation = p.generation AND o.trait = p.trait
ORDER BY ALL
