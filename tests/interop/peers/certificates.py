"""A certificate authority of these tests, and what it vouches for; made at each run by openssl."""

import pathlib
import subprocess

from .process import Trouble


class Certificates:
    """In a folder: `ca.pem`, and `server.pem` with `server.key` for these addresses and names."""

    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        self.authority = self.folder / "ca.pem"

    def make(self, addresses, names):
        self.folder.mkdir(parents=True)
        key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
        owned = ",".join([*(f"IP:{address}" for address in addresses), *(f"DNS:{name}" for name in names)])
        self._openssl(
            "req", "-x509", *key, "-keyout", "ca.key", "-out", "ca.pem", "-days", "2", "-subj", "/CN=interop authority",
            "-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=critical,keyCertSign",
        )
        self._openssl("req", *key, "-keyout", "server.key", "-out", "server.csr", "-subj", f"/CN={names[0]}")
        (self.folder / "server.ext").write_text(f"subjectAltName={owned}\nextendedKeyUsage=serverAuth,clientAuth\n")
        self._openssl(
            "x509", "-req", "-in", "server.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-out", "server.pem",
            "-days", "2", "-extfile", "server.ext",
        )

    def section(self):
        return f'[tls]\ncertificate = "{self.folder}/server.pem"\nkey = "{self.folder}/server.key"\n'

    def _openssl(self, *words):
        done = subprocess.run(["openssl", *words], cwd=self.folder, capture_output=True, text=True, check=False)
        if done.returncode:
            raise Trouble(f"openssl {words[0]}: {done.stderr.strip()}")
