"""Models of dashboards: rows, filters, paging and actions as plain values; no HTML, no widgets."""
