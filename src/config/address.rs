//! Modbus addresses and types as people write them.
//!
//! `holding 8` is the protocol address of the Modbus Application Protocol (1.1b3, section 4.4),
//! from 0. Five and six digits are the numbers of Modicon manuals: the first digit names the table,
//! the rest counts from 1. `40009` and `400009` and `holding 8` are the same register.

use std::sync::Arc;

use crate::sources::modbus::settings::{Form, Table};

/// Characters in one read of 125 registers.
const TEXT_BYTES_MAX: u16 = 250;

/// Reads an address.
///
/// # Errors
/// Says what would do.
pub fn parse(text: &str) -> Result<(Table, u16), String> {
    let text = text.trim();
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return modicon(text);
    }
    let Some((word, number)) = text.split_once(char::is_whitespace) else {
        return Err("an address is a table and a number: \"holding 8\", or a Modicon number: \
                    \"40009\""
            .to_owned());
    };
    let table = [Table::Holding, Table::Input, Table::Coil, Table::Discrete]
        .into_iter()
        .find(|table| table.word() == word)
        .ok_or_else(|| format!("\"{word}\" is not holding, input, coil or discrete"))?;
    let number = number.trim();
    let address = match number.strip_prefix("0x") {
        Some(hex) => u16::from_str_radix(hex, 16).ok(),
        None => number.parse().ok(),
    };
    address
        .map(|address| (table, address))
        .ok_or_else(|| format!("\"{number}\" is not a protocol address from 0 to 65535"))
}

fn modicon(text: &str) -> Result<(Table, u16), String> {
    if text.len() != 5 && text.len() != 6 {
        return Err(format!(
            "a Modicon number has five or six digits, \"{text}\" has {}; a protocol address stands \
             behind its table: \"holding {text}\"",
            text.len()
        ));
    }
    let table = match text.as_bytes()[0] {
        b'0' => Table::Coil,
        b'1' => Table::Discrete,
        b'3' => Table::Input,
        b'4' => Table::Holding,
        _ => {
            return Err("a Modicon number begins with 0 (coil), 1 (discrete), 3 (input) or 4 \
                        (holding)"
                .to_owned());
        }
    };
    let number: u32 = text[1..].parse().unwrap_or(0);
    number
        .checked_sub(1)
        .and_then(|address| u16::try_from(address).ok())
        .map(|address| (table, address))
        .ok_or_else(|| "Modicon numbers count from 1 to 65536 behind their first digit".to_owned())
}

/// Returns the Modicon number of an address, for comparison with a manual.
#[must_use]
pub fn as_modicon(table: Table, address: u16) -> String {
    let digit = match table {
        Table::Coil => 0,
        Table::Discrete => 1,
        Table::Input => 3,
        Table::Holding => 4,
    };
    let number = u32::from(address) + 1;
    if number <= 9999 { format!("{digit}{number:04}") } else { format!("{digit}{number:05}") }
}

