//! The golden vectors of `docs/uplink/vectors`: made here from fixed inputs, and read by the three
//! decoders. `UPDATE_GOLDEN=1` writes them anew; otherwise a differing byte fails.

use std::path::{Path, PathBuf};
use std::process::Command;

use fieldgate::batch::{Decoded, RowValue, decode};
use fieldgate::reading::Decimal;
use serde_json::{Value as Json, json};

use crate::peers;

mod made;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/uplink/vectors")
}

fn json_of(value: Option<RowValue<'_>>) -> Json {
    match value {
        None => Json::Null,
        Some(RowValue::Bool(flag)) => json!(flag),
        Some(RowValue::Decimal(Decimal { digits, places: 0 })) => json!(digits),
        Some(RowValue::Decimal(decimal)) => json!(decimal.to_f64()),
        Some(RowValue::Float(number)) => json!(number),
        Some(RowValue::Text(text)) => json!(text),
    }
}

fn header_json(batch: &Decoded) -> Json {
    let h = &batch.header;
    let mut header = json!({"v": 1, "gw": h.gateway, "ep": h.epoch, "seq": h.sequence,
        "lo": h.lowest_held, "n": h.readings, "dr": h.dropped, "t0": h.t0, "t1": h.t1,
        "ck": h.clock, "cv": h.config_hash, "z": h.coding});
    if h.stream != "data" {
        header["st"] = json!(h.stream);
    }
    header
}

fn readings_json(batch: &Decoded) -> Vec<Json> {
    let mut readings = Vec::new();
    batch.rows(|row| {
        let (device, point, unit) = batch.name(row.series);
        readings.push(json!({"device": device, "point": point, "unit": unit, "t": row.at.0,
            "value": json_of(row.value), "q": row.q}));
    });
    readings
}

/// A row a series instead of a row a reading: names, readings, those without a value, first and last
/// time, and the sum of the values in their order.
fn summary_json(readings: &[Json]) -> Vec<Json> {
    let mut rows: Vec<(String, Json, f64)> = Vec::new();
    for reading in readings {
        let name = ["device", "point", "unit"].map(|key| reading[key].as_str().unwrap());
        let key = name.join("/");
        let fresh = rows.last().is_none_or(|row| row.0 != key);
        if fresh {
            let [device, point, unit] = name;
            let row = json!([device, point, unit, 0, 0, reading["t"], 0, 0.0]);
            rows.push((key, row, 0.0));
        }
        let (_, row, sum) = rows.last_mut().unwrap();
        let value = &reading["value"];
        row[3] = json!(row[3].as_u64().unwrap() + 1);
        row[4] = json!(row[4].as_u64().unwrap() + u64::from(value.is_null()));
        row[6] = reading["t"].clone();
        *sum += value.as_f64().unwrap_or(f64::from(u8::from(value == &json!(true))));
        row[7] = json!(*sum);
    }
    rows.into_iter().map(|row| row.1).collect()
}

/// What a batch decodes to, a line a reading; large ones a line a series.
fn golden_json(batch: &Decoded) -> String {
    let readings = readings_json(batch);
    let (key, rows) = if readings.len() > 1000 {
        ("series", summary_json(&readings))
    } else {
        ("readings", readings)
    };
    let rows: Vec<String> = rows.iter().map(|row| format!("  {row}")).collect();
    format!(
        "{{\n \"header\": {},\n \"unknown_frames\": {},\n \"unknown_readings\": {},\n \"{key}\": [\n{}\n ]\n}}\n",
        header_json(batch),
        batch.unknown_frames,
        batch.unknown_readings,
        rows.join(",\n")
    )
}

fn same(a: &Json, b: &Json) -> bool {
    match (a, b) {
        (Json::Array(a), Json::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b))
        }
        (Json::Object(a), Json::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(key, a)| b.get(key).is_some_and(|b| same(a, b)))
        }
        _ => a == b || a.as_f64().is_some_and(|a| b.as_f64() == Some(a)),
    }
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> =
        entries.filter(|p| p.extension().is_some_and(|e| e == "msgpack")).collect();
    files.sort();
    files
}

