-- One row: how many answers to users are new. A generation of the lineage gave them, so that they can
-- be learned, and no generation of the experiment has had them in its pool yet.
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
