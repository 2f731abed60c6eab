//! Reads the broker's URL. Here, unlike in a gateway's configuration, it may carry a user: it is
//! typed for one run, not kept in a file that is copied from board to board.

/// `mqtt[s]://[user[:password]@]host[:port]` in its parts.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Address {
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) tls: bool,
    pub(super) user: Option<String>,
    pub(super) password: Option<String>,
}

/// Reads a broker's URL, or says what would do, without repeating what may be a password.
pub(super) fn broker(text: &str) -> Result<Address, String> {
    let form = "mqtt[s]://[user[:password]@]host[:port]";
    let wrong = |why: &str| format!("{why}; the form is {form}");
    let (scheme, rest) = text.split_once("://").ok_or_else(|| wrong("this is no URL"))?;
    let tls = match scheme {
        "mqtt" | "tcp" => false,
        "mqtts" | "ssl" | "tls" => true,
        _ => return Err(wrong("only mqtt:// and mqtts:// are known")),
    };
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    let (who, place) = match rest.rsplit_once('@') {
        Some((who, place)) => (Some(who), place),
        None => (None, rest),
    };
    let (user, password) = match who.map(|who| who.split_once(':').unwrap_or((who, ""))) {
        None => (None, None),
        Some((user, "")) => (Some(decoded(user)), None),
        Some((user, password)) => (Some(decoded(user)), Some(decoded(password))),
    };
    if user.as_ref().or(password.as_ref()).is_some_and(Option::is_none)
        || password.as_ref().is_some_and(Option::is_none)
    {
        return Err(wrong("user or password has a % that begins no %XX"));
    }
    let (host, port) = match place.rfind(':') {
        Some(at) if !place.ends_with(']') => {
            let port = place[at + 1..].parse().ok().filter(|port| *port != 0);
            (&place[..at], port.ok_or_else(|| wrong("the port is no number from 1 to 65535"))?)
        }
        _ => (place, if tls { 8883 } else { 1883 }),
    };
    let host = host.trim_matches(['[', ']']);
    let odd = |c: char| c.is_whitespace() || matches!(c, '/' | '?' | '#');
    if host.is_empty() || host.contains(odd) {
        return Err(wrong("the host is missing, or something follows it"));
    }
    Ok(Address {
        host: host.to_owned(),
        port,
        tls,
        user: user.flatten(),
        password: password.flatten(),
    })
}

/// Undoes percent-encoding (RFC 3986, section 2.1); `None` when it is none.
pub(super) fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut parts = text.split('%');
    bytes.extend_from_slice(parts.next()?.as_bytes());
    for part in parts {
        let hex = part.get(..2)?;
        bytes.push(u8::from_str_radix(hex, 16).ok()?);
        bytes.extend_from_slice(&part.as_bytes()[2..]);
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_taken_apart() {
        let plain = broker("mqtt://h").unwrap();
        assert_eq!((plain.host.as_str(), plain.port, plain.tls), ("h", 1883, false));
        let full = broker("mqtts://me:p%40ss@[fd00::7]:99/").unwrap();
        assert_eq!((full.host.as_str(), full.port, full.tls), ("fd00::7", 99, true));
        assert_eq!((full.user.as_deref(), full.password.as_deref()), (Some("me"), Some("p@ss")));
        assert_eq!(broker("mqtt://me@h").unwrap().password, None);
        for bad in
            ["h", "http://h", "mqtt://", "mqtt://h:0", "mqtt://h:x", "mqtt://h/x", "mqtt://a%:b@h"]
        {
            assert!(broker(bad).is_err(), "{bad}");
        }
    }
}
