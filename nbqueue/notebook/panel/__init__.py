"""The panel: everything that lies in a store, to look at and to act on, in the output of a cell."""
