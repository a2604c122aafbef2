"""Where a warehouse is kept: one DuckDB file, or a lake that machines share."""
