"""The steps of the Dockerfile give a worker that is healthy, run without an engine."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
DOCKERFILE = ROOT / "docs" / "deploy" / "Dockerfile"
NEEDS_ROOT = "useradd "

Instruction = tuple[str, str]


def stages() -> list[list[Instruction]]:
    """Return the instructions of each stage: the name, and the rest of the line."""
    found: list[list[Instruction]] = []
    for line in DOCKERFILE.read_text().splitlines():
        if line and not line.startswith("#"):
            word, _, rest = line.partition(" ")
            if word == "FROM":
                found.append([])
            elif found:
                found[-1].append((word, rest))
    return found


class Container:
    """A folder in the place of a container's root, for the paths that the Dockerfile names."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.folder = root

    def path(self, text: str) -> str:
        """Return ``text`` with the paths of the image in the folder."""
        return re.sub(r"(?<![\w.])/(opt|src|tmp|home)\b", rf"{self.root}/\1", text)

    def build(self, instructions: list[Instruction], environ: dict[str, str]) -> None:
        for word, rest in instructions:
            if word == "WORKDIR":
                self.folder = Path(self.path(rest))
                self.folder.mkdir(parents=True)
            elif word == "COPY" and not rest.startswith("--from"):
                *sources, target = rest.split()
                for source in sources:
                    self._copy(ROOT / source, self.folder / target)
            elif word == "RUN" and not rest.startswith(NEEDS_ROOT):
                command = self.path(rest).replace("python -m venv", f"{sys.executable} -m venv")
                done = subprocess.run(
                    shlex.split(command), cwd=self.folder, env=environ, capture_output=True
                )
                assert done.returncode == 0, done.stderr.decode()

    @staticmethod
    def _copy(source: Path, target: Path) -> None:
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, target)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_image_has_a_worker_that_gets_healthy(lab: Any, tmp_path: Path) -> None:
    build, final = stages()
    container = Container(tmp_path)
    environ = {name: os.environ[name] for name in ("HOME", "PATH") if name in os.environ}
    environ |= {name: value for name, value in os.environ.items() if name.startswith("PIP_")}
    environ["PIP_NO_COMPILE"] = "1"  # saves half of the time
    container.build(build, environ)
    assert ("COPY", "--from=build /opt/nbqueue /opt/nbqueue") in final, "where it already is"
    container.build(final, environ)
    (tmp_path / "tmp").mkdir()

    words = dict(final)
    assert words["USER"].isdigit(), "Kubernetes cannot see that a name is not root"
    program = [str(tmp_path / "opt/nbqueue/bin" / each) for each in json.loads(words["ENTRYPOINT"])]
    arguments = json.loads(container.path(words["CMD"]))
    check = json.loads(container.path(words["HEALTHCHECK"].partition(" CMD ")[2]))
    check[0] = program[0]
    assert subprocess.run(check, env=environ, capture_output=True).returncode == 1
    environ |= {"NBQUEUE_URL": lab.url, "NBQUEUE_KEY": "5b" * 32}
    with open(tmp_path / "log", "wb") as log:
        process = subprocess.Popen(
            [*program, *arguments], env=environ, stderr=log, cwd=container.folder
        )
    try:
        lab.wait_until(lambda: (tmp_path / "tmp/worker").exists() or process.poll() is not None)
        assert process.poll() is None, (tmp_path / "log").read_text()
        assert subprocess.run(check, env=environ, capture_output=True).returncode == 0
        assert lab.value(lab.submit(os.getcwd)) == str(container.folder)
        process.terminate()
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.wait()
