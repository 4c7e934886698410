//! coturn, a TURN and STUN server of other people's.

use std::fs::File;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::{Authority, Loopback, announce};

/// A running server on one address of a loopback net: port 3478 for UDP and
/// TCP, 443 for TLS where that may be bound, else 5349. Relayed addresses are
/// on the same address. Dropped, it is killed.
#[derive(Debug)]
pub struct Coturn {
    child: Child,
    dir: PathBuf,
    /// UDP and TCP.
    pub plain: SocketAddr,
    /// TLS, with a certificate of [`Coturn::authority`] for `turn.example`.
    pub secure: SocketAddr,
    /// Who has signed its certificate.
    pub authority: Authority,
}

impl Coturn {
    /// The user that it knows, and the password.
    pub const USER: (&str, &str) = ("office", "a secret");

    /// Starts it on host `host` of the net; `more` are further arguments.
    ///
    /// `None` where coturn is not installed, which is said; with `CI` in the
    /// environment that is a failure.
    pub fn start(net: Loopback, host: u8, more: &[&str]) -> Option<Self> {
        if Command::new("turnserver").arg("--help").stdout(Stdio::null()).stderr(Stdio::null()).status().is_err() {
            assert!(std::env::var_os("CI").is_none(), "coturn is not installed");
            announce("SKIPPED: coturn is not installed (apt-get install coturn)");
            return None;
        }
        let dir = std::env::temp_dir().join(format!("siplatch-coturn-{}", net.ip(host)));
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir_all(&dir).unwrap();
        let authority = Authority::new();
        authority.sign(&["turn.example", &net.ip(host).to_string()]).write(&dir);
        let (plain, secure) = (net.at(host, 3478), net.at(host, 5349));
        let child = Self::spawn(&dir, plain, secure, more);
        let mut coturn = Self { child, dir, plain, secure, authority };
        coturn.await_start();
        Some(coturn)
    }

    fn spawn(dir: &Path, plain: SocketAddr, secure: SocketAddr, more: &[&str]) -> Child {
        let (ip, file) = (plain.ip().to_string(), |name: &str| dir.join(name).display().to_string());
        let (user, password) = Self::USER;
        Command::new("turnserver")
            .args(["-n", "--no-cli", "--no-dtls", "--lt-cred-mech", "--realm", "turn.example"])
            .args(["--user", &format!("{user}:{password}"), "--allow-loopback-peers", "--relay-threads", "1"])
            .args(["--listening-ip", &ip, "--relay-ip", &ip, "--log-file", "stdout", "--verbose"])
            .args(["--listening-port", &plain.port().to_string(), "--tls-listening-port", &secure.port().to_string()])
            .args(["--cert", &file("tls.crt"), "--pkey", &file("tls.key")])
            .args(["--pidfile", &file("pid"), "--userdb", &file("users")])
            .args(more)
            .current_dir(dir)
            .stdout(File::create(dir.join("log")).unwrap())
            .stderr(Stdio::null())
            .spawn()
            .unwrap()
    }

    fn await_start(&mut self) {
        let deadline = Instant::now() + Duration::from_secs(20);
        for address in [self.plain, self.secure] {
            while TcpStream::connect(address).is_err() {
                let ended = self.child.try_wait().unwrap();
                assert!(ended.is_none() && Instant::now() < deadline, "coturn does not start: {}", self.log());
                std::thread::sleep(Duration::from_millis(20));
            }
        }
    }

    /// Writes the certificate of its authority to a file.
    pub fn write_authority(&self, file: &Path) {
        std::fs::write(file, &self.authority.pem).unwrap();
    }

    /// All that it has logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.join("log")).unwrap_or_default()
    }

    /// Ends it at once.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Starts it again, with nothing that it knew.
    pub fn restart(&mut self, more: &[&str]) {
        self.kill();
        self.child = Self::spawn(&self.dir, self.plain, self.secure, more);
        self.await_start();
    }
}

impl Drop for Coturn {
    fn drop(&mut self) {
        self.kill();
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}
