//! The operator's side of a rule's parameters, checked against the author's: `with = { .. }` of a
//! `[rule.x]` table. `check`, the daemon, config tests and the author's commands all come here.

use std::ops::Range;

use toml::de::{DeTable, DeValue};

use super::parse::micros;
use super::{Kind, Manifest, Parameter, show_duration, whole};
use crate::limits;
use crate::rules::wit::Param;

/// One thing wrong with `with`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParamFault {
    /// Which of the given tables it stands in.
    pub layer: usize,
    /// Bytes of that table's file; `None` when something is missing, so the table itself is meant.
    pub span: Option<Range<usize>>,
    /// What was found, as a fault begins: `unknown parameter "bnad" of rule deadband`.
    pub found: String,
    /// Why it does not do; may be empty.
    pub why: String,
    /// What would do; may be empty.
    pub hint: String,
}

impl Manifest {
    /// Checks what an operator wrote and fills in defaults. The result is in the author's order;
    /// parameters that are optional and were not given are absent.
    ///
    /// # Errors
    /// Every fault at once.
    pub fn params(&self, with: &DeTable<'_>) -> Result<Vec<(String, Param)>, Vec<ParamFault>> {
        self.params_of(&[with])
    }

    /// As [`Manifest::params`] for several tables, of which the last that has a parameter counts:
    /// a test overrides what its rule is configured with.
    ///
    /// # Errors
    /// Every fault at once.
    pub fn params_of(
        &self,
        layers: &[&DeTable<'_>],
    ) -> Result<Vec<(String, Param)>, Vec<ParamFault>> {
        let mut faults = Vec::new();
        for (layer, table) in layers.iter().enumerate() {
            for (key, _) in table.iter() {
                if self.parameter(key.get_ref()).is_none() {
                    faults.push(self.unknown(layer, key.get_ref(), key.span()));
                }
            }
        }
        let mut params = Vec::new();
        for parameter in &self.parameters {
            let mut given = None;
            for (layer, table) in layers.iter().enumerate() {
                let Some(value) = table.get(parameter.name.as_str()) else { continue };
                match parameter.read(value.get_ref()) {
                    Ok(param) => given = Some(param),
                    Err(mut fault) => {
                        // The whole value is marked, whichever entry of a list it is.
                        fault.layer = layer;
                        fault.span = Some(value.span());
                        given = parameter.default.clone().or(Some(Param::Boolean(false)));
                        faults.push(fault);
                    }
                }
            }
            match given.or_else(|| parameter.default.clone()) {
                Some(param) => params.push((parameter.name.clone(), param)),
                None if parameter.optional => {}
                None => faults.push(ParamFault {
                    layer: 0,
                    span: None,
                    found: format!("rule {} needs its parameter {}", self.name, parameter.name),
                    why: parameter.help.clone(),
                    hint: format!("with = {{ {} }}", parameter.example()),
                }),
            }
        }
        faults.sort_by_key(|fault| (fault.layer, fault.span.as_ref().map(|span| span.start)));
        if faults.is_empty() { Ok(params) } else { Err(faults) }
    }

    fn unknown(&self, layer: usize, name: &str, span: Range<usize>) -> ParamFault {
        let names: Vec<_> = self.parameters.iter().map(|known| known.name.as_str()).collect();
        let why = if names.is_empty() {
            format!("{} {} has no parameters", self.name, self.version)
        } else {
            format!("{} {} knows: {}", self.name, self.version, names.join(", "))
        };
        let near = near(name, &names).map(|near| format!("did you mean \"{near}\"?"));
        ParamFault {
            layer,
            span: Some(span),
            found: format!("unknown parameter \"{}\" of rule {}", name.escape_debug(), self.name),
            why,
            hint: near.unwrap_or_else(|| "remove it".to_owned()),
        }
    }
}

impl Parameter {
    fn read(&self, value: &DeValue<'_>) -> Result<Param, ParamFault> {
        let param = self.typed(value)?;
        self.admits(&param).map_err(|why| ParamFault {
            found: format!("{} = {} does not do", self.name, shown(&param)),
            why,
            hint: self.hint(&param),
            layer: 0,
            span: None,
        })?;
        Ok(param)
    }

