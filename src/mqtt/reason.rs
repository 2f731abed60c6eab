//! Why a broker refused something or ended a session: the reason codes of MQTT 5 (section 2.4) in
//! words, and what they mean for trying again.

use std::fmt;

/// A reason code of MQTT 5. Codes that the standard does not name are kept as they came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reason(u8);

/// What a refused publish may hope for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outlook {
    /// The same bytes may be taken later: the broker is busy, or a quota of it is used up.
    Later,
    /// The same bytes to the same topic are refused until a person changes something.
    NeverAsItIs,
}

/// What a broker adds to a reason, made safe to print.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Told {
    /// Its reason string (MQTT 5, section 3.1.2.11.7), cut at [`TOLD_CHARACTERS_MAX`].
    pub text: Option<String>,
    /// The broker to go to instead (section 4.13).
    pub elsewhere: Option<String>,
}

/// What is kept of a broker's own words, characters: a line on a terminal.
const TOLD_CHARACTERS_MAX: usize = 160;

impl Reason {
    /// 0x80: no other reason fits, or the broker keeps it to itself. MQTT 3.1.1 knows no other.
    pub const UNSPECIFIED: Self = Self(0x80);
    /// 0x84: the broker does not speak this version.
    pub const VERSION: Self = Self(0x84);
    /// 0x87: this client may not do that.
    pub const NOT_AUTHORISED: Self = Self(0x87);
    /// 0x8E: another connection uses the client identifier.
    pub const TAKEN_OVER: Self = Self(0x8E);
    /// 0x90: the topic is well formed and not taken.
    pub const TOPIC_INVALID: Self = Self(0x90);
    /// 0x95: the packet is larger than the broker takes.
    pub const PACKET_TOO_LARGE: Self = Self(0x95);
    /// 0x96: packets come faster than the broker takes them.
    pub const RATE_TOO_HIGH: Self = Self(0x96);
    /// 0x97: a limit of the broker's operator is used up.
    pub const QUOTA_EXCEEDED: Self = Self(0x97);
    /// 0x9A: the broker keeps no retained messages.
    pub const NO_RETAIN: Self = Self(0x9A);

    /// Takes a code from the wire.
    #[must_use]
    pub fn new(code: u8) -> Self {
        Self(code)
    }

    /// Returns the code on the wire.
    #[must_use]
    pub fn code(self) -> u8 {
        self.0
    }

    /// Returns whether it is a refusal (section 2.4: 0x80 and above).
    #[must_use]
    pub fn is_failure(self) -> bool {
        self.0 >= 0x80
    }

    /// Says what may become of a publish that was refused so.
    #[must_use]
    pub fn outlook(self) -> Outlook {
        match self.0 {
            // Malformed, protocol error, not authorised, topic, packet size, payload format,
            // retain, QoS.
            0x81 | 0x82 | 0x87 | 0x90 | 0x95 | 0x99 | 0x9A | 0x9B => Outlook::NeverAsItIs,
            _ => Outlook::Later,
        }
    }

    /// Returns whether a session that ended so may have ended over what was published on it; the
    /// others speak of the broker's own state or of this client as a whole.
    #[must_use]
    pub fn may_be_about_a_publish(self) -> bool {
        matches!(
            self.0,
            0x80..=0x83 | 0x87 | 0x90 | 0x93..=0x95 | 0x99..=0x9B
        )
    }

    fn words(self) -> Option<&'static str> {
        Some(match self.0 {
            0x00 => "it said goodbye",
            0x80 => "it gives no reason",
            0x81 => "it calls our packet malformed",
            0x82 => "it calls our packet a breach of the protocol",
            0x83 => "our packet is not to its own taste",
            0x84 => "it does not speak this version of MQTT",
            0x85 => "it does not allow this client identifier",
            0x86 => "the user name or password is wrong",
            0x87 => "this client is not authorised",
            0x88 => "its MQTT service is not available",
            0x89 => "it is busy",
            0x8A => "its operator has banned this client",
            0x8B => "it is shutting down",
            0x8C => "it wants another way to authenticate",
            0x8D => "it heard nothing from us for too long",
            0x8E => "another connection uses our client identifier",
            0x8F => "it does not take this topic filter",
            0x90 => "it does not take this topic",
            0x91 => "it calls a packet identifier used that is free here",
            0x92 => "it does not know a packet identifier",
            0x93 => "more was in flight than it allows",
            0x94 => "it does not take this topic alias",
            0x95 => "a packet was larger than it takes",
            0x96 => "packets came faster than it takes them",
            0x97 => "a quota of its operator is used up",
            0x98 => "its operator ended the connection",
            0x99 => "it does not take this payload format",
            0x9A => "it keeps no retained messages",
            0x9B => "it does not support this QoS",
            0x9C => "we should use another broker for now",
            0x9D => "we should use another broker from now on",
            0x9E => "it has no shared subscriptions",
            0x9F => "connections came faster than it takes them",
            0xA0 => "the time it allows a connection is over",
            0xA1 => "it has no subscription identifiers",
            0xA2 => "it has no subscriptions with wildcards",
            _ => return None,
        })
    }
}

impl Told {
    /// Takes what came with a reason.
    pub(super) fn new(text: Option<&str>, elsewhere: Option<&str>) -> Self {
        let printable = |text: &str| -> String {
            let plain = text.chars().map(|c| if c.is_control() { ' ' } else { c });
            plain.take(TOLD_CHARACTERS_MAX).collect()
        };
        let said = |text: Option<&str>| text.filter(|it| !it.trim().is_empty()).map(printable);
        Self { text: said(text), elsewhere: said(elsewhere) }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.words() {
            Some(words) => write!(f, "{words} (reason 0x{:02X})", self.0),
            None => write!(f, "it gives a reason that MQTT 5 does not name (0x{:02X})", self.0),
        }
    }
}

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(elsewhere) = &self.elsewhere {
            write!(f, "; it names {elsewhere} in its place")?;
        }
        match &self.text {
            Some(text) => write!(f, "; it adds \"{text}\""),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_of_the_standard_has_words_and_no_other_borrows_them() {
        let named: Vec<u8> = (0..=255).filter(|code| Reason(*code).words().is_some()).collect();
        let standard: Vec<u8> = std::iter::once(0).chain(0x80..=0xA2).collect();
        assert_eq!(named, standard);
        let mut words: Vec<_> = named.iter().filter_map(|code| Reason(*code).words()).collect();
        words.sort_unstable();
        words.dedup();
        assert_eq!(words.len(), standard.len());
        assert!(Reason(0xF0).to_string().contains("0xF0"));
    }

    #[test]
    fn a_full_quota_passes_and_a_packet_too_large_does_not() {
        for later in [Reason::QUOTA_EXCEEDED, Reason::UNSPECIFIED, Reason(0x83), Reason(0xF0)] {
            assert_eq!(later.outlook(), Outlook::Later, "{later}");
        }
        let never = [
            Reason::PACKET_TOO_LARGE,
            Reason::NOT_AUTHORISED,
            Reason::TOPIC_INVALID,
            Reason::NO_RETAIN,
            Reason(0x99),
        ];
        for never in never {
            assert_eq!(never.outlook(), Outlook::NeverAsItIs, "{never}");
        }
    }

    #[test]
    fn a_brokers_words_cannot_reach_into_the_terminal() {
        let told = Told::new(Some(&"\u{1b}[2J\n".repeat(100)), Some(" "));
        let line = told.to_string();
        assert!(!line.contains(['\u{1b}', '\n']) && line.chars().count() < 200, "{line:?}");
        assert_eq!(told.elsewhere, None);
    }
}
