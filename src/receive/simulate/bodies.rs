//! Bodies of batches that look like a site's: made once, and sealed again and again at other times.

use std::sync::Arc;
use std::time::Duration;

use crate::batch::{Assembly, Body, Coding, Envelope};
use crate::limits;
use crate::reading::{
    Decimal, Group, NoData, PointId, PointInfo, Points, Sample, Stream, UnixMillis, Value,
};

/// Different bodies: enough that neighbours in a sequence differ.
const VARIANTS: usize = 16;

/// Points of one simulated device: the polls of a meter.
const POINTS_A_DEVICE: u32 = 10;

/// One poll in so many fails.
const FAILED_EVERY: u64 = 1000;

/// What a simulated device measures: name, unit, decimals, where it begins and how far it walks.
const MEASURED: [(&str, &str, u8, i64, i64); 8] = [
    ("voltage", "V", 1, 2301, 4),
    ("current", "A", 2, 1234, 30),
    ("power", "W", 0, 2840, 25),
    ("frequency", "Hz", 2, 5000, 1),
    ("supply_temp", "Cel", 1, 215, 1),
    ("return_temp", "Cel", 1, 184, 1),
    ("pressure", "bar", 2, 312, 2),
    ("energy", "kWh", 1, 123_456, 0),
];

/// Bodies, and the time each stands for.
#[derive(Debug)]
pub(super) struct Bodies {
    list: Vec<Body>,
    points: u32,
    rows: u32,
    period_us: u64,
}

/// A small generator of numbers by chance: SplitMix64 (Steele, Lea and Flood, 2014).
#[derive(Debug, Clone)]
pub(super) struct Chance(u64);

impl Chance {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Returns true in this share of cases.
    pub(super) fn happens(&mut self, share: f64) -> bool {
        #[expect(clippy::cast_precision_loss, reason = "53 bits of chance are plenty")]
        let drawn = (self.next() >> 11) as f64 / (1_u64 << 53) as f64;
        drawn < share
    }

    /// Returns -range to range.
    fn step(&mut self, range: i64) -> i64 {
        let width = range.unsigned_abs() * 2 + 1;
        i64::try_from(self.next() % width).unwrap_or(0) - range
    }
}

impl Bodies {
    /// Makes bodies of `rows` polls of `points` points. `None` when one is over the batch limit.
    pub(super) fn new(
        points: u32,
        rows: u32,
        period_us: u64,
        coding: Coding,
        seed: u64,
    ) -> Option<Self> {
        let mut chance = Chance::new(seed);
        let names = Points::default();
        let mut devices = Vec::new();
        for first in (0..points).step_by(POINTS_A_DEVICE as usize) {
            let number = first / POINTS_A_DEVICE + 1;
            devices.push(device(&names, number, POINTS_A_DEVICE.min(points - first))?);
        }
        let mut list = Vec::with_capacity(VARIANTS);
        for _ in 0..VARIANTS {
            let mut assembly = Assembly::default();
            for (place, ids) in (0_u64..).zip(&devices) {
                let offset_us = place * period_us / devices.len() as u64;
                polls(&mut assembly, ids, (rows, period_us, offset_us), &mut chance);
            }
            let mut bodies =
                assembly.into_bodies(&names, coding, limits::BATCH_BYTES_MAX).into_iter();
            let body = bodies.next()?;
            if bodies.next().is_some() {
                return None;
            }
            list.push(body);
        }
        Some(Self { list, points, rows, period_us })
    }

    /// Returns how many readings each holds.
    pub(super) fn readings(&self) -> u64 {
        self.list.first().map_or(0, |body| body.readings() as u64)
    }

    /// Returns how many points a gateway has.
    pub(super) fn points(&self) -> u64 {
        self.points.into()
    }

    /// Returns the time that a batch covers.
    pub(super) fn interval(&self) -> Duration {
        Duration::from_micros(self.period_us * u64::from(self.rows))
    }

    /// Seals the body that belongs to this gateway and sequence number, always the same one. The
    /// first of its times is `start` ms since 1970.
    pub(super) fn seal(&self, gateway: u32, envelope: &Envelope<'_>, start: i64) -> Vec<u8> {
        let which = Chance::new(u64::from(gateway) << 32 ^ envelope.sequence).next();
        let which = usize::try_from(which % self.list.len() as u64).unwrap_or(0);
        self.list[which].seal_at(envelope, start)
    }
}

fn device(names: &Points, number: u32, count: u32) -> Option<Arc<[PointId]>> {
    let device = format!("meter-{number}");
    let ids = (0..count as usize).map(|place| {
        let info = match MEASURED.get(place) {
            Some((name, unit, ..)) => PointInfo::new(&device, name, unit),
            None if place == MEASURED.len() => PointInfo::new(&device, "running", ""),
            None => PointInfo::new(&device, "state", ""),
        };
        names.intern(info).ok()
    });
    ids.collect()
}

/// Adds the polls of one device: a walk a point, and a failed poll now and then.
fn polls(
    assembly: &mut Assembly,
    ids: &Arc<[PointId]>,
    (rows, period_us, offset_us): (u32, u64, u64),
    chance: &mut Chance,
) {
    let mut walks = MEASURED.map(|(.., start, _)| start + chance.step(start / 50));
    for row in 0..u64::from(rows) {
        let millis = (offset_us + row * period_us) / 1000;
        let failed = chance.next().is_multiple_of(FAILED_EVERY);
        let samples = (0..ids.len()).map(|place| {
            if failed {
                return Sample::none(NoData::Timeout);
            }
            Sample::good(match MEASURED.get(place) {
                Some((_, _, places, _, range)) => {
                    walks[place] += if *range == 0 { 1 } else { chance.step(*range) };
                    Value::Decimal(Decimal { digits: walks[place], places: *places })
                }
                None if place == MEASURED.len() => Value::Bool(true),
                None => Value::from_text(if row % 32 == 31 { "defrost" } else { "heating" }),
            })
        });
        assembly.push(&Group {
            stream: Stream::Data,
            at: UnixMillis(i64::try_from(millis).unwrap_or(i64::MAX)),
            samples: samples.collect(),
            points: Arc::clone(ids),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::decode;

    #[test]
    fn a_sealed_body_decodes_to_its_own_time() {
        let bodies = Bodies::new(25, 7, 500_000, Coding::Zlib, 3).unwrap();
        assert_eq!(bodies.readings(), 175);
        assert_eq!(bodies.interval(), Duration::from_millis(3500));
        let envelope = Envelope {
            gateway: "sim-1",
            epoch: 1,
            stream: Stream::Data,
            sequence: 9,
            lowest_held: 9,
            dropped: 0,
            clock: 1,
            config_hash: "sim",
        };
        let payload = bodies.seal(1, &envelope, 1_790_000_000_000);
        assert_eq!(payload, bodies.seal(1, &envelope, 1_790_000_000_000));
        let batch = decode(&payload).unwrap();
        assert_eq!(batch.header.t0, 1_790_000_000_000);
        let mut rows = 0;
        batch.rows(|row| {
            rows += 1;
            assert!((batch.header.t0..=batch.header.t1).contains(&row.at.0));
        });
        assert_eq!(rows, 175);
        assert!(batch.header.t1 < batch.header.t0 + 3500);
    }

    #[test]
    fn chance_keeps_its_shares() {
        let mut chance = Chance::new(1);
        let hits = (0..100_000).filter(|_| chance.happens(0.1)).count();
        assert!((9_500..10_500).contains(&hits), "{hits}");
        assert!(!Chance::new(2).happens(0.0) && Chance::new(2).happens(1.0));
    }
}
