-- One row per trace of an experiment whose text is here: the trace, and a hash of its text.
SELECT trace, hash(text) AS text FROM traces WHERE experiment = :experiment AND text <> ''
