-- How many traces a source has.
SELECT count(*) AS traces
FROM traces
WHERE purpose = 'ingest' AND experiment = :source
