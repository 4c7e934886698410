//! Crate edges: what the manifests say against what the table grants.

use std::path::Path;
use std::process::Command;

use crate::table::{EVERYWHERE, EXEMPT, ROOMS};

/// Package names carry the product's prefix, the table does not.
const PREFIX: &str = "siplatch-";

/// Every edge of the workspace at `root` that the table does not grant.
pub(crate) fn faults(root: &Path) -> Vec<String> {
    let metadata = metadata(root);
    let packages = metadata["packages"].as_array().expect("cargo metadata lists packages");
    let mut faults = Vec::new();
    for room in ROOMS {
        if !packages.iter().any(|package| package["name"] == format!("{PREFIX}{}", room.name)) {
            faults.push(format!("room `{}` is missing from the workspace", room.name));
        }
    }
    for package in packages {
        let package_name = package["name"].as_str().expect("a package has a name");
        if EXEMPT.contains(&package_name) {
            continue;
        }
        let Some(room) = ROOMS.iter().find(|room| package_name.strip_prefix(PREFIX) == Some(room.name)) else {
            faults.push(format!("package `{package_name}` is no room of the table"));
            continue;
        };
        for dependency in package["dependencies"].as_array().expect("a package lists its dependencies") {
            if dependency["kind"] == "dev" {
                continue;
            }
            let name = dependency["name"].as_str().expect("a dependency has a name");
            let granted = match name.strip_prefix(PREFIX) {
                Some(other) => room.rooms.contains(&other),
                None => room.outside.contains(&name) || EVERYWHERE.contains(&name),
            };
            if !granted {
                faults.push(format!("room `{}` may not depend on `{name}`", room.name));
            }
        }
    }
    faults
}

/// Manifests only: no lock file is read or written and no registry is asked.
fn metadata(root: &Path) -> serde_json::Value {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline"])
        .current_dir(root)
        .output()
        .expect("cargo runs, since it runs this test");
    assert!(output.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("cargo metadata prints JSON")
}
