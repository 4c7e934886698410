//! Where the program is: built once per test run, in the profile of the test.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The path of `siplatch`; `SIPLATCH_BIN` names another one.
pub fn binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        if let Some(path) = std::env::var_os("SIPLATCH_BIN") {
            return path.into();
        }
        let (profile, folder) = if cfg!(debug_assertions) { ("test", "debug") } else { ("release", "release") };
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap();
        let status = Command::new(env!("CARGO"))
            .args(["build", "--quiet", "--locked", "--package", "siplatch-daemon", "--bin", "siplatch", "--profile"])
            .arg(profile)
            .current_dir(root)
            .status()
            .unwrap();
        assert!(status.success(), "siplatch does not build");
        // The test lies in target/<folder>/deps.
        let test = std::env::current_exe().unwrap();
        let target = test.ancestors().nth(3).unwrap();
        target.join(folder).join("siplatch")
    })
}
