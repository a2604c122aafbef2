-- One row per trace of an experiment or source that only other versions of the checker have judged.
SELECT trace FROM judgements WHERE experiment = :experiment
EXCEPT
SELECT trace
FROM judgements
WHERE experiment = :experiment AND checker = :checker AND checker_version = :version
