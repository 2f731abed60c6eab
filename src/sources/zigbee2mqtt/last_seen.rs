//! Reads `last_seen`, which zigbee2mqtt adds to states when told so: `ISO_8601` with Z,
//! `ISO_8601_local` with an offset, or `epoch` in milliseconds (its configuration, page "Advanced").

use std::time::SystemTime;

use serde_json::Value as Json;

use crate::reading::UnixMillis;

/// Returns when the device was last heard, if the state says so in a way that can be read. Times
/// before 1970 are no times: arithmetic with them may overflow.
#[must_use]
pub fn last_seen(state: &Json) -> Option<UnixMillis> {
    let seen = match state.get("last_seen")? {
        Json::Number(millis) => millis.as_i64().map(UnixMillis),
        Json::String(text) => iso_8601(text),
        _ => None,
    };
    seen.filter(|seen| seen.0 >= 0)
}

fn iso_8601(text: &str) -> Option<UnixMillis> {
    const OFFSET_LENGTH: usize = "+01:00".len();
    let (time, offset) = match text.len().checked_sub(OFFSET_LENGTH) {
        Some(at) if text.is_ascii() && matches!(text.as_bytes()[at], b'+' | b'-') => {
            let (time, offset) = text.split_at(at);
            (format!("{time}Z"), minutes(offset)?)
        }
        _ => (text.to_owned(), 0),
    };
    let time = humantime::parse_rfc3339(&time).ok()?;
    let millis = time.duration_since(SystemTime::UNIX_EPOCH).ok()?.as_millis();
    Some(UnixMillis(i64::try_from(millis).ok()? - offset * 60_000))
}

fn minutes(offset: &str) -> Option<i64> {
    let (hours, minutes) = offset[1..].split_once(':')?;
    let minutes =
        i64::from(hours.parse::<u8>().ok()?) * 60 + i64::from(minutes.parse::<u8>().ok()?);
    Some(if offset.starts_with('-') { -minutes } else { minutes })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_way_to_write_last_seen_is_read() {
        let at = Some(UnixMillis(1_767_225_600_500));
        let table = [
            (json!("2026-01-01T00:00:00.500Z"), at),
            (json!("2026-01-01T01:00:00.500+01:00"), at),
            (json!("2025-12-31T18:30:00.500-05:30"), at),
            (json!(1_767_225_600_500_i64), at),
            (json!("yesterday"), None),
            (json!("2026-01-01T00:00:00+ab:cd"), None),
            (json!("é+01:00"), None),
            (json!(null), None),
            (json!(-1), None),
            (json!(i64::MIN), None),
            (json!(u64::MAX), None),
        ];
        for (written, expected) in table {
            assert_eq!(last_seen(&json!({ "last_seen": written })), expected, "{written}");
        }
        assert_eq!(last_seen(&json!({})), None);
    }
}
