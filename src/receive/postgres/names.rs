//! Numbers of series. They are given outside the slice's transaction: a number that was given stays
//! given when the slice fails, and two receivers that meet the same gateway for the first time do not
//! hold each other up for the length of a slice.

use std::collections::HashMap;

use tokio_postgres::{Client, Error};

use super::link::Statements;
use crate::limits;
use crate::receive::sink::Delivery;

/// A series that has no number yet: gateway, stream, device, point, unit; whether it is of flags.
type New<'a> = ([&'a str; 5], bool);

/// Returns, for each batch, the number of each of its series.
pub(super) async fn number(
    client: &Client,
    statements: &Statements,
    known: &mut HashMap<Box<str>, i32>,
    slice: &[Delivery],
) -> Result<Vec<Vec<i32>>, Error> {
    if known.len() > limits::SERIES_NUMBERED_MAX {
        known.clear();
    }
    let mut new: Vec<New<'_>> = Vec::new();
    let mut joined = String::new();
    for delivery in slice {
        for series in 0..delivery.batch.series_count() {
            let names = names(delivery, series);
            join(&names, &mut joined);
            if !known.contains_key(joined.as_str()) {
                new.push((names, delivery.batch.is_flag(series)));
            }
        }
    }
    if !new.is_empty() {
        // All receivers insert in this order, so that none waits for another that waits for it.
        new.sort_unstable();
        new.dedup_by_key(|(names, _)| *names);
        learn(client, statements, known, &new).await?;
    }
    let mut numbers = Vec::with_capacity(slice.len());
    for delivery in slice {
        let mut of_batch = Vec::with_capacity(delivery.batch.series_count());
        for series in 0..delivery.batch.series_count() {
            join(&names(delivery, series), &mut joined);
            // Every one was found or learned above; a row deleted this instant leaves series 0.
            of_batch.push(known.get(joined.as_str()).copied().unwrap_or(0));
        }
        numbers.push(of_batch);
    }
    Ok(numbers)
}

async fn learn(
    client: &Client,
    statements: &Statements,
    known: &mut HashMap<Box<str>, i32>,
    new: &[New<'_>],
) -> Result<(), Error> {
    let column = |n: usize| -> Vec<&str> { new.iter().map(|(names, _)| names[n]).collect() };
    let columns: [Vec<&str>; 5] = std::array::from_fn(column);
    let flags: Vec<bool> = new.iter().map(|(_, flag)| *flag).collect();
    let [gw, st, device, point, unit] = &columns;
    client.execute(&statements.insert_series, &[gw, st, device, point, unit, &flags]).await?;
    let found = client.query(&statements.find_series, &[gw, st, device, point, unit]).await?;
    let mut joined = String::new();
    for row in &found {
        let (nth, id): (i64, i32) = (row.get(0), row.get(1));
        let at = usize::try_from(nth - 1).unwrap_or(usize::MAX);
        if let Some((names, _)) = new.get(at) {
            join(names, &mut joined);
            known.insert(joined.as_str().into(), id);
        }
    }
    Ok(())
}

fn names(delivery: &Delivery, series: usize) -> [&str; 5] {
    let (device, point, unit) = delivery.batch.name(series);
    let header = &delivery.batch.header;
    [&header.gateway, &header.stream, device, point, unit]
}

/// Joins names by a character that the checks keep out of them.
fn join(names: &[&str; 5], out: &mut String) {
    out.clear();
    for name in names {
        out.push_str(name);
        out.push('\0');
    }
}
