//! Points to requests. Points of one device and one period are put in address order and merged into
//! as few reads as the device allows; a read that the device refuses is cut in two where it is most
//! likely to help. No I/O.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use super::breaker::Breaker;
use super::decode::{self, Decoder};
use super::settings::{Device, Point, Table};
use crate::limits;
use crate::reading::{PointId, PointInfo, Points, TooManyPoints};

/// One sample to be: where its elements are and how they are read.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Field {
    pub(super) table: Table,
    /// Protocol address of its first element.
    pub(super) address: u16,
    /// Registers, or bits in a bit table.
    pub(super) width: u16,
    /// Index into the class's decoders.
    pub(super) decoder: u32,
}

// There is one a point, for as long as the daemon runs.
const _: () = assert!(size_of::<Field>() <= 12);

/// Decoders, latest first, among which an equal one is looked for: a device uses few, and points that
/// all differ are not to be compared each with each.
const DECODERS_COMPARED: usize = 32;

/// What is read from one device in one period: one group of readings.
#[derive(Debug)]
pub(super) struct Class {
    /// Index of the device within the bus.
    pub(super) device: usize,
    pub(super) every: Duration,
    /// The list every group of this class shares.
    pub(super) points: Arc<[PointId]>,
    /// In the order of `points`, by table and address.
    pub(super) fields: Vec<Field>,
    /// How fields are read; most share one.
    pub(super) decoders: Vec<Decoder>,
    pub(super) requests: Vec<Request>,
}

/// One read and the fields it serves.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Request {
    pub(super) span: Span,
    /// Indices into the class's fields.
    pub(super) fields: Range<usize>,
    /// Rests the request when the device answers others but never this one.
    pub(super) breaker: Breaker,
    /// Set while the device says that this does not exist: when to ask again.
    pub(super) refused_until: Option<tokio::time::Instant>,
}

/// How far one read of a device may go; all of its settings that planning anew needs.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reach {
    gap_max: u16,
    registers_max: u16,
}

impl Reach {
    pub(super) fn of(device: &Device) -> Self {
        Self { gap_max: device.gap_max, registers_max: device.registers_max }
    }
}

/// Elements of one table in a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) table: Table,
    pub(super) address: u16,
    pub(super) count: u16,
}

impl Span {
    /// Returns how people write it: `holding 107` or `holding 107-110`.
    pub(super) fn words(self) -> String {
        let last = u32::from(self.address) + u32::from(self.count.max(1)) - 1;
        if self.count <= 1 {
            format!("{} {}", self.table.word(), self.address)
        } else {
            format!("{} {}-{last}", self.table.word(), self.address)
        }
    }

    fn end(self) -> u32 {
        u32::from(self.address) + u32::from(self.count)
    }
}

/// Groups the points of `device` by period, interns them and plans their requests.
pub(super) fn classes(
    index: usize,
    device: &Device,
    known: &Points,
) -> Result<Vec<Class>, TooManyPoints> {
    let mut periods: Vec<Duration> = device.points.iter().map(|point| point.every).collect();
    periods.sort_unstable();
    periods.dedup();
    periods
        .into_iter()
        .map(|every| {
            let mut listed: Vec<&Point> =
                device.points.iter().filter(|point| point.every == every).collect();
            listed.sort_by_key(|point| (point.table, point.address));
            let mut ids = Vec::new();
            let mut fields = Vec::new();
            let mut decoders = Vec::new();
            for point in listed {
                for (name, decoder) in parts(point) {
                    ids.push(known.intern(info(device, point, &name))?);
                    fields.push(Field {
                        table: point.table,
                        address: point.address,
                        width: width(point),
                        decoder: place(&mut decoders, decoder)?,
                    });
                }
            }
            fields.shrink_to_fit();
            decoders.shrink_to_fit();
            let requests = merge(&fields, Reach::of(device));
            Ok(Class { device: index, every, points: ids.into(), fields, decoders, requests })
        })
        .collect()
}

/// Returns the index of a decoder in the list, adding it when it is new.
fn place(decoders: &mut Vec<Decoder>, decoder: Decoder) -> Result<u32, TooManyPoints> {
    let first = decoders.len().saturating_sub(DECODERS_COMPARED);
    let found = decoders[first..].iter().rposition(|known| *known == decoder);
    let index = found.map_or(decoders.len(), |at| first + at);
    if index == decoders.len() {
        decoders.push(decoder);
    }
    u32::try_from(index).map_err(|_| TooManyPoints)
}

