//! Values as people write them: durations, sizes, URLs, names. Parsing is all there is here; where
//! a value stood and what to say about it is the reader's business.

use std::time::Duration;

use crate::limits;

/// Reads `"5s"`, `"1h 30m"`.
///
/// # Errors
/// Says what would do.
pub fn duration(text: &str) -> Result<Duration, &'static str> {
    if text.bytes().all(|byte| byte.is_ascii_digit()) && !text.is_empty() {
        return Err("a number needs its unit: ms, s, m, h or d");
    }
    humantime::parse_duration(text.trim()).map_err(
        |_| "a duration is a number with its unit: \"500ms\", \"5s\", \"10m\", \"2h\", \"30d\"",
    )
}

/// Returns a duration as people write it.
#[must_use]
pub fn show_duration(duration: Duration) -> String {
    // humantime reads "30d", and writes "30days", "1month" and parts of both.
    const DAY_S: u64 = 86_400;
    match duration.as_secs() {
        0..DAY_S => humantime::format_duration(duration).to_string(),
        days if days.is_multiple_of(DAY_S) => format!("{}d", days / DAY_S),
        hours if hours.is_multiple_of(3600) => format!("{}h", hours / 3600),
        seconds => format!("{seconds}s"),
    }
}

/// Reads `"2GiB"`.
///
/// # Errors
/// Says what would do.
pub fn size(text: &str) -> Result<u64, &'static str> {
    if text.bytes().all(|byte| byte.is_ascii_digit()) && !text.is_empty() {
        return Err("a number needs its unit: KiB, MiB or GiB");
    }
    text.parse::<bytesize::ByteSize>()
        .map(|size| size.as_u64())
        .map_err(|_| "a size is a number with its unit: \"512KiB\", \"64MiB\", \"2GiB\"")
}

/// Returns a size as people write it, exactly.
#[must_use]
pub fn show_size(bytes: u64) -> String {
    [("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10)]
        .into_iter()
        .find(|(_, shift)| bytes >> shift << shift == bytes && bytes > 0)
        .map_or_else(|| format!("{bytes}B"), |(unit, shift)| format!("{}{unit}", bytes >> shift))
}

/// Says what is wrong with a name for a gateway, device or point.
#[must_use]
pub fn name_trouble(name: &str) -> Option<String> {
    if name.is_empty() {
        return Some("a name has at least one character".to_owned());
    }
    if name.len() > limits::NAME_BYTES_MAX {
        return Some(format!("a name has at most {} bytes", limits::NAME_BYTES_MAX));
    }
    let sign = name.chars().find(|c| {
        c.is_control() || c.is_whitespace() || matches!(c, '/' | '+' | '#' | '*' | '"' | '\\')
    });
    match sign {
        Some(c) if c.is_whitespace() => Some("a name is one word, without blanks".to_owned()),
        Some(c) if c.is_control() => Some("a name has no control characters".to_owned()),
        Some(c) => Some(format!("'{c}' has a meaning of its own in topics and patterns")),
        None if name.starts_with('$') => {
            Some("names that begin with '$' belong to the broker".to_owned())
        }
        None => None,
    }
}

/// Turns any text into a legal name.
#[must_use]
pub fn legal_name(text: &str) -> String {
    let clean = |c: char| if c.is_alphanumeric() || "-_.".contains(c) { c } else { '-' };
    let mut name: String = text.trim().chars().map(clean).collect();
    while name.len() > limits::NAME_BYTES_MAX {
        name.pop();
    }
    if name_trouble(&name).is_some() { "gateway".to_owned() } else { name }
}

/// Reads `host`, `host:port`, `[v6]:port`.
///
/// # Errors
/// Says what would do.
pub fn host_and_port(text: &str, default: Option<u16>) -> Result<(String, u16), String> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, rest) =
                rest.split_once(']').ok_or("the bracket before the address is not closed")?;
            host.parse::<std::net::Ipv6Addr>()
                .map_err(|_| format!("[{host}] is no IPv6 address"))?;
            (host, rest.strip_prefix(':').or((!rest.is_empty()).then_some(rest)))
        }
        None if text.matches(':').count() > 1 => {
            return Err(format!("an IPv6 address stands in brackets: [{text}]"));
        }
        None => match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    let legal = |c: char| c.is_ascii_alphanumeric() || "-_.:%".contains(c);
    if host.is_empty() || !host.chars().all(legal) {
        return Err(format!("\"{host}\" is no host name or address"));
    }
    let port = match port {
        Some(port) => port
            .parse::<u16>()
            .ok()
            .filter(|port| *port > 0)
            .ok_or_else(|| format!("\"{port}\" is no port from 1 to 65535"))?,
        None => default.ok_or("the port is missing")?,
    };
    Ok((host.to_owned(), port))
}

/// A broker's address as its URL says.
#[derive(Debug, PartialEq, Eq)]
pub struct BrokerUrl {
    /// Name or address.
    pub host: String,
    /// 1883 or 8883 unless given.
    pub port: u16,
    /// `mqtts://`.
    pub tls: bool,
}

