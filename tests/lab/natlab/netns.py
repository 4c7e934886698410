"""Network namespaces: make, enter, list the processes of, remove.

Entering changes one thread only; a socket made inside stays inside.
"""

import contextlib
import ctypes
import os
import pathlib
import signal
import subprocess
import time

from . import settings

RUN_DIR = pathlib.Path("/run/netns")
CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


def add(name):
    subprocess.run(["ip", "netns", "add", name], check=True, capture_output=True, text=True)


@contextlib.contextmanager
def inside(name):
    """The calling thread works in namespace `name` until the block ends."""
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    there = os.open(RUN_DIR / name, os.O_RDONLY)
    try:
        _enter(there)
        yield
    finally:
        _enter(home)
        os.close(there)
        os.close(home)


def _enter(descriptor):
    if _libc.setns(descriptor, CLONE_NEWNET) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), "setns")


def sysctl(name, settings_by_key):
    with inside(name):
        for key, value in settings_by_key.items():
            path = pathlib.Path("/proc/sys") / key.replace(".", "/")
            if path.exists():
                path.write_text(str(value))


def ip_batch(name, lines):
    """Runs `ip` commands inside the namespace, in one go."""
    done = subprocess.run(
        ["ip", "-n", name, "-batch", "-"], input="\n".join(lines) + "\n",
        check=False, capture_output=True, text=True,
    )
    if done.returncode != 0:
        raise RuntimeError(f"ip refused {lines} in {name}: {done.stderr.strip()}")


def exists(name):
    return (RUN_DIR / name).exists()


def pids(name):
    """Processes whose network is this namespace."""
    try:
        wanted = (RUN_DIR / name).stat()
    except OSError:
        return []
    found = []
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        try:
            has = os.stat(f"/proc/{entry}/ns/net")
        except OSError:
            continue
        if (has.st_dev, has.st_ino) == (wanted.st_dev, wanted.st_ino):
            found.append(int(entry))
    return found


def remove(names):
    """Ends every process in these namespaces, then removes them."""
    names = [name for name in names if exists(name)]
    deadline = time.monotonic() + 3.0
    while True:
        left = [pid for name in names for pid in pids(name) if pid != os.getpid()]
        if not left or time.monotonic() > deadline:
            break
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.02)
    for name in names:
        subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)


def owned_by(run_id):
    start = f"{settings.NAMESPACE_PREFIX}{run_id}-"
    if not RUN_DIR.is_dir():
        return []
    return sorted(entry.name for entry in RUN_DIR.iterdir() if entry.name.startswith(start))


def sweep_abandoned():
    """Removes namespaces of runs that were killed before they could clean up."""
    if not RUN_DIR.is_dir():
        return
    dead = []
    for entry in RUN_DIR.iterdir():
        if not entry.name.startswith(settings.NAMESPACE_PREFIX):
            continue
        owner = entry.name[len(settings.NAMESPACE_PREFIX):].split("-", 1)[0]
        if owner.isdigit() and not pathlib.Path(f"/proc/{owner}").exists():
            dead.append(entry.name)
    remove(dead)
