"""A certificate authority of this world, and what it vouches for; made in each cell by openssl."""

import subprocess

from .process import LabError

KEY = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]


class Authority:
    """In a folder: `ca.pem`, and for each host `HOST.pem` with `HOST.key`."""

    def __init__(self, folder):
        self.folder = folder
        self.certificate = folder / "ca.pem"
        folder.mkdir()
        self._openssl(
            "req", "-x509", *KEY, "-keyout", "ca.key", "-out", "ca.pem", "-days", "2", "-subj", "/CN=lab authority",
            "-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=critical,keyCertSign",
        )

    def vouch(self, host, address):
        """(certificate, key) of a server at this address."""
        self._openssl("req", *KEY, "-keyout", f"{host}.key", "-out", f"{host}.csr", "-subj", f"/CN={host}")
        extensions = self.folder / f"{host}.ext"
        extensions.write_text(f"subjectAltName=IP:{address}\nextendedKeyUsage=serverAuth\n")
        self._openssl(
            "x509", "-req", "-in", f"{host}.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial",
            "-out", f"{host}.pem", "-days", "2", "-extfile", extensions.name,
        )
        return self.folder / f"{host}.pem", self.folder / f"{host}.key"

    def _openssl(self, *words):
        done = subprocess.run(["openssl", *words], cwd=self.folder, capture_output=True, text=True, check=False)
        if done.returncode:
            raise LabError(f"openssl {words[0]}: {done.stderr.strip()}")
