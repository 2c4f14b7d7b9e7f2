"""Rows, columns, pages and CSV: what the tables of all dashboards have in common."""
