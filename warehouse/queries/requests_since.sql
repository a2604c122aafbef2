-- One row: how many answers to users by generations of a lineage, which can be learned, no generation
-- of the experiment has had in its pool yet.
SELECT count(*) AS requests
FROM traces AS t
WHERE t.experiment = :experiment
    AND t.purpose = 'request'
    AND list_contains(:lineage, t.generation)
    AND t.trace NOT IN (SELECT f.trace FROM forgotten AS f)
    AND NOT EXISTS (
        SELECT 1
        FROM selections AS s
        WHERE s.experiment = :experiment AND s.trace = t.trace
    )
