//! SenML in JSON (RFC 8428 section 5): an array of objects with short labels.

use serde_json::Value as Json;

use super::{Fault, Number, Record, Resolved, resolve};
use crate::reading::UnixMillis;

/// Resolves a pack in JSON (content formats 110 and 111).
///
/// # Errors
/// When it is no array of records, a label has the wrong type, a label must be understood and is
/// not, or a record cannot be resolved. Nothing of the pack is to be taken then.
pub fn from_json(payload: &[u8], now: UnixMillis) -> Result<Vec<Resolved>, Fault> {
    let pack: Json = serde_json::from_slice(payload)
        .map_err(|e| Fault(format!("not JSON at line {} column {}", e.line(), e.column())))?;
    let Json::Array(pack) = pack else {
        return Err(Fault("a SenML pack is an array of records".into()));
    };
    let mut records = Vec::with_capacity(pack.len());
    for (index, fields) in pack.into_iter().enumerate() {
        let fault = |what: String| Fault(format!("record {}: {what}", index + 1));
        let Json::Object(fields) = fields else { return Err(fault("it is no object".into())) };
        let mut record = Record::default();
        for (label, field) in fields {
            set(&mut record, &label, field).map_err(fault)?;
        }
        records.push(record);
    }
    resolve(records, now)
}

fn set(record: &mut Record, label: &str, field: Json) -> Result<(), String> {
    match label {
        "bn" => record.bn = Some(text(label, field)?),
        "bt" => record.bt = Some(number(label, &field)?.to_f64()),
        "bu" => record.bu = Some(text(label, field)?),
        "bv" => record.bv = Some(number(label, &field)?),
        "bs" => record.bs = Some(number(label, &field)?),
        "bver" => {
            record.bver = Some(field.as_i64().ok_or_else(|| wrong(label, "a whole number"))?);
        }
        "n" => record.n = Some(text(label, field)?),
        "u" => record.u = Some(text(label, field)?),
        "t" => record.t = Some(number(label, &field)?.to_f64()),
        // What a sensor without a value says in JSON, which has no NaN.
        "v" if field.is_null() => record.v = Some(Number::Double(f64::NAN)),
        "v" => record.v = Some(number(label, &field)?),
        "vb" => record.vb = Some(field.as_bool().ok_or_else(|| wrong(label, "true or false"))?),
        "vs" | "vd" if record.text.is_some() => return Err("it has more than one value".into()),
        "vs" | "vd" => record.text = Some(text(label, field)?),
        "s" => record.s = Some(number(label, &field)?),
        other if other.ends_with('_') => {
            return Err(format!("label \"{}\" must be understood and is not", clipped(other)));
        }
        _ => {}
    }
    Ok(())
}

fn text(label: &str, field: Json) -> Result<String, String> {
    match field {
        Json::String(text) => Ok(text),
        _ => Err(wrong(label, "text")),
    }
}

fn number(label: &str, field: &Json) -> Result<Number, String> {
    match (field.as_i64(), field.as_f64()) {
        (Some(whole), _) => Ok(Number::Int(whole)),
        (None, Some(number)) => Ok(Number::Double(number)),
        _ => Err(wrong(label, "a number")),
    }
}

fn wrong(label: &str, wanted: &str) -> String {
    format!("\"{label}\" is not {wanted}")
}

/// Returns as much of a stranger's label as a sentence can bear.
pub(super) fn clipped(label: &str) -> String {
    label[..label.floor_char_boundary(32)].escape_debug().to_string()
}
