//! One target under libFuzzer: `SIPLATCH_FUZZ_TARGET` names it, and with
//! `SIPLATCH_FUZZ_SEEDS` its seeds are written into that folder first.
//! `tests/fuzz/run` builds and starts this.
#![no_main]

mod seeds;
mod targets;

use std::path::Path;
use std::sync::OnceLock;

use targets::{TARGETS, Target};

static CHOSEN: OnceLock<&Target> = OnceLock::new();

fn chosen() -> &'static Target {
    CHOSEN.get_or_init(|| {
        let name = std::env::var("SIPLATCH_FUZZ_TARGET").unwrap_or_default();
        let found = TARGETS.iter().find(|target| target.name == name);
        found.unwrap_or_else(|| {
            let names: Vec<&str> = TARGETS.iter().map(|target| target.name).collect();
            eprintln!("SIPLATCH_FUZZ_TARGET is one of {}, not “{name}”", names.join(", "));
            std::process::exit(2);
        })
    })
}

libfuzzer_sys::fuzz_target!(
    init: {
        let target = chosen();
        if let Some(folder) = std::env::var_os("SIPLATCH_FUZZ_SEEDS") {
            for (name, seed) in seeds::of(target.name) {
                std::fs::write(Path::new(&folder).join(name), seed).expect("the folder of seeds can be written to");
            }
        }
    },
    |data: &[u8]| (chosen().run)(data)
);
