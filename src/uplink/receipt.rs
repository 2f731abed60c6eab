//! What a receiver says on `fg/1/{gw}/ack`: which batches it has, so that `ack = "receiver"` can free
//! them. Anybody whom the broker lets publish there can say it, so nothing is believed that could
//! not be true.

use serde::Deserialize;

use crate::limits;
use crate::ranges::Ranges;
use crate::reading::Stream;

/// An acknowledgement that makes sense.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Receipt {
    /// Of the present store, or of an earlier one whose batches were salvaged.
    pub(super) epoch: u64,
    pub(super) stream: Stream,
    /// Highest sequence number the receiver has.
    pub(super) upto: u64,
    /// What it misses below.
    pub(super) holes: Ranges,
}

#[derive(Deserialize)]
struct Text {
    ep: u64,
    st: Option<String>,
    upto: u64,
    #[serde(default)]
    holes: Vec<[u64; 2]>,
}

/// Reads an acknowledgement, at a store of this epoch.
///
/// # Errors
/// Why it is not believed, completing "an acknowledgement that ...".
pub(super) fn read(payload: &[u8], epoch: u64) -> Result<Receipt, String> {
    if payload.len() > limits::RECEIPT_BYTES_MAX {
        return Err(format!("has {} bytes", payload.len()));
    }
    let text: Text = serde_json::from_slice(payload)
        .map_err(|_| "is not JSON with ep, st, upto and holes".to_owned())?;
    if text.ep > epoch {
        return Err(format!("is for epoch {}; this one is {epoch}", text.ep));
    }
    let name = text.st.as_deref().unwrap_or(Stream::Data.name());
    let Some(stream) = Stream::named(name) else {
        return Err(format!("names a stream that is none, {name:.20}"));
    };
    let (mut upto, mut listed) = (text.upto, text.holes);
    listed.sort_unstable();
    if let Some([first, last]) = listed.iter().find(|[a, b]| a > b || *b > upto || *a == 0) {
        return Err(format!("has a hole from {first} to {last} below {upto}"));
    }
    let mut holes = Ranges::default();
    for (number, [first, last]) in listed.into_iter().enumerate() {
        if number == limits::RECEIPT_HOLES_MAX {
            upto = first - 1;
            break;
        }
        holes.insert(first, last);
    }
    holes.remove(upto.saturating_add(1), u64::MAX);
    Ok(Receipt { epoch: text.ep, stream, upto, holes })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_acknowledgement_is_read_as_the_contract_says() {
        let text = br#"{"ep":7,"st":"data","upto":4711,"holes":[[4702,4703],[9,9]],"more":true}"#;
        let receipt = read(text, 7).unwrap();
        assert_eq!((receipt.stream, receipt.upto), (Stream::Data, 4711));
        assert_eq!(receipt.holes.iter().collect::<Vec<_>>(), [(9, 9), (4702, 4703)]);
        let receipt = read(br#"{"ep":7,"upto":0}"#, 7).unwrap();
        assert_eq!((receipt.stream, receipt.holes.is_empty()), (Stream::Data, true));
        let earlier = read(br#"{"ep":6,"st":"event","upto":9}"#, 7).unwrap();
        assert_eq!((earlier.epoch, earlier.stream, earlier.upto), (6, Stream::Event, 9));
    }

    #[test]
    fn what_makes_no_sense_is_refused_and_says_why() {
        let long = vec![b' '; limits::RECEIPT_BYTES_MAX + 1];
        let deep = "[".repeat(60_000);
        for (text, why) in [
            (&long[..], "bytes"),
            (deep.as_bytes(), "not JSON"),
            (b"", "not JSON"),
            (b"\xFF\xFE", "not JSON"),
            (br#"{"ep":7,"upto":-1}"#, "not JSON"),
            (br#"{"ep":7,"upto":1e30}"#, "not JSON"),
            (br#"{"ep":8,"upto":1}"#, "epoch 8"),
            (br#"{"ep":7,"st":"date","upto":1}"#, "date"),
            (br#"{"ep":7,"upto":5,"holes":[[4,3]]}"#, "hole from 4 to 3"),
            (br#"{"ep":7,"upto":5,"holes":[[4,6]]}"#, "hole from 4 to 6"),
            (br#"{"ep":7,"upto":5,"holes":[[0,2]]}"#, "hole from 0 to 2"),
        ] {
            let refused = read(text, 7).unwrap_err();
            assert!(refused.contains(why), "{refused}");
        }
    }

    #[test]
    fn what_lies_behind_too_many_holes_is_left_to_the_next() {
        let holes: Vec<[u64; 2]> = (1..=1000).map(|n| [n * 10, n * 10 + 1]).collect();
        let text = serde_json::json!({"ep": 7, "upto": 20_000, "holes": holes}).to_string();
        let receipt = read(text.as_bytes(), 7).unwrap();
        assert_eq!(receipt.holes.spans(), limits::RECEIPT_HOLES_MAX);
        let last = limits::RECEIPT_HOLES_MAX as u64 * 10 + 1;
        assert_eq!((receipt.upto, receipt.holes.contains(last)), (last + 8, true));
    }
}
