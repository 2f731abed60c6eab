//! Computes a point from other points: `[chiller/power] / [chiller/flow]`.
//!
//! One value is sent for each time at which one of its inputs was read, as soon as all of them were
//! read at that time (as those of one poll are), and else when a reading of a later time comes or the
//! watermark passes. Inputs that were not read at that time count with their newest value before it.
#![no_std]

mod expression;

use expression::Expression;
use fieldgate_rule::prelude::*;

/// Computes a point from other points.
#[derive(Params)]
pub struct Derived {
    /// The expression, over points as `[device/point]`, or by their name alone when only one device
    /// has such a point.
    expr: String,
    /// Name of the point that is sent.
    point: String,
    /// Name of its device; without it that of the first point in the expression.
    device: Option<String>,
    /// Its unit.
    unit: Option<String>,
    /// How old an input may be before nothing is sent.
    #[param(default = "5m", min = "1s")]
    max_age: Duration,
    /// The expression, read.
    #[param(skip)]
    inputs: Vec<Input>,
    #[param(skip)]
    expression: Option<Expression>,
    /// Where to send it.
    #[param(skip)]
    to: Option<Output>,
    /// By series: which input it is.
    #[param(skip)]
    input_of: Vec<Option<usize>>,
    #[param(skip)]
    now: Option<Now>,
}

/// A point of the expression.
struct Input {
    name: String,
    /// The device and point it was found to be.
    found: Option<(String, String)>,
}

/// What is kept: the newest of every input, and the time that is being put together.
#[derive(State, Default)]
struct Now {
    at: Timestamp,
    /// Nothing was sent for `at` yet.
    due: bool,
    /// Time, number, and reason when there is none.
    newest: Vec<Option<(Timestamp, f64, Option<u8>)>>,
}

const KEY: &str = "now";
const TIMER: &str = "settled";

#[rule(whole_batch, emits = ["{device}/{point}"])]
impl BatchRule for Derived {
    fn series(&mut self, series: &[Series], host: &mut Host) -> Result<(), Error> {
        if self.expression.is_none() {
            let (expression, names) =
                expression::read(&self.expr).map_err(|why| Error::new("expression.syntax", why))?;
            self.inputs = names.into_iter().map(|name| Input { name, found: None }).collect();
            self.expression = Some(expression);
        }
        for one in series {
            let input = self.input(one)?;
            self.input_of.push(input);
        }
        let first = self.inputs.first().and_then(|input| input.found.as_ref());
        let device = self.device.clone().or_else(|| first.map(|(device, _)| device.clone()));
        if let (None, Some(device)) = (self.to, device) {
            let unit = self.unit.as_deref();
            self.to = Some(host.declare(Stream::Data, &device, &self.point, unit)?);
        }
        Ok(())
    }

    fn process(
        &mut self,
        _: &Context,
        batch: &[Reading<'_>],
        host: &mut Host,
    ) -> Result<(), Error> {
        let mut now = self.load(host);
        for r in batch.iter().filter(|r| !r.quality.has(Quality::LATE)) {
            if now.due && r.at > now.at {
                self.send(&mut now, host);
            }
            let Some(Some(input)) = self.input_of.get(r.series as usize) else { continue };
            let slot = &mut now.newest[*input];
            if slot.is_some_and(|(at, ..)| r.at < at) {
                continue;
            }
            *slot = match (r.number(), r.value) {
                (Some(number), _) => Some((r.at, number, None)),
                (None, Value::Boolean(flag)) => Some((r.at, f64::from(u8::from(flag)), None)),
                (None, Value::None(why)) => Some((r.at, 0.0, Some(why as u8))),
                (None, _) => Some((r.at, 0.0, Some(NoData::Malformed as u8))),
            };
            if r.at > now.at || (!now.due && r.at == now.at) {
                (now.at, now.due) = (r.at, true);
            }
            if now.due && now.newest.iter().all(|one| one.is_some_and(|(at, ..)| at == now.at)) {
                self.send(&mut now, host);
            }
        }
        self.keep(now, host);
        Ok(())
    }

    fn on_timer(&mut self, _: &Context, fired: &[Fired], host: &mut Host) -> Result<(), Error> {
        let mut now = self.load(host);
        if now.due && fired.iter().any(|one| one.at > now.at) {
            self.send(&mut now, host);
        }
        self.keep(now, host);
        Ok(())
    }
}

impl Derived {
    /// Which input a series is.
    fn input(&mut self, series: &Series) -> Result<Option<usize>, Error> {
        for (place, input) in self.inputs.iter_mut().enumerate() {
            let whole = input.name.split_once('/');
            let same = match whole {
                Some((device, point)) => device == series.device && point == series.point,
                None => input.name == series.point,
            };
            if !same {
                continue;
            }
            let found = (series.device.clone(), series.point.clone());
            return match &input.found {
                Some(other) if *other != found => Err(Error::new(
                    "expression.ambiguous",
                    format!(
                        "both {}/{} and {}/{} are called {}; write [device/point]",
                        other.0, other.1, found.0, found.1, input.name
                    ),
                )),
                _ => {
                    input.found = Some(found);
                    Ok(Some(place))
                }
            };
        }
        Ok(None)
    }

    fn load(&mut self, host: &Host) -> Now {
        let kept = || Now::load(&mut host.get(KEY)?.as_slice());
        let mut now = self.now.take().or_else(kept).unwrap_or_default();
        now.newest.resize(self.inputs.len(), None);
        now
    }

    fn keep(&mut self, now: Now, host: &mut Host) {
        let mut bytes = Vec::new();
        now.save(&mut bytes);
        host.set(KEY, &bytes);
        // Just after, so that whatever is of the same time has come.
        match now.due {
            true => host.timer(TIMER, now.at + Duration::from_micros(1)),
            false => host.cancel(TIMER),
        }
        self.now = Some(now);
    }

    fn send(&self, now: &mut Now, host: &mut Host) {
        now.due = false;
        let (Some(expression), Some(to)) = (&self.expression, self.to) else { return };
        let mut numbers = Vec::with_capacity(now.newest.len());
        for newest in &now.newest {
            // Never seen, or too long ago: nothing can be said.
            let Some((at, number, none)) = *newest else { return };
            if now.at - at > self.max_age {
                return;
            }
            if let Some(why) = none {
                let why = NoData::ALL.get(usize::from(why)).copied().unwrap_or(NoData::Malformed);
                return host.send(to, now.at, Value::None(why));
            }
            numbers.push(number);
        }
        let number = expression.value(&numbers);
        let value = match number.is_finite() {
            true => Value::Number(number),
            // Divided by zero, or a root of less than nothing.
            false => Value::None(NoData::OutOfRange),
        };
        host.send(to, now.at, value);
    }
}

#[cfg(test)]
mod tests;
