"""The warehouse: every trace, verdict and decision in one DuckDB file. The only code that touches
it.
"""
