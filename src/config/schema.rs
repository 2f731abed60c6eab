//! `config schema`: the key lists as JSON Schema (draft 2020-12), for editors.

use serde_json::{Map, Value, json};

use super::keys::{self, Key, Keys, Kind, ROOT};

/// Characters a name has: those `value::name_trouble` lets pass, as ECMA 262 writes them.
const NAME: &str = r##"^[^\s/+#*"\\$][^\s/+#*"\\]*$"##;

/// Returns the schema of a configuration file.
#[must_use]
pub fn schema() -> Value {
    let mut root = table(ROOT);
    let about = [
        ("$schema", json!("https://json-schema.org/draft/2020-12/schema")),
        ("title", json!("fieldgate.toml")),
        ("description", json!("configuration of fieldgate, version 1 of the format")),
    ];
    for (key, value) in about {
        root.insert(key.to_owned(), value);
    }
    Value::Object(root)
}

/// Returns the schema of a table; keys of several kinds of device stand side by side, because only
/// `via` tells which kind it is.
fn table_of(lists: &[Keys]) -> Map<String, Value> {
    let mut properties = Map::new();
    for key in lists.iter().flat_map(|keys| keys.iter()) {
        let made = property(key);
        match properties.get_mut(key.name) {
            None => {
                properties.insert(key.name.to_owned(), made);
            }
            Some(known) if *known == made => {}
            Some(known) => {
                let both = json!({ "anyOf": [known.take(), made] });
                *known = both;
            }
        }
    }
    let mut object = Map::new();
    object.insert("type".to_owned(), json!("object"));
    object.insert("additionalProperties".to_owned(), json!(false));
    object.insert("properties".to_owned(), Value::Object(properties));
    object
}

fn table(keys: Keys) -> Map<String, Value> {
    table_of(&[keys])
}

fn property(key: &Key) -> Value {
    let mut made = kind(&key.kind);
    let object = made.as_object_mut();
    if let Some(object) = object {
        object.insert("description".to_owned(), json!(key.help));
        if let Some(default) = key.default {
            let number = default.parse::<i64>().ok().map(|n| json!(n));
            let is_number = matches!(key.kind, Kind::Integer(..) | Kind::Number);
            let number = number.filter(|_| is_number);
            let flag = default.parse::<bool>().ok().map(|flag| json!(flag));
            let flag = flag.filter(|_| matches!(key.kind, Kind::Flag));
            let value = number.or(flag).unwrap_or_else(|| json!(default));
            object.insert("default".to_owned(), value);
        }
    }
    made
}

fn kind(kind: &Kind) -> Value {
    match kind {
        Kind::Text | Kind::File => json!({ "type": "string" }),
        Kind::Duration(..) => json!({
            "type": "string",
            "pattern": "^\\s*([0-9]+\\s*[a-zA-Z]+\\s*)+$",
        }),
        Kind::Size(..) => json!({
            "type": "string",
            "pattern": "^[0-9]+(\\.[0-9]+)?\\s*([kKMGTmgt][iI]?)?[bB]?$",
        }),
        Kind::Rate(per, ..) => json!({
            "type": "string",
            "pattern": format!("^[0-9]+(\\.[0-9]+)?\\s*([kKMGTmgt][iI]?)?[bB]/{per}$"),
        }),
        Kind::Integer(min, max) => json!({ "type": "integer", "minimum": min, "maximum": max }),
        Kind::Number => json!({ "type": "number" }),
        Kind::Choice(words) => json!({ "type": "string", "enum": words }),
        Kind::Texts => json!({ "type": "array", "items": { "type": "string" } }),
        Kind::Words => json!({ "type": "object", "additionalProperties": { "type": "string" } }),
        Kind::Secret => {
            let one = |name: &str| {
                json!({
                    "type": "object",
                    "properties": { name: { "type": "string" } },
                    "required": [name],
                    "additionalProperties": false,
                })
            };
            json!({ "oneOf": [one("file"), one("env"), one("credential")] })
        }
        Kind::Table(keys) => Value::Object(table(keys)),
        Kind::Named(lists) => named(json!(table_of(lists))),
        Kind::Points(lists) => named(json!({ "anyOf": [table_of(lists), { "const": false }] })),
        Kind::Frame(keys) => json!({ "anyOf": [{ "enum": ["cobs", "slip"] }, table(keys)] }),
        Kind::Flag => json!({ "type": "boolean" }),
        Kind::Patterns => json!({
            "anyOf": [{ "type": "string" }, { "type": "array", "items": { "type": "string" } }],
        }),
        Kind::Free => json!({ "type": "object" }),
        Kind::Later(_) => json!({ "not": {} }),
    }
}

fn named(inner: Value) -> Value {
    json!({
        "type": "object",
        "propertyNames": { "pattern": NAME, "maxLength": crate::limits::NAME_BYTES_MAX },
        "additionalProperties": inner,
    })
}

/// Returns every key there is with the name of its table, for the test of the annotated example.
#[must_use]
pub fn all_keys() -> Vec<(&'static str, &'static str)> {
    let tables: [(&str, Keys); 19] = [
        ("", ROOT),
        ("gateway", keys::GATEWAY),
        ("port", keys::PORT),
        ("modbus device", keys::MODBUS),
        ("modbus point", keys::MODBUS_POINT),
        ("serial device", keys::SERIAL),
        ("frame", keys::FRAME),
        ("serial point", keys::SERIAL_POINT),
        ("zigbee2mqtt source", keys::ZIGBEE),
        ("coap listener", keys::COAP_LISTEN),
        ("coap client", keys::COAP_CLIENT),
        ("buffer", keys::BUFFER),
        ("api", keys::API),
        ("trust", keys::TRUST),
        ("rule", keys::RULE),
        ("test", keys::TEST),
        ("limit of a rule", keys::RULE_LIMIT),
        ("uplink", keys::UPLINK),
        ("auth and batch", keys::AUTH),
    ];
    let batch = keys::BATCH.iter().map(|key| ("batch", key.name));
    let rest =
        tables.into_iter().flat_map(|(table, keys)| keys.iter().map(move |key| (table, key)));
    rest.filter(|(_, key)| !matches!(key.kind, Kind::Later(_)))
        .map(|(table, key)| (table, key.name))
        .chain(batch)
        .collect()
}
