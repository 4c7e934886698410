//! Seeds of the simulated world, as `sim` describes them.

/// How many seeds run when nothing else is said.
const SEEDS: u64 = 200;
/// Per cent of all transactions that must end as they should.
const RIGHT: f64 = 99.9;

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().and_then(|value| value.parse().ok())
}

#[test]
fn seeds() {
    let foul = std::env::var("SIPLATCH_SIM_WEATHER").is_ok_and(|weather| weather == "foul");
    if let Some(seed) = number("SIPLATCH_SIM_SEED") {
        let report = sim::seed(seed, foul);
        println!("{}", report.text());
        if let Ok(path) = std::env::var("SIPLATCH_SIM_PCAP") {
            std::fs::write(path, report.capture()).expect("SIPLATCH_SIM_PCAP names a file that can be written");
        }
        assert!(!report.is_broken());
        return;
    }
    let (first, seeds) = (number("SIPLATCH_SIM_FIRST").unwrap_or(0), number("SIPLATCH_SIM_SEEDS").unwrap_or(SEEDS));
    let many = sim::many(first, seeds, foul);
    println!("{}", many.summary);
    if let Some(first) = many.broken.first() {
        println!("{}", first.text());
        panic!("{} seeds broke an invariant", many.broken.len());
    }
    // A handful of seeds need not show all.
    assert!(seeds < SEEDS || many.missing.is_empty(), "never happened: {:?}", many.missing);
    assert!(many.right >= RIGHT, "{:.3} % of all transactions ended as they should, not {RIGHT} %", many.right);
}
