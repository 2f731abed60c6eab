//! The reference set of DESIGN section 4: 50 devices of 10 points, polled once a second for a
//! minute. Seeded, so that benchmarks and the golden vector speak of the same 30,000 readings.

use std::sync::Arc;

use fieldgate::reading::{
    Decimal, Group, NoData, PointId, PointInfo, Points, Sample, Stream, UnixMillis, Value,
};

/// Devices in the set.
pub const DEVICES: usize = 50;
/// Polls of each device.
pub const POLLS: usize = 60;
/// When the first poll is due, milliseconds since 1970.
pub const START: i64 = 1_790_000_000_000;

/// Measured points: name, unit, decimals, first value and typical step in its last digit.
const MEASURED: [(&str, &str, u8, i64, i64); 7] = [
    ("temperature", "Cel", 1, 215, 1),
    ("voltage", "V", 1, 2302, 6),
    ("current", "A", 2, 1240, 12),
    ("power", "kW", 2, 2854, 20),
    ("frequency", "Hz", 2, 5000, 2),
    ("pressure", "bar", 2, 612, 4),
    ("flow", "m3/h", 2, 1835, 16),
];

/// A generator of numbers that look random and are the same everywhere (splitmix64).
pub struct Seeded(pub u64);

impl Seeded {
    /// Returns a number from 0 to `bound` - 1.
    pub fn below(&mut self, bound: i64) -> i64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        i64::try_from((z ^ (z >> 31)) >> 1).unwrap() % bound
    }

    /// Returns a step of about `size`, up or down: a bell of three throws.
    fn step(&mut self, size: i64) -> i64 {
        (0..3).map(|_| self.below(2 * size + 1) - size).sum()
    }
}

/// Interns the points of the set and returns its polls in the order of time.
pub fn groups(points: &Points) -> Vec<Group> {
    let mut noise = Seeded(42);
    let mut devices: Vec<Device> = (1..=DEVICES).map(|n| Device::new(n, points)).collect();
    let mut groups = Vec::with_capacity(DEVICES * POLLS);
    for poll in 0..i64::try_from(POLLS).unwrap() {
        for (device, slot) in devices.iter_mut().zip(0..) {
            let at = UnixMillis(START + 1000 * poll + 19 * slot + noise.below(4));
            groups.push(device.poll(at, &mut noise));
        }
    }
    groups
}

struct Device {
    points: Arc<[PointId]>,
    measured: [i64; 7],
    energy: i64,
    flags: [bool; 2],
}

impl Device {
    fn new(n: usize, points: &Points) -> Self {
        let name = format!("meter-{n:02}");
        let of =
            |point: &str, unit: &str| points.intern(PointInfo::new(&name, point, unit)).unwrap();
        let mut ids: Vec<PointId> = MEASURED.iter().map(|m| of(m.0, m.1)).collect();
        ids.extend([of("energy", "Wh"), of("running", ""), of("alarm", "")]);
        let energy = 8_412_000 + 1_000 * i64::try_from(n).unwrap();
        Self { points: ids.into(), measured: MEASURED.map(|m| m.3), energy, flags: [true, false] }
    }

    fn poll(&mut self, at: UnixMillis, noise: &mut Seeded) -> Group {
        let mut samples = Vec::with_capacity(10);
        for (digits, (_, _, places, _, step)) in self.measured.iter_mut().zip(MEASURED) {
            *digits += noise.step(step);
            samples.push(Value::Decimal(Decimal { digits: *digits, places }));
        }
        self.energy += noise.below(15);
        samples.push(Value::from_i64(self.energy));
        for flag in &mut self.flags {
            *flag ^= noise.below(300) == 0;
            samples.push(Value::Bool(*flag));
        }
        let seen = |value| match noise.below(1000) {
            0..3 => Sample::none(NoData::Timeout),
            _ => Sample::good(value),
        };
        let samples = samples.into_iter().map(seen).collect();
        Group { stream: Stream::Data, at, points: Arc::clone(&self.points), samples }
    }
}
