//! What is measured: one table of steps, filled by every room.
//!
//! `counts.rs` counts instructions and allocations per step and compares them
//! with `budget.tsv`. A new bench is a line in its room's module here and a
//! line there. A step may prepare and check as much as it likes: only what it
//! does within [`measured`] counts.

pub mod allocations;
mod media;
mod proxy;
mod registry;
mod sip;

use std::sync::atomic::{AtomicU64, Ordering};

/// One bench.
#[derive(Debug, Clone, Copy)]
pub struct Bench {
    /// Its name in `budget.tsv`.
    pub name: &'static str,
    /// Makes the step that is repeated, with the buffers that it keeps.
    pub make: fn() -> Box<dyn FnMut()>,
}

/// The benches of every room, one module each.
pub const BENCHES: &[&[Bench]] = &[sip::BENCHES, media::BENCHES, registry::BENCHES, proxy::BENCHES];

/// The function that callgrind counts in, as a pattern over symbols.
pub const COUNTED: &str = "*siplatch_benches*counted_for_a_step*";

/// Allocations within [`measured`].
static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

/// The bench of that name.
pub fn find(name: &str) -> Option<Bench> {
    BENCHES.iter().copied().flatten().find(|bench| bench.name == name).copied()
}

impl Bench {
    /// Takes so many steps; their allocations.
    pub fn run(&self, steps: u64) -> u64 {
        let mut step = (self.make)();
        let before = ALLOCATIONS.load(Ordering::Relaxed);
        for _ in 0..steps {
            step();
        }
        ALLOCATIONS.load(Ordering::Relaxed) - before
    }
}

/// Does the work that a step is about. Not to be called within itself.
fn measured<T>(work: impl FnOnce() -> T) -> T {
    let before = allocations::count();
    let result = counted_for_a_step(work);
    ALLOCATIONS.fetch_add(allocations::count() - before, Ordering::Relaxed);
    result
}

#[inline(never)]
fn counted_for_a_step<T>(work: impl FnOnce() -> T) -> T {
    work()
}
