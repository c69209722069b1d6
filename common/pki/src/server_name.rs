//! The names by which stations reach a vault's service.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use crate::Error;
use crate::encoding::Encoder;

/// Most octets of a DNS name in text, without the root's dot (RFC 1035 section 2.3.4: 255 on the wire).
const DNS_NAME_BYTES_MAX: usize = 253;
/// Most octets of a label (RFC 1035 section 2.3.4).
const LABEL_BYTES_MAX: usize = 63;
/// How much of a refused name is shown.
const SHOWN_CHARACTERS_MAX: usize = 64;

/// `dNSName [2]` and `iPAddress [7]` of GeneralName (RFC 5280 section 4.2.1.6).
const DNS_NAME: u8 = 0x82;
const IP_ADDRESS: u8 = 0x87;

/// A fully spelled-out name of a host (RFC 1123 section 2.1): labels of letters, digits and inner hyphens, in lower
/// case. International names are written in their ASCII form (`xn--`). There are no wildcards, because each name in a
/// certificate is one that somebody decided on.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DnsName(String);

impl DnsName {
    /// The name in lower case, without a dot at its end.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for DnsName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl FromStr for DnsName {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        match dns_fault(text) {
            None => Ok(Self(text.to_ascii_lowercase())),
            Some(reason) => Err(invalid(text, reason)),
        }
    }
}

/// What is wrong with a DNS name.
fn dns_fault(text: &str) -> Option<&'static str> {
    if text.is_empty() {
        return Some("it is empty");
    }
    if text.len() > DNS_NAME_BYTES_MAX {
        return Some("it is longer than 253 characters");
    }
    for label in text.split('.') {
        let bytes = label.as_bytes();
        if bytes.is_empty() {
            return Some("it has a dot at its start or end, or two beside each other");
        }
        if bytes.len() > LABEL_BYTES_MAX {
            return Some("a part of it is longer than 63 characters");
        }
        if !bytes
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || *byte == b'-')
        {
            return Some(
                "between its dots it may have letters a to z, digits and hyphens alone (RFC 1123 section 2.1)",
            );
        }
        if bytes.starts_with(b"-") || bytes.ends_with(b"-") {
            return Some("a part of it starts or ends with a hyphen");
        }
    }
    // RFC 1123 section 2.1: what ends in a number is an address, or was meant to be one.
    let last = text.rsplit('.').next().unwrap_or_default();
    last.bytes()
        .all(|byte| byte.is_ascii_digit())
        .then_some("its last part is a number, and it is no IP address")
}

fn invalid(found: &str, reason: &'static str) -> Error {
    Error::ServerName {
        // Escaped, because it ends up on a terminal.
        found: found
            .chars()
            .flat_map(char::escape_default)
            .take(SHOWN_CHARACTERS_MAX)
            .collect(),
        reason,
    }
}

/// A name by which a server is reached, and which its certificate states: a DNS name, or an IP address of one host.
/// Parsed from text without a port, a scheme or brackets.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ServerName {
    /// A DNS name.
    Dns(DnsName),
    /// An IPv4 or IPv6 address.
    Ip(IpAddr),
}

impl ServerName {
    /// One GeneralName.
    pub(crate) fn encode(&self, encoder: &mut Encoder) {
        match self {
            Self::Dns(name) => encoder.primitive(DNS_NAME, name.as_str().as_bytes()),
            Self::Ip(IpAddr::V4(address)) => encoder.primitive(IP_ADDRESS, &address.octets()),
            Self::Ip(IpAddr::V6(address)) => encoder.primitive(IP_ADDRESS, &address.octets()),
        }
    }

    /// The error that says what is wrong with this name among others.
    pub(crate) fn invalid(&self, reason: &'static str) -> Error {
        invalid(&self.to_string(), reason)
    }
}

impl fmt::Display for ServerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dns(name) => name.fmt(f),
            Self::Ip(address) => address.fmt(f),
        }
    }
}

impl FromStr for ServerName {
    type Err = Error;

    /// # Errors
    /// `SERVER-NAME-INVALID`.
    fn from_str(text: &str) -> Result<Self, Error> {
        let Ok(address) = text.parse::<IpAddr>() else {
            return match text.parse() {
                Ok(name) => Ok(Self::Dns(name)),
                Err(_) if text.contains(':') => Err(invalid(
                    text,
                    "it is neither a DNS name nor an IP address; a port, a scheme and brackets are not part of it",
                )),
                Err(error) => Err(error),
            };
        };
        let is_broadcast = matches!(address, IpAddr::V4(address) if address.is_broadcast());
        if address.is_unspecified() || address.is_multicast() || is_broadcast {
            return Err(invalid(text, "it is not the address of one host"));
        }
        if matches!(address, IpAddr::V6(address) if address.to_ipv4_mapped().is_some()) {
            return Err(invalid(
                text,
                "it is an IPv4 address in the clothes of IPv6; write it as IPv4",
            ));
        }
        Ok(Self::Ip(address))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_servers_are_read_and_written_as_they_are() {
        let label = "a".repeat(63);
        let long = format!("{label}.{label}.{label}.{}", "a".repeat(61));
        for text in [
            "localhost",
            "vault-1.shenzhen.example",
            "3com.com",
            "1.example",
            "xn--bcher-kva.example",
            &long,
            "10.0.0.7",
            "fd00::7",
            "::1",
        ] {
            let name: ServerName = text.parse().unwrap();
            assert_eq!(name.to_string(), text);
            let is_address = matches!(name, ServerName::Ip(_));
            assert_eq!(is_address, text.parse::<IpAddr>().is_ok(), "{text}");
        }
        let name: ServerName = "Vault-1.Example".parse().unwrap();
        assert_eq!(name.to_string(), "vault-1.example");
        let name: ServerName = "FD00:0:0::7".parse().unwrap();
        assert_eq!(name.to_string(), "fd00::7");
    }

    #[test]
    fn what_is_no_name_of_a_server_is_refused() {
        let label = "a".repeat(63);
        let too_long = format!("{label}.{label}.{label}.{}", "a".repeat(62));
        for text in [
            "",
            " ",
            ".",
            "vault.",
            ".vault",
            "a..b",
            "*.example",
            "vault_1.example",
            "-a.example",
            "a-.example",
            "bücher.example",
            "vault 1",
            "vault\u{0}",
            "vault.example\n",
            &format!("{label}a.example"),
            &too_long,
            "10.0.0.256",
            "10.0.0",
            "010.0.0.1",
            "1",
            "10.0.0.7:8443",
            "vault.example:8443",
            "https://vault.example",
            "[::1]",
            "::1%eth0",
            "fe80::1%1",
            "10.0.0.0/8",
            "0.0.0.0",
            "::",
            "255.255.255.255",
            "224.0.0.1",
            "ff02::1",
            "::ffff:10.0.0.7",
        ] {
            let error = text.parse::<ServerName>().unwrap_err();
            assert_eq!(error.code(), "SERVER-NAME-INVALID", "{text:?}");
            assert!(error.hint().is_some());
            assert!(!error.to_string().contains(char::is_control));
        }
    }
}
