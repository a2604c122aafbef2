-- One row per study, arm and split: its effect at the last generation that all of it reached, which is
-- one that as many arms and seeds have as any.
WITH reached AS (
    SELECT study, generation, sum(seeds) AS runs
    FROM study_effects
    GROUP BY ALL
),
whole AS (
    SELECT study, max(generation) AS generation
    FROM (SELECT * FROM reached QUALIFY runs = max(runs) OVER (PARTITION BY study))
    GROUP BY ALL
)
SELECT study, arm, split, generation, seeds, coverage, reference, effect, low, high,
    unanimous_effect
FROM study_effects
JOIN whole USING (study, generation)
ORDER BY study, position, split
