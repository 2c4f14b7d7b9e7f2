"""Log files of workers that a notebook starts.

A kernel shows what its processes write in the cell that runs, whichever that is.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import platformdirs


def new_log() -> Path:
    """Create a log file in the user's state folder."""
    folder = Path(platformdirs.user_state_dir("nbqueue", appauthor=False)) / "workers"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    number, name = tempfile.mkstemp(".log", f"kernel-{os.getpid()}-", folder)
    os.close(number)
    return Path(name)