/// Reads `mqtt://host[:port]` or `mqtts://host[:port]`.
///
/// # Errors
/// Says what would do.
pub fn broker_url(text: &str) -> Result<BrokerUrl, String> {
    let (scheme, rest) =
        text.split_once("://").ok_or("a broker's url begins with mqtt:// or mqtts://")?;
    let tls = match scheme {
        "mqtt" | "tcp" => false,
        "mqtts" | "ssl" | "tls" => true,
        "ws" | "wss" => return Err("MQTT over WebSocket is not in this version".to_owned()),
        _ => return Err(format!("\"{scheme}://\" is not mqtt:// or mqtts://")),
    };
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    if rest.contains('@') {
        return Err("user and password do not belong into the url; write them in auth".to_owned());
    }
    if rest.contains(['/', '?']) {
        return Err("a broker's url ends after host and port".to_owned());
    }
    let (host, port) = host_and_port(rest, Some(if tls { 8883 } else { 1883 }))?;
    Ok(BrokerUrl { host, port, tls })
}

/// What else people call what is known here by a name that looks nothing like it.
const OTHER_NAMES: [(&str, &str); 4] =
    [("amazon", "aws"), ("iotcore", "aws"), ("microsoft", "azure"), ("tb", "thingsboard")];

/// Returns the word of `known` that is closest to `word`, if any is close.
pub fn did_you_mean<'k>(word: &str, known: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
    let far = (word.chars().count() / 3).max(1);
    let known: Vec<&str> = known.into_iter().collect();
    let other = OTHER_NAMES.iter().find(|(other, _)| word.eq_ignore_ascii_case(other));
    if let Some(meant) = other.and_then(|(_, meant)| known.iter().find(|known| *known == meant)) {
        return Some(meant);
    }
    known
        .into_iter()
        .map(|known| (strsim::osa_distance(&word.to_lowercase(), &known.to_lowercase()), known))
        .filter(|(distance, known)| *distance <= far || (word.len() > 2 && known.starts_with(word)))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, known)| known)
}

/// Returns the decimals of a number as it was written: 1 for `0.1`, 3 for `1e-3`; `None` above 9.
#[must_use]
pub fn decimals_of(text: &str) -> Option<u8> {
    let (digits, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let behind = digits.split_once('.').map_or("", |(_, behind)| behind.trim_end_matches('0'));
    let places = i64::try_from(behind.len()).ok()?.checked_sub(exponent.parse().ok()?)?;
    u8::try_from(places.max(0)).ok().filter(|places| *places <= 9)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_needs_its_unit() {
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("30d"), Ok(Duration::from_secs(30 * 24 * 3600)));
        for text in ["30d", "36h", "400d", "100001s", "5m"] {
            assert_eq!(show_duration(duration(text).unwrap()), text);
        }
        assert!(duration("5").unwrap_err().contains("unit"));
        for bad in ["", "s", "5 bananas", "-5s", "1e400s", "99999999999999999999d"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_size_reads_back_as_written() {
        for text in ["2GiB", "512KiB", "64MiB", "1TiB", "1000B"] {
            assert_eq!(show_size(size(text).unwrap()), text);
        }
        assert!(size("5").is_err() && size("").is_err() && size("-1GiB").is_err());
    }

    #[test]
    fn hosts_and_ports_are_told_apart() {
        assert_eq!(host_and_port("a.b:502", None), Ok(("a.b".to_owned(), 502)));
        assert_eq!(host_and_port("[fd00::7]:5", None), Ok(("fd00::7".to_owned(), 5)));
        assert_eq!(host_and_port("[fd00::7]", Some(9)), Ok(("fd00::7".to_owned(), 9)));
        for bad in
            ["", ":502", "a:", "a:0", "a:65536", "fd00::7", "[fd00::7", "[x]:1", "[::1]5x", "a b"]
        {
            assert!(host_and_port(bad, Some(1)).is_err(), "{bad}");
        }
        assert!(host_and_port("a", None).is_err());
    }

    #[test]
    fn broker_urls_have_default_ports_and_no_passwords() {
        let url = broker_url("mqtts://h/").unwrap();
        assert_eq!((url.port, url.tls), (8883, true));
        assert_eq!(broker_url("mqtt://h").unwrap().port, 1883);
        assert!(broker_url("mqtt://u:p@h").unwrap_err().contains("auth"));
        for bad in ["h", "http://h", "mqtt://", "mqtt://h/x", "wss://h"] {
            assert!(broker_url(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn names_are_topic_levels() {
        for good in ["gw-4f2a", "a.b", "Zähler_1", "0x00158d0001a2b3c4"] {
            assert_eq!(name_trouble(good), None, "{good}");
        }
        for bad in ["", "a/b", "a b", "#", "+", "$SYS", "a\u{7}", "a\tb", &"x".repeat(129)] {
            assert!(name_trouble(bad).is_some(), "{bad}");
        }
        assert_eq!(legal_name("my host\n"), "my-host");
        assert_eq!(legal_name(""), "gateway");
    }

    #[test]
    fn only_close_words_are_suggested() {
        assert_eq!(did_you_mean("evry", ["via", "every"]), Some("every"));
        assert_eq!(did_you_mean("Every", ["via", "every"]), Some("every"));
        assert_eq!(did_you_mean("zzzzz", ["via", "every"]), None);
    }

    #[test]
    fn decimals_follow_the_written_number() {
        for (text, places) in [("0.1", 1), ("1", 0), ("1e-3", 3), ("2.50", 1), ("0.25e1", 1)] {
            assert_eq!(decimals_of(text), Some(places), "{text}");
        }
        for far in ["1e-12", "1e-9223372036854775808", "1e-99999999999999999999"] {
            assert_eq!(decimals_of(far), None, "{far}");
        }
    }
}