    fn typed(&self, value: &DeValue<'_>) -> Result<Param, ParamFault> {
        let param = match (self.kind, value) {
            (Kind::Number, value) => number(value).map(Param::Number),
            (Kind::Integer, DeValue::Integer(n)) => {
                i64::from_str_radix(n.as_str(), n.radix()).ok().map(Param::Integer)
            }
            (Kind::Boolean, DeValue::Boolean(flag)) => Some(Param::Boolean(*flag)),
            (Kind::Text, DeValue::String(text)) => Some(Param::Text(text.to_string())),
            (Kind::Duration, DeValue::String(text)) => match micros(text) {
                Some(us) => Some(Param::DurationUs(us)),
                None => return Err(self.no_duration(text)),
            },
            (Kind::Texts, DeValue::String(text)) => Some(Param::Texts(vec![text.to_string()])),
            (Kind::Texts, DeValue::Array(list)) => {
                let text = |entry: &DeValue<'_>| entry.as_str().map(str::to_owned);
                list.iter()
                    .map(|entry| text(entry.get_ref()))
                    .collect::<Option<_>>()
                    .map(Param::Texts)
            }
            (Kind::Numbers, DeValue::Array(list)) => {
                let entry = |entry: &toml::Spanned<DeValue<'_>>| number(entry.get_ref());
                list.iter().map(entry).collect::<Option<_>>().map(Param::Numbers)
            }
            _ => None,
        };
        param.ok_or_else(|| {
            let (takes, _) = self.kind.takes();
            ParamFault {
                found: format!("{} is {}", self.name, what_it_is(value)),
                why: format!("{} takes {takes}", self.name),
                hint: self.example(),
                layer: 0,
                span: None,
            }
        })
    }

    fn no_duration(&self, text: &str) -> ParamFault {
        let why = if text.trim().parse::<f64>().is_ok() {
            "a number needs its unit: ms, s, m, h or d"
        } else {
            "a duration is a number with its unit: \"500ms\", \"5s\", \"10m\", \"2h\", \"30d\""
        };
        ParamFault {
            found: format!("{} = \"{}\" is no duration", self.name, text.escape_debug()),
            why: why.to_owned(),
            hint: self.example(),
            layer: 0,
            span: None,
        }
    }

    /// Says why a value of the right kind does not do all the same.
    pub(super) fn admits(&self, param: &Param) -> Result<(), String> {
        match param {
            Param::Number(n) => self.within(*n),
            #[expect(clippy::cast_precision_loss, reason = "bounds are below 2^53")]
            Param::Integer(n) => self.within(*n as f64),
            #[expect(clippy::cast_precision_loss, reason = "read within 2^53")]
            Param::DurationUs(us) => self.within(*us as f64),
            Param::Boolean(_) => Ok(()),
            Param::Text(text) => self.admits_text(text),
            Param::Texts(texts) => {
                self.admits_count(texts.len())?;
                texts.iter().try_for_each(|text| self.admits_text(text))
            }
            Param::Numbers(numbers) => {
                self.admits_count(numbers.len())?;
                numbers.iter().try_for_each(|number| self.within(*number))
            }
        }
    }

    fn within(&self, number: f64) -> Result<(), String> {
        let name = &self.name;
        if !number.is_finite() {
            return Err(format!("{name} is a number to calculate with"));
        }
        let below = self.min.is_some_and(|min| number < min);
        let above = self.max.is_some_and(|max| number > max);
        if !below && !above {
            return Ok(());
        }
        let min = self.min.map(|min| self.bound(min));
        let max = self.max.map(|max| self.bound(max));
        Err(match (min, max) {
            (Some(min), Some(max)) => format!("{name} is from {min} to {max}"),
            (Some(min), None) => format!("{name} is at least {min}"),
            (_, max) => format!("{name} is at most {}", max.unwrap_or_default()),
        })
    }

