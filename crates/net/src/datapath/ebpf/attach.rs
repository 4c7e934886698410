//! Where the program is: at the ingress of each interface by which media comes
//! in, and for as long as this lives. Must not decide which interfaces those are.
//!
//! Each step waits for locks of the kernel that whoever configures links holds.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::IpAddr;

use aya::Ebpf;
use aya::programs::links::LinkOrder;
use aya::programs::tc::{SchedClassifierLinkId, TcAttachOptions};
use aya::programs::{SchedClassifier, TcAttachType};

use super::explain;
use super::netlink::{BARE, ETHERNET, LOOPBACK, Netlink};

/// The program, and the interfaces that have it.
#[derive(Debug)]
pub(super) struct Attached {
    ebpf: Ebpf,
    /// To ask about links.
    pub(super) netlink: Netlink,
    /// By number of the interface.
    links: BTreeMap<u32, (&'static str, SchedClassifierLinkId)>,
    /// Interfaces that could not have it.
    refused: BTreeSet<u32>,
}

impl Attached {
    /// To no interface yet.
    pub(super) fn new(ebpf: Ebpf, netlink: Netlink) -> Self {
        Self { ebpf, netlink, links: BTreeMap::new(), refused: BTreeSet::new() }
    }

    /// Attaches the program to the interface that has this address, unless it is there.
    pub(super) fn cover(&mut self, address: IpAddr) -> io::Result<()> {
        let found = self.netlink.addresses()?.into_iter().find(|(ip, _)| *ip == address);
        // All of 127.0.0.0/8 is ours, and no list has it.
        let local = || self.netlink.way(address, address).filter(|way| way.local).map(|way| way.ifindex);
        let ifindex = found.map(|(_, ifindex)| ifindex).or_else(local);
        self.cover_link(ifindex.ok_or_else(|| io::Error::other(format!("no interface has the address {address}")))?)
    }

    /// The same for what comes in by this interface.
    pub(super) fn cover_link(&mut self, ifindex: u32) -> io::Result<()> {
        if self.links.contains_key(&ifindex) {
            return Ok(());
        }
        let link = self.netlink.link(ifindex);
        let link = link.ok_or_else(|| io::Error::other(format!("interface {ifindex} has gone")))?;
        let attached = match link.kind {
            ETHERNET | LOOPBACK => self.attach("relay_ethernet", &link.name),
            BARE => self.attach("relay_bare", &link.name),
            _ => Err(io::Error::other("neither an Ethernet nor a tunnel")),
        };
        match attached {
            Ok(attached) => {
                tracing::info!(interface = link.name, "media is forwarded in the kernel");
                self.links.insert(ifindex, attached);
                Ok(())
            }
            Err(error) => {
                if self.refused.insert(ifindex) {
                    tracing::warn!(%error, interface = link.name, "media of this interface stays in user space");
                }
                Err(io::Error::other(format!("interface {}: {error}", link.name)))
            }
        }
    }

    fn attach(&mut self, program: &'static str, interface: &str) -> io::Result<(&'static str, SchedClassifierLinkId)> {
        let options = TcAttachOptions::TcxOrder(LinkOrder::default());
        let link = self.program(program)?.attach_with_options(interface, TcAttachType::Ingress, options);
        link.map(|link| (program, link)).map_err(explain)
    }

    fn program(&mut self, name: &str) -> io::Result<&mut SchedClassifier> {
        let program = self.ebpf.program_mut(name).ok_or_else(|| io::Error::other("no such program"))?;
        program.try_into().map_err(explain)
    }

    /// Lets go of interfaces that are not there any more.
    pub(super) fn forget(&mut self) {
        let netlink = &mut self.netlink;
        self.refused.retain(|index| netlink.link(*index).is_some());
        let gone: Vec<u32> = self.links.keys().copied().filter(|index| netlink.link(*index).is_none()).collect();
        for ifindex in gone {
            if let Some((program, link)) = self.links.remove(&ifindex)
                && let Ok(program) = self.program(program)
                && let Err(error) = program.detach(link)
            {
                tracing::debug!(%error, "the interface took the program along");
            }
        }
    }
}
