//! Everything that a few registers could mean: each type in each word order, with a mark where the
//! number looks like a measurement, and the line to put into the configuration.

use serde_json::{Value as Json, json};

use crate::batch::text;
use crate::config::address::{as_modicon, form_as_written};
use crate::reading::Value;
use crate::sources::modbus::inquiry::decode;
use crate::sources::modbus::settings::{Form, Point, Table, WordOrder};

/// Registers as they were read.
pub(super) struct Registers {
    pub(super) table: Table,
    pub(super) address: u16,
    /// From `address` on.
    pub(super) words: Vec<u16>,
    /// What stands at the address before, when the device tells.
    pub(super) before: Option<u16>,
}

/// One way to understand them.
struct Meaning {
    form: Form,
    order: Option<WordOrder>,
    scale: &'static str,
    value: Value,
    mark: &'static str,
}

const ORDERS: [WordOrder; 4] = [WordOrder::Abcd, WordOrder::Cdab, WordOrder::Badc, WordOrder::Dcba];
const SCALES: [&str; 3] = ["0.1", "0.01", "0.001"];
/// Characters in a row that make text of registers.
const TEXT_MIN: usize = 3;

impl Registers {
    pub(super) fn text(&self) -> String {
        let mut text = self.conventions();
        text += &listing(self.table, self.address, &self.words);
        text.push('\n');
        if self.table.is_bits() {
            let name = self.point_line(&Form::Bool, None, "");
            return format!(
                "{text}\n  bool  {}   {name}\n{}",
                self.words[0] != 0,
                self.neighbour()
            );
        }
        text += "\n  as      order  scale                value\n";
        for meaning in self.meanings() {
            let order = meaning.order.map_or("", order_word);
            let form = form_as_written(&meaning.form);
            let value = shown(&meaning.value);
            let mark = match meaning.mark {
                "" => String::new(),
                mark => format!("<- {mark}"),
            };
            let line = self.point_line(&meaning.form, meaning.order, meaning.scale);
            let row = format!(
                "  {form:<8}{order:<6} {:<6} {value:>19}  {mark:<24} {line}",
                meaning.scale
            );
            text += &format!("{}\n", row.trim_end());
        }
        text + &self.bits() + &self.neighbour()
    }

    pub(super) fn json(&self) -> Json {
        let one = |meaning: &Meaning| {
            json!({
                "as": form_as_written(&meaning.form),
                "word_order": meaning.order.map(order_word),
                "scale": if meaning.scale.is_empty() { 1.0 } else { scale_of(meaning.scale) },
                "value": text::json(Some((&meaning.value).into())),
                "plausible": meaning.mark,
                "point": self.point_line(&meaning.form, meaning.order, meaning.scale),
            })
        };
        let meanings: Vec<_> = if self.table.is_bits() {
            Vec::new()
        } else {
            self.meanings().iter().map(one).collect()
        };
        json!({
            "table": self.table.word(), "address": self.address,
            "modicon": as_modicon(self.table, self.address),
            "registers": self.words, "before": self.before, "meanings": meanings,
        })
    }

    /// The two ways to count, side by side.
    fn conventions(&self) -> String {
        let (word, address) = (self.table.word(), self.address);
        let number = as_modicon(self.table, address);
        let mut text =
            format!("{word} {address} (protocol, from 0) is number {number} (Modicon, from 1)\n");
        if let Some(before) = address.checked_sub(1) {
            let off = as_modicon(self.table, before);
            text += &format!("a manual that says {off} means {word} {before}\n");
        }
        text
    }

    fn meanings(&self) -> Vec<Meaning> {
        let mut all = Vec::new();
        let signed = |narrow: u16| narrow & 0x8000 != 0;
        self.push(&mut all, Form::U16, None);
        if signed(self.words[0]) {
            self.push(&mut all, Form::I16, None);
        }
        self.scaled(&mut all);
        let swapped = self.words[0].swap_bytes();
        if swapped != self.words[0] && swapped < 0x1000 {
            self.push(&mut all, Form::U16, Some(WordOrder::Badc));
        }
        if self.words[0] > 9 {
            self.push(&mut all, Form::Bcd16, None);
        }
        if self.words.len() >= 2 {
            for form in [Form::F32, Form::U32, Form::I32, Form::Bcd32] {
                self.push_orders(&mut all, &form);
            }
        }
        if self.words.len() >= 4 {
            for form in [Form::F64, Form::U64, Form::I64] {
                self.push_orders(&mut all, &form);
            }
        }
        self.push_text(&mut all);
        all
    }

