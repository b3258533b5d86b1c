"""Whether the machine has the memory that a training will take.

The replay buffer takes its memory as it fills: what is not there would end a
run hours after its start, by the system's SIGKILL.
"""

import pathlib
from collections.abc import Iterator

__all__ = ["available", "require"]

_ROOT = pathlib.Path("/")
# Where a control group is mounted, what it may take, what it has taken.
_GROUPS = {
    "memory": ("memory", "memory.limit_in_bytes", "memory.usage_in_bytes"),
    "": ("", "memory.max", "memory.current"),  # version 2
}


def require(size: int, what: str) -> None:
    """Refuses to begin what needs more memory than there is.

    Args:
        size: Bytes.
        what: For which.

    Raises:
        MemoryError: If fewer are available, and the system says so.
    """
    left = available()
    if left is not None and size > left:
        raise MemoryError(
            f"Expected {size / 1e9:,.1f} GB of memory for {what}. Received: "
            f"{left / 1e9:,.1f} GB that are available. A smaller "
            "replay_capacity takes less."
        )


def available(root: pathlib.Path = _ROOT) -> int | None:
    """Returns the bytes that this process may still take.

    Those that Linux calls available, with what can be swapped out; fewer if a
    control group, as containers have, allows fewer.

    Args:
        root: Of the file system that tells. Defaults to the system's.

    Returns:
        The bytes, or `None` on systems that do not tell.
    """
    lines = _lines(root / "proc/meminfo")
    sizes = {line[0].rstrip(":"): int(line[1]) for line in lines}
    if "MemAvailable" not in sizes:
        return None
    free = 1024 * (sizes["MemAvailable"] + sizes.get("SwapFree", 0))
    return min([free, *_left_in_groups(root)])


def _left_in_groups(root: pathlib.Path) -> Iterator[int]:
    for line in _lines(root / "proc/self/cgroup"):
        _, kinds, path = line[0].split(":", 2)
        if kinds not in _GROUPS:
            continue
        mount, limit_name, usage_name = _GROUPS[kinds]
        top = root / "sys/fs/cgroup" / mount
        group = top / path.lstrip("/")
        for folder in (group, *group.parents):
            limit, usage = folder / limit_name, folder / usage_name
            if limit.exists() and usage.exists():
                text = limit.read_text().strip()
                if text != "max":
                    used = int(usage.read_text()) - _cached(folder)
                    yield max(0, int(text) - used)
            if folder == top:
                break


def _cached(group: pathlib.Path) -> int:
    """Bytes of files that the system would drop."""
    sizes = {line[0]: int(line[1]) for line in _lines(group / "memory.stat")}
    return sizes.get("total_inactive_file", sizes.get("inactive_file", 0))


def _lines(path: pathlib.Path) -> list[list[str]]:
    """The words of each line; none where there is no such file."""
    try:
        return [line.split() for line in path.read_text().splitlines()]
    except OSError:
        return []