#[test]
fn the_encoder_still_makes_the_golden_bytes() {
    let update = std::env::var_os("UPDATE_GOLDEN").is_some();
    let valid = made::encoded().into_iter().chain(made::from_elsewhere());
    let named = valid.map(|(name, bytes)| (name.to_owned(), bytes));
    let invalid =
        made::invalid().into_iter().map(|(name, bytes)| (format!("invalid/{name}"), bytes));
    for (name, bytes) in named.chain(invalid) {
        let path = folder().join(&name).with_extension("msgpack");
        let batch = decode(&bytes);
        if update {
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, &bytes).unwrap();
            if let (Ok(batch), false) = (&batch, name.starts_with("invalid")) {
                std::fs::write(path.with_extension("json"), golden_json(batch)).unwrap();
            }
        }
        let golden = std::fs::read(&path).unwrap_or_else(|e| panic!("{name}: {e}"));
        // A compressor's next version may find shorter bytes for the same body, and may find others
        // on another processor; what they hold is what is promised.
        if bytes != golden {
            let coded = batch.as_ref().is_ok_and(|batch| batch.header.coding != 0);
            assert!(coded && batch == decode(&golden), "{name}: the encoder now makes other bytes");
        }
    }
}

#[test]
fn every_vector_decodes_to_what_stands_beside_it() {
    let files = files(&folder());
    assert!(files.len() >= 22, "only {} vectors found", files.len());
    for path in files {
        let text = std::fs::read(path.with_extension("json")).unwrap();
        let mut expected: Json = serde_json::from_slice(&text).unwrap();
        let batch =
            decode(&std::fs::read(&path).unwrap()).unwrap_or_else(|e| panic!("{path:?}: {e}"));
        // An unknown envelope key has no place in this decoder's header.
        expected["header"].as_object_mut().unwrap().shift_remove("future");
        if expected["header"]["st"] == "data" {
            expected["header"].as_object_mut().unwrap().shift_remove("st");
        }
        assert_eq!(header_json(&batch), expected["header"], "{path:?}");
        assert_eq!(batch.unknown_frames, expected["unknown_frames"], "{path:?}");
        let unknown = expected["unknown_readings"].as_u64().unwrap_or(0);
        assert_eq!(batch.unknown_readings, unknown, "{path:?}");
        if expected.get("series").is_some() {
            // As text: this parser may miss the last bit of a sum's seventeen digits.
            assert_eq!(golden_json(&batch).as_bytes(), text, "{path:?}");
            continue;
        }
        let (found, expected) = (Json::Array(readings_json(&batch)), &expected["readings"]);
        assert!(same(&found, expected), "{path:?}: {found:#} instead of {expected:#}");
    }
}

#[test]
fn every_invalid_vector_is_refused() {
    let files = files(&folder().join("invalid"));
    assert!(files.len() >= 20, "only {} invalid vectors found", files.len());
    for path in files {
        let found = decode(&std::fs::read(&path).unwrap());
        assert!(found.is_err(), "{path:?} was taken");
    }
}

fn check_with(mut command: Command, decoder: &str) {
    let uplink = folder().join("..");
    command.arg(uplink.join(decoder)).arg("--check").arg(folder());
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .output()
        .unwrap_or_else(|e| panic!("{program} cannot be started ({e}); tests/run installs it"));
    let said = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{decoder}: {said}{errors}");
    let all = files(&folder()).len() + files(&folder().join("invalid")).len();
    // The one zstd vector may be skipped where the language has no zstd.
    let read = said.split_whitespace().next().and_then(|n| n.parse().ok()).unwrap_or(0);
    assert!((all - 1..=all).contains(&read), "{decoder} read {read} of {all}: {said}");
}

#[test]
fn the_python_decoder_reads_every_vector() {
    check_with(peers::python(), "decode.py");
}

#[test]
fn the_javascript_decoder_reads_every_vector() {
    check_with(Command::new("node"), "decode.mjs");
}
