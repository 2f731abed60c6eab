//! Gives readings another name, unit, scale or precision, and leaves out those that make no sense.
#![no_std]

use fieldgate_rule::calc::round;
use fieldgate_rule::prelude::*;

/// Renames, scales, rounds and filters readings.
#[derive(Params)]
pub struct Shape {
    /// Name of the device; `{device}` and `{point}` stand for the names it came with.
    #[param(default = "{device}")]
    to_device: String,
    /// Name of the point, likewise.
    #[param(default = "{point}")]
    to_point: String,
    /// Unit, when it is to be another.
    unit: Option<String>,
    /// What a number is multiplied with.
    #[param(default = 1.0)]
    scale: f64,
    /// What is added to it after that.
    #[param(default = 0.0)]
    offset: f64,
    /// Digits after the point to round to; negative ones before it.
    #[param(min = -12, max = 12)]
    decimals: Option<i64>,
    /// Smallest number that makes sense, in the new unit.
    min: Option<f64>,
    /// Largest number that makes sense, in the new unit.
    max: Option<f64>,
    /// What becomes of a number outside: left out, set to the bound, or no value at all.
    #[param(default = "drop")]
    outside: Outside,
    /// Leaves out readings whose quality is bad.
    #[param(default = false)]
    drop_bad: bool,
    /// Leaves out readings without value.
    #[param(default = false)]
    drop_none: bool,
    /// Ten to the decimals.
    #[param(skip)]
    tens: f64,
}

/// What becomes of a number outside of the bounds.
#[derive(Choice, Clone, Copy)]
pub enum Outside {
    /// It is left out.
    Drop,
    /// It becomes the bound, marked substituted.
    Clamp,
    /// It becomes a reading without value, `out-of-range`.
    None,
}

#[rule(outputs = Output, emits = ["{to_device}/{to_point}"])]
impl Rule for Shape {
    fn prepare(&mut self) -> Result<(), Error> {
        if let (Some(min), Some(max)) = (self.min, self.max)
            && min > max
        {
            return Err(Error::new("params.bounds", "min is above max, so nothing would pass"));
        }
        self.tens = 1.0;
        for _ in 0..self.decimals.unwrap_or(0).unsigned_abs() {
            self.tens *= 10.0;
        }
        Ok(())
    }

    fn outputs(&self, series: &Series, declare: &mut Declare) -> Result<Output, Error> {
        let name =
            |text: &str| text.replace("{device}", &series.device).replace("{point}", &series.point);
        let (device, point) = (name(&self.to_device), name(&self.to_point));
        if self.unit.is_none() && device == series.device && point == series.point {
            return Ok(Output::same(series));
        }
        let unit = self.unit.as_deref().or(series.unit.as_deref());
        declare.data(&device, &point, unit)
    }

    fn reading(&self, r: Reading, (): &mut (), out: &mut Out<Output>) {
        self.pass(r, out);
    }

    // Nothing hangs on what came before, so late is as good as in time.
    fn late(&self, r: Reading, out: &mut Out<Output>) {
        self.pass(r, out);
    }
}

impl Shape {
    fn pass(&self, r: Reading, out: &mut Out<Output>) {
        if self.drop_bad && r.quality.has(Quality::BAD) {
            return;
        }
        let mut quality = r.quality;
        let value = match r.value {
            Value::None(_) if self.drop_none => return,
            Value::Number(number) => self.number(number, &mut quality),
            #[expect(clippy::cast_precision_loss, reason = "beyond 2^53 the last digits round")]
            Value::Integer(number) if self.changes() => self.number(number as f64, &mut quality),
            other => Some(other),
        };
        if let Some(value) = value {
            out.send_as(*out.to(), r.at, value, quality);
        }
    }

    fn changes(&self) -> bool {
        self.scale != 1.0
            || self.offset != 0.0
            || self.decimals.is_some()
            || self.min.is_some()
            || self.max.is_some()
    }

    fn number(&self, number: f64, quality: &mut Quality) -> Option<Value<'static>> {
        let mut number = number * self.scale + self.offset;
        match self.decimals {
            Some(0..) => number = round(number * self.tens) / self.tens,
            Some(_) => number = round(number / self.tens) * self.tens,
            None => {}
        }
        let bound = match (self.min, self.max) {
            (Some(min), _) if number < min => min,
            (_, Some(max)) if number > max => max,
            _ => return Some(Value::Number(number)),
        };
        match self.outside {
            Outside::Drop => None,
            Outside::Clamp => {
                *quality = *quality | Quality::SUBSTITUTED;
                Some(Value::Number(bound))
            }
            Outside::None => Some(Value::None(NoData::OutOfRange)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fieldgate_rule::testing::{Bed, documented, holds, plans, recordings};

    #[test]
    fn a_number_is_scaled_rounded_and_renamed() {
        let bed = Bed::new("m/raw = 2120@0s -173@1s").with("scale", 0.018).with("offset", 32.0);
        let bed = bed.with("decimals", 1_i64).with("to_point", "{point}_f").with("unit", "[degF]");
        assert_eq!(bed.lines::<Shape>(), ["m/raw_f = 70.2@0s", "m/raw_f = 28.9@1s"]);
        assert_eq!(bed.run::<Shape>().emitted[0].unit.as_deref(), Some("[degF]"));
    }

    #[test]
    fn what_makes_no_sense_is_dropped_bounded_or_no_value() {
        let feed = "m/p = 5@0s 500@1s -1@2s none@3s";
        let bed = Bed::new(feed).with("min", 0.0).with("max", 100.0);
        assert_eq!(bed.lines::<Shape>(), ["m/p = 5@0s", "m/p = none@3s"]);
        let clamped = bed.clone().with("outside", "clamp").lines::<Shape>();
        let wanted =
            ["m/p = 5@0s", "m/p = 100:substituted@1s", "m/p = 0:substituted@2s", "m/p = none@3s"];
        assert_eq!(clamped, wanted);
        let none = bed.with("outside", "none").with("drop_none", true).lines::<Shape>();
        let wanted = ["m/p = 5@0s", "m/p = none:out-of-range@1s", "m/p = none:out-of-range@2s"];
        assert_eq!(none, wanted);
    }

    #[test]
    fn texts_and_flags_pass_untouched_and_bad_ones_are_dropped_when_asked() {
        let bed = Bed::new("m/p = 'x'@0s true@1s 3:bad@2s").with("scale", 2.0);
        assert_eq!(bed.lines::<Shape>(), ["m/p = 'x'@0s", "m/p = true@1s", "m/p = 6:bad@2s"]);
        assert_eq!(bed.with("drop_bad", true).lines::<Shape>().len(), 2);
    }

    #[test]
    fn its_page_tells_of_every_parameter() {
        documented::<Shape>(include_str!("../../../docs/rules/shape.md"));
    }

    proptest::proptest! {
        #[test]
        fn the_three_properties_hold(bed in recordings(), plan in plans()) {
            holds::<Shape>(&bed.with("scale", 0.1).with("decimals", 1_i64), &plan)?;
        }
    }
}
