"""What processes used: CPU time and memory, of all their threads and children."""

import contextlib
import pathlib
import re

from natlab import netns

PROC = pathlib.Path("/proc")


def family(pid):
    """The process and all that came of it."""
    found, queue = [], [pid]
    while queue:
        one = queue.pop()
        found.append(one)
        for children in (PROC / str(one) / "task").glob("*/children"):
            queue += map(int, children.read_text().split())
    return found


def cpu_ns(pids):
    """Time on a CPU in nanoseconds, from the scheduler and not by ticks."""
    total = 0
    for pid in pids:
        for stat in (PROC / str(pid) / "task").glob("*/schedstat"):
            total += int(stat.read_text().split()[0])
    return total


def private_bytes(pids):
    """Memory that these processes have taken; what they share counts once, by its share. Not the pages of files."""
    return mapped(pids, "Anon", "Shmem")


def file_bytes(pids):
    """Pages of files, of the program itself above all: read in when first run, and the kernel can drop them at any time."""
    return mapped(pids, "File")


def mapped(pids, *kinds):
    """By its share, of so many kinds of smaps_rollup."""
    total = 0
    for pid in pids:
        text = (PROC / str(pid) / "smaps_rollup").read_text()
        total += sum(int(re.search(rf"^Pss_{kind}:\s+(\d+) kB", text, re.MULTILINE).group(1)) * 1024 for kind in kinds)
    return total


def in_namespace(name):
    """Processes whose network is this namespace."""
    return netns.pids(name)


def programs(pids):
    """Numbers of the BPF programs that these processes hold."""
    found = set()
    for pid in pids:
        for info in (PROC / str(pid) / "fdinfo").glob("*"):
            with contextlib.suppress(FileNotFoundError):
                found.update(map(int, re.findall(r"^prog_id:\s+(\d+)", info.read_text(), re.MULTILINE)))
    return sorted(found)
