-- One row per user or group of users, decision and task: answers of a generation's pool that users
-- judged. A group is what the client names so in its metadata.
WITH told AS (
    SELECT
        s.task,
        s.kept,
        s.accepted,
        v.outcome = 'VALID' AS valid,
        coalesce(f.user_hash, r.user_hash) AS user_hash,
        CASE WHEN json_valid(r.metadata) THEN json_extract_string(r.metadata, '$.group') END
            AS user_group
    FROM stg_decisions AS s
    JOIN requests AS r ON r.trace = s.trace
    JOIN stg_verdicts AS v ON v.trace = s.trace
    LEFT JOIN feedback AS f ON f.trace = s.trace
    WHERE s.experiment = :experiment AND s.generation = :generation AND s.accepted IS NOT NULL
)
SELECT
    CASE WHEN grouping(user_hash) = 0 THEN 'user=' || coalesce(user_hash, 'nobody named')
        ELSE 'group=' || coalesce(user_group, 'none named') END AS who,
    task,
    kept,
    count(*) AS judged,
    count(*) FILTER (WHERE accepted) AS accepted,
    count(*) FILTER (WHERE accepted AND NOT valid) AS accepted_invalid,
    count(*) FILTER (WHERE NOT accepted AND valid) AS rejected_valid
FROM told
GROUP BY GROUPING SETS ((user_hash, task, kept), (user_group, task, kept))
ORDER BY ALL
