//! The statements: one transaction a slice.
//!
//! Several receivers may hold the same batch (a redelivery, a gateway that sends again). Whoever
//! inserts its ledger row first has it; the other waits for that transaction and then finds the row.
//! Rows are inserted in the order of their key by every receiver, and after them the last readings
//! in the order of their series, so that two transactions never wait for each other.

use std::collections::HashMap;

use futures_util::SinkExt as _;
use tokio_postgres::{Client, Error};

use super::copy::{Last, Rows, system_time};
use super::link::Statements;
use crate::limits;
use crate::receive::sink::{Ack, Delivery, Sequence, Status, Verdict};

pub(super) const INSERT_BATCHES: &str = "
INSERT INTO batches (gw, ep, st, seq, n, t0, t1, ck, cv, dr, lo, unknown, bytes)
SELECT * FROM unnest($1::text[], $2::bigint[], $3::text[], $4::bigint[], $5::integer[],
  $6::timestamptz[], $7::timestamptz[], $8::smallint[], $9::text[], $10::bigint[], $11::bigint[],
  $12::integer[], $13::integer[])
ON CONFLICT DO NOTHING RETURNING gw, ep, st, seq";

pub(super) const INSERT_SERIES: &str = "
INSERT INTO series (gw, st, device, point, unit, flag)
SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::boolean[])
ON CONFLICT DO NOTHING";

pub(super) const FIND_SERIES: &str = "
SELECT k.i, s.id FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[])
  WITH ORDINALITY AS k(gw, st, device, point, unit, i)
JOIN series s USING (gw, st, device, point, unit)";

pub(super) const UPSERT_LAST: &str = "
INSERT INTO last_readings AS l (series, ts, value, text, q)
SELECT * FROM unnest($1::integer[], $2::timestamptz[], $3::double precision[], $4::text[],
  $5::smallint[])
ON CONFLICT (series) DO UPDATE
SET ts = excluded.ts, value = excluded.value, text = excluded.text, q = excluded.q
WHERE excluded.ts >= l.ts";

pub(super) const COPY_NARROW: &str =
    "COPY readings (series, ts, value, text, q) FROM STDIN (FORMAT binary)";

pub(super) const COPY_ARRAY: &str =
    "COPY blocks (series, t0, t1, offsets_ms, value, text, q) FROM STDIN (FORMAT binary)";

/// The standing of sequences: the highest batch, and the holes at or above the `lo` of it. `lo` grows
/// with `seq`, so the highest batch has the highest.
pub(super) const ACKS: &str = "
SELECT k.i, top.seq, hole.a, hole.b
FROM unnest($1::text[], $2::bigint[], $3::text[]) WITH ORDINALITY AS k(gw, ep, st, i)
CROSS JOIN LATERAL (
  SELECT seq, greatest(lo, 1) AS lo FROM batches b
  WHERE b.gw = k.gw AND b.ep = k.ep AND b.st = k.st ORDER BY seq DESC LIMIT 1
) top
LEFT JOIN LATERAL (
  SELECT before + 1 AS a, seq - 1 AS b
  FROM (
    SELECT seq, lag(seq, 1, top.lo - 1) OVER (ORDER BY seq) AS before FROM batches b
    WHERE b.gw = k.gw AND b.ep = k.ep AND b.st = k.st AND b.seq >= top.lo
  ) o
  WHERE seq > before + 1 ORDER BY seq LIMIT $4
) hole ON true
ORDER BY k.i, hole.a";

pub(super) const NOTE: &str = "
INSERT INTO gateways AS g (gw, up, ep, seq, lo, backlog_s, ver)
SELECT * FROM unnest($1::text[], $2::boolean[], $3::bigint[], $4::bigint[], $5::bigint[],
  $6::bigint[], $7::text[])
ON CONFLICT (gw) DO UPDATE SET
  up = excluded.up,
  ep = greatest(g.ep, excluded.ep),
  seq = CASE WHEN excluded.ep > coalesce(g.ep, -1) THEN excluded.seq
             WHEN excluded.ep = g.ep THEN greatest(g.seq, excluded.seq) ELSE g.seq END,
  lo = CASE WHEN excluded.ep > coalesce(g.ep, -1) THEN excluded.lo
            WHEN excluded.ep = g.ep THEN greatest(g.lo, excluded.lo) ELSE g.lo END,
  backlog_s = coalesce(excluded.backlog_s, g.backlog_s),
  ver = coalesce(excluded.ver, g.ver),
  seen_at = now()";

