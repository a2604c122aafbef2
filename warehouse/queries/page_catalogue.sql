-- One row per column of every view and table.
SELECT c.table_name AS name, v.view_name IS NOT NULL AS is_view, c.column_name, c.data_type,
    c.comment, t.comment AS grain
FROM duckdb_columns() AS c
LEFT JOIN duckdb_views() AS v ON v.view_name = c.table_name AND NOT v.internal
LEFT JOIN duckdb_tables() AS t ON t.table_name = c.table_name
WHERE NOT c.internal
ORDER BY is_view DESC, name, c.column_index
