//! Which template fits a device: the registers that its model always has, read and compared.

use std::time::Duration;

use super::search::Found;
use crate::config::models::{Expected, Model, Probe};
use crate::reading::Value;
use crate::sources::line::LineSettings;
use crate::sources::modbus::inquiry::Inquiry;

/// A device that answered, and its model when one of the templates fits.
#[derive(Debug, Clone)]
pub(in crate::cli) struct Known {
    pub(in crate::cli) id: u8,
    /// `9600 8N1`, `Modbus TCP`.
    pub(in crate::cli) way: String,
    pub(in crate::cli) line: Option<LineSettings>,
    /// Whether it is RTU frames over TCP.
    pub(in crate::cli) rtu: bool,
    /// Template, what it is for, and registers that fit.
    pub(in crate::cli) model: Option<(String, String, usize)>,
}

/// Finds the model of a device: every probe of its template must fit, and of several templates the
/// one with the most probes is the answer.
pub(super) async fn identify(
    inquiry: &mut Inquiry,
    found: &Found,
    id: u8,
    (models, patience): (&[Model], Duration),
) -> Known {
    let mut best: Option<&Model> = None;
    for model in models {
        let is_better = best.is_none_or(|best| best.probes.len() < model.probes.len());
        if is_better && fits(inquiry, id, &model.probes, patience).await {
            best = Some(model);
        }
    }
    let model = best.map(|it| (it.template.clone(), it.about.clone(), it.probes.len()));
    let rtu = found.line.is_none() && found.way.starts_with("RTU");
    Known { id, way: found.way.clone(), line: found.line, rtu, model }
}

async fn fits(inquiry: &mut Inquiry, id: u8, probes: &[Probe], patience: Duration) -> bool {
    for probe in probes {
        let Ok(sample) = inquiry.value(id, &probe.point, patience).await else {
            return false;
        };
        if !sample.value.is_ok_and(|value| is_as_expected(&probe.expected, &value, id)) {
            return false;
        }
    }
    true
}

fn is_as_expected(expected: &Expected, value: &Value, id: u8) -> bool {
    let number = match value {
        Value::Decimal(decimal) => Some(decimal.to_f64()),
        Value::Float(number) => Some(*number),
        Value::Bool(_) | Value::Text(_) => None,
    };
    match (expected, number, value) {
        (Expected::Between(min, max), Some(number), _) => (*min..=*max).contains(&number),
        (Expected::OwnId, Some(number), _) => number == f64::from(id),
        (Expected::Text(text), _, Value::Text(found)) => **found == **text,
        _ => false,
    }
}

impl Known {
    /// Returns the way to it as a device's `via`.
    pub(in crate::cli) fn via(&self, target: &str) -> String {
        let kind = match (self.line, self.rtu) {
            (Some(_), _) => "",
            (None, false) => "tcp ",
            (None, true) => "rtu-over-tcp ",
        };
        format!("modbus {kind}{target} id {}", self.id)
    }

    /// Returns a name for a device of this model: `sdm630-1`.
    pub(in crate::cli) fn proposed_name(&self) -> String {
        let model = self.model.as_ref().map_or("device", |(template, ..)| {
            template.split_once('-').map_or(&**template, |(_, model)| model)
        });
        format!("{model}-{}", self.id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probes_compare_numbers_texts_and_the_devices_own_id() {
        let number = |number: f64| Value::from_f64(number).unwrap();
        let text = Value::from_text("SunS");
        let between = Expected::Between(45.0, 65.0);
        assert!(is_as_expected(&between, &number(50.02), 1));
        assert!(!is_as_expected(&between, &number(65.1), 1));
        assert!(!is_as_expected(&between, &text, 1));
        assert!(is_as_expected(&Expected::Text("SunS".into()), &text, 1));
        assert!(!is_as_expected(&Expected::Text("SunX".into()), &text, 1));
        assert!(is_as_expected(&Expected::OwnId, &number(7.0), 7));
        assert!(!is_as_expected(&Expected::OwnId, &number(7.0), 8));
    }
}