/// A batch's key; the order is the one in which all receivers insert.
type Key<'a> = (&'a str, i64, &'a str, i64);

fn key(delivery: &Delivery) -> Key<'_> {
    let header = &delivery.batch.header;
    (&header.gateway, signed(header.epoch), &header.stream, signed(header.sequence))
}

/// Returns a number as a column holds it; the checks have bounded those that matter.
fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn small(number: u64) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

/// Stores a slice in one transaction.
pub(super) async fn store(
    client: &Client,
    statements: &Statements,
    series: &mut HashMap<Box<str>, i32>,
    rows: &mut Rows,
    slice: &[Delivery],
) -> Result<Vec<Verdict>, Error> {
    let ids = super::names::number(client, statements, series, slice).await?;
    client.batch_execute("BEGIN").await?;
    let new = insert_batches(client, statements, slice).await?;
    rows.clear();
    if new.contains(&Verdict::Stored) {
        let out = client.copy_in(&statements.copy).await?;
        let mut out = std::pin::pin!(out);
        for ((delivery, ids), verdict) in slice.iter().zip(&ids).zip(&new) {
            if *verdict == Verdict::Stored {
                rows.append(&delivery.batch, ids);
                while let Some(chunk) = rows.chunk(false) {
                    out.feed(chunk).await?;
                }
            }
        }
        rows.finish();
        while let Some(chunk) = rows.chunk(true) {
            out.feed(chunk).await?;
        }
        out.finish().await?;
        if let Some(statement) = &statements.last {
            upsert_last(client, statement, &rows.last).await?;
        }
    }
    client.batch_execute("COMMIT").await?;
    Ok(new)
}

async fn insert_batches(
    client: &Client,
    statements: &Statements,
    slice: &[Delivery],
) -> Result<Vec<Verdict>, Error> {
    let mut order: Vec<usize> = (0..slice.len()).collect();
    order.sort_by_key(|at| key(&slice[*at]));
    // A batch that stands in the slice twice is inserted once.
    order.dedup_by_key(|at| key(&slice[*at]));
    let headers: Vec<_> = order.iter().map(|at| &slice[*at].batch.header).collect();
    macro_rules! column {
        (|$header:ident| $value:expr) => {
            headers.iter().map(|$header| $value).collect::<Vec<_>>()
        };
    }
    let unknown: Vec<i32> = order
        .iter()
        .map(|at| &slice[*at].batch)
        .map(|batch| small(batch.unknown_frames + batch.unknown_readings))
        .collect();
    let bytes: Vec<i32> = order.iter().map(|at| small(slice[*at].payload.len() as u64)).collect();
    let inserted = client
        .query(
            &statements.insert_batches,
            &[
                &column!(|h| h.gateway.as_str()),
                &column!(|h| signed(h.epoch)),
                &column!(|h| h.stream.as_str()),
                &column!(|h| signed(h.sequence)),
                &column!(|h| small(h.readings)),
                &column!(|h| system_time(h.t0)),
                &column!(|h| system_time(h.t1.max(h.t0))),
                &column!(|h| i16::try_from(h.clock).unwrap_or(i16::MAX)),
                &column!(|h| h.config_hash.replace('\0', "")),
                &column!(|h| signed(h.dropped)),
                &column!(|h| signed(h.lowest_held)),
                &unknown,
                &bytes,
            ],
        )
        .await?;
    let mut verdicts = vec![Verdict::Seen; slice.len()];
    for row in &inserted {
        let found: Key<'_> = (row.get(0), row.get(1), row.get(2), row.get(3));
        if let Ok(at) = order.binary_search_by_key(&found, |at| key(&slice[*at])) {
            verdicts[order[at]] = Verdict::Stored;
        }
    }
    Ok(verdicts)
}

async fn upsert_last(
    client: &Client,
    statement: &tokio_postgres::Statement,
    last: &HashMap<i32, Last>,
) -> Result<(), Error> {
    let mut sorted: Vec<_> = last.iter().collect();
    sorted.sort_by_key(|(id, _)| **id);
    let ids: Vec<i32> = sorted.iter().map(|(id, _)| **id).collect();
    let times: Vec<_> = sorted.iter().map(|(_, last)| system_time(last.at)).collect();
    let values: Vec<_> = sorted.iter().map(|(_, last)| last.value).collect();
    let texts: Vec<_> = sorted.iter().map(|(_, last)| last.text.as_deref()).collect();
    let marks: Vec<_> = sorted.iter().map(|(_, last)| last.q).collect();
    client.execute(statement, &[&ids, &times, &values, &texts, &marks]).await?;
    Ok(())
}

