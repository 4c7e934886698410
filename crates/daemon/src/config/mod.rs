//! Configuration in two stages: as written ([`raw`], read in [`layers`]), then
//! as meant ([`resolve`]). A faulty one is refused, and every fault is
//! explained with its key, its place and the mend.

mod certificates;
mod fault;
mod layers;
mod raw;
pub(crate) mod reference;
pub(crate) mod reload;
mod resolve;
mod written;

pub(crate) use layers::{PREFIX, Sources};
pub(crate) use resolve::{Forwards, Machine, Settings};
pub(crate) use written::{HostPort, read_upstream};

/// Reads and resolves; or explains every fault, as text for people.
pub(crate) fn load(sources: &Sources, machine: &Machine) -> Result<Settings, String> {
    let mut reading = layers::read(sources);
    let spoiled: Vec<String> = reading.faults.iter().map(|fault| fault.key.clone()).collect();
    let mut settings = None;
    // Without a role that can be read, whatever else would be said is guesswork.
    if reading.whole && !spoiled.iter().any(|key| key == "role") {
        match resolve::resolve(&reading.raw, machine, &spoiled) {
            Ok(resolved) => match certificates::read(&resolved) {
                Ok(certificates) => settings = Some(Settings { certificates, ..resolved }),
                Err(fault) => reading.faults.push(fault),
            },
            Err(faults) => reading.faults.extend(faults),
        }
    }
    match settings {
        Some(settings) if reading.faults.is_empty() => Ok(settings),
        Some(_) | None => {
            reading.origins.sort(&mut reading.faults);
            let explained: Vec<String> =
                reading.faults.iter().map(|fault| reading.origins.explain(fault).to_string()).collect();
            Err(explained.join("\n"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_of_the_environment_and_of_flags_name_their_place() {
        let sources = Sources {
            file: None,
            environment: vec![("SIPLATCH__MEDIA__PROTS".into(), "30000-30999".into())],
            flags: vec![("--set user.0.password".into(), "user.0.password".into(), String::new())],
        };
        let machine = Machine { ipv6: false, processors: 1, state_dirs: Vec::new(), metrics_open: false };
        let text = load(&sources, &machine).unwrap_err();
        let expected = "\
fault: media.prots: there is no such key
  --> environment variable SIPLATCH__MEDIA__PROTS
  mend: did you mean ports?

fault: user[0].password: this is empty
  --> flag --set user.0.password
  mend: write password = \"…\"; long and random, because strangers will guess at it

fault: user[0].name: this is missing
  mend: write name = \"…\"
";
        assert_eq!(text, expected);
    }

    #[test]
    fn what_is_written_in_the_environment_outlives_the_file() {
        let sources = Sources {
            file: Some(("a.toml".into(), "[media]\nports = \"20000-20999\"\n".into())),
            environment: vec![("SIPLATCH__MEDIA__PORTS".into(), "40000-40099".into())],
            flags: Vec::new(),
        };
        let machine = Machine { ipv6: false, processors: 1, state_dirs: Vec::new(), metrics_open: false };
        let settings = load(&sources, &machine).unwrap();
        assert_eq!(settings.proxy.media.ranges[0].first, 40_000);
        assert_eq!(settings.proxy.listeners.len(), 2, "no IPv6: one listener for UDP, one for TCP");
    }
}