    fn bound(&self, bound: f64) -> String {
        match (self.kind, whole(bound), &self.unit) {
            (Kind::Duration, Some(us), _) => show_duration(us.unsigned_abs()),
            (_, _, Some(unit)) => format!("{bound} {unit}"),
            (_, _, None) => bound.to_string(),
        }
    }

    fn admits_text(&self, text: &str) -> Result<(), String> {
        if text.len() > limits::PARAM_TEXT_BYTES_MAX {
            let most = limits::PARAM_TEXT_BYTES_MAX;
            return Err(format!("{} has {} bytes, at most {most} do", self.name, text.len()));
        }
        if self.choices.is_empty() || self.choices.iter().any(|choice| choice == text) {
            return Ok(());
        }
        Err(format!("{} is one of {}", self.name, quoted(&self.choices)))
    }

    fn admits_count(&self, count: usize) -> Result<(), String> {
        if count <= limits::PARAM_ENTRIES_MAX {
            return Ok(());
        }
        Err(format!("{} has {count} entries, at most {} do", self.name, limits::PARAM_ENTRIES_MAX))
    }

    /// What to write instead of a value that does not do.
    fn hint(&self, param: &Param) -> String {
        let words: Vec<&str> = self.choices.iter().map(String::as_str).collect();
        let wrong = match param {
            Param::Text(text) => Some(text.as_str()),
            Param::Texts(texts) => {
                texts.iter().map(String::as_str).find(|text| !words.contains(text))
            }
            _ => None,
        };
        match wrong.and_then(|wrong| near(wrong, &words)) {
            Some(near) => format!("did you mean \"{near}\"?"),
            None => self.example(),
        }
    }

    /// `band = 0.1`: the default when there is one, else what a value looks like.
    fn example(&self) -> String {
        let value = match (&self.default, self.choices.first()) {
            (Some(default), _) => shown(default),
            (None, Some(choice)) if self.kind == Kind::Texts => format!("[\"{choice}\"]"),
            (None, Some(choice)) => format!("\"{choice}\""),
            (None, None) => self.kind.takes().1.to_owned(),
        };
        format!("{} = {value}", self.name)
    }
}

#[expect(clippy::cast_precision_loss, reason = "a whole number where a person may write 3 for 3.0")]
fn number(value: &DeValue<'_>) -> Option<f64> {
    match value {
        DeValue::Integer(n) => {
            i64::from_str_radix(n.as_str(), n.radix()).ok().map(|number| number as f64)
        }
        DeValue::Float(n) => n.as_str().parse().ok(),
        _ => None,
    }
}

fn what_it_is(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "text",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a number",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

/// As TOML writes it.
fn shown(param: &Param) -> String {
    let list = |words: Vec<String>| format!("[{}]", words.join(", "));
    match param {
        Param::Text(text) => format!("\"{}\"", text.escape_debug()),
        Param::Number(n) => format!("{n:?}"),
        Param::Integer(n) => n.to_string(),
        Param::Boolean(flag) => flag.to_string(),
        Param::DurationUs(us) => format!("\"{}\"", show_duration(*us)),
        Param::Texts(texts) => {
            list(texts.iter().take(8).map(|text| format!("\"{}\"", text.escape_debug())).collect())
        }
        Param::Numbers(numbers) => list(numbers.iter().take(8).map(|n| format!("{n:?}")).collect()),
    }
}

fn quoted(words: &[String]) -> String {
    words.iter().map(|word| format!("\"{word}\"")).collect::<Vec<_>>().join(", ")
}

/// The known word that is closest to `word`, if any is close.
fn near<'k>(word: &str, known: &[&'k str]) -> Option<&'k str> {
    let far = (word.chars().count() / 3).max(1);
    let distance = |known: &str| strsim::osa_distance(&word.to_lowercase(), &known.to_lowercase());
    known
        .iter()
        .map(|known| (distance(known), *known))
        .filter(|(distance, known)| *distance <= far || (word.len() > 2 && known.starts_with(word)))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, known)| known)
}
