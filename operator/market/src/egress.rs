//! Hosts that a job may reach, what an offer allows of them, and which addresses are the open internet's.
//!
//! A job names each host in full; an offer names hosts or whole domains. Names are compared as text, and what a
//! name stands for is found out where the connection is made, by [`is_public`].

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Most hosts of one job.
pub const HOSTS_MAX: usize = 16;
/// Characters of one host with its port.
pub const HOST_CHARS_MAX: usize = 128;
/// The port where none is said.
pub const DEFAULT_PORT: u16 = 443;

/// A host and port that a job may reach, such as `pypi.example:443`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Host {
    name: String,
    port: u16,
}

/// Hosts that an offer allows: one, a domain with everything below it (`*.pypi.example`), or `*` for any.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct HostPattern {
    name: String,
    /// None where any will do.
    port: Option<u16>,
}

/// Why a text is no host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HostError {
    /// Empty, or longer than [`HOST_CHARS_MAX`].
    #[error("a host has between 1 and {HOST_CHARS_MAX} characters")]
    Length,
    /// Not a name or an IPv4 address.
    #[error(
        "a host is a name of lower-case letters, digits, dashes and dots, or an IPv4 address; no scheme, no path"
    )]
    Name,
    /// Not a port.
    #[error("a port is a number between 1 and 65535")]
    Port,
}

impl Host {
    /// Its name, or its address as text.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }
}

impl HostPattern {
    /// Whether the pattern allows the host.
    pub fn covers(&self, host: &Host) -> bool {
        let named = match self.name.strip_prefix('*') {
            Some("") => true,
            // `*.domain` covers what is below the domain, and not the domain itself.
            Some(domain) => host.name.len() > domain.len() && host.name.ends_with(domain),
            None => self.name == host.name,
        };
        named && self.port.is_none_or(|port| port == host.port)
    }
}

impl FromStr for Host {
    type Err = HostError;

    fn from_str(text: &str) -> Result<Self, HostError> {
        let (name, port) = split(text)?;
        check_name(name)?;
        Ok(Self {
            name: name.to_owned(),
            port: port.unwrap_or(DEFAULT_PORT),
        })
    }
}

impl FromStr for HostPattern {
    type Err = HostError;

    fn from_str(text: &str) -> Result<Self, HostError> {
        let (name, port) = split(text)?;
        if name != "*" {
            check_name(name.strip_prefix("*.").unwrap_or(name))?;
        }
        Ok(Self {
            name: name.to_owned(),
            port,
        })
    }
}

impl TryFrom<String> for Host {
    type Error = HostError;

    fn try_from(text: String) -> Result<Self, HostError> {
        text.parse()
    }
}

impl TryFrom<String> for HostPattern {
    type Error = HostError;

