//! Points by address, for a device that no template fits: a word for the name, the register as a manual
//! or `read --explain` gives it, its type, and what turns its number into a value.

use super::Walk;
use super::ask::Stopped;
use crate::cli::scan::identify::Known;
use crate::config::address::{form, form_as_written, parse};
use crate::config::{self, name_trouble, outline};
use crate::sources::modbus::settings::Form;

/// Points that are asked for: whoever needs more writes them into the file, one a line.
const POINTS_MAX: usize = 32;

/// What a device is called until it has a name.
const TRIAL: &str = "device-being-set-up";

impl Walk<'_> {
    /// Asks for the points of a device, and returns their lines; none leaves the device for later.
    pub(super) fn points(&mut self, one: &Known) -> Result<Vec<String>, Stopped> {
        let mut lines = Vec::new();
        self.ask.say("  or its points, one by one: NAME ADDRESS TYPE SCALE UNIT, the last three when needed,");
        self.ask.say("  as: supply_temp holding 107 i16 0.1 Cel, or: power 40109 f32");
        while lines.len() < POINTS_MAX {
            let key = match lines.len() {
                0 => format!("device.{}.point", one.id),
                n => format!("device.{}.point.{}", one.id, n + 1),
            };
            let question =
                if lines.is_empty() { "a point, or - for later" } else { "another point" };
            let answer = self.ask.ask(&key, question, "")?;
            if answer.is_empty() {
                break;
            }
            let line = point_line(&answer).and_then(|line| self.accepted(&lines, line));
            match line {
                Ok(line) => lines.push(line),
                Err(why) => {
                    self.ask.say(&format!("  \"{}\" does not do: {why}", answer.escape_debug()));
                    self.ask.not_again(&key)?;
                }
            }
        }
        Ok(lines)
    }

    /// Returns the line when a configuration takes it beside those before it. What cannot be used is
    /// told where it is typed, not when everything else has been asked, too.
    fn accepted(&self, lines: &[String], line: String) -> Result<String, String> {
        let mut points = lines.to_vec();
        points.push(line.clone());
        let mut trial = self.drafts.clone();
        trial.add(TRIAL, device_table(TRIAL, "modbus tcp 127.0.0.1 id 1", &points));
        let loaded = config::load_drafted(self.main, config::Options::default(), &trial.list());
        let Err(faults) = loaded else { return Ok(line) };
        match faults.faults.iter().find(|fault| fault.file.contains(TRIAL)) {
            Some(fault) if fault.hint.is_empty() => Err(fault.found.clone()),
            Some(fault) => Err(format!("{}; {}", fault.found, fault.hint)),
            None => Ok(line),
        }
    }
}

/// Writes the table of a device with points of its own.
pub(super) fn device_table(name: &str, via: &str, points: &[String]) -> String {
    let (name, via) = (outline::key(name), outline::text(via));
    format!("[device.{name}]\nvia = {via}\n{}\n", points.join("\n"))
}

/// Turns what was typed into the line of a configuration.
fn point_line(typed: &str) -> Result<String, String> {
    let words: Vec<_> = typed.split_whitespace().collect();
    let (name, at, rest) = match words.as_slice() {
        [name, table, number, rest @ ..] if table.starts_with(char::is_alphabetic) => {
            (*name, format!("{table} {number}"), rest)
        }
        [name, number, rest @ ..] => (*name, (*number).to_owned(), rest),
        _ => return Err("it needs a name and an address".to_owned()),
    };
    if let Some(trouble) = name_trouble(name) {
        return Err(trouble);
    }
    let (table, _) = parse(&at)?;
    let mut rest = rest.iter();
    let form = match rest.next() {
        Some(word) => form(word)?,
        None if table.is_bits() => Form::Bool,
        None => Form::U16,
    };
    let (name, at) = (outline::key(name), outline::text(&at));
    let mut line = format!("points.{name} = {{ at = {at}, as = \"{}\"", form_as_written(&form));
    let mut rest = rest.peekable();
    if let Some(scale) = rest.next_if(|word| word.parse::<f64>().is_ok_and(f64::is_normal)) {
        line += &format!(", scale = {}", scale.parse::<f64>().unwrap_or(1.0));
    }
    if let Some(unit) = rest.next() {
        line += &format!(", unit = {}", outline::text(unit));
    }
    if let Some(more) = rest.next() {
        return Err(format!("\"{}\" is one word too many", more.escape_debug()));
    }
    if matches!(form, Form::F32 | Form::F64) {
        line += ", decimals = 2";
    }
    Ok(line + " }")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_point_is_typed_as_a_manual_says_it() {
        let typed = |text: &str| point_line(text).unwrap_or_else(|why| format!("no: {why}"));
        assert_eq!(
            typed("supply_temp holding 107 i16 0.1 Cel"),
            "points.supply_temp = { at = \"holding 107\", as = \"i16\", scale = 0.1, unit = \"Cel\" }"
        );
        assert_eq!(
            typed("power 40109 f32 kW"),
            "points.power = { at = \"40109\", as = \"f32\", unit = \"kW\", decimals = 2 }"
        );
        assert_eq!(typed("on coil 3"), "points.on = { at = \"coil 3\", as = \"bool\" }");
        assert_eq!(typed("a.b 40001"), "points.\"a.b\" = { at = \"40001\", as = \"u16\" }");
        assert_eq!(
            typed("x input 4 u32 10"),
            "points.x = { at = \"input 4\", as = \"u32\", scale = 10 }"
        );
        for bad in ["x", "a/b holding 1", "x holdng 1", "x holding 1 i17", "x holding 1 u16 2 W h"]
        {
            assert!(typed(bad).starts_with("no: "), "{bad}: {}", typed(bad));
        }
    }
}
