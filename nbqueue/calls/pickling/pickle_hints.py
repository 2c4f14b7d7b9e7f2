"""Advice for objects that cannot be sent."""

from __future__ import annotations

import contextvars
import inspect
import io
import re
import types
import weakref

from nbqueue.calls.readable_names import clean_text

TO_WORKER = "to a worker"
BACK = "back"

_LOCKS = frozenset(
    {"lock", "RLock", "Lock", "Condition", "Event", "Semaphore", "BoundedSemaphore", "Barrier"}
)
_WEAK = (*weakref.ProxyTypes, weakref.ReferenceType)
_OPENED = re.compile(r"(Connection|Cursor|Engine|Session|Client|Redis|Pool|Database)$", re.I)
# Pickle's own messages for unknown objects; they only repeat the type.
_PLAIN_REFUSAL = re.compile(r"^(cannot pickle|can't pickle|Can't pickle)\b.*", re.S)


def hint_for(obj: object, direction: str) -> str:
    """Return advice for ``obj``, by its type where that is known."""
    name = type(obj).__name__
    is_result = direction == BACK
    if inspect.isgenerator(obj) or name in ("map", "filter", "zip", "enumerate", "islice"):
        return "return a list: list(…)" if is_result else "make a list of it: list(…)"
    if inspect.isasyncgen(obj):
        return "collect it into a list: [x async for x in …]"
    if inspect.iscoroutine(obj):
        return "await it first" if is_result else "pass the async function and its arguments"
    if isinstance(obj, io.IOBase):
        return (
            "return its path or what it contains"
            if is_result
            else "pass its path and open it there"
        )
    if isinstance(obj, types.ModuleType):
        return "import it inside the function"
    if is_of_the_notebook(obj):
        return "a worker has no notebook around it; pass the values that are needed"
    if isinstance(obj, _WEAK):
        return "it refers to an object of this process only; " + (
            "return the object itself" if is_result else "pass the object itself"
        )
    if isinstance(obj, weakref.WeakKeyDictionary | weakref.WeakValueDictionary):
        return "make a dict of it: dict(…)"
    if isinstance(obj, weakref.finalize):
        return "it is about an object of this process only; create it inside the function"
    if isinstance(obj, contextvars.Token):
        return "it is of use in one context of one process only; keep it where set() was called"
    if isinstance(obj, contextvars.Context):
        return (
            "a context cannot leave its process; pass the values of the variables that are needed"
        )
    if name in _LOCKS:
        return "a lock works within one process only; create it inside the function"
    if name == "Thread" or name == "Process" or name.endswith("Executor"):
        return "start it inside the function"
    if name == "socket":
        return "connect inside the function, or pass the address"
    if is_result:
        return "return the data in it, such as plain values, arrays or frames"
    if _OPENED.search(name):
        return "create it inside the function, or pass what is needed to open it"
    return "create it inside the function, or pass what is needed to make it"


def is_of_the_notebook(obj: object) -> bool:
    """Return whether ``obj`` belongs to Jupyter itself, like ``get_ipython()``."""
    module = type(obj).__module__
    return isinstance(module, str) and module.partition(".")[0] in ("IPython", "ipykernel")


def own_reason(error: Exception) -> str:
    """Return the error text of an object's own pickling code, or nothing."""
    try:
        text = str(error).strip()
    except Exception:
        text = ""
    if _PLAIN_REFUSAL.match(text):
        return ""
    name = type(error).__name__
    return clean_text(" ".join(f"{name}: {text}".split()) if text else name, 300)
