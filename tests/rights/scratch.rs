//! A copy of the rooms, to break a right in.

use std::fs;
use std::path::{Path, PathBuf};

/// A copied workspace: manifests and sources of the rooms, in a folder of its own.
pub(crate) struct Scratch {
    root: PathBuf,
}

impl Scratch {
    /// Copies the rooms as they are.
    pub(crate) fn new(name: &str) -> Self {
        let root = Path::new(env!("CARGO_TARGET_TMPDIR")).join("rights").join(name);
        let _ = fs::remove_dir_all(&root);
        let workspace = crate::workspace();
        let manifest = fs::read_to_string(workspace.join("Cargo.toml")).expect("the workspace has a manifest");
        let members = r#"members = ["crates/*", "tests", "tests/peer", "benches", "benches/peers"]"#;
        assert!(manifest.contains(members), "the list of members changed: mend this test");
        write(&root.join("Cargo.toml"), &manifest.replace(members, r#"members = ["crates/*", "tests/peer"]"#));
        copy(&workspace.join("crates"), &root.join("crates"));
        copy(&workspace.join("tests/peer"), &root.join("tests/peer"));
        Self { root }
    }

    /// Where it is.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Adds a dependency to a room's manifest.
    pub(crate) fn depend(&self, room: &str, on: &str) {
        let path = self.root.join("crates").join(room).join("Cargo.toml");
        let manifest = fs::read_to_string(&path).expect("a room has a manifest");
        let added = manifest.replacen("[dependencies]\n", &format!("[dependencies]\n{on}.workspace = true\n"), 1);
        assert_ne!(manifest, added, "{} has no [dependencies]", path.display());
        write(&path, &added);
    }

    /// Adds an empty package.
    pub(crate) fn add_room(&self, name: &str) {
        let folder = self.root.join("crates").join(name);
        write(&folder.join("Cargo.toml"), &format!("[package]\nname = \"siplatch-{name}\"\nedition = \"2024\"\n"));
        write(&folder.join("src/lib.rs"), "");
    }

    /// Writes a source file of a room.
    pub(crate) fn write(&self, room: &str, file: &str, text: &str) {
        write(&self.root.join("crates").join(room).join("src").join(file), text);
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.root);
    }
}

fn copy(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).expect("a folder can be listed") {
        let path = entry.expect("a folder can be listed").path();
        let target = to.join(path.file_name().expect("an entry has a name"));
        if path.is_dir() {
            copy(&path, &target);
        } else if path.extension().is_some_and(|extension| extension == "rs" || extension == "toml") {
            write(&target, &fs::read_to_string(&path).expect("a source can be read"));
        }
    }
}

fn write(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().expect("a file lies in a folder")).expect("a scratch folder can be made");
    fs::write(path, text).expect("a scratch file can be written");
}
