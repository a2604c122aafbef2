-- One row per ingested trace of a pool, with its user's feedback at the time of curation.
SELECT trace, accepted
FROM selections
WHERE experiment = :experiment AND generation = :generation AND from_generation = :ingested
