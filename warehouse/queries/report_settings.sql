-- One row per experiment or source: its settings as JSON.
SELECT experiment, config FROM experiments ORDER BY ALL
