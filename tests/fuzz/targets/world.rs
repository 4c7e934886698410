//! A whole world on a tape: the octets say who is there, behind which NAT, who
//! calls whom and what goes wrong; the rules of the simulator judge it.

pub(super) fn run(bytes: &[u8]) {
    let report = sim::written(bytes, false);
    if report.is_broken() {
        panic!("{}", sim::written(bytes, true).text());
    }
}