/// Reads a type.
///
/// # Errors
/// Says what would do.
pub fn form(text: &str) -> Result<Form, String> {
    const SIMPLE: [(&str, Form); 11] = [
        ("bool", Form::Bool),
        ("u16", Form::U16),
        ("i16", Form::I16),
        ("u32", Form::U32),
        ("i32", Form::I32),
        ("u64", Form::U64),
        ("i64", Form::I64),
        ("f32", Form::F32),
        ("f64", Form::F64),
        ("bcd16", Form::Bcd16),
        ("bcd32", Form::Bcd32),
    ];
    if let Some((_, form)) = SIMPLE.iter().find(|(word, _)| *word == text) {
        return Ok(form.clone());
    }
    if text == "bits" {
        return Ok(Form::Bits(Vec::new()));
    }
    if let Some(bytes) = text.strip_prefix("text(").and_then(|rest| rest.strip_suffix(')')) {
        return bytes
            .trim()
            .parse()
            .ok()
            .filter(|bytes| (1..=TEXT_BYTES_MAX).contains(bytes))
            .map(Form::Text)
            .ok_or_else(|| format!("text has 1 to {TEXT_BYTES_MAX} bytes: text(16)"));
    }
    let near = match text {
        "float" | "float32" | "real" => Some("f32"),
        "double" | "float64" => Some("f64"),
        "int" | "int16" | "s16" | "short" => Some("i16"),
        "uint16" | "word" | "uint" => Some("u16"),
        "int32" | "s32" => Some("i32"),
        "uint32" | "dword" => Some("u32"),
        "int64" | "s64" => Some("i64"),
        "uint64" => Some("u64"),
        "string" | "text" | "str" => Some("text(16)"),
        _ => super::value::did_you_mean(text, SIMPLE.iter().map(|(word, _)| *word)),
    };
    let known = "bool u16 i16 u32 i32 u64 i64 f32 f64 bcd16 bcd32 text(n) bits";
    Err(near.map_or_else(
        || format!("types are {known}"),
        |near| format!("did you mean \"{near}\"? types are {known}"),
    ))
}

/// Returns a type as it is written in the configuration.
#[must_use]
pub fn form_as_written(form: &Form) -> String {
    match form {
        Form::Bool => "bool".to_owned(),
        Form::U16 => "u16".to_owned(),
        Form::I16 => "i16".to_owned(),
        Form::U32 => "u32".to_owned(),
        Form::I32 => "i32".to_owned(),
        Form::U64 => "u64".to_owned(),
        Form::I64 => "i64".to_owned(),
        Form::F32 => "f32".to_owned(),
        Form::F64 => "f64".to_owned(),
        Form::Bcd16 => "bcd16".to_owned(),
        Form::Bcd32 => "bcd32".to_owned(),
        Form::Text(bytes) => format!("text({bytes})"),
        Form::Bits(_) => "bits".to_owned(),
    }
}

/// Reads the key of a named bit.
#[must_use]
pub fn bit(key: &str, name: Arc<str>) -> Option<(u8, Arc<str>)> {
    key.parse().ok().filter(|bit| *bit < 16).map(|bit| (bit, name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_notations_name_the_same_register() {
        for (text, table, address) in [
            ("holding 8", Table::Holding, 8),
            ("40009", Table::Holding, 8),
            ("400009", Table::Holding, 8),
            ("30053", Table::Input, 52),
            ("00001", Table::Coil, 0),
            ("10001", Table::Discrete, 0),
            ("465536", Table::Holding, 65535),
            ("input 0x34", Table::Input, 0x34),
            ("  coil   3 ", Table::Coil, 3),
        ] {
            assert_eq!(parse(text), Ok((table, address)), "{text}");
        }
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for bad in [
            "",
            "8",
            "holding",
            "holding 65536",
            "holding -1",
            "40000",
            "400000",
            "465537",
            "20001",
            "4000009",
            "register 8",
            "holding 8 9",
            "holding 0xZZ",
            "４0009",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
        assert!(parse("107").unwrap_err().contains("holding 107"));
    }

    #[test]
    fn modicon_numbers_read_back() {
        for (table, address) in [
            (Table::Holding, 8),
            (Table::Input, 9998),
            (Table::Coil, 9999),
            (Table::Discrete, 65535),
        ] {
            assert_eq!(parse(&as_modicon(table, address)), Ok((table, address)));
        }
    }

    #[test]
    fn types_read_back_and_foreign_names_are_translated() {
        for text in ["bool", "u16", "i64", "f64", "bcd32", "text(16)", "bits"] {
            assert_eq!(form_as_written(&form(text).unwrap()), text);
        }
        assert!(form("float32").unwrap_err().contains("\"f32\""));
        for bad in ["text(0)", "text(251)", "text()", "text(", "", "F32 "] {
            assert!(form(bad).is_err(), "{bad}");
        }
    }
}
