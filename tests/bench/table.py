"""The table of docs/benchmarks.md, from the figures of a run."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

PAGE = Path(__file__).resolve().parents[2] / "docs" / "benchmarks.md"
BEGIN = "<!-- The tables below are written by `make bench-peers`. -->"
END = "<!-- Here ends what is written by `make bench-peers`. -->"

#: (row, figure, heading), in three tables: wide ones are not read.
TABLES = (
    (
        "Tasks per second (more is better)",
        (
            ("A1", "tasks/s", "A1 submit, one call each"),
            ("A2", "tasks/s", "A2 submit in bulk"),
            ("B", "tasks/s", "B drain"),
        ),
    ),
    (
        "Milliseconds (less is better)",
        (
            ("C", "p50 ms", "C round trip p50"),
            ("C", "p95 ms", "p95"),
            ("D", "p50 ms", "D to the first line p50"),
            ("G", "1 MB, p50 ms", "G array 1 MB"),
            ("G", "10 MB, p50 ms", "G 10 MB"),
        ),
    ),
    (
        "Seconds, and what it costs (less is better)",
        (
            ("E", "s", "E 1,000 × 1 ms, s"),
            ("F", "s", "F 200 × 20 ms, s"),
            ("H", "s", "H cold start, s"),
            ("I", "MB", "I memory of workers, MB"),
            ("J", "commands/s", "J idle commands/s"),
            ("L", "bytes/task", "L bytes/task"),
        ),
    ),
)


def number(figure: float) -> str:
    return f"{figure:,.0f}" if abs(figure) >= 100 else f"{figure:,.3g}"


def _values(peer: dict[str, Any], row: str, figure: str) -> list[float]:
    return [found[row][figure] for found in peer["rounds"] if row in found and figure in found[row]]


def _cell(peer: dict[str, Any], row: str, figure: str) -> str:
    values = _values(peer, row, figure)
    if values:
        spread = f" ({number(min(values))}..{number(max(values))})" if len(values) > 1 else ""
        return f"{number(statistics.median(values))}{spread}"
    errors = [found[row]["error"] for found in peer["rounds"] if "error" in found.get(row, {})]
    return "error" if errors else "–"


def of(result: dict[str, Any]) -> str:
    """Return the whole table, as Markdown."""
    peers = result["peers"]
    there = {name: peer for name, peer in peers.items() if peer["rounds"]}
    load = result["load"]
    told = sorted({len(peer["rounds"]) for peer in there.values()})
    rounds = " or ".join(map(str, told))
    lines = [
        f"Run of {result['at']}: {result['cpus']} CPUs, {result['store']} on loopback TCP without "
        f"persistence, {rounds} rounds interleaved, load average {min(load):.1f} to "
        f"{max(load):.1f}. Median (least..most).",
        "",
        "The machine's own floor in that run: "
        + "; ".join(
            f"{number(statistics.median([each[name] for each in result['floor']]))} {name}"
            for name in result["floor"][0]
        )
        + ".",
    ]
    for title, columns in TABLES:
        lines += ["", f"### {title}", ""]
        lines.append("| | " + " | ".join(heading for _, _, heading in columns) + " |")
        lines.append("| --- |" + " ---: |" * len(columns))
        for name in _sorted(there, *columns[0][:2], rising=columns[0][1] != "tasks/s"):
            cells = [_cell(there[name], row, figure) for row, figure, _ in columns]
            shown = f"**{name}**" if name == "nbqueue" else name
            lines.append(f"| {shown} | " + " | ".join(cells) + " |")
    lines += ["", "### Versions and settings", "", "| | versions | setting | tasks in A, B |"]
    lines.append("| --- | --- | --- | ---: |")
    for name, peer in there.items():
        lines.append(f"| {name} | {peer['versions']} | {peer['about']} | {peer['tasks']:,} |")
    missing = [f"{name} ({peer['missing']})" for name, peer in peers.items() if "missing" in peer]
    if missing:
        lines += ["", f"Could not be installed: {'; '.join(missing)}."]
    errors = sorted({line for name, peer in there.items() for line in _errors(name, peer)})
    if errors:
        lines += ["", "Errors:", "", *(f"- {line}" for line in errors)]
    return "\n".join(lines)


def _sorted(peers: dict[str, Any], row: str, figure: str, *, rising: bool) -> list[str]:
    """The best first; those without the figure last."""

    def place(name: str) -> tuple[bool, float]:
        values = _values(peers[name], row, figure)
        middle = statistics.median(values) if values else 0.0
        return not values, middle if rising else -middle

    return sorted(peers, key=place)


def _errors(name: str, peer: dict[str, Any]) -> list[str]:
    return [
        f"{name}, {row}: {found[row]['error']}"
        for found in peer["rounds"]
        for row in found
        if "error" in found[row]
    ]


def write(result: dict[str, Any], path: Path = PAGE) -> None:
    """Write the table into the page, between the two marks."""
    page = path.read_text()
    if BEGIN not in page or END not in page:
        raise SystemExit(f"{path} has not the two lines between which the tables go: {BEGIN}")
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    path.write_text(f"{before}{BEGIN}\n\n{of(result)}\n\n{END}{after}")
