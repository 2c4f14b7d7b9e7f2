"""What the panel and other dashboards show of a store, as plain values: no HTML, no widget."""
