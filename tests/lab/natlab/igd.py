"""miniupnpd on the office's box: forwards ports for who asks, by UPnP, NAT-PMP and PCP."""

from . import settings
from .process import Process

CONFIG = """
ext_ifname=wan
listening_ip=lan
enable_natpmp=yes
enable_upnp=yes
secure_mode=yes
system_uptime=no
upnp_table_name=igd
upnp_nat_table_name=igd
upnp_forward_chain=miniupnpd
upnp_nat_chain=prerouting_miniupnpd
upnp_nat_postrouting_chain=postrouting_miniupnpd
uuid=fc4ec57e-b051-11db-88f8-0060085db3f6
allow 1024-65535 192.168.1.0/24 1024-65535
deny 0-65535 0.0.0.0/0 0-65535
"""

# Where there is no syslog, miniupnpd writes to the console as well, and a serial one takes a core away, by interrupts, for
# up to seconds.
UNHEARD = 'if [ -e /dev/console ]; then mount --bind /dev/null /dev/console; fi; exec miniupnpd "$@"'


def start(namespace, folder):
    config = folder / "miniupnpd.conf"
    config.write_text(CONFIG)
    process = Process(
        namespace, ["unshare", "--mount", "sh", "-c", UNHEARD, "sh", "-d", "-f", config, "-P", folder / "miniupnpd.pid"],
        folder / "miniupnpd.log", cwd=folder,
    )
    process.name = "miniupnpd"
    process.wait_for_line("listening on", settings.START_DEADLINE_S)
    return process
