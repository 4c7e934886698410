//! A running siplatch: its files, its log, its figures.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use crate::{Loopback, announce, binary};

/// The program, with a state directory and a log file of its own. Dropped, it
/// is killed and its files are removed.
#[derive(Debug)]
pub struct Daemon {
    child: Child,
    dir: PathBuf,
    metrics: SocketAddr,
    /// What it said at start.
    pub banner: String,
}

impl Daemon {
    /// Starts it with this configuration; `[metrics]` and `[state]` are added.
    pub fn start(net: Loopback, config: &str, log: &str) -> Self {
        Self::start_with(net, config, log, |_| {})
    }

    /// The same; `files` puts more into its directory, which is `DIR` in the configuration.
    pub fn start_with(net: Loopback, config: &str, log: &str, files: impl FnOnce(&Path)) -> Self {
        let metrics = net.at(1, 9090);
        let dir = std::env::temp_dir().join(format!("siplatch-peer-{}", net.ip(0)));
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir_all(&dir).unwrap();
        files(&dir);
        let config = config.replace("DIR", &dir.display().to_string());
        let file = dir.join("siplatch.toml");
        let rest = format!("[metrics]\nlisten = \"{metrics}\"\n[state]\ndir = \"{}/state\"\n", dir.display());
        std::fs::write(&file, format!("{config}\n{rest}")).unwrap();
        let mut child = Command::new(binary())
            .args(["run", "--log", log, "--config"])
            .arg(&file)
            .stdout(Stdio::piped())
            .stderr(File::create(dir.join("log")).unwrap())
            .spawn()
            .unwrap();
        let mut banner = String::new();
        let mut lines = BufReader::new(child.stdout.take().unwrap());
        while !banner.contains("\nStatus ") {
            if lines.read_line(&mut banner).unwrap() == 0 {
                let log = std::fs::read_to_string(dir.join("log")).unwrap_or_default();
                panic!("siplatch ended before its banner: {banner}{log}");
            }
        }
        // The pipe must stay open for what follows the banner.
        std::mem::forget(lines);
        Self { child, dir, metrics, banner }
    }

    /// Its directory: configuration, log, and state in `state`.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Its process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// True while it runs.
    pub fn is_alive(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// All that it has logged.
    pub fn log(&self) -> Vec<u8> {
        std::fs::read(self.dir.join("log")).unwrap()
    }

    /// Resident memory in KiB.
    pub fn resident(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }

    /// The page of figures.
    pub fn metrics(&self) -> String {
        let deadline = Instant::now() + Duration::from_secs(5);
        let mut stream = loop {
            match TcpStream::connect(self.metrics) {
                Ok(stream) => break stream,
                Err(error) => assert!(Instant::now() < deadline, "{error}"),
            }
        };
        write!(stream, "GET /metrics HTTP/1.0\r\n\r\n").unwrap();
        let mut page = String::new();
        stream.read_to_string(&mut page).unwrap();
        page
    }

    /// The sum of all series of one name whose labels contain `labels`.
    pub fn figure(&self, name: &str, labels: &str) -> f64 {
        let of_name = |line: &&str| line.split(['{', ' ']).next() == Some(name) && line.contains(labels);
        let page = self.metrics();
        let values = page.lines().filter(of_name).map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap());
        values.sum()
    }

    /// What `siplatch status` prints.
    pub fn status(&self, flags: &[&str]) -> Output {
        let file = self.dir.join("siplatch.toml");
        Command::new(binary()).args(["status", "--config"]).arg(file).args(flags).output().unwrap()
    }

    /// Whether it still runs, and the end of its log: a test has failed.
    fn explain(&mut self) {
        let state = match self.child.try_wait() {
            Ok(Some(status)) => format!("has ended: {status}"),
            Ok(None) => "runs".to_owned(),
            Err(error) => error.to_string(),
        };
        let log = std::fs::read_to_string(self.dir.join("log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        announce(&format!(
            "siplatch {state}; the end of its log:\n{}",
            lines[lines.len().saturating_sub(20)..].join("\n")
        ));
    }

    /// Asks it to end, and waits until it has.
    pub fn terminate(&mut self) {
        assert!(Command::new("kill").args(["-TERM", &self.id().to_string()]).status().unwrap().success());
        self.child.wait().unwrap();
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.explain();
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}
