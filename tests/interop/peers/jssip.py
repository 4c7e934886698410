"""JsSIP as a phone on WebSocket: registers, calls and is called, holds, sends a MESSAGE, transfers; see jssip/phone.cjs."""

import contextlib
import json
import os
import pathlib
import shutil
import subprocess
import threading

from .process import Trouble, die_with_parent

SOURCE = pathlib.Path(__file__).resolve().parent.parent / "jssip"
PATIENCE_S = 10
# Several runtimes start at once, from a disk that has never read them.
START_PATIENCE_S = 60


def install(target):
    """Installs JsSIP and its WebSocket from the package registry, once; returns why not, or None."""
    for tool in ("node", "npm"):
        if not shutil.which(tool):
            return f"{tool} is not installed"
    lock = (SOURCE / "package-lock.json").read_bytes()
    done = target / "installed"
    if done.exists() and done.read_bytes() == lock:
        return None
    target.mkdir(parents=True, exist_ok=True)
    for name in ("package.json", "package-lock.json"):
        shutil.copy(SOURCE / name, target / name)
    try:
        npm = subprocess.run(
            ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--prefer-offline"], cwd=target, capture_output=True,
            text=True, check=False, timeout=120,
        )
    except subprocess.TimeoutExpired:
        return "npm ci did not end"
    if npm.returncode:
        return f"npm ci failed: {npm.stderr.strip().splitlines()[-1:]}"
    done.write_bytes(lock)
    return None


class JsSip:
    """One phone."""

    def __init__(self, folder, target, host, user, password, domain, near, transport, authority):
        folder.mkdir(parents=True, exist_ok=True)
        self.user, self.uri = user, f"sip:{user}@{domain}"
        settings = {
            "folder": str(target), "authority": str(authority), "url": f"{transport.name}://{near[0]}:{near[1]}/", "uri": self.uri,
            "password": password, "host": host,
        }
        self.log = (folder / f"{user}.log").open("w")
        self.child = subprocess.Popen(
            ["node", SOURCE / "phone.cjs", json.dumps(settings)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log,
            text=True, env={**os.environ, "JSSIP_DEBUG": "1"}, start_new_session=True, preexec_fn=die_with_parent,
        )
        self.events, self.news = [], threading.Condition()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        for line in self.child.stdout:
            with self.news:
                self.events.append(json.loads(line))
                self.news.notify_all()

    def order(self, word, **more):
        try:
            self.child.stdin.write(json.dumps({"do": word, **more}) + "\n")
            self.child.stdin.flush()
        except OSError as error:
            raise Trouble(f"JsSIP of {self.user} has ended: {error}") from error

    def wait(self, event, count=1, patience_s=PATIENCE_S, **more):
        """Waits until this has happened so many times since the start."""
        def happened():
            return sum(e["event"] == event and more.items() <= e.items() for e in self.events) >= count
        with self.news:
            if not self.news.wait_for(happened, patience_s):
                raise Trouble(f"JsSIP of {self.user} waits for {event} ({count}), had {self.events[-8:]}")

    def close(self):
        self.child.kill()
        self.child.wait()
        with contextlib.suppress(OSError):
            self.child.stdin.close()
        self.log.close()


class Talk:
    """The three phones, and how many calls each has had."""

    def __init__(self, *phones):
        self.phones = phones
        self.calls = dict.fromkeys(phones, 0)

    def up(self, caller, callee):
        """A call that is answered; its number at both ends."""
        caller.order("call", to=callee.uri)
        return self.joined(caller, callee)

    def joined(self, *phones):
        for phone in phones:
            self.calls[phone] += 1
            phone.wait("confirmed", self.calls[phone])
        return [self.calls[phone] - 1 for phone in phones]

    def registers(self):
        for phone in self.phones:
            phone.wait("registered", patience_s=START_PATIENCE_S)

    def call(self):
        """Each is called by the other, and each hangs up once."""
        ann, bob, _ = self.phones
        first, _ = self.up(ann, bob)
        ann.order("end", call=first)
        for phone in (ann, bob):
            phone.wait("ended")
        second, _ = self.up(bob, ann)
        bob.order("end", call=second)
        for phone in (ann, bob):
            phone.wait("ended", 2)

    def message(self):
        ann, bob, _ = self.phones
        ann.order("message", to=bob.uri, body="Wait for me at the gate.")
        bob.wait("message", body="Wait for me at the gate.")
        ann.wait("delivered")

    def hold(self):
        ann, bob, _ = self.phones
        call, _ = self.up(ann, bob)
        ann.order("hold", call=call)
        bob.wait("hold", originator="remote")
        ann.wait("hold", originator="local")
        ann.order("unhold", call=call)
        bob.wait("unhold", originator="remote")
        ann.order("end", call=call)
        for phone in (ann, bob):
            phone.wait("ended", 3)

    def blind(self):
        """bob sends ann on to carl."""
        ann, bob, carl = self.phones
        _, sent = self.up(ann, bob)
        bob.order("refer", call=sent, to=carl.uri)
        ann.wait("refer")
        joined, _ = self.joined(ann, carl)
        bob.wait("transferred")
        bob.order("end", call=sent)
        for phone in (ann, bob):
            phone.wait("ended", 4)
        ann.order("end", call=joined)
        carl.wait("ended")

    def attended(self):
        """ann talks to bob, asks carl, and brings the two together."""
        ann, bob, carl = self.phones
        first, _ = self.up(ann, bob)
        second, _ = self.up(ann, carl)
        ann.order("refer", call=first, to=carl.uri, replaces=second)
        bob.wait("refer")
        carl.wait("replaces")
        joined, _ = self.joined(bob, carl)
        ann.wait("transferred")
        ann.order("end", call=first)
        ann.wait("ended", 7)
        bob.order("end", call=joined)
        bob.wait("ended", 6)
        carl.wait("ended", 3)


# What JsSIP does: case, row of the matrix, method of `Talk`.
CASES = (
    ("JsSIP registers", "register with authentication", Talk.registers),
    ("JsSIP calls JsSIP and back", "call", Talk.call),
    ("JsSIP sends a MESSAGE", "MESSAGE", Talk.message),
    ("JsSIP holds and resumes", "hold and resume", Talk.hold),
    ("JsSIP transfers", "blind transfer", Talk.blind),
    ("JsSIP transfers after asking", "attended transfer", Talk.attended),
)
