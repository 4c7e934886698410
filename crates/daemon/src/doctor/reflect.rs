//! `siplatch reflect`: the far end.

use std::net::SocketAddr;
use std::process::ExitCode;

use tokio::runtime;

use super::plan::STUN_PORT;
use crate::{complain, print};

/// Answers STUN and SIP probes until it is stopped. `sip`: a further port, 0 for none.
pub(crate) fn reflect(address: &str, other: Option<&str>, sip: u16) -> ExitCode {
    let read = |text: &str, port| {
        let whole = text.parse::<SocketAddr>().or_else(|_| text.parse().map(|ip| SocketAddr::new(ip, port)));
        whole
            .map_err(|_| format!("\"{text}\" is no address of this machine\n  write 203.0.113.1 or 203.0.113.1:3478\n"))
    };
    let both =
        read(address, STUN_PORT).and_then(|first| Ok((first, other.map(|o| read(o, STUN_PORT + 1)).transpose()?)));
    let (first, other) = match both {
        Ok(both) => both,
        Err(why) => return complain(&why),
    };
    if other.is_some_and(|other| other.ip() == first.ip() || other.port() == first.port()) {
        return complain("the two addresses must differ in IP and in port (RFC 5780 §6.1)\n");
    }
    let more: &[u16] = if sip == 0 { &[] } else { &[sip] };
    let served = runtime::Builder::new_current_thread().enable_all().build().and_then(|runtime| {
        runtime.block_on(async {
            let reflecting = net::survey::Reflecting::bind(first, other, more)?;
            let list: Vec<String> = reflecting.addresses().iter().map(ToString::to_string).collect();
            print(&format!("STUN and SIP probes are answered on {}\n", list.join(", ")));
            reflecting.serve().await
        })
    });
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => complain(&format!("nothing can be answered: {error}\n")),
    }
}
