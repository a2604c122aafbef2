-- One row per study, arm and split: its effect at the last generation that all of it reached.
SELECT study, arm, split, generation, seeds, coverage, reference, effect, low, high,
    unanimous_effect
FROM study_effects AS e
WHERE generation = (SELECT max(generation) FROM study_effects WHERE study = e.study)
ORDER BY study, position, split