    fn push_orders(&self, all: &mut Vec<Meaning>, form: &Form) {
        for order in ORDERS {
            let is_signed = matches!(form, Form::I32 | Form::I64);
            let Some(value) = self.value(form, order, "") else { continue };
            let negative = matches!(&value, Value::Decimal(it) if it.digits < 0)
                || matches!(value, Value::Float(it) if it < 0.0);
            let is_wide = matches!(form, Form::F64 | Form::U64 | Form::I64);
            let mark = mark(form, &value);
            // Half of all numbers are the same signed and unsigned; and long ones are rare.
            if (is_signed && !negative) || (is_wide && mark.is_empty()) {
                continue;
            }
            all.push(Meaning { form: form.clone(), order: Some(order), scale: "", value, mark });
        }
    }

    fn push(&self, all: &mut Vec<Meaning>, form: Form, order: Option<WordOrder>) {
        if let Some(value) = self.value(&form, order.unwrap_or_default(), "") {
            let mark = mark(&form, &value);
            all.push(Meaning { form, order, scale: "", value, mark });
        }
    }

    /// The usual scales of one register.
    fn scaled(&self, all: &mut Vec<Meaning>) {
        let form = if self.words[0] & 0x8000 == 0 { Form::U16 } else { Form::I16 };
        for scale in SCALES.into_iter().filter(|_| self.words[0] > 9) {
            let Some(value) = self.value(&form, WordOrder::Abcd, scale) else { continue };
            let mark = quantity(&value).unwrap_or_default();
            all.push(Meaning { form: form.clone(), order: None, scale, value, mark });
        }
    }

    fn push_text(&self, all: &mut Vec<Meaning>) {
        for order in [WordOrder::Abcd, WordOrder::Badc] {
            let bytes = u16::try_from(2 * self.words.len()).unwrap_or(u16::MAX);
            let form = Form::Text(bytes);
            let Some(Value::Text(text)) = self.value(&form, order, "") else { continue };
            let is_text =
                text.len() >= TEXT_MIN && text.chars().all(|c| c.is_ascii_graphic() || c == ' ');
            if is_text {
                let (order, mark) = (Some(order), "text");
                all.push(Meaning { form, order, scale: "", value: Value::Text(text), mark });
            }
        }
    }

    fn value(&self, form: &Form, order: WordOrder, scale: &str) -> Option<Value> {
        let width = usize::from(form.width());
        let words = self.words.get(..width)?;
        let point = Point {
            name: "".into(),
            table: self.table,
            address: self.address,
            form: form.clone(),
            order,
            scale: if scale.is_empty() { 1.0 } else { scale_of(scale) },
            offset: 0.0,
            decimals: None,
            unit: "".into(),
            every: std::time::Duration::from_secs(1),
        };
        decode(&point, words).value.ok()
    }

    fn bits(&self) -> String {
        let word = self.words[0];
        let set: Vec<_> =
            (0..16).filter(|bit| word >> bit & 1 == 1).map(|bit| bit.to_string()).collect();
        let set = if set.is_empty() { "none".to_owned() } else { set.join(" ") };
        format!("\n  bits    {word:016b}   set: {set}   (bit 0 is the lowest)\n")
    }

    fn neighbour(&self) -> String {
        let (word, Some(address)) = (self.table.word(), self.address.checked_sub(1)) else {
            return String::new();
        };
        match self.before {
            Some(before) => format!(
                "\n  off by one?  {word} {address} holds {before} (0x{before:04X}); \
                 read it with --explain, too\n"
            ),
            None => format!("\n  off by one?  the device does not give {word} {address}\n"),
        }
    }

    /// The line for the configuration.
    fn point_line(&self, form: &Form, order: Option<WordOrder>, scale: &str) -> String {
        let mut line = format!(
            "points.NAME = {{ at = \"{} {}\", as = \"{}\"",
            self.table.word(),
            self.address,
            form_as_written(form)
        );
        if let Some(order) = order.filter(|order| *order != WordOrder::Abcd) {
            line += &format!(", word_order = \"{}\"", order_word(order));
        }
        if !scale.is_empty() {
            line += &format!(", scale = {scale}");
        }
        if matches!(form, Form::F32 | Form::F64) {
            line += ", decimals = 2";
        }
        line + " }"
    }
}

/// Lists registers with their addresses.
pub(super) fn listing(table: Table, address: u16, words: &[u16]) -> String {
    let row = |(n, word): (usize, &u16)| {
        let at = u32::from(address) + u32::try_from(n).unwrap_or(0);
        match table.is_bits() {
            true => format!("  {} {at:<6} {word}", table.word()),
            false => format!("  {} {at:<6} 0x{word:04X} {word:>6}", table.word()),
        }
    };
    words.iter().enumerate().map(row).collect::<Vec<_>>().join("\n")
}

/// Columns that a number may take; what is longer is no measurement, and is shown by its size.
const NUMBER_COLUMNS: usize = 19;

