"""Run tests on every supported Python of this machine; see `make test-pythons`.

Each has its own environment, ``build/venv-3.x``, with the newest release of every dependency. Only
the standard library is used here.
"""

from __future__ import annotations

import glob
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

ROOT = Path(__file__).parents[2]
MINORS = range(10, 15)
START_SECONDS = 60


def candidates(minor: int) -> Iterator[str]:
    """Return programs that may be this Python: on PATH, then of pyenv, newest first."""
    name = f"python3.{minor}"
    for folder in os.get_exec_path():
        found = shutil.which(name, path=folder)
        if found:
            yield found
    if shutil.which("pyenv"):
        asked = subprocess.run(["pyenv", "root"], capture_output=True, text=True, check=False)
        pattern = f"{asked.stdout.strip()}/versions/3.{minor}.*/bin/{name}"
        yield from sorted(glob.glob(pattern), key=_patch, reverse=True)


def _patch(path: str) -> int:
    """Return the patch version of a pyenv folder; -1 for an unreleased one."""
    number = Path(path).parents[1].name.rpartition(".")[2]
    return int(number) if number.isdigit() else -1


def find(minor: int) -> str | None:
    """Return the first candidate that starts and can create environments."""
    for program in candidates(minor):
        code = "import ensurepip, sys, venv; print('%d.%d' % sys.version_info[:2])"
        try:
            started = subprocess.run(
                [program, "-c", code], capture_output=True, text=True, timeout=START_SECONDS
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            print(f"skipped: {program}: {error}", flush=True)
            continue
        if started.returncode == 0 and started.stdout.strip() == f"3.{minor}":
            return program
        said = (started.stderr.strip().splitlines() or ["it is another version"])[-1]
        print(f"skipped: {program}: {said}", flush=True)
    return None


def run_tests(program: str, minor: int, arguments: Sequence[str]) -> bool:
    """Run pytest on this Python; return whether all tests passed."""
    folder = ROOT / "build" / f"venv-3.{minor}"
    python = str(folder / "bin" / "python")
    quiet = ["--quiet", "--disable-pip-version-check"]
    newest = ["--upgrade", "--upgrade-strategy", "eager", "--editable", ".[all,test]"]
    for words in (
        [program, "-m", "venv", str(folder)],
        [python, "-m", "pip", "install", *quiet, *newest],
        [python, "-m", "pytest", "-m", "not slow", "-n", "2", "--dist", "loadfile", *arguments],
    ):
        if subprocess.run(words, cwd=ROOT, check=False).returncode != 0:
            return False
    return True


def main(arguments: Sequence[str]) -> int:
    results: dict[str, bool] = {}
    for minor in MINORS:
        program = find(minor)
        if program is None:
            print(f"--- Python 3.{minor}: not found", flush=True)
            continue
        print(f"--- Python 3.{minor}: {program}", flush=True)
        begun = time.monotonic()
        passed = run_tests(program, minor, arguments)
        results[f"3.{minor}"] = passed
        spent = time.monotonic() - begun
        print(
            f"--- Python 3.{minor}: {'passed' if passed else 'FAILED'} in {spent:.0f} s", flush=True
        )
    failed = [version for version, passed in results.items() if not passed]
    print(f"--- {len(results)} tried, failed: {', '.join(failed) or 'none'}", flush=True)
    return 1 if failed or not results else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
