//! Where a CoAP client asks: `coap://host[:port]/path?query` taken apart (RFC 7252 section 6.4).

use coap_lite::{CoapOption, Packet};

/// Registered port of CoAP over UDP (RFC 7252 section 12.6).
const DEFAULT_PORT: u16 = 5683;
/// Longest Uri-Host, Uri-Path and Uri-Query option, bytes (RFC 7252 section 5.10).
const SEGMENT_BYTES_MAX: usize = 255;

/// The parts of a `coap://` address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// Host name, IPv4 address, or IPv6 address without brackets.
    pub host: String,
    /// UDP port.
    pub port: u16,
    /// Path segments, decoded.
    pub path: Vec<String>,
    /// Query parts, decoded.
    pub query: Vec<String>,
}

impl Address {
    /// Takes an address apart.
    ///
    /// # Errors
    /// A sentence that says which part is wrong and what would do.
    pub fn parse(url: &str) -> Result<Self, String> {
        let rest = match url.split_once("://") {
            Some(("coap", rest)) => rest,
            Some(("coaps" | "coap+tcp" | "coaps+tcp", _)) => {
                return Err(
                    "CoAP over DTLS or TCP is not in this version; write coap://".to_owned()
                );
            }
            _ => return Err(format!("\"{url}\" is no CoAP address; write \"coap://host/path\"")),
        };
        if rest.contains('#') {
            return Err(format!("\"{url}\" has a fragment (#), which CoAP cannot send"));
        }
        let (rest, query) = rest.split_once('?').map_or((rest, None), |(r, q)| (r, Some(q)));
        let (place, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (host, port) = host_and_port(place)
            .ok_or_else(|| format!("\"{place}\" is no host; write \"host\" or \"host:5683\""))?;
        let path = match path {
            "" => Vec::new(),
            path => path.split('/').map(decoded).collect::<Result<_, _>>()?,
        };
        let query = match query {
            None | Some("") => Vec::new(),
            Some(query) => query.split('&').map(decoded).collect::<Result<_, _>>()?,
        };
        Ok(Self { host, port, path, query })
    }

    /// Puts the address into a request's options. The host is sent when it is a name, since a
    /// server may hold several; an IP address is what the datagram says anyway.
    pub(super) fn write(&self, request: &mut Packet) {
        if !self.host.contains(':') && self.host.parse::<std::net::Ipv4Addr>().is_err() {
            request.add_option(CoapOption::UriHost, self.host.to_lowercase().into_bytes());
        }
        for segment in &self.path {
            request.add_option(CoapOption::UriPath, segment.clone().into_bytes());
        }
        for part in &self.query {
            request.add_option(CoapOption::UriQuery, part.clone().into_bytes());
        }
    }
}

fn host_and_port(place: &str) -> Option<(String, u16)> {
    let (host, port) = if let Some(rest) = place.strip_prefix('[') {
        let (host, port) = rest.split_once(']')?;
        let bare = host.split('%').next()?;
        bare.parse::<std::net::Ipv6Addr>().ok()?;
        (host.replacen("%25", "%", 1), port)
    } else {
        let at = place.find(':').unwrap_or(place.len());
        (decoded(&place[..at]).ok()?, &place[at..])
    };
    let port = match port {
        "" | ":" => DEFAULT_PORT,
        port => port.strip_prefix(':')?.parse().ok().filter(|port| *port != 0)?,
    };
    (!host.is_empty()).then_some((host, port))
}

/// Undoes percent-encoding of one segment.
fn decoded(text: &str) -> Result<String, String> {
    let wrong = || format!("\"{text}\" is not percent-encoded text of at most 255 bytes");
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let mut digit = || rest.next().and_then(|d| char::from(d).to_digit(16));
            let (Some(high), Some(low)) = (digit(), digit()) else { return Err(wrong()) };
            bytes.push(u8::try_from(high << 4 | low).map_err(|_| wrong())?);
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).ok().filter(|s| s.len() <= SEGMENT_BYTES_MAX).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_taken_apart() {
        let address = Address::parse("coap://[fd00::7]/sensors/a%20b?u=1&v").unwrap();
        assert_eq!(address.host, "fd00::7");
        assert_eq!(address.port, 5683);
        assert_eq!(address.path, ["sensors", "a b"]);
        assert_eq!(address.query, ["u=1", "v"]);
        let address = Address::parse("coap://tank.local:61616").unwrap();
        assert_eq!((address.host.as_str(), address.port), ("tank.local", 61616));
        assert!(address.path.is_empty() && address.query.is_empty());
        assert_eq!(Address::parse("coap://[fe80::1%25eth0]/x").unwrap().host, "fe80::1%eth0");
    }

    #[test]
    fn a_wrong_part_is_named() {
        for (url, part) in [
            ("http://host/x", "http"),
            ("coaps://host/x", "DTLS"),
            ("coap://host:70000/x", "host:70000"),
            ("coap:///x", "no host"),
            ("coap://[fd00::7/x", "no host"),
            ("coap://host/%zz", "%zz"),
            ("coap://host/%ff", "%ff"),
            ("coap://host/a#b", "fragment"),
        ] {
            let fault = Address::parse(url).unwrap_err();
            assert!(fault.contains(part), "{url}: {fault}");
        }
    }

    #[test]
    fn a_name_is_sent_as_host_and_an_ip_address_is_not() {
        for (url, sent) in
            [("coap://Tank/x", true), ("coap://10.0.0.1/x", false), ("coap://[::1]/x", false)]
        {
            let mut packet = Packet::new();
            Address::parse(url).unwrap().write(&mut packet);
            assert_eq!(packet.get_first_option(CoapOption::UriHost).is_some(), sent, "{url}");
        }
    }
}