/// Merges `fields`, which are in address order, into as few reads as `reach` allows. A value is
/// never cut in two: its registers would come from different moments.
pub(super) fn merge(fields: &[Field], reach: Reach) -> Vec<Request> {
    let mut requests: Vec<Request> = Vec::new();
    for (index, field) in fields.iter().enumerate() {
        let end = u32::from(field.address) + u32::from(field.width);
        // A register's gap costs 16 bits on the wire, and so do 16 bits.
        let (most, gap_max) = if field.table.is_bits() {
            (limits::MODBUS_BITS_MAX, reach.gap_max.saturating_mul(16))
        } else {
            (reach.registers_max.clamp(1, limits::MODBUS_REGISTERS_MAX), reach.gap_max)
        };
        if let Some(last) = requests.last_mut() {
            let span = last.span;
            let gap = u32::from(field.address).saturating_sub(span.end());
            let count = end.max(span.end()) - u32::from(span.address);
            if span.table == field.table && gap <= gap_max.into() && count <= most.into() {
                last.span.count = u16::try_from(count).unwrap_or(most);
                last.fields.end = index + 1;
                continue;
            }
        }
        requests.push(Request::of(fields, index..index + 1));
    }
    requests
}

impl Request {
    /// Reads exactly the fields of `range`, which lie in one table.
    pub(super) fn of(fields: &[Field], range: Range<usize>) -> Self {
        let first = &fields[range.start];
        let end = fields[range.clone()]
            .iter()
            .map(|field| u32::from(field.address) + u32::from(field.width))
            .max()
            .unwrap_or_default();
        let count = u16::try_from(end - u32::from(first.address)).unwrap_or(u16::MAX);
        Self {
            span: Span { table: first.table, address: first.address, count },
            fields: range,
            breaker: Breaker::default(),
            refused_until: None,
        }
    }

    /// Returns whether it reads elements that no field asked for.
    pub(super) fn has_gap(&self, fields: &[Field]) -> bool {
        self.widest_gap(fields).is_some()
    }

    /// Cuts it in two: at the widest gap, which is the likeliest to be refused, else in the middle.
    /// `None` when it cannot be cut.
    pub(super) fn split(&self, fields: &[Field]) -> Option<(Self, Self)> {
        let middle = self.fields.start + self.fields.len() / 2;
        let cut = self.widest_gap(fields).or_else(|| self.cut_near(fields, middle))?;
        Some((Self::of(fields, self.fields.start..cut), Self::of(fields, cut..self.fields.end)))
    }

    fn widest_gap(&self, fields: &[Field]) -> Option<usize> {
        let mut reached = u32::from(self.span.address);
        let mut widest = None;
        for index in self.fields.clone() {
            let field = &fields[index];
            let gap = u32::from(field.address).saturating_sub(reached);
            if gap > widest.map_or(0, |(gap, _)| gap) {
                widest = Some((gap, index));
            }
            reached = reached.max(u32::from(field.address) + u32::from(field.width));
        }
        widest.map(|(_, index)| index)
    }

    /// Finds the border between two values nearest to `middle`.
    fn cut_near(&self, fields: &[Field], middle: usize) -> Option<usize> {
        (self.fields.start + 1..self.fields.end)
            .filter(|cut| {
                let (left, right) = (&fields[cut - 1], &fields[*cut]);
                (left.address, left.width) != (right.address, right.width)
            })
            .min_by_key(|cut| cut.abs_diff(middle))
    }
}

fn width(point: &Point) -> u16 {
    if point.table.is_bits() { 1 } else { point.form.width().max(1) }
}

fn parts(point: &Point) -> Vec<(Arc<str>, Decoder)> {
    let bits = decode::bit_names(point);
    if bits.is_empty() {
        return vec![(Arc::clone(&point.name), Decoder::of(point))];
    }
    bits.iter()
        .map(|(bit, name)| (format!("{}.{name}", point.name).into(), Decoder::bit(point, *bit)))
        .collect()
}

