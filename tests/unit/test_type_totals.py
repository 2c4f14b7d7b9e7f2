"""Totals of attempts by type."""

from __future__ import annotations

from nbqueue.dashboard.measures.type_totals import TypeTotals, totals_by_type


def test_types_are_ordered_by_their_failures() -> None:
    rows = [
        {"type": "a", "outcome": "completed", "started_at": "1000", "finished_at": "3000"},
        {"type": "a", "outcome": "completed", "started_at": "1000", "finished_at": "2000"},
        {"type": "b", "outcome": "lost"},
        {"type": "c", "outcome": "retry", "started_at": "1", "finished_at": "2"},
        {"type": "c", "outcome": "archived", "started_at": "x", "finished_at": "2"},
    ]
    assert totals_by_type(rows) == [
        TypeTotals("c", 2, 2, 0.001, 0.001),
        TypeTotals("b", 1, 1, None, None),
        TypeTotals("a", 2, 0, 1.5, 2.0),
    ]