fn shown(value: &Value) -> String {
    let text = value.to_string();
    match value {
        Value::Float(_) | Value::Decimal(_) if text.len() > NUMBER_COLUMNS => {
            format!("{:.6e}", number(value))
        }
        _ => text,
    }
}

fn order_word(order: WordOrder) -> &'static str {
    match order {
        WordOrder::Abcd => "ABCD",
        WordOrder::Cdab => "CDAB",
        WordOrder::Badc => "BADC",
        WordOrder::Dcba => "DCBA",
    }
}

fn scale_of(scale: &str) -> f64 {
    scale.parse().unwrap_or(1.0)
}

/// Says what a number looks like, for those who have seen a few thousand registers: random bytes make
/// floats of any exponent, and measurements do not.
fn mark(form: &Form, value: &Value) -> &'static str {
    let number = number(value);
    let magnitude = number.abs();
    let plausible = match form {
        Form::F32 | Form::F64 => number == 0.0 || (0.001..1e7).contains(&magnitude),
        Form::U32 | Form::I32 | Form::Bcd32 => (1.0..1e7).contains(&magnitude),
        Form::U64 | Form::I64 => (1.0..1e10).contains(&magnitude),
        _ => (1.0..=10_000.0).contains(&magnitude),
    };
    match (form, quantity(value)) {
        (Form::F32 | Form::F64, Some(quantity)) => quantity,
        _ if plausible => "plausible",
        _ => "",
    }
}

/// Names what is recognised by its size alone.
fn quantity(value: &Value) -> Option<&'static str> {
    match number(value).abs() {
        49.0..=51.0 | 59.0..=61.0 => Some("mains frequency, Hz?"),
        105.0..=130.0 | 205.0..=255.0 => Some("mains voltage, V?"),
        370.0..=440.0 => Some("between phases, V?"),
        _ => None,
    }
}

fn number(value: &Value) -> f64 {
    match value {
        Value::Decimal(decimal) => decimal.to_f64(),
        Value::Float(number) => *number,
        Value::Bool(_) | Value::Text(_) => f64::NAN,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn registers(words: &[u16]) -> Registers {
        let before = Some(7);
        Registers { table: Table::Holding, address: 8, words: words.to_vec(), before }
    }

    /// The rows that begin with a type, whose mark is not empty.
    fn marked(text: &str) -> Vec<String> {
        let rows = text.lines().filter(|line| line.contains("<- "));
        rows.map(|row| row.split_whitespace().take(3).collect::<Vec<_>>().join(" ")).collect()
    }

    #[test]
    fn a_float_of_230_volt_is_marked_in_the_word_order_it_stands_in() {
        let text = registers(&[0x4366, 0x8000, 0, 0]).text();
        assert!(text.contains("holding 8 (protocol, from 0) is number 40009 (Modicon"), "{text}");
        assert!(text.contains("a manual that says 40008 means holding 7"), "{text}");
        let row = text.lines().find(|row| row.contains("230.5 ")).unwrap();
        assert!(row.contains("ABCD") && row.contains("mains voltage"), "{row}");
        assert!(row.contains("at = \"holding 8\", as = \"f32\", decimals = 2 }"), "{row}");
        let swapped = registers(&[0x8000, 0x4366]).text();
        let row = swapped.lines().find(|row| row.contains("230.5 ")).unwrap();
        assert!(row.contains("word_order = \"CDAB\""), "{row}");
        let floats: Vec<_> =
            marked(&swapped).into_iter().filter(|row| row.starts_with("f32")).collect();
        assert_eq!(floats, ["f32 CDAB 230.5"], "{swapped}");
    }

    #[test]
    fn a_scaled_register_shows_its_scale_and_a_negative_one_its_sign() {
        let text = registers(&[2305]).text();
        let row = text.lines().find(|row| row.contains(" 230.5 ")).unwrap();
        assert!(row.contains("scale = 0.1") && row.contains("mains voltage"), "{row}");
        let text = registers(&[0xFF38]).text();
        assert!(text.contains("-200") && text.contains("-20.0") | text.contains("-20 "), "{text}");
        assert!(text.contains("set: 3 4 5 8 9"), "{text}");
        assert!(text.contains("off by one?  holding 7 holds 7"), "{text}");
    }

    #[test]
    fn text_is_found_in_either_byte_order() {
        assert!(registers(&[0x5375, 0x6E53]).text().contains("SunS"));
        let swapped = registers(&[0x7553, 0x536E]).text();
        let row = swapped.lines().find(|row| row.contains("SunS")).unwrap();
        assert!(row.contains("BADC") && row.contains("text(4)"), "{row}");
        assert!(registers(&[0x5375, 0x6E53]).json()["meanings"].as_array().unwrap().len() > 4);
    }
}