    fn try_from(text: String) -> Result<Self, HostError> {
        text.parse()
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.name, self.port)
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        self.port.map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

impl From<Host> for String {
    fn from(host: Host) -> Self {
        host.to_string()
    }
}

impl From<HostPattern> for String {
    fn from(pattern: HostPattern) -> Self {
        pattern.to_string()
    }
}

fn split(text: &str) -> Result<(&str, Option<u16>), HostError> {
    if text.is_empty() || text.len() > HOST_CHARS_MAX {
        return Err(HostError::Length);
    }
    let Some((name, port)) = text.split_once(':') else {
        return Ok((text, None));
    };
    let digits = port.bytes().all(|byte| byte.is_ascii_digit());
    let number = port.parse().ok().filter(|port| *port != 0 && digits);
    number.map(|port| (name, Some(port))).ok_or(HostError::Port)
}

fn check_name(name: &str) -> Result<(), HostError> {
    let label = |label: &str| {
        let inside = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        (1..=63).contains(&label.len())
            && label.bytes().all(inside)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let numeric = name
        .rsplit('.')
        .next()
        .is_some_and(|last| last.starts_with(|first: char| first.is_ascii_digit()));
    // What ends like an address must be one: resolvers read `127.1` and `0x7f.1` as addresses too.
    let fits = if numeric {
        name.parse::<Ipv4Addr>().is_ok()
    } else {
        name.split('.').all(label)
    };
    if fits { Ok(()) } else { Err(HostError::Name) }
}

/// Whether an address is the open internet's: not this host's, this network's, or set aside for special use
/// (IANA's registries of special-purpose addresses, RFC 6890 and its successors).
pub fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    let special = matches!(
        (a, b, c),
        // This network, private, loopback; multicast, reserved, broadcast.
        (0 | 10 | 127 | 224.., ..)
            // Shared with a carrier's customers.
            | (100, 64..=127, _)
            | (169, 254, _)
            | (172, 16..=31, _)
            | (192, 168, _)
            // Protocol assignments, documentation, 6to4 relays, AS112, benchmarks.
            | (192, 0, 0 | 2)
            | (192, 31, 196)
            | (192, 52, 193)
            | (192, 88, 99)
            | (192, 175, 48)
            | (198, 18..=19, _)
            | (198, 51, 100)
            | (203, 0, 113)
    );
    !special
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let embedded = |high: u16, low: u16| {
        let [[first, second], [third, fourth]] = [high.to_be_bytes(), low.to_be_bytes()];
        is_public_v4(Ipv4Addr::new(first, second, third, fourth))
    };
    match address.segments() {
        // NAT64, 6to4: what they lead to decides.
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] | [0x2002, high, low, ..] => embedded(high, low),
        // Protocol assignments (Teredo among them), documentation.
        [0x2001, 0..0x200 | 0xdb8, ..] | [0x3fff, 0..0x1000, ..] => false,
        // Of all others only 2000::/3 is given out.
        [first, ..] => (0x2000..0x4000).contains(&first),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_names_or_addresses_with_a_port() {
        let parsed = |text: &str| text.parse::<Host>().map(|host| host.to_string());
        assert_eq!(parsed("pypi.example"), Ok("pypi.example:443".to_owned()));
        assert_eq!(parsed("10.0.0.1:5000"), Ok("10.0.0.1:5000".to_owned()));
        for (text, error) in [
            ("", HostError::Length),
            (&"a".repeat(129), HostError::Length),
            ("https://pypi.example", HostError::Port),
            ("Pypi.example", HostError::Name),
            ("pypi..example", HostError::Name),
            ("-pypi.example", HostError::Name),
            ("pypi.example/simple", HostError::Name),
            ("*.example", HostError::Name),
            ("127.1", HostError::Name),
            ("1.2.3.4.5", HostError::Name),
            ("host.0x7f", HostError::Name),
            ("pypi.example:0", HostError::Port),
            ("pypi.example:+1", HostError::Port),
            ("pypi.example:65536", HostError::Port),
            ("[::1]:443", HostError::Port),
        ] {
            assert_eq!(parsed(text), Err(error), "{text}");
        }
    }

    #[test]
    fn a_pattern_covers_a_host_a_domain_or_everything() {
        let check = |pattern: &str, host: &str, covered: bool| {
            let (pattern, host): (HostPattern, Host) = (pattern.parse().unwrap(), host.parse().unwrap());
            assert_eq!(pattern.covers(&host), covered, "{pattern} {host}");
        };
        check("*", "pypi.example:8080", true);
        check("*:443", "pypi.example", true);
        check("*:443", "pypi.example:80", false);
        check("pypi.example", "pypi.example:80", true);
        check("pypi.example:443", "pypi.example:80", false);
        check("pypi.example", "files.pypi.example", false);
        check("*.pypi.example", "files.pypi.example", true);
        check("*.pypi.example", "pypi.example", false);
        check("*.pypi.example", "evilpypi.example", false);
        for bad in ["**", "*example", "a.*.example", "*."] {
            assert!(bad.parse::<HostPattern>().is_err(), "{bad}");
        }
    }

    #[test]
    fn only_the_open_internet_is_public() {
        for (text, public) in [
            ("1.1.1.1", true),
            ("172.32.0.1", true),
            ("100.128.0.1", true),
            ("192.0.1.1", true),
            ("2606:4700::1111", true),
            ("2002:101:101::", true),
            ("64:ff9b::101:101", true),
            ("0.0.0.0", false),
            ("10.88.0.1", false),
            ("100.64.0.1", false),
            ("127.0.0.53", false),
            ("169.254.169.254", false),
            ("172.31.255.255", false),
            ("192.168.1.1", false),
            ("198.18.0.1", false),
            ("203.0.113.9", false),
            ("224.0.0.1", false),
            ("255.255.255.255", false),
            ("::", false),
            ("::1", false),
            ("::ffff:1.1.1.1", false),
            ("64:ff9b::a00:1", false),
            ("2002:a00:1::", false),
            ("2001:db8::1", false),
            ("2001::1", false),
            ("fd00::1", false),
            ("fe80::1", false),
            ("ff02::1", false),
        ] {
            assert_eq!(is_public(text.parse().unwrap()), public, "{text}");
        }
    }
}
