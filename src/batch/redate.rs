//! Corrects the times of a batch that was sealed before its board knew the time. Frame times count
//! from `t0`, so three numbers of the envelope change and the body stays as it is, byte for byte.

use crate::batch::Timing;
use crate::batch::pack::{Malformed, Reader, Writer};

/// Returns the payload with `t0` and `t1` moved by `by` milliseconds and `ck` telling so; `None`
/// when it is no batch.
#[must_use]
pub fn redate(payload: &[u8], by: i64) -> Option<Vec<u8>> {
    rewritten(payload, by).ok()
}

fn rewritten(payload: &[u8], by: i64) -> Result<Vec<u8>, Malformed> {
    let mut reader = Reader::new(payload);
    let mut out = Writer(Vec::with_capacity(payload.len() + 16));
    let keys = reader.map()?;
    out.map(keys);
    for _ in 0..keys {
        let key = reader.str()?;
        out.str(key);
        match key {
            "t0" | "t1" => out.int(reader.int()?.saturating_add(by)),
            "ck" => {
                reader.uint()?;
                out.uint(Timing::Corrected as u64);
            }
            _ => out.0.extend_from_slice(reader.skip()?),
        }
    }
    if reader.is_at_end() { Ok(out.0) } else { Err(Malformed::Type) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::{Assembly, Coding, Envelope, decode};
    use crate::reading::{Group, PointInfo, Points, Sample, Stream, UnixMillis, Value};

    fn sealed(coding: Coding) -> Vec<u8> {
        let points = Points::default();
        let point = points.intern(PointInfo::new("meter", "count", "1")).unwrap();
        let mut assembly = Assembly::default();
        for n in 0..100 {
            assembly.push(&Group {
                stream: Stream::Data,
                at: UnixMillis(5000 + 1000 * n),
                points: [point].into(),
                samples: vec![Sample::good(Value::from_i64(n * n))],
            });
        }
        let body = assembly.into_bodies(&points, coding, 1 << 20).remove(0);
        body.seal(&Envelope {
            gateway: "gw",
            epoch: 7,
            stream: Stream::Data,
            sequence: 3,
            lowest_held: 1,
            dropped: 0,
            clock: Timing::Unset as u8,
            config_hash: "c0ffee",
        })
    }

    #[test]
    fn times_move_and_nothing_else_does() {
        for coding in [Coding::Plain, Coding::Zlib, Coding::Zstd] {
            let before = sealed(coding);
            let after = redate(&before, 1_790_000_000_000).unwrap();
            let (a, b) = (decode(&before).unwrap(), decode(&after).unwrap());
            assert_eq!((a.header.clock, b.header.clock), (0, 2));
            assert_eq!((b.header.t0, b.header.sequence), (1_790_000_005_000, a.header.sequence));
            let (mut early, mut late) = (Vec::new(), Vec::new());
            a.rows(|row| early.push((row.at.0 + 1_790_000_000_000, format!("{:?}", row.value))));
            b.rows(|row| late.push((row.at.0, format!("{:?}", row.value))));
            assert_eq!(early, late);
            assert_eq!(redate(&after, -1_790_000_000_000).unwrap().len(), before.len());
        }
    }

    #[test]
    fn bytes_that_are_no_batch_are_refused() {
        let batch = sealed(Coding::Plain);
        for cut in 0..batch.len() {
            assert_eq!(redate(&batch[..cut], 1), None, "cut at {cut}");
        }
        assert_eq!(redate(&[&batch[..], &[0]].concat(), 1), None);
    }
}
