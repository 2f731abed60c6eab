//! Places for programs: what a subject names, field by field, so that a log can be asked for one
//! device. The subject stays the only place where it is written; this reads it back.

use std::fmt;

use tracing::field::Field;
use tracing_subscriber::fmt::format::Writer;

/// The field of a logged event that carries a code's id.
pub const CODE: &str = "fg.code";
/// The field of a logged event that carries its subject.
pub const SUBJECT: &str = "fg.subject";

/// Writes a field of a logged event for people: code and subject stand in the message already.
///
/// # Errors
/// When the writer refuses.
pub fn write_for_people(
    writer: &mut Writer<'_>,
    field: &Field,
    value: &dyn fmt::Debug,
) -> fmt::Result {
    match field.name() {
        CODE | SUBJECT => Ok(()),
        "message" => write!(writer, "{value:?}"),
        name => write!(writer, " {name}={value:?}"),
    }
}

/// Returns what `subject` names: kinds (`PORT`, `DEVICE`, `SOURCE`, `UPLINK`, `RULE`) with names.
/// Empty for the clock, the disk and everything else that there is one of.
#[must_use]
pub fn named(subject: &str) -> Vec<(&'static str, &str)> {
    const KINDS: [(&str, &str); 6] = [
        ("bus ", "PORT"),
        ("port ", "PORT"),
        ("source ", "SOURCE"),
        ("coap listener ", "SOURCE"),
        ("uplink ", "UPLINK"),
        ("rule ", "RULE"),
    ];
    let known = KINDS.iter().find_map(|(words, kind)| Some((*kind, subject.strip_prefix(words)?)));
    let Some((kind, rest)) = known else { return Vec::new() };
    // A bus over TCP is called by its address, which has a colon but no blank behind it.
    let (name, inside) = rest.split_once(": ").map_or((rest, None), |(a, b)| (a, Some(b)));
    // What follows a rule's name is its version.
    let name = if kind == "RULE" { name.split(' ').next().unwrap_or(name) } else { name };
    let device = inside.map(|inside| {
        let numbered = inside.strip_prefix("device ").and_then(|rest| rest.split_once(" ("));
        numbered.and_then(|(_, name)| name.strip_suffix(')')).unwrap_or(inside)
    });
    let device = device.map(|device| ("DEVICE", device));
    std::iter::once((kind, name)).chain(device).filter(|(_, name)| !name.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subject_says_which_port_device_source_uplink_or_rule_it_is_about() {
        let table: &[(&str, &[(&str, &str)])] = &[
            ("bus rs485-1", &[("PORT", "rs485-1")]),
            ("bus rs485-1: device 7 (pump-7)", &[("PORT", "rs485-1"), ("DEVICE", "pump-7")]),
            ("bus 10.0.0.4:502", &[("PORT", "10.0.0.4:502")]),
            ("bus [fd00::7]:502: device 1 (a)", &[("PORT", "[fd00::7]:502"), ("DEVICE", "a")]),
            ("port rs232-1: scale", &[("PORT", "rs232-1"), ("DEVICE", "scale")]),
            ("source zigbee: door-north", &[("SOURCE", "zigbee"), ("DEVICE", "door-north")]),
            ("coap listener push", &[("SOURCE", "push")]),
            ("uplink cloud", &[("UPLINK", "cloud")]),
            ("rule smooth 1.2.0", &[("RULE", "smooth")]),
            ("clock", &[]),
            ("buffer /var/lib/fieldgate/buffer.db", &[]),
            ("", &[]),
            ("bus ", &[]),
        ];
        for (subject, meant) in table {
            assert_eq!(named(subject), *meant, "{subject}");
        }
    }
}
