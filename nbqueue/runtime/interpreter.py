"""Start Python processes of nbqueue without the current folder on ``sys.path``.

``python -m`` searches the current folder first, so a file there named ``queue.py`` or ``types.py``
would replace the standard library's.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Final

_PACKAGES: Final = ("site-packages", "dist-packages")

_RUN: Final = """\
import sys
if sys.path[:1] == [""]:
    del sys.path[0]
root, module = sys.argv[1:3]
del sys.argv[1:3]
if root not in sys.path:
    sys.path.append(root)
import runpy
runpy.run_module(module, run_name="__main__", alter_sys=True)
"""
# PYTHONSAFEPATH and -P do this from Python 3.11 on, but children would inherit the former.


def module_command(module: str, *arguments: str) -> list[str]:
    """Return a command that runs ``module`` without the current folder on its path.

    The process finds nbqueue wherever this process found it.
    """
    root = str(Path(__file__).parents[2])
    return [sys.executable, "-c", _RUN, root, module, *arguments]


def add_current_folder() -> None:
    """Make the modules of the current folder importable, as in a notebook.

    IPython puts the folder after the standard library and before installed packages.
    """
    folder = os.getcwd()
    if "" in sys.path or folder in sys.path:
        return
    installed = (
        index for index, path in enumerate(sys.path) if os.path.basename(path) in _PACKAGES
    )
    sys.path.insert(next(installed, len(sys.path)), folder)
