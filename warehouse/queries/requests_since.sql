-- One row: how many answers to users no generation of the experiment has had in its pool yet.
SELECT count(*) AS requests
FROM traces AS t
WHERE t.experiment = :experiment
    AND t.purpose = 'request'
    AND NOT EXISTS (
        SELECT 1
        FROM selections AS s
        WHERE s.experiment = :experiment AND s.trace = t.trace
    )
