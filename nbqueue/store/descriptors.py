"""The limit on file descriptors, and errors when it is too low."""

from __future__ import annotations

import errno

from nbqueue.errors import StoreUnreachable, UsageError

try:
    import resource
except ImportError:  # not on Windows, which has no such limit
    resource = None  # type: ignore[assignment]


def ran_out(error: BaseException) -> bool:
    """Return whether ``error``, or its cause, is a lack of file descriptors."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, OSError) and seen.errno in (errno.EMFILE, errno.ENFILE):
            return True
        seen = seen.__cause__ or seen.__context__
    return False


def unreachable(place: str) -> StoreUnreachable:
    """Return the error for a connection to ``place`` without a free descriptor.

    Imports nothing, because no file can be opened then.
    """
    limit = "" if resource is None else f" (it may have {_limits()[0]:,})"
    return StoreUnreachable(
        f"the store {place} cannot be reached: this process has too many open files{limit}. "
        "Raise the limit with `ulimit -n` (LimitNOFILE= in systemd), or close files and connections"
    )


def ensure(needed: int, why: str) -> None:
    """Raise the soft limit of descriptors to the hard one if necessary.

    That is if ``needed`` is higher than the soft limit.

    ``why`` explains the need in the error. Raises `UsageError` if the hard limit is too low.
    """
    if resource is None:
        return
    soft, hard = _limits()
    if needed <= soft:
        return
    if needed > hard:
        raise UsageError(
            f"{why} needs about {needed:,} file descriptors, and the limit is {hard:,}: raise it "
            "with `ulimit -n` (LimitNOFILE= in systemd), or spread the queues over more workers"
        )
    try:
        highest = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        wanted = needed if hard == float("inf") else highest
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, highest))
    except (ValueError, OSError) as error:
        raise UsageError(
            f"{why} needs about {needed:,} file descriptors, and the limit of {soft:,} cannot be "
            f"raised here ({error}): raise it with `ulimit -n`"
        ) from error


def _limits() -> tuple[float, float]:
    """Return the soft and the hard limit, infinite if there is none."""
    assert resource is not None
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    infinite = float("inf")
    return (
        infinite if soft == resource.RLIM_INFINITY else soft,
        infinite if hard == resource.RLIM_INFINITY else hard,
    )
