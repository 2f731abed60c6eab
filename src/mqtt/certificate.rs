//! What a certificate says of itself: whose it is, who signed it, from when to when it is valid. Read
//! for people who look for a fault; what is trusted is decided elsewhere, by a verifier.
//!
//! X.509 is nested lists in DER (RFC 5280, section 4.1; ITU-T X.690); five fields of it take less than
//! a crate for all of them.

use std::fmt;
use std::time::UNIX_EPOCH;

use crate::reading::UnixMillis;

/// What a certificate says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    /// Common name of its owner, else the organisation; may be empty.
    pub subject: String,
    /// The same of who signed it.
    pub issuer: String,
    /// Valid from.
    pub from: UnixMillis,
    /// Valid until.
    pub until: UnixMillis,
}

const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const OID: u8 = 0x06;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
/// `[0] EXPLICIT`, before the version.
const VERSION: u8 = 0xA0;
/// id-at-commonName and id-at-organizationName (RFC 5280, appendix A.1).
const NAMES: [[u8; 3]; 2] = [[0x55, 0x04, 0x03], [0x55, 0x04, 0x0A]];

impl Certificate {
    /// Reads a certificate in DER; `None` for anything that is none.
    #[must_use]
    pub fn read(der: &[u8]) -> Option<Self> {
        let whole = Der(der).expect(SEQUENCE)?.0;
        let mut fields = Der(whole).expect(SEQUENCE).map(|(content, _)| Der(content))?;
        if fields.0.first() == Some(&VERSION) {
            fields.skip()?;
        }
        // Serial number, signature algorithm.
        fields.skip()?;
        fields.skip()?;
        let issuer = name(fields.take(SEQUENCE)?);
        let mut validity = Der(fields.take(SEQUENCE)?);
        let (from, until) = (validity.time()?, validity.time()?);
        let subject = name(fields.take(SEQUENCE)?);
        Some(Self { subject, issuer, from, until })
    }
}

impl fmt::Display for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let day = |at: UnixMillis| {
            crate::batch::text::rfc3339(at).split('T').next().unwrap_or_default().to_owned()
        };
        let Self { subject, issuer, from, until } = self;
        write!(f, "{subject}, signed by {issuer}, valid {} to {}", day(*from), day(*until))
    }
}

/// Bytes in DER.
#[derive(Clone, Copy)]
struct Der<'a>(&'a [u8]);

impl<'a> Der<'a> {
    /// Splits the first element off: its tag, its content, the rest (X.690, section 8.1).
    fn split(self) -> Option<(u8, &'a [u8], &'a [u8])> {
        let (&tag, rest) = self.0.split_first()?;
        let (&first, rest) = rest.split_first()?;
        let (length, rest) = match first {
            0..=0x7F => (usize::from(first), rest),
            0x81..=0x83 => {
                let (bytes, rest) = rest.split_at_checked(usize::from(first & 0x7F))?;
                (bytes.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte)), rest)
            }
            _ => return None,
        };
        let (content, rest) = rest.split_at_checked(length)?;
        Some((tag, content, rest))
    }

    fn expect(self, tag: u8) -> Option<(&'a [u8], &'a [u8])> {
        self.split().filter(|(found, ..)| *found == tag).map(|(_, content, rest)| (content, rest))
    }

    fn take(&mut self, tag: u8) -> Option<&'a [u8]> {
        let (content, rest) = self.expect(tag)?;
        self.0 = rest;
        Some(content)
    }

    fn skip(&mut self) -> Option<()> {
        self.0 = self.split()?.2;
        Some(())
    }

    /// `YYMMDDhhmmssZ` until 2049, `YYYYMMDDhhmmssZ` from then on (RFC 5280, section 4.1.2.5).
    fn time(&mut self) -> Option<UnixMillis> {
        let (tag, content, rest) = self.split()?;
        self.0 = rest;
        let text = std::str::from_utf8(content).ok()?.strip_suffix('Z')?;
        let text = match tag {
            UTC_TIME if text.get(..2)? < "50" => format!("20{text}"),
            UTC_TIME => format!("19{text}"),
            GENERALIZED_TIME => text.to_owned(),
            _ => return None,
        };
        if text.len() != 14 || !text.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let part = |from: usize| &text[from..from + 2];
        let (year, month, day) = (&text[..4], part(4), part(6));
        let written = format!("{year}-{month}-{day}T{}:{}:{}Z", part(8), part(10), part(12));
        let at = humantime::parse_rfc3339(&written).ok()?;
        let since = at.duration_since(UNIX_EPOCH).ok()?;
        Some(UnixMillis(i64::try_from(since.as_millis()).ok()?))
    }
}

/// Returns the common name, else the organisation (RFC 5280, section 4.1.2.4).
fn name(content: &[u8]) -> String {
    let mut found = [None, None];
    let mut rest = Der(content);
    while let Some(set) = rest.take(SET) {
        let Some((pair, _)) = Der(set).expect(SEQUENCE) else { continue };
        let mut pair = Der(pair);
        let Some(oid) = pair.take(OID) else { continue };
        let Some((_, text, _)) = pair.split() else { continue };
        for (slot, wanted) in found.iter_mut().zip(NAMES) {
            if oid == wanted {
                slot.get_or_insert_with(|| printable(text));
            }
        }
    }
    found.into_iter().flatten().next().unwrap_or_default()
}

/// A name from elsewhere must do no harm to a terminal.
fn printable(text: &[u8]) -> String {
    String::from_utf8_lossy(text).chars().filter(|c| !c.is_control()).take(64).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rcgen::{CertificateParams, DnType, Issuer, KeyPair, date_time_ymd};

    use super::*;

    fn params(name: &str, until: i32) -> CertificateParams {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.distinguished_name.push(DnType::OrganizationName, "Plant");
        params.distinguished_name.push(DnType::CommonName, name);
        params.not_before = date_time_ymd(1999, 2, 28);
        params.not_after = date_time_ymd(until, 12, 31);
        params
    }

    #[test]
    fn names_and_times_are_read_in_both_notations() {
        let (ca_key, key) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
        let issuer = Issuer::new(params("Plant CA", 2040), ca_key);
        for until in [2030, 2051] {
            let made = params("broker.example", until).signed_by(&key, &issuer).unwrap();
            let read = Certificate::read(made.der()).unwrap();
            assert_eq!((&*read.subject, &*read.issuer), ("broker.example", "Plant CA"));
            let text = read.to_string();
            assert!(text.ends_with(&format!("valid 1999-02-28 to {until}-12-31")), "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_bring_it_down(
            mut bytes in prop::collection::vec(any::<u8>(), 0..200), at in 0_usize..200,
        ) {
            let _ = Certificate::read(&bytes);
            let key = KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
            let mut good = params("x", 2030).self_signed(&key).unwrap().der().to_vec();
            let place = at % good.len();
            good[place] = bytes.pop().unwrap_or(0);
            let _ = Certificate::read(&good);
            let _ = Certificate::read(&good[..place]);
        }
    }
}
