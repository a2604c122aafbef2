-- One row per column of every view and table.
SELECT c.table_name AS name, v.view_name IS NOT NULL AS is_view, c.column_name, c.data_type,
    c.comment, t.comment AS grain
FROM duckdb_columns() AS c
LEFT JOIN duckdb_views() AS v ON v.view_name = c.table_name AND NOT v.internal
    AND v.database_name = current_database()
LEFT JOIN duckdb_tables() AS t ON t.table_name = c.table_name
    AND t.database_name = current_database()
WHERE NOT c.internal AND c.database_name = current_database()
ORDER BY is_view DESC, name, c.column_index
