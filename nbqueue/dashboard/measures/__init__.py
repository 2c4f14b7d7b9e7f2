"""Measures that models keep between readings: speed, CPU and memory, totals."""
