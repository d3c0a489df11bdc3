//! The workers of the Tunnel that requests may be routed to: the allow-list, and the rule without
//! one.
//!
//! Used by `table/mod.rs` when a session is described and when a slot moves. Requests always go
//! to the Tunnel's own address; a worker is only named in their header. Invariant: a name that an
//! answer brought in goes into a request only if it is allowed here.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};

/// The workers that may be named.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WorkerAllowList {
    /// Empty: the rule without a list.
    allowed: Vec<Allowed>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Allowed {
    Host(String),
    /// A domain with all that is in it; begins with a dot.
    Domain(String),
    /// Its address without the bits that are free, and the bits that are not.
    Network(u32, u8),
}

impl WorkerAllowList {
    /// Reads a list such as `10.0.0.0/8, *.aliyun-inc.com, worker-1`. Empty is the rule without a
    /// list.
    ///
    /// # Errors
    /// The part that is no host, domain or network.
    pub fn parse(text: &str) -> Result<Self, String> {
        let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
        let allowed: Result<Vec<_>, _> = parts.map(Allowed::parse).collect();
        Ok(Self { allowed: allowed? })
    }

    /// Whether a session's own description may name the worker. Without a list it may name any: it
    /// comes from the same place as everything else that is known of the session.
    pub(crate) fn allows(&self, worker: &str) -> bool {
        self.allowed.is_empty() || self.allowed.iter().any(|one| one.contains(host(worker)))
    }

    /// Whether a slot may move to the worker because an answer's header says so. Without a list it
    /// may if the session's description already names the host, if it is the Tunnel's own, or if it
    /// is an address of a private network; one of this machine, only if the Tunnel is there, too.
    pub(crate) fn allows_move(&self, worker: &str, tunnel: &str, named: &[String]) -> bool {
        if !self.allowed.is_empty() {
            return self.allows(worker);
        }
        let to = host(worker);
        let known = named.iter().map(|worker| host(worker)).chain([host(tunnel)]);
        let mut known = known.filter(|known| !known.is_empty());
        known.any(|known| known.eq_ignore_ascii_case(to)) || is_private(to, host(tunnel))
    }
}

impl fmt::Display for WorkerAllowList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, one) in self.allowed.iter().enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            match one {
                Allowed::Host(host) => write!(f, "{comma}{host}")?,
                Allowed::Domain(domain) => write!(f, "{comma}*{domain}")?,
                Allowed::Network(address, bits) => {
                    write!(f, "{comma}{}/{bits}", Ipv4Addr::from(*address))?;
                }
            }
        }
        Ok(())
    }
}

impl Allowed {
    fn parse(text: &str) -> Result<Self, String> {
        let named = |name: &str| {
            let sound = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
            !name.is_empty() && name.len() <= 253 && name.chars().all(sound)
        };
        let wrong = || format!("`{text}` is no host, `*.domain` or IPv4 network like 10.0.0.0/8");
        if let Some((address, bits)) = text.split_once('/') {
            let address = address.parse::<Ipv4Addr>().map_err(|_| wrong())?;
            let bits = bits.parse().ok().filter(|bits| *bits <= 32).ok_or_else(wrong)?;
            return Ok(Self::Network(network(address, bits), bits));
        }
        match text.strip_prefix('*') {
            Some(domain) if domain.len() > 1 && domain.starts_with('.') && named(domain) => {
                Ok(Self::Domain(domain.to_ascii_lowercase()))
            }
            None if named(text) => Ok(Self::Host(text.to_ascii_lowercase())),
            _ => Err(wrong()),
        }
    }

    fn contains(&self, host: &str) -> bool {
        match self {
            Self::Host(allowed) => allowed.eq_ignore_ascii_case(host),
            Self::Domain(domain) => host.to_ascii_lowercase().ends_with(domain),
            Self::Network(address, bits) => {
                host.parse().is_ok_and(|host| network(host, *bits) == *address)
            }
        }
    }
}

fn network(address: Ipv4Addr, bits: u8) -> u32 {
    let mask = u32::MAX.checked_shl(32 - u32::from(bits)).unwrap_or(0);
    u32::from(address) & mask
}

/// The host of `host:port`, of a URL, or of a host alone.
fn host(address: &str) -> &str {
    let authority = address.split_once("://").map_or(address, |(_, rest)| rest);
    let authority = authority.split('/').next().unwrap_or_default();
    match authority.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => authority.split(':').next().unwrap_or_default(),
    }
}

fn is_private(host: &str, tunnel_host: &str) -> bool {
    let is_local = |host: &str| {
        let address = host.parse::<IpAddr>();
        host.eq_ignore_ascii_case("localhost") || address.is_ok_and(|one| one.is_loopback())
    };
    if is_local(host) {
        return is_local(tunnel_host);
    }
    // 100.64.0.0/10 is shared by carriers and clouds, among them the vendor's.
    let shared = |address| network(address, 10) == u32::from(Ipv4Addr::new(100, 64, 0, 0));
    host.parse().is_ok_and(|address: Ipv4Addr| address.is_private() || shared(address))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SERVICE: &str = "https://dt.cn-hangzhou.maxcompute.aliyun.com";

    #[test]
    fn without_a_list_a_slot_moves_among_known_and_private_workers() {
        let list = WorkerAllowList::default();
        let named = [String::from("dt-7.example.com:80"), String::from("11.1.2.3:80")];
        let may = |worker: &str| list.allows_move(worker, SERVICE, &named);
        for worker in [
            "10.1.2.3:80",
            "172.31.0.1:80",
            "192.168.0.1:1",
            "100.100.1.1:80",
            "11.1.2.3:81",
            "DT-7.example.com:80",
            "dt.cn-hangzhou.maxcompute.aliyun.com:80",
        ] {
            assert!(may(worker), "{worker}");
        }
        for worker in [
            "evil.com:80",
            "8.8.8.8:80",
            "127.0.0.1:22",
            "localhost:22",
            "169.254.169.254:80",
            "100.128.0.1:80",
            "maxcompute.aliyun.com.evil.com:80",
            "0.0.0.0:80",
        ] {
            assert!(!may(worker), "{worker}");
        }
        assert!(list.allows_move("127.0.0.2:9999", "http://localhost:8080", &[]));
        assert!(list.allows("anything.at.all:80"));
    }

    #[test]
    fn a_list_is_all_that_is_allowed() {
        let list = WorkerAllowList::parse("10.2.0.0/16, *.Aliyun-inc.com,dt-1").expect("a list");
        assert_eq!(list.to_string(), "10.2.0.0/16, *.aliyun-inc.com, dt-1");
        for worker in ["10.2.255.1:80", "a.aliyun-inc.com:80", "DT-1:80"] {
            assert!(list.allows(worker) && list.allows_move(worker, SERVICE, &[]), "{worker}");
        }
        let named = [String::from("10.3.0.1:80")];
        for worker in ["10.3.0.1:80", "aliyun-inc.com.evil.com:80", "xaliyun-inc.com:80", "dt-2"] {
            assert!(!list.allows(worker), "{worker}");
            assert!(!list.allows_move(worker, SERVICE, &named), "{worker}");
        }
        assert!(WorkerAllowList::parse("0.0.0.0/0").expect("all").allows("8.8.8.8:1"));
    }

    #[test]
    fn what_is_no_host_domain_or_network_is_refused() {
        for text in ["*", "*.", "10.0.0.0/33", "10.0.0/8", "a b", "http://x", "*x.com", "::1/64"] {
            let error = WorkerAllowList::parse(text).expect_err(text);
            assert!(error.contains(text), "{error}");
        }
    }
}
