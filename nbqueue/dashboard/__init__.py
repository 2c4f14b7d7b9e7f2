"""Models of dashboards: rows, filters, paging and actions as plain values; no HTML, no widgets.

One model for each page. `nbqueue.dashboard.tables.table_model` describes what they have in common.
"""
