-- The number of traces of a source.
SELECT count(*) AS traces
FROM traces
WHERE purpose = 'ingest' AND experiment = :source
