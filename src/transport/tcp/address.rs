//! Which of a host's addresses its ranks listen at, how they are published, and in which order a dialer tries them.
#![forbid(unsafe_code)]
use crate::sys::net::Interface;
use std::net::{IpAddr, SocketAddr};

/// The most addresses of a rank.
const MOST: usize = 16;

/// The addresses at which to listen: those that `wish` names (interfaces, addresses, networks as `10.0.0.0/8`, with commas between), or all that may
/// reach another host; `alone`: only this host's ranks will come.
pub(crate) fn choose(all: &[Interface], wish: &str, alone: bool) -> Result<Vec<IpAddr>, String> {
    let reaches = |i: &&Interface| match i.address {
        ip if ip.is_loopback() || ip.is_unspecified() => false,
        IpAddr::V4(ip) => !ip.is_link_local(),
        // Link-local addresses mean nothing without their link.
        IpAddr::V6(ip) => ip.segments()[0] & 0xffc0 != 0xfe80,
    };
    let mut found: Vec<IpAddr> = Vec::new();
    let mut add = |i: &Interface| {
        if !found.contains(&i.address) {
            found.push(i.address);
        }
    };
    if wish.is_empty() {
        let wanted = |i: &&Interface| {
            if alone {
                i.address.is_loopback()
            } else {
                reaches(i)
            }
        };
        all.iter().filter(wanted).for_each(&mut add);
    }
    for word in wish
        .split(',')
        .map(str::trim)
        .filter(|word| !word.is_empty())
    {
        let names = |i: &&Interface| i.name == word || is_in(i.address, word);
        let mut named = all.iter().filter(names).peekable();
        if named.peek().is_none() {
            return Err(format!(
                "this host has no interface, address or network {word}: it has {}",
                list(all)
            ));
        }
        let exact =
            |i: &&Interface| i.address.to_string() == word || reaches(i) || i.address.is_loopback();
        named.filter(exact).for_each(&mut add);
    }
    if found.is_empty() {
        return Err(format!(
            "this host has no address that another host could reach: it has {}",
            list(all)
        ));
    }
    found.sort_by_key(IpAddr::is_ipv6);
    found.truncate(MOST);
    Ok(found)
}

fn list(all: &[Interface]) -> String {
    let texts: Vec<String> = all
        .iter()
        .map(|i| format!("{} {}/{}", i.name, i.address, i.prefix))
        .collect();
    if texts.is_empty() {
        "none".into()
    } else {
        texts.join(", ")
    }
}

/// Whether an address is `network`: an address, or one with a prefix length.
fn is_in(address: IpAddr, network: &str) -> bool {
    let (ip, prefix) = network.split_once('/').unwrap_or((network, ""));
    let Ok(ip) = ip.parse::<IpAddr>() else {
        return false;
    };
    let most = if ip.is_ipv4() { 32 } else { 128 };
    let prefix = if prefix.is_empty() {
        Ok(most)
    } else {
        prefix.parse()
    };
    prefix.is_ok_and(|prefix| prefix <= most && same_network(address, ip, prefix))
}

fn same_network(a: IpAddr, b: IpAddr, prefix: u32) -> bool {
    match (a, b) {
        (IpAddr::V4(a), IpAddr::V4(b)) => {
            (u32::from(a) ^ u32::from(b))
                .checked_shr(32 - prefix.min(32))
                .unwrap_or(0)
                == 0
        }
        (IpAddr::V6(a), IpAddr::V6(b)) => {
            (u128::from(a) ^ u128::from(b))
                .checked_shr(128 - prefix.min(128))
                .unwrap_or(0)
                == 0
        }
        _ => false,
    }
}

/// The addresses as they are published.
pub(crate) fn encode(addresses: &[SocketAddr]) -> Vec<u8> {
    let texts: Vec<String> = addresses.iter().map(SocketAddr::to_string).collect();
    texts.join(" ").into_bytes()
}

/// Published addresses in the order in which to try them: those in a network of ours first. What is none is left out.
pub(crate) fn decode(published: &[u8], ours: &[Interface]) -> Vec<SocketAddr> {
    let text = String::from_utf8_lossy(published);
    let mut addresses: Vec<SocketAddr> = text
        .split(' ')
        .filter_map(|word| word.parse().ok())
        .take(MOST)
        .collect();
    let near = |at: &SocketAddr| {
        ours.iter()
            .any(|i| i.prefix > 0 && same_network(i.address, at.ip(), i.prefix))
    };
    addresses.sort_by_key(|at| !near(at));
    addresses
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host() -> Vec<Interface> {
        [
            ("lo", "127.0.0.1", 8),
            ("lo", "::1", 128),
            ("docker0", "172.17.0.1", 16),
            ("eth0", "10.1.2.3", 24),
            ("eth0", "fe80::1", 64),
            ("eth0", "fd00::3", 64),
        ]
        .map(|(name, address, prefix)| Interface {
            name: name.into(),
            address: address.parse().unwrap(),
            prefix,
        })
        .to_vec()
    }

    #[test]
    fn addresses_are_those_that_reach_others_or_those_that_were_named() {
        let chosen = |wish: &str, alone| {
            choose(&host(), wish, alone).map(|all| {
                all.iter()
                    .map(IpAddr::to_string)
                    .collect::<Vec<_>>()
                    .join(" ")
            })
        };
        assert_eq!(chosen("", false).unwrap(), "172.17.0.1 10.1.2.3 fd00::3");
        assert_eq!(chosen("", true).unwrap(), "127.0.0.1 ::1");
        assert_eq!(chosen("eth0", false).unwrap(), "10.1.2.3 fd00::3");
        assert_eq!(chosen("10.0.0.0/8", false).unwrap(), "10.1.2.3");
        assert_eq!(
            chosen("fd00::/16,docker0", false).unwrap(),
            "172.17.0.1 fd00::3"
        );
        assert_eq!(chosen("127.0.0.1", false).unwrap(), "127.0.0.1");
        let text = chosen("ib0", false).unwrap_err();
        assert!(
            text.contains("no interface, address or network ib0")
                && text.contains("eth0 10.1.2.3/24"),
            "{text}"
        );
        assert!(
            choose(&host()[..2], "", false)
                .unwrap_err()
                .contains("no address that another host could reach")
        );
    }

    #[test]
    fn near_addresses_are_tried_first() {
        let at: Vec<SocketAddr> = ["172.18.0.1:5", "[fd00::9]:5", "10.1.2.9:5"]
            .map(|a| a.parse().unwrap())
            .to_vec();
        let read = decode(&encode(&at), &host());
        let texts: Vec<String> = read.iter().map(SocketAddr::to_string).collect();
        assert_eq!(texts, ["[fd00::9]:5", "10.1.2.9:5", "172.18.0.1:5"]);
        assert!(decode(b"nonsense \xff 1.2.3.4", &host()).is_empty());
    }
}
