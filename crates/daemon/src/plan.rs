//! `siplatch plan`: ports for several phones. An outer signalling port and a
//! range of media ports for each, written as configuration that `siplatch
//! check` accepts, and as a sheet that a person types into a router.

mod collision;
mod sheet;
mod slots;
mod written;

use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::process::ExitCode;

use media::PortRange;
use nat::Side;
use proxy::config::Role;

use crate::cli::{self, Overrides, Planned};
use crate::config::Settings;
use crate::{complain, print};
use sheet::Sheet;
use slots::{Need, Slots};
use written::{Phone, Wish};

/// What a configuration begins with where none is given; only to see that the plan fits beside it.
fn skeleton(address: Ipv4Addr) -> String {
    format!(
        "role = \"office\"\n[inner]\nlisten = [\"udp:{address}:5060\"]\n[outer]\nlisten = [\"udp:{address}:5070\"]\n\
         advertise = \"stun-address\"\nstun_servers = [\"stun.example.net\"]\n[[upstream]]\n\
         uri = \"sip:sip.provider.example\"\n"
    )
}

/// Makes the plan, prints it and writes it where that was asked for.
pub(crate) fn run(asked: &Planned) -> ExitCode {
    match plan(asked, machine()) {
        Ok(text) => print(&text),
        Err(why) => complain(&why),
    }
}

/// This machine's address toward the world.
fn machine() -> Option<Ipv4Addr> {
    // A documentation address (RFC 5737): nothing is sent, only the route is asked for.
    match net::addresses::toward(SocketAddr::from(([192, 0, 2, 1], 9))) {
        Ok(IpAddr::V4(ip)) => Some(ip),
        Ok(IpAddr::V6(_)) | Err(_) => None,
    }
}

fn plan(asked: &Planned, machine: Option<Ipv4Addr>) -> Result<String, String> {
    let overrides = Overrides::of_status(None);
    let here = asked.address.or(machine).unwrap_or(Ipv4Addr::UNSPECIFIED);
    let (name, text) = match &asked.config {
        Some(path) => cli::named(path)?,
        None => ("a configuration for an office".to_owned(), skeleton(here)),
    };
    let before = cli::load_text((name.clone(), text.clone()), &overrides)?;
    let present = written::phones(&text)?;
    let wishes = asked.phones.iter().map(|text| Wish::read(text)).collect::<Result<Vec<_>, _>>()?;
    if wishes.is_empty() && present.is_empty() {
        return Err("no phone is named\n  write --phones reception,desk2,door, one word for each phone\n".to_owned());
    }
    let phones = wanted(asked, &before, present, wishes, here)?;
    let collisions = collision::find(&phones);
    if !collisions.is_empty() {
        return Err(collisions.concat());
    }
    let planned = written::apply(&text, &phones);
    let after = cli::load_text((name, planned.clone()), &overrides)?;
    let sheet = Sheet::of(&after, here);
    if let Some(path) = &asked.html {
        std::fs::write(path, sheet.html()).map_err(|error| unwritten(path, &error))?;
    }
    let sections = written::sections(&phones);
    let mut told = sheet.text();
    match &asked.write {
        Some(path) => {
            let whole = if asked.config.is_some() { &planned } else { &sections };
            write(path, whole, asked.config.as_deref())?;
            told.push_str(&format!("\nWritten to {}.\n", path.display()));
        }
        None if sections.is_empty() => told.push_str("\nEvery phone has its ports already.\n"),
        None => told.push_str(&format!("\nAs configuration (--write FILE puts it into a file):\n\n{sections}")),
    }
    Ok(told)
}

/// Every phone with its ports: those that are there keep theirs, what is missing is found.
fn wanted(
    asked: &Planned,
    settings: &Settings,
    mut phones: Vec<Phone>,
    wishes: Vec<Wish>,
    here: Ipv4Addr,
) -> Result<Vec<Phone>, String> {
    let all = wishes.is_empty();
    for wish in wishes {
        match phones.iter_mut().find(|phone| phone.name == wish.name) {
            Some(phone) => phone.take(wish),
            None => phones.push(Phone::new(wish)),
        }
    }
    let office = settings.proxy.role == Role::Office;
    let outer = settings.proxy.listeners.iter().find(|l| l.side == Side::Outer && l.phone.is_none());
    let bind = match (asked.address, outer.map(|listener| listener.bind.ip())) {
        (Some(address), _) => address,
        (None, Some(IpAddr::V4(ip))) => ip,
        (None, _) => here,
    };
    let mut slots = Slots::new(settings, asked.media, asked.signalling_from);
    for phone in phones.iter_mut().filter(|phone| all || phone.wished) {
        let calls = phone.calls.unwrap_or(asked.calls);
        phone.calls.get_or_insert(calls);
        if office && phone.outer_listen.is_none() {
            phone.outer_listen = Some(SocketAddr::from((phone.local.unwrap_or(bind), slots.signalling()?)));
            phone.added.outer_listen = true;
        }
        if phone.media_ports.is_none() {
            phone.media_ports = Some(slots.media(Need { calls, streams: asked.streams })?);
            phone.added.media_ports = true;
        }
        if !phone.limited {
            phone.added.max_calls = true;
        }
    }
    Ok(phones)
}

/// Another file than the configuration is never written over.
fn write(path: &Path, text: &str, config: Option<&Path>) -> Result<(), String> {
    if config == Some(path) {
        return replace(path, text).map_err(|error| unwritten(path, &error));
    }
    let file = std::fs::OpenOptions::new().write(true).create_new(true).open(path);
    file.and_then(|mut file| file.write_all(text.as_bytes())).map_err(|error| unwritten(path, &error))
}

/// Written beside and renamed, so that there is never half a file. It may hold passwords: who might read it
/// before may read it after, and nobody in between.
fn replace(path: &Path, text: &str) -> std::io::Result<()> {
    let draft = path.with_extension(format!("draft{}", std::process::id()));
    let written = (|| {
        let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
        file.write_all(text.as_bytes())?;
        file.set_permissions(std::fs::metadata(path)?.permissions())?;
        std::fs::rename(&draft, path)
    })();
    if written.is_err() {
        // The draft is of no use; that it may stay behind is the lesser harm.
        let _ = std::fs::remove_file(&draft);
    }
    written
}

fn unwritten(path: &Path, error: &std::io::Error) -> String {
    let mend = if error.kind() == std::io::ErrorKind::AlreadyExists {
        "name a new file, or the one of --config"
    } else {
        "name a file in a directory that may be written"
    };
    format!("{} cannot be written: {error}\n  {mend}\n", path.display())
}

/// `first-last`, of the command line.
pub(crate) fn range(text: &str) -> Result<PortRange, String> {
    let read = |(first, last): (&str, &str)| Some(PortRange { first: first.parse().ok()?, last: last.parse().ok()? });
    let range = text.split_once('-').and_then(read);
    range
        .filter(|range| range.first >= 1024 && range.first < range.last)
        .ok_or_else(|| "write FIRST-LAST, for example 10000-29999, above 1023".to_owned())
}

#[cfg(test)]
mod tests;
