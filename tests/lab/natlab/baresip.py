"""A phone: baresip without sound card. It plays its own tone and records what it hears."""

from . import settings, tone
from .control import Control
from .process import LabError, Process

CONFIG = """
poll_method epoll
sip_listen 0.0.0.0:5060
call_local_timeout 120
call_max_calls 4
audio_source aufile,{tone}
ausrc_srate 8000
auplay_srate 8000
ausrc_channels 1
auplay_channels 1
rtp_ports 10000-19998
rtcp_mux no
jitter_buffer_delay 1-20
net_interface eth0
module_path /usr/lib/baresip/modules
module g711.so
module aufile.so
module sndfile.so
module_tmp uuid.so
module_tmp account.so
module_app menu.so
module_app ctrl_tcp.so
ctrl_tcp_listen 127.0.0.1:4444
snd_path {heard}
"""

ACCOUNT = "<sip:{user}@{domain}{by}>;{options}regint={refresh};answermode=auto;audio_codecs=PCMU/8000/1;ptime=20\n"

ESTABLISHED = ("CALL_ESTABLISHED",)
CLOSED = ("CALL_CLOSED",)


class Phone:
    """One phone of the world; `user` is also the name of its host."""

    def __init__(self, namespace, user, folder, domain=settings.DOMAIN, proxy=None, *,
                 transport="udp", outbound=False, refresh=settings.REFRESH_S):
        self.user = user
        self.domain = domain
        self.uri = f"sip:{user}@{domain}"
        self.frequency = tone.FREQUENCY[user]
        self.folder = folder / user
        heard = self.folder / "heard"
        heard.mkdir(parents=True)
        tone_file = self.folder / "tone.wav"
        tone.write(tone_file, self.frequency)
        (self.folder / "config").write_text(CONFIG.format(tone=tone_file, heard=heard))
        by = "" if transport == "udp" else f";transport={transport}"
        options = f'outbound="sip:{proxy}{by}";' if proxy else ""
        options += "sipnat=outbound;" if outbound else ""
        account = ACCOUNT.format(user=user, domain=domain, by=by, options=options, refresh=refresh)
        (self.folder / "accounts").write_text(account)
        self.recorder = tone.Recorder(heard)
        self.process = Process(
            namespace, ["baresip", "-4", "-s", "-f", self.folder], folder / f"{user}.log",
        )
        self.control = Control(namespace, user, settings.START_DEADLINE_S)

    def wait_registered(self):
        """Waits for the 200 to REGISTER; False when it did not come."""
        try:
            self.process.wait_for_line(r"200 OK .*\[\d+ binding|registered successfully", settings.REGISTER_DEADLINE_S)
        except LabError:
            return False
        return True

    def dial(self, other):
        self.control.command("dial", other)

    def hang_up(self):
        self.control.command("hangup")

    def hold(self):
        self.control.command("hold")

    def resume(self):
        self.control.command("resume")
