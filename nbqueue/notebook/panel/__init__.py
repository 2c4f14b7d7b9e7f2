"""The panel: a store with tabs and actions in a cell's output."""
