//! `via`: how a device or source is reached, in words.

use std::net::SocketAddr;

use crate::sources::coap::Address;

use super::value::{self, BrokerUrl};

/// How a device or a source is reached.
#[derive(Debug, PartialEq, Eq)]
pub enum Via {
    /// `modbus PORT id N`
    ModbusPort {
        /// Name of the port.
        port: String,
        /// Unit identifier.
        id: u8,
    },
    /// `modbus tcp HOST[:PORT] id N`, or `rtu-over-tcp`.
    ModbusNet {
        /// RTU frames instead of MBAP.
        rtu: bool,
        /// Name or address.
        host: String,
        /// TCP port.
        port: u16,
        /// Unit identifier.
        id: u8,
    },
    /// `serial PORT`
    Serial {
        /// Name of the port.
        port: String,
    },
    /// `zigbee2mqtt mqtt://..`
    Zigbee(BrokerUrl),
    /// `coap listen ADDRESS:PORT`
    CoapListen(SocketAddr),
    /// `coap coap://..`
    CoapClient(String),
}

const DEVICE_FORMS: &str = "\"modbus PORT id 1\", \"modbus tcp HOST id 1\", \
                            \"modbus rtu-over-tcp HOST:PORT id 1\" or \"serial PORT\"";
const SOURCE_FORMS: &str = "\"zigbee2mqtt mqtt://HOST\", \"coap listen 0.0.0.0:5683\" or \
                            \"coap coap://HOST/PATH\"";

/// Reads a device's `via`.
///
/// # Errors
/// Says what is wrong and what would do.
pub fn device(text: &str) -> Result<Via, String> {
    let words: Vec<_> = text.split_whitespace().collect();
    match words.as_slice() {
        ["modbus", kind @ ("tcp" | "rtu-over-tcp"), host, rest @ ..] => {
            let rtu = *kind == "rtu-over-tcp";
            let (host, port) = value::host_and_port(host, (!rtu).then_some(502))?;
            Ok(Via::ModbusNet { rtu, host, port, id: id(rest, 0)? })
        }
        ["modbus", port, rest @ ..] => {
            Ok(Via::ModbusPort { port: (*port).to_owned(), id: id(rest, 1)? })
        }
        ["serial", port] => Ok(Via::Serial { port: (*port).to_owned() }),
        ["zigbee2mqtt" | "coap", ..] => Err(format!(
            "{} is a source with devices of its own; write it as [source.NAME]",
            words[0]
        )),
        _ => Err(format!("a device is reached via {DEVICE_FORMS}")),
    }
}

/// Reads a source's `via`.
///
/// # Errors
/// Says what is wrong and what would do.
pub fn source(text: &str) -> Result<Via, String> {
    let words: Vec<_> = text.split_whitespace().collect();
    match words.as_slice() {
        ["zigbee2mqtt", url] => value::broker_url(url).map(Via::Zigbee),
        ["coap", "listen", address] => address.parse().map(Via::CoapListen).map_err(|_| {
            if address.parse::<std::net::IpAddr>().is_ok() {
                format!("the port is missing: \"coap listen {address}:5683\"")
            } else {
                format!("\"{address}\" is no address and port; write 0.0.0.0:5683 or [::]:5683")
            }
        }),
        ["coap", "listen"] => {
            Err("the address and port are missing: \"coap listen 0.0.0.0:5683\"".to_owned())
        }
        // The very parser of the source: what passes here does not fail at the start.
        ["coap", url] => Address::parse(url).map(|_| Via::CoapClient((*url).to_owned())),
        ["modbus" | "serial", ..] => {
            Err(format!("{} is a way to reach one device; write it as [device.NAME]", words[0]))
        }
        _ => Err(format!("a source is reached via {SOURCE_FORMS}")),
    }
}

