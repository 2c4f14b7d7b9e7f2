"""Output of tasks, from a real worker to its client."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import nbqueue
from nbqueue.cli.main import main
from nbqueue.client.live.task_feed import News, follow
from nbqueue.client.results.output import Cut
from nbqueue.wire.keys import queue_keys

KEY = "5b" * 32
KEYS = queue_keys("default")
DAY = 86_400


@pytest.fixture
def q(lab: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("NBQUEUE_KEY", KEY)
    client = nbqueue.connect(lab.server.url)
    yield client
    client.close()


def wait_for_file(path: str) -> None:
    import time

    while not os.path.exists(path):
        time.sleep(0.01)


def say_all(word: str) -> str:
    import logging
    import warnings

    print("out", word)
    print("err", file=sys.stderr)
    logging.getLogger("my.lib").info("logged %s", word)
    warnings.warn("careful", UserWarning, stacklevel=1)
    return word


async def say_async(word: str) -> str:
    for step in range(3):
        print(word, step)
        await asyncio.sleep(0.01)
    return word


@pytest.mark.parametrize("executor", ["process", "thread"])
def test_what_is_said_is_there_when_the_task_has_ended(lab: Any, q: Any, executor: str) -> None:
    with lab.worker(concurrency=1, executor=executor) as worker:
        # The second one sees its warning, too, though the same process ran both.
        for word in ("one", "two"):
            future = q.submit(say_all, word)
            assert future.result(30) == word
            output = future.output()
            assert output.stdout == f"out {word}\n"
            err = output.stderr.splitlines()
            assert err[:2] == ["err", f"INFO my.lib: logged {word}"]
            assert "UserWarning: careful" in err[2]
            assert output.attempt == 1
            assert 0 < lab.redis.ttl(KEYS.output(future.id)) <= DAY
        assert "logged" not in worker.log()
        assert q.submit(sum, [1]).output().text == ""


@pytest.mark.parametrize("executor", ["process", "thread"])
def test_tasks_that_run_at_once_are_kept_apart(lab: Any, q: Any, executor: str) -> None:
    def say(word: str) -> None:
        import time

        for step in range(20):
            print(word, step)
            time.sleep(0.005)

    with lab.worker(concurrency=4, executor=executor):
        futures = {word: q.submit(say, word) for word in "abcd"}
        others = {word: q.submit(say_async, word) for word in "wxyz"}
        for word, future in futures.items():
            future.result(30)
            assert future.output().text == "".join(f"{word} {i}\n" for i in range(20))
        for word, future in others.items():
            future.result(30)
            assert future.output().text == "".join(f"{word} {i}\n" for i in range(3))


def test_output_and_progress_are_there_while_the_task_runs(
    lab: Any, q: Any, tmp_path: Path
) -> None:
    def work(go: str) -> None:
        print("begun")
        for _ in nbqueue.progress(range(2), desc="steps"):
            nbqueue.report(loss=0.5)
            wait_for_file(go)

    with lab.worker(concurrency=1):
        future = q.submit(work, str(tmp_path / "go"))
        assert future.progress is None
        lab.wait_until(lambda: future.refresh().progress)
        progress = future.progress
        assert progress is not None
        assert (progress.bars[0].desc, progress.bars[0].n, progress.bars[0].total) == (
            "steps",
            0,
            2,
        )
        assert lab.wait_until(lambda: future.output().text) == "begun\n"
        (tmp_path / "go").touch()
        future.result(30)
        progress = future.refresh().progress
        assert progress is not None
        assert (progress.fraction, progress.fields, progress.attempt) == (1.0, {"loss": 0.5}, 1)


def test_attempts_are_kept_apart_and_failures_longer(lab: Any, q: Any) -> None:
    def fail() -> None:
        task = nbqueue.current_task()
        assert task is not None
        print("attempt", task.attempt)
        nbqueue.report(progress=task.attempt / 10)
        raise ValueError("no")

    with lab.worker(concurrency=1):
        future = q.options(retry=1, retry_delay=0).submit(fail)
        with pytest.raises(ValueError, match="no"):
            future.result(30)
    assert future.output().text == "attempt 2\n"
    assert future.output(attempt=1).text == "attempt 1\n"
    assert future.output(attempt=3).text == ""
    progress = future.refresh().progress
    assert (progress.fraction, progress.attempt) == (0.2, 2)
    assert 6 * DAY < lab.redis.ttl(KEYS.output(future.id)) <= 7 * DAY
    for wrong in (0, True, "1"):
        with pytest.raises(nbqueue.UsageError, match="attempt="):
            future.output(attempt=wrong)


def test_what_was_said_before_a_death_stays(lab: Any, q: Any) -> None:
    def die() -> None:
        import threading

        print("last words")
        threading.Event().wait(0.5)
        os.kill(os.getpid(), signal.SIGKILL)

    with lab.worker(concurrency=1):
        future = q.options(retry=0).submit(die)
        with pytest.raises(nbqueue.WorkerLost):
            future.result(60)
        entries = lab.redis.xrange(KEYS.output(future.id))
        attempts = [entry_id.split(b"-")[0] for entry_id, _ in entries]
        assert sorted(set(attempts)) == [b"1", b"2", b"3"]
        assert future.output().text == "last words\n"
        assert future.output(attempt=1).text == "last words\n"


def test_a_cancelled_task_keeps_what_it_said(lab: Any, q: Any, tmp_path: Path) -> None:
    def work(go: str) -> None:
        try:
            print("begun")
            wait_for_file(go)
        finally:
            print("ended")

    with lab.worker(concurrency=1):
        future = q.submit(work, str(tmp_path / "never"))
        lab.wait_until(lambda: future.output().text == "begun\n")
        future.cancel()
        lab.wait_for(future.id, "archived")
        assert future.output().text == "begun\nended\n"


def test_rich_displays_are_signed_and_forged_ones_refused(lab: Any, q: Any) -> None:
    def show() -> None:
        from IPython.display import HTML

        print("before")
        display(HTML("<b>x</b>"))  # type: ignore[name-defined]  # noqa: F821
        print("after")

    with lab.worker(concurrency=1):
        future = q.submit(show)
        future.result(60)
    output = future.output()
    assert [each.data["text/html"] for each in output.displays] == ["<b>x</b>"]
    assert output.text == "before\nafter\n"
    forged = {"data": {"text/html": "<script>"}, "metadata": {}}
    lab.redis.xadd(
        KEYS.output(future.id),
        {"at": 1, "kind": "display", "before": 0, "lines": 0, "data": json.dumps(forged)},
        id="1-99",
    )
    again = future.output()
    assert len(again.displays) == 1
    assert "it was not signed with the key" in again.text


def test_figures_and_bars_of_libraries_need_no_change(lab: Any, q: Any) -> None:
    def plot() -> None:
        import matplotlib.pyplot as plt

        plt.plot([1, 2])
        plt.show()

    with lab.worker(concurrency=1):
        future = q.submit(plot)
        future.result(90)
        [figure] = future.output().displays
        assert figure.data["image/png"].startswith("iVBOR")
    pytest.importorskip("tqdm")

    def bars() -> None:
        from tqdm.auto import tqdm, trange

        for _ in tqdm(range(3), desc="outer"):
            for _ in trange(2, desc="inner"):
                pass

    with lab.worker(concurrency=1):
        future = q.submit(bars)
        future.result(60)
        progress = future.refresh().progress
        assert [(bar.desc, bar.n, bar.total) for bar in progress.bars] == [
            ("outer", 3, 3),
            ("inner", 2, 2),
        ]
        assert future.output().text == ""


def test_a_flood_is_cut_and_stops_nobody(lab: Any, q: Any) -> None:
    def flood(lines: int) -> int:
        line = "x" * 99
        for i in range(lines // 100):
            print("\n".join(f"{i * 100 + j:07d} {line}" for j in range(100)))
        return lines

    with lab.worker(concurrency=2) as worker:
        future = q.submit(flood, 300_000)
        began = time.monotonic()
        quick = [q.submit(sum, [i]).result(30) for i in range(5)]
        assert quick == list(range(5))
        assert future.result(90) == 300_000
        assert time.monotonic() - began < 90
        assert worker.alive
    output = future.output()
    assert output.stdout.startswith("0000000 x")
    assert output.stdout.endswith("0299999 " + "x" * 99 + "\n")
    assert output.cut is not None
    kept = len(output.stdout)
    assert 900_000 < kept <= 1_000_000
    assert output.cut == Cut(300_000 - output.stdout.count("\n"), 300_000 * 108 - kept)
    assert f"… {output.cut.lines:,} lines (" in output.text
    stored = sum(len(words[b"data"]) for _, words in lab.redis.xrange(KEYS.output(future.id)))
    assert stored == kept


def test_a_long_output_in_small_pieces_is_cut_in_the_store(lab: Any, q: Any) -> None:
    """Slow enough that nothing is dropped before the store, which keeps head and tail."""

    def work() -> None:
        import time

        for i in range(30):
            print(f"{i:03d}" + "x" * 59_996)
            time.sleep(0.12)

    with lab.worker(concurrency=1):
        future = q.submit(work)
        future.result(60)
    output = future.output()
    lines = output.stdout.splitlines()
    assert lines[0].startswith("000x")
    assert lines[-1].startswith("029x")
    assert 800_000 < len(output.stdout) <= 1_000_000
    assert output.cut is not None
    assert output.cut.bytes == 30 * 60_000 - len(output.stdout)


def test_output_outlives_the_store(lab: Any, q: Any, tmp_path: Path) -> None:
    def work(now: str, go: str) -> None:
        print("before")
        wait_for_file(now)
        print("while it was away")
        nbqueue.report(progress=0.5)
        wait_for_file(go)
        print("end")

    now, go = tmp_path / "now", tmp_path / "go"
    with lab.worker(concurrency=1):
        future = q.submit(work, str(now), str(go))
        lab.wait_until(lambda: future.output().text == "before\n")
        lab.server.kill()
        now.touch()
        lab.server.start()
        lab.wait_until(lambda: future.output().text == "before\nwhile it was away\n", 40)
        assert future.refresh().progress.fraction == 0.5
        go.touch()
        assert future.result(40) is None
    assert future.output().text == "before\nwhile it was away\nend\n"


def test_last_words_said_while_the_store_was_away_are_written_ahead_of_the_end(
    lab: Any, q: Any, tmp_path: Path
) -> None:
    def work(begun: str, now: str, done: str) -> None:
        open(begun, "w").close()
        wait_for_file(now)
        print("words")
        open(done, "w").close()

    begun, now, done = tmp_path / "begun", tmp_path / "now", tmp_path / "done"
    with lab.worker(concurrency=1):
        future = q.submit(work, str(begun), str(now), str(done))
        # Active in the store it is before its worker has all that it takes to run it.
        lab.wait_until(begun.exists)
        lab.server.kill()
        now.touch()
        lab.wait_until(done.exists)
        lab.server.start()
        assert future.result(40) is None
        assert future.output().text == "words\n"


def test_a_message_that_is_not_kept_leaves_its_output_for_an_hour(lab: Any, q: Any) -> None:
    worker = nbqueue.Worker(lab.server.url, concurrency=1, log=lab.folder / "handlers.log")

    @worker.handle("say")
    def say(task: nbqueue.Task) -> None:
        print("said", task.json())

    with worker:
        future = q.enqueue("say", 7)
        future.result(30)
        assert future.output().text == "said 7\n"
        assert not lab.redis.exists(KEYS.task(future.id))
        assert 0 < lab.redis.ttl(KEYS.output(future.id)) <= 3600


def test_a_new_task_does_not_show_the_output_of_an_earlier_one_with_its_id(
    lab: Any, q: Any
) -> None:
    def say() -> None:
        print("first")

    with lab.worker(concurrency=1):
        first = q.options(task_id="same", retention=0).submit(say)
        first.result(30)
        assert first.output().text == "first\n"
    second = q.options(task_id="same").submit(print, "second")
    assert second.output().text == ""
    with lab.worker(concurrency=1):
        second.result(30)
        assert second.output().text == "second\n"


def test_a_blocked_loop_that_prints_stays_small(lab: Any, q: Any) -> None:
    async def block() -> int:
        import time

        import psutil

        before = psutil.Process().memory_info().rss
        end = time.monotonic() + 3
        while time.monotonic() < end:
            print("x" * 10_000)
        return psutil.Process().memory_info().rss - before

    with lab.worker(concurrency=1):
        future = q.submit(block)
        assert future.result(60) < 40_000_000
        assert future.output().stdout.endswith("x" * 10_000 + "\n")
        assert q.submit(say_async, "next").result(30) == "next"


def test_what_is_said_outside_of_a_task_goes_to_the_log(lab: Any, q: Any) -> None:
    def fork() -> None:
        import subprocess
        import sys

        subprocess.run([sys.executable, "-c", "print('of a child')"], check=True)
        os.write(1, b"of the system\n")

    with lab.worker(concurrency=1) as worker:
        future = q.submit(fork)
        future.result(30)
        assert future.output().text == ""
        assert "of a child" in worker.log()
        assert "of the system" in worker.log()


def test_a_feed_tells_everything_once_whatever_happens_to_the_store(
    lab: Any, q: Any, tmp_path: Path
) -> None:
    def work(folder: str) -> None:
        print("one")
        wait_for_file(folder + "/two")
        print("two" + "x" * 20_000)
        display("shown")  # type: ignore[name-defined]  # noqa: F821
        wait_for_file(folder + "/three")
        print("three")
        nbqueue.report(progress=0.75)
        wait_for_file(folder + "/end")

    told: list[News] = []
    changed = threading.Condition()

    def callback(news: News) -> None:
        with changed:
            told.append(news)
            changed.notify_all()

    def text() -> str:
        entries = [entry for news in told for entry in news.entries if entry.kind == "stdout"]
        return b"".join(entry.data for entry in entries).decode()

    def wait(fact: Any) -> None:
        with changed:
            assert changed.wait_for(fact, 40), told

    with lab.worker(concurrency=1):
        future = q.submit(work, str(tmp_path))
        stop = follow(q._session, "default", future.id, callback)
        wait(lambda: text() == "one\n")
        (tmp_path / "two").touch()
        wait(lambda: text() == "one\ntwo" + "x" * 20_000 + "\n")
        wait(lambda: any(e.kind == "display" for news in told for e in news.entries))
        lab.server.kill()
        lab.server.start()
        (tmp_path / "three").touch()
        wait(lambda: text().endswith("\nthree\n"))
        wait(lambda: told[-1].progress is not None and told[-1].progress.fraction == 0.75)
        numbers = [entry.number for news in told for entry in news.entries]
        assert numbers == list(range(1, len(numbers) + 1))
        stop()
        stop()
        count = len(told)
        (tmp_path / "end").touch()
        future.result(30)
        assert len(told) == count


def test_one_feed_follows_all_tasks_of_a_client(lab: Any, q: Any) -> None:
    told: dict[str, bytes] = {}

    def callback(news: News) -> None:
        for entry in news.entries:
            told[news.task_id] = told.get(news.task_id, b"") + entry.data

    stop = follow(q._session, "default", q._session.ids.prefix, callback)
    with lab.worker(concurrency=2):
        futures = [q.submit(print, word) for word in "ab"]
        expected = {
            future.id: f"{word}\n".encode() for future, word in zip(futures, "ab", strict=True)
        }
        lab.wait_until(lambda: told == expected, what=str(told))
    stop()


def test_following_prints_until_the_end(
    lab: Any, q: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    with lab.worker(concurrency=1):
        future = q.submit(say_all, "x")
        output = future.output(follow=True)
        assert future.done()
    said = capsys.readouterr()
    assert said.out == "out x\n" == output.stdout
    assert said.err == output.stderr


def test_the_command_line_shows_what_a_task_said(lab: Any, q: Any) -> None:
    def fail() -> None:
        print("said")
        raise ValueError

    with lab.worker(concurrency=1):
        q.options(name="good").submit(say_all, "x").result(30)
        future = q.submit(fail)
        followed = CliRunner().invoke(main, ["logs", "-f", future.id, "--url", lab.server.url])
    assert (followed.exit_code, followed.stdout) == (1, "said\n")
    found = CliRunner().invoke(main, ["logs", "good", "--url", lab.server.url])
    assert found.exit_code == 0, found.output
    assert found.stdout == "out x\n"
    assert found.stderr.startswith("err\nINFO my.lib: logged x\n")
    unknown = CliRunner().invoke(main, ["logs", "nobody", "--url", lab.server.url])
    assert unknown.exit_code == 1
    assert "no task with the id or the name 'nobody'" in unknown.stderr
    both = CliRunner().invoke(main, ["logs", "-f", "-a", "1", "good", "--url", lab.server.url])
    assert both.exit_code == 2


def test_an_executor_imports_nothing_for_a_task_that_only_prints(lab: Any, q: Any) -> None:
    def look() -> list[str]:

        print("x")
        return sorted(set(sys.modules) & {"IPython", "matplotlib", "tqdm", "numpy", "pandas"})

    with lab.worker(concurrency=1):
        assert q.submit(look).result(30) == []
