-- One row per turn of a trace that has several: the model and the tool validate take turns.
SELECT
    trace,
    experiment,
    generation,
    purpose,
    task,
    turn,
    CASE turn % 2 WHEN 0 THEN 'model' ELSE 'tool' END AS role,
    substring(
        text,
        1 + coalesce(list_sum(turn_characters[:turn]), 0)::BIGINT,
        turn_characters[turn + 1]
    ) AS text,
    turn_tokens[turn + 1] AS tokens
FROM (
    SELECT *, unnest(range(len(turn_characters))) AS turn
    FROM {{ source('warehouse', 'traces') }}
    WHERE turn_characters IS NOT NULL
)
