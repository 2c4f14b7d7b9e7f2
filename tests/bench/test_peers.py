"""The table of the peers, and that nbqueue can be measured as one of them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent

ROUND_1 = {
    "A1": {"tasks/s": 4_000.0},
    "C": {"p50 ms": 1.25, "p95 ms": 2.0},
    "B": {"error": "its workers stopped at 7 of 200"},
}
ROUND_2 = {"A1": {"tasks/s": 5_000.0}, "C": {"p50 ms": 1.5, "p95 ms": 12.34}}


def peer(*rounds: dict[str, Any], **more: str) -> dict[str, Any]:
    return {"about": "as it is", "tasks": 2_000, "versions": "x 1", "rounds": rounds, **more}


@pytest.fixture
def result() -> dict[str, Any]:
    return {
        "at": "2026-01-02T03:04:05Z",
        "cpus": 2,
        "store": "redis 7.0.15",
        "rounds": 2,
        "floor": [{"script calls/s": 6_000.0}, {"script calls/s": 8_000.0}],
        "load": [0.5, 2.0],
        "peers": {
            "nbqueue": peer(ROUND_1, ROUND_2),
            "faster": peer({"A1": {"tasks/s": 9_000.0}}),
            "gone": {"about": "", "tasks": 1, "missing": "no such release", "rounds": []},
        },
    }


def test_table_shows_medians_ranges_what_is_missing_and_errors(result: dict[str, Any]) -> None:
    import table

    text = table.of(result)
    rates = text[text.index("### Tasks per second") : text.index("### Milliseconds")]
    assert rates.splitlines()[4:6] == [
        "| faster | 9,000 | – | – |",
        "| **nbqueue** | 4,500 (4,000..5,000) | – | error |",
    ]
    assert "| **nbqueue** | 1.38 (1.25..1.5) | 7.17 (2..12.3) | – | – | – |" in text
    assert "7,000 script calls/s" in text
    assert "2 rounds interleaved, load average 0.5 to 2.0" in text
    assert "Could not be installed: gone (no such release)." in text
    assert text.endswith("- nbqueue, B: its workers stopped at 7 of 200")


def test_table_takes_the_place_of_the_last_one(result: dict[str, Any], tmp_path: Path) -> None:
    import table

    page = tmp_path / "page.md"
    page.write_text(f"before\n\n{table.BEGIN}\nold\n{table.END}\n\nafter\n")
    table.write(result, page)
    table.write(result, page)
    text = f"before\n\n{table.BEGIN}\n\n{table.of(result)}\n\n{table.END}\n\nafter\n"
    assert page.read_text() == text


def test_page_without_a_place_for_the_table_is_left_alone(
    result: dict[str, Any], tmp_path: Path
) -> None:
    import table

    page = tmp_path / "page.md"
    page.write_text("mine\n")
    with pytest.raises(SystemExit, match="has not the two lines"):
        table.write(result, page)
    assert page.read_text() == "mine\n"


def test_docs_have_a_place_for_the_table() -> None:
    import table

    page = table.PAGE.read_text()
    assert page.count(table.BEGIN) == page.count(table.END) == 1


def test_every_contender_has_its_files() -> None:
    import environments
    from contenders import CONTENDERS

    for contender in CONTENDERS:
        ending = "mjs" if contender.place == "node" else "py"
        assert (HERE / "peers" / f"{contender.code}.{ending}").is_file()
        assert contender.place in [*environments.names(), "nbqueue"]


def test_one_at_a_time_is_what_a_free_slot_would_do() -> None:
    from fairness import one_at_a_time

    # Four slots: the fifth and sixth wait for the first two to end, the last for none.
    lengths = [1.0, 2.0, 2.0, 2.0, 0.5, 0.5, 0.5]
    arrivals = [0.0, 0.0, 0.0, 0.0, 0.0, 0.5, 9.0]
    assert one_at_a_time(arrivals, lengths) == [0.0, 0.0, 0.0, 0.0, 1.0, 1.0, 0.0]


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_nbqueue_is_measured_as_a_peer(tmp_path: Path) -> None:
    words = ["--peers", "nbqueue", "--quick", "--rounds", "1", "--json", str(tmp_path / "found")]
    command = [sys.executable, str(HERE / "beside.py"), *words]
    ended = subprocess.run(command, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    [found] = json.loads((tmp_path / "found").read_text())["peers"]["nbqueue"]["rounds"]
    assert set(found) == {"A1", "A2", "B", "C", "D", "E", "F", "G", "H", "I", "J", "L"}
    assert not any("error" in figures for figures in found.values())


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_budget_of_a_task_has_every_part() -> None:
    command = [sys.executable, str(HERE / "budget.py"), "--tasks", "100", "--rounds", "1"]
    ended = subprocess.run(command, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    for part in ("client", "Redis", "supervisor", "executors"):
        assert f"CPU of {part}, us" in ended.stdout
    assert "bytes to Redis" in ended.stdout