fn info(device: &Device, point: &Point, name: &Arc<str>) -> PointInfo {
    PointInfo {
        device: Arc::clone(&device.name),
        point: Arc::clone(name),
        unit: Arc::clone(&point.unit),
        src: Some(format!("{} {}", point.table.word(), point.address).into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sources::modbus::settings::{Form, WordOrder};
    use proptest::prelude::*;

    fn device(points: Vec<Point>) -> Device {
        Device {
            name: "d".into(),
            id: 1,
            timeout: Duration::from_millis(100),
            pause: Duration::ZERO,
            gap_max: 4,
            registers_max: 125,
            points,
        }
    }

    fn point(table: Table, address: u16, form: Form) -> Point {
        Point {
            name: format!("{}{address}", table.word()).into(),
            table,
            address,
            form,
            order: WordOrder::Abcd,
            scale: 1.0,
            offset: 0.0,
            decimals: None,
            unit: "".into(),
            every: Duration::from_secs(1),
        }
    }

    fn spans(device: &Device) -> Vec<String> {
        let classes = classes(0, device, &Points::default()).unwrap();
        let requests = classes.iter().flat_map(|class| &class.requests);
        requests.map(|request| request.span.words()).collect()
    }

    #[test]
    fn neighbours_merge_up_to_the_gap_and_never_across_tables() {
        let at = |address| point(Table::Holding, address, Form::U16);
        let mixed = device(vec![
            at(20),
            at(10),
            at(11),
            at(16),
            point(Table::Input, 12, Form::F32),
            point(Table::Coil, 3, Form::Bool),
            point(Table::Coil, 60, Form::Bool),
        ]);
        assert_eq!(spans(&mixed), ["coil 3-60", "holding 10-20", "input 12-13"]);
        let apart = Device { gap_max: 3, ..mixed };
        assert_eq!(
            spans(&apart)[1..],
            ["coil 60", "holding 10-11", "holding 16-20", "input 12-13"]
        );
    }

    #[test]
    fn a_read_ends_before_a_value_that_does_not_fit_whole() {
        let points = (0..5).map(|n| point(Table::Holding, n * 2, Form::U32)).collect();
        let narrow = Device { registers_max: 5, ..device(points) };
        assert_eq!(spans(&narrow), ["holding 0-3", "holding 4-7", "holding 8-9"]);
        let all = (0..130).map(|n| point(Table::Holding, n, Form::U16)).collect();
        assert_eq!(spans(&device(all)), ["holding 0-124", "holding 125-129"]);
    }

    #[test]
    fn named_bits_are_points_of_one_register() {
        let form = Form::Bits(vec![(0, "low".into()), (3, "freeze".into())]);
        let known = Points::default();
        let alarms = device(vec![point(Table::Holding, 200, form)]);
        let classes = classes(0, &alarms, &known).unwrap();
        assert_eq!(spans(&alarms), ["holding 200"]);
        let names: Vec<_> =
            classes[0].points.iter().map(|id| known.info(*id).point.to_string()).collect();
        assert_eq!(names, ["holding200.low", "holding200.freeze"]);
        let first = known.info(classes[0].points[0]);
        assert_eq!(first.src.as_deref(), Some("holding 200"));
        assert!(classes[0].requests[0].split(&classes[0].fields).is_none());
    }

    #[test]
    fn a_refused_read_is_cut_at_its_widest_gap_first() {
        let at = |address| point(Table::Holding, address, Form::U16);
        let gaps = device(vec![at(0), at(1), at(3), at(8), at(9)]);
        let class = classes(0, &gaps, &Points::default()).unwrap().remove(0);
        let (left, right) = class.requests[0].split(&class.fields).unwrap();
        assert_eq!(
            (left.span.words(), right.span.words()),
            ("holding 0-3".into(), "holding 8-9".into())
        );
        assert!(left.has_gap(&class.fields) && !right.has_gap(&class.fields));
        let (a, b) = right.split(&class.fields).unwrap();
        assert_eq!((a.span.words(), b.span.words()), ("holding 8".into(), "holding 9".into()));
        assert!(a.split(&class.fields).is_none());
    }

    proptest! {
        #[test]
        fn every_field_lies_whole_in_exactly_one_request(
            wanted in proptest::collection::vec((0_u16..400, 0_usize..4), 1..60),
            gap_max in 0_u16..20,
            registers_max in 4_u16..=125,
        ) {
            let forms = [Form::U16, Form::F32, Form::I64, Form::Text(7)];
            let points = wanted
                .iter()
                .map(|(address, form)| point(Table::Holding, *address, forms[*form].clone()))
                .collect();
            let device = Device { gap_max, registers_max, ..device(points) };
            let class = classes(0, &device, &Points::default()).unwrap().remove(0);
            let mut next = 0;
            for request in &class.requests {
                prop_assert_eq!(request.fields.start, next);
                next = request.fields.end;
                prop_assert!(request.span.count <= registers_max);
                for field in &class.fields[request.fields.clone()] {
                    prop_assert!(field.address >= request.span.address);
                    let end = u32::from(field.address) + u32::from(field.width);
                    prop_assert!(end <= request.span.end());
                }
            }
            prop_assert_eq!(next, class.fields.len());
        }
    }
}
