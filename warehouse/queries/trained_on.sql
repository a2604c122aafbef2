-- One row per trained generation of an experiment with decisions.
SELECT DISTINCT generation FROM selections WHERE experiment = :experiment ORDER BY generation