/// Notes statuses, the last of each gateway.
pub(super) async fn note(
    client: &Client,
    statements: &Statements,
    statuses: &[Status],
) -> Result<(), Error> {
    let newest: std::collections::BTreeMap<&str, &Status> =
        statuses.iter().map(|status| (status.gw.as_str(), status)).collect();
    let all: Vec<&Status> = newest.into_values().collect();
    let number = |of: fn(&Status) -> Option<u64>| -> Vec<Option<i64>> {
        all.iter().map(|status| of(status).map(signed)).collect()
    };
    let names: Vec<_> = all.iter().map(|status| status.gw.as_str()).collect();
    let up: Vec<_> = all.iter().map(|status| status.up).collect();
    let ver: Vec<_> = all.iter().map(|status| status.ver.as_deref()).collect();
    let (ep, seq) = (number(|s| s.ep), number(|s| s.seq));
    let (lo, backlog) = (number(|s| s.lo), number(|s| s.backlog_s));
    client.execute(&statements.note, &[&names, &up, &ep, &seq, &lo, &backlog, &ver]).await?;
    Ok(())
}

/// Asks for the standing of sequences.
pub(super) async fn acks(
    client: &Client,
    statements: &Statements,
    sequences: &[Sequence],
) -> Result<Vec<Ack>, Error> {
    let gw: Vec<_> = sequences.iter().map(|sequence| sequence.gw.as_str()).collect();
    let ep: Vec<_> = sequences.iter().map(|sequence| signed(sequence.ep)).collect();
    let st: Vec<_> = sequences.iter().map(|sequence| sequence.st.as_str()).collect();
    // One more than is named tells whether there are more.
    let holes_max = i64::try_from(limits::ACK_HOLES_MAX + 1).unwrap_or(i64::MAX);
    let rows = client.query(&statements.acks, &[&gw, &ep, &st, &holes_max]).await?;
    let unsigned = |number: i64| u64::try_from(number).unwrap_or(0);
    let mut acks: Vec<(i64, Ack)> = Vec::new();
    for row in &rows {
        let nth: i64 = row.get(0);
        if acks.last().is_none_or(|(before, _)| *before != nth) {
            let at = usize::try_from(nth - 1).unwrap_or(0);
            let Some(Sequence { gw, ep, st }) = sequences.get(at).cloned() else { continue };
            let upto = unsigned(row.get(1));
            acks.push((nth, Ack { gw, ep, st, upto, holes: Vec::new() }));
        }
        let (from, to): (Option<i64>, Option<i64>) = (row.get(2), row.get(3));
        if let (Some((_, ack)), Some(from), Some(to)) = (acks.last_mut(), from, to) {
            ack.holes.push((unsigned(from), unsigned(to)));
        }
    }
    Ok(acks.into_iter().map(|(_, ack)| bounded(ack)).collect())
}

/// Names at most [`limits::ACK_HOLES_MAX`] holes; with more, says nothing of what is behind them.
fn bounded(mut ack: Ack) -> Ack {
    if let Some((from, _)) = ack.holes.get(limits::ACK_HOLES_MAX) {
        ack.upto = from - 1;
        ack.holes.truncate(limits::ACK_HOLES_MAX);
    }
    ack
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_acknowledgement_with_too_many_holes_ends_before_the_first_it_cannot_name() {
        let most = limits::ACK_HOLES_MAX as u64;
        let holes: Vec<_> = (1..=most + 1).map(|n| (n * 10, n * 10 + 1)).collect();
        let ack = Ack { gw: "a".into(), ep: 1, st: "data".into(), upto: 1 << 40, holes };
        let ack = bounded(ack);
        assert_eq!(ack.holes.len(), limits::ACK_HOLES_MAX);
        assert_eq!(ack.upto, (most + 1) * 10 - 1);
        let json = serde_json::to_string(&bounded(Ack { holes: vec![(2, 3)], ..ack })).unwrap();
        assert!(json.starts_with(r#"{"ep":1,"st":"data","upto":"#), "{json}");
        assert!(json.ends_with(r#""holes":[[2,3]]}"#), "{json}");
    }
}