fn id(words: &[&str], lowest: u8) -> Result<u8, String> {
    match words {
        ["id", number] => number
            .parse()
            .ok()
            .filter(|id| *id >= lowest)
            .ok_or_else(|| format!("\"{number}\" is no device id from {lowest} to 247")),
        [] => Err("the device's id is missing: write \"id 1\" behind it".to_owned()),
        _ => Err(format!("\"{}\" is not understood; write \"id 1\"", words.join(" "))),
    }
}

/// Reads a sender prefix: `192.168.1.0/24`, or one address.
#[must_use]
pub fn prefix(text: &str) -> Option<(std::net::IpAddr, u8)> {
    let (address, bits) = text.split_once('/').unwrap_or((text, ""));
    let address: std::net::IpAddr = address.parse().ok()?;
    let all = if address.is_ipv4() { 32 } else { 128 };
    let bits = if bits.is_empty() && !text.contains('/') { all } else { bits.parse().ok()? };
    (bits <= all).then_some((address, bits))
}

/// Returns the last part of a URL's path, as a point's name.
#[must_use]
pub fn last_part(url: &str) -> &str {
    let path = url.split_once("://").map_or(url, |(_, rest)| rest);
    let path = path.split('?').next().unwrap_or_default();
    path.split_once('/')
        .map_or("", |(_, path)| path)
        .trim_end_matches('/')
        .rsplit('/')
        .next()
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_reached_over_lines_and_networks() {
        let net =
            |rtu, host: &str, port, id| Via::ModbusNet { rtu, host: host.to_owned(), port, id };
        assert_eq!(device("modbus tcp 10.0.0.1 id 0"), Ok(net(false, "10.0.0.1", 502, 0)));
        assert_eq!(device("modbus tcp plc:1502 id 9"), Ok(net(false, "plc", 1502, 9)));
        assert_eq!(device("modbus rtu-over-tcp [::1]:4001 id 9"), Ok(net(true, "::1", 4001, 9)));
        assert_eq!(
            device("modbus rs485-1  id 1"),
            Ok(Via::ModbusPort { port: "rs485-1".to_owned(), id: 1 })
        );
        assert_eq!(device("serial a"), Ok(Via::Serial { port: "a".to_owned() }));
        for bad in [
            "",
            "modbus",
            "modbus a",
            "modbus a id",
            "modbus a id 0",
            "modbus a id 256",
            "modbus a id x",
            "modbus a 1",
            "modbus rtu-over-tcp h id 1",
            "modbus tcp id 1",
            "serial",
            "serial a b",
            "can0",
            "coap coap://h/a",
        ] {
            assert!(device(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn sources_are_bridges_listeners_and_resources() {
        assert!(matches!(source("zigbee2mqtt mqtts://h"), Ok(Via::Zigbee(url)) if url.tls));
        assert!(matches!(source("coap listen [::]:5683"), Ok(Via::CoapListen(_))));
        assert!(matches!(source("coap coap://[fd00::7]/sensors"), Ok(Via::CoapClient(_))));
        for bad in [
            "",
            "coap",
            "coap listen",
            "coap listen 0.0.0.0",
            "coap listen x:1",
            "coap coaps://h/",
            "coap http://h/",
            "coap coap://",
            "coap coap://h/%zz",
            "coap coap://h/a#b",
            "zigbee2mqtt",
            "zigbee2mqtt localhost",
            "modbus a id 1",
        ] {
            assert!(source(bad).is_err(), "{bad}");
        }
        assert!(source("coap listen 0.0.0.0").unwrap_err().contains("0.0.0.0:5683"));
    }

    #[test]
    fn prefixes_and_last_parts() {
        assert_eq!(prefix("10.0.0.0/8").map(|(_, bits)| bits), Some(8));
        assert_eq!(prefix("fd00::1").map(|(_, bits)| bits), Some(128));
        for bad in ["10.0.0.0/33", "10.0.0/8", "x", "10.0.0.0/"] {
            assert_eq!(prefix(bad), None, "{bad}");
        }
        assert_eq!(last_part("coap://h/a/temp?x=1"), "temp");
        assert_eq!(last_part("coap://h/"), "");
        assert_eq!(last_part("coap://h"), "");
    }
}
