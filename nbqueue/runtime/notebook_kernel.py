"""Whether this process is the kernel of a notebook, found without importing IPython."""

from __future__ import annotations

import sys


def is_kernel() -> bool:
    """Return whether this process is the kernel of a notebook."""
    ipython = sys.modules.get("IPython")
    return ipython is not None and getattr(ipython.get_ipython(), "kernel", None) is not None
