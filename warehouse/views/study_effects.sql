-- One row per study, generation, split and arm: how far it is from the study's first arm, over the
-- same tasks at the same seeds. Intervals (95%) are Student's over seeds, and at least as wide as
-- that of the tasks; there is none with one seed, where no task differs, or where runs learn each
-- other's traces: they share their luck.
WITH results AS (
    SELECT
        s.study,
        s.arm,
        s.position,
        s.seed,
        r.generation,
        r.split,
        r.task,
        CAST(r.valid > 0 AS INT) AS solved,
        CAST(r.valid = r.samples AS INT) AS unanimous,
        coalesce(json_type(e.config, '$.curation.crossing') = 'ARRAY', false) AS crossed
    FROM studies AS s
    JOIN experiments AS e ON e.experiment = s.experiment
    JOIN stg_task_results AS r ON r.experiment = s.experiment
),
by_seed AS (
    SELECT
        a.study,
        a.arm,
        a.position,
        a.generation,
        a.split,
        a.seed,
        count(*) AS tasks,
        avg(a.solved) AS coverage,
        avg(b.solved) AS reference,
        avg(a.solved - b.solved) AS effect,
        count(*) FILTER (WHERE a.solved <> b.solved) AS differing,
        avg(a.unanimous - b.unanimous) AS unanimous_effect,
        bool_or(a.crossed OR b.crossed) AS crossed
    FROM results AS a
    JOIN results AS b
        ON b.study = a.study AND b.seed = a.seed AND b.generation = a.generation
        AND b.split = a.split AND b.task = a.task AND b.position = 0
    WHERE a.position > 0
    GROUP BY ALL
),
summed AS (
    SELECT
        study,
        arm,
        position,
        generation,
        split,
        count(*) AS seeds,
        sum(tasks)::BIGINT AS tasks,
        avg(coverage) AS coverage,
        avg(reference) AS reference,
        avg(effect) AS effect,
        avg(unanimous_effect) AS unanimous_effect,
        bool_or(crossed) AS crossed,
        stddev_samp(effect) / sqrt(count(*)) * CASE count(*)
            WHEN 2 THEN 12.706 WHEN 3 THEN 4.303 WHEN 4 THEN 3.182 WHEN 5 THEN 2.776
            WHEN 6 THEN 2.571 WHEN 7 THEN 2.447 WHEN 8 THEN 2.365 WHEN 9 THEN 2.306
            WHEN 10 THEN 2.262 ELSE 2.228
        END AS over_seeds,
        1.96 * sqrt(
            -- One task more, which does not differ: or nothing would vary where all differ.
            sum(differing) - sum(effect * tasks) ** 2 / (sum(tasks) + 1)
        ) / sum(tasks) AS over_tasks
    FROM by_seed
    GROUP BY ALL
)
SELECT
    study,
    arm,
    position,
    generation,
    split,
    seeds,
    tasks,
    coverage,
    reference,
    effect,
    effect - CASE WHEN seeds > 1 AND over_tasks > 0 AND NOT crossed THEN greatest(over_seeds, over_tasks) END AS low,
    effect + CASE WHEN seeds > 1 AND over_tasks > 0 AND NOT crossed THEN greatest(over_seeds, over_tasks) END AS high,
    unanimous_effect
FROM summed
ORDER BY study, position, split, generation
