"""Can the lab run here? Root, namespaces, packet filter and programs; else why not."""

import os
import shutil
import subprocess

from . import nat, netns, settings

TOOLS = ["ip", "nft", "nsenter", "kamailio", "baresip", "turnserver", "tcpdump"]


def missing(more=()):
    """The reason why the lab cannot run, or None; `more`: programs that are needed besides."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    absent = [tool for tool in [*TOOLS, *more] if not shutil.which(tool)]
    if absent:
        return f"not installed: {', '.join(absent)}; tests/lab/install{' --rtpengine' if more else ''} installs them"
    return _no_namespaces()


def _no_namespaces():
    name = f"{settings.NAMESPACE_PREFIX}{os.getpid()}-try"
    try:
        netns.add(name)
        netns.ip_batch(name, ["link add wan type veth peer name lan", "link set wan up"])
        for kind in nat.TYPES:
            nat.load(name, "flush ruleset\n" + nat.rules(kind, settings.UDP_TIMEOUT_S))
    except subprocess.CalledProcessError as error:
        return f"no network namespaces here: {error.stderr.strip()}"
    except (OSError, RuntimeError) as error:
        return f"no network namespaces here: {error}"
    finally:
        netns.remove([name])
    return None
