"""The panel: a view of a store with tabs and actions, in the output of a cell."""
