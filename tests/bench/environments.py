"""Virtual environments for the peers: one each, in build/peers, with pinned releases.

A peer that cannot be installed is left out, and the reason is kept for the table. A second call
installs only what is missing, or whose requirements have changed.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
REQUIREMENTS = HERE / "peers" / "requirements"
BUILD = HERE.parents[1] / "build" / "peers"
NODE = BUILD / "node"


def names() -> list[str]:
    """Return all environments that have requirements, and ``node``."""
    return [*sorted(path.stem for path in REQUIREMENTS.glob("*.txt")), "node"]


def python_of(name: str) -> Path:
    """The interpreter of an environment; nbqueue's own is the one that runs this."""
    return Path(sys.executable) if name == "nbqueue" else BUILD / name / "bin" / "python"


def install(name: str) -> str | None:
    """Create the environment ``name``. Returns None, or the reason for a failure."""
    if name == "nbqueue":
        return None
    wanted = NODE_PACKAGES if name == "node" else (REQUIREMENTS / f"{name}.txt").read_text()
    stamp = BUILD / name / "installed"
    if stamp.exists() and stamp.read_text() == wanted:
        return None
    print(f"installing {name}", file=sys.stderr, flush=True)
    try:
        (_install_node if name == "node" else _install_python)(name)
    except (OSError, subprocess.CalledProcessError) as error:
        output = getattr(error, "stdout", None) or str(error)
        return (output.strip().splitlines() or ["no reason given"])[-1][:200]
    stamp.write_text(wanted)
    return None


def _install_python(name: str) -> None:
    if not python_of(name).exists():
        _run([sys.executable, "-m", "venv", str(BUILD / name)])
    pip = [str(python_of(name)), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    _run([*pip, "--requirement", str(REQUIREMENTS / f"{name}.txt")])


#: The requirement in `package.json`: BullMQ runs on node.
NODE_PACKAGES = json.dumps(
    {"private": True, "dependencies": {"bullmq": "6.7.0", "ioredis": "6.0.0"}}, indent=1
)


def _install_node(name: str) -> None:
    npm = shutil.which("npm")
    if npm is None or shutil.which("node") is None:
        raise FileNotFoundError("there is no node with npm on PATH")
    NODE.mkdir(parents=True, exist_ok=True)
    (NODE / "package.json").write_text(NODE_PACKAGES)
    _run([npm, "install", "--silent", "--no-audit", "--no-fund"], NODE)


def _run(command: list[str], folder: Path | None = None) -> None:
    subprocess.run(
        command,
        cwd=folder,
        check=True,
        text=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


def versions(name: str, packages: list[str]) -> str:
    """Return the installed releases, in words."""
    if name == "node":
        found = []
        for each in packages:
            about = json.loads((NODE / "node_modules" / each / "package.json").read_text())
            found.append(f"{each} {about['version']}")
        node = subprocess.run(["node", "--version"], capture_output=True, text=True, check=True)
        return ", ".join([*found, f"node {node.stdout.strip()}"])
    code = (
        "import importlib.metadata as m, platform, sys\n"
        "print(', '.join([f'{p} {m.version(p)}' for p in sys.argv[1:]]"
        " or ['Python ' + platform.python_version()]))"
    )
    asked = [str(python_of(name)), "-c", code, *packages]
    return subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()


if __name__ == "__main__":
    for each in sys.argv[1:] or names():
        reason = install(each)
        print(f"{each}: {reason or 'ready'}", flush=True)
