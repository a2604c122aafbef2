-- One row per generation that answered in silence and the one that users had: how often each of the
-- two found a valid plan for the same prompt. Answers without a planning task are not counted.
WITH pairs AS (
    SELECT
        s.experiment,
        s.generation,
        t.generation AS beside,
        mine.outcome = 'VALID' AS shadow_valid,
        theirs.outcome = 'VALID' AS users_valid
    FROM {{ source('warehouse', 'traces') }} AS s
    JOIN {{ source('warehouse', 'requests') }} AS r ON r.trace = s.trace
    JOIN {{ source('warehouse', 'traces') }} AS t ON t.trace = r.corrects
    JOIN {{ ref('stg_verdicts') }} AS mine ON mine.trace = s.trace
    JOIN {{ ref('stg_verdicts') }} AS theirs ON theirs.trace = t.trace
    WHERE s.purpose = 'shadow'
)
SELECT
    experiment,
    generation,
    beside,
    count(*) AS answers,
    count(*) FILTER (WHERE shadow_valid AND users_valid) AS both_valid,
    count(*) FILTER (WHERE shadow_valid AND NOT users_valid) AS only_shadow_valid,
    count(*) FILTER (WHERE users_valid AND NOT shadow_valid) AS only_users_valid
FROM pairs
GROUP BY experiment, generation, beside
