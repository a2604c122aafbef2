-- One row per ingested trace of a pool, with what its user had said when it was curated.
SELECT trace, accepted
FROM selections
WHERE experiment = :experiment AND generation = :generation AND from_generation = :ingested
