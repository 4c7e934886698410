//! Seeds of the simulated world, as `sim` describes them.

/// How many seeds run when nothing else is said.
const SEEDS: u64 = 200;

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().and_then(|value| value.parse().ok())
}

#[test]
fn seeds() {
    if let Some(seed) = number("SIPLATCH_SIM_SEED") {
        let report = sim::seed(seed);
        println!("{}", report.text());
        if let Ok(path) = std::env::var("SIPLATCH_SIM_PCAP") {
            std::fs::write(path, report.capture()).expect("SIPLATCH_SIM_PCAP names a file that can be written");
        }
        assert!(!report.is_broken());
        return;
    }
    let (summary, broken) = sim::many(number("SIPLATCH_SIM_SEEDS").unwrap_or(SEEDS));
    println!("{summary}");
    if let Some(first) = broken.first() {
        println!("{}", first.text());
        panic!("{} seeds broke an invariant", broken.len());
    }
}
