"""Digest authentication (RFC 7616) with MD5 and SHA-256; SIPp 3.6 knows only the first."""

import hashlib
import re
import secrets

HASHES = {"MD5": hashlib.md5, "SHA-256": hashlib.sha256}


class Unoffered(Exception):
    """The algorithm is not among the challenges."""


def response(algorithm, user, realm, password, nonce, method, uri, count, cnonce):
    """The value of `response` with qop=auth (RFC 7616 §3.4.1)."""
    def h(text):
        return HASHES[algorithm](text.encode()).hexdigest()
    a1 = h(f"{user}:{realm}:{password}")
    a2 = h(f"{method}:{uri}")
    return h(f"{a1}:{nonce}:{count}:{cnonce}:auth:{a2}")


def challenges(message):
    """The Digest challenges of a 401 or 407, in order, as dictionaries."""
    found = []
    for value in message.all("WWW-Authenticate") + message.all("Proxy-Authenticate"):
        pairs = re.findall(r'([a-zA-Z]+)\s*=\s*(?:"([^"]*)"|([^,\s]+))', value)
        found.append({name.lower(): quoted or plain for name, quoted, plain in pairs})
    return found


def credentials(challenge, algorithm, user, password, method, uri):
    """What answers a challenge; raises `Unoffered`."""
    offered = challenges(challenge)
    fitting = [c for c in offered if c.get("algorithm", "MD5").upper() == algorithm]
    if not fitting:
        raise Unoffered(f"{algorithm} is not among {[c.get('algorithm', 'MD5') for c in offered]}")
    c, cnonce, count = fitting[0], secrets.token_hex(8), "00000001"
    answer = response(algorithm, user, c["realm"], password, c["nonce"], method, uri, count, cnonce)
    value = (
        f'Digest username="{user}", realm="{c["realm"]}", nonce="{c["nonce"]}", uri="{uri}", response="{answer}", '
        f'algorithm={algorithm}, qop=auth, nc={count}, cnonce="{cnonce}"'
    )
    return value + (f', opaque="{c["opaque"]}"' if "opaque" in c else "")
