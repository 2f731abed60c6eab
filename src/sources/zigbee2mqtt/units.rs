//! What zigbee2mqtt's units are called here: SenML names (RFC 8428 section 12.1, RFC 8798) where
//! there is one, else UCUM. A unit that neither knows is kept as a UCUM annotation: `{lqi}`.

/// zigbee2mqtt's spelling and ours. Both characters that look like a mu are in use.
const TABLE: &[(&str, &str)] = &[
    ("°C", "Cel"),
    ("°F", "[degF]"),
    ("K", "K"),
    ("%", "%"),
    ("Pa", "Pa"),
    ("hPa", "hPa"),
    ("kPa", "kPa"),
    ("lx", "lx"),
    ("lux", "lx"),
    ("W", "W"),
    ("kW", "kW"),
    ("Wh", "Wh"),
    ("kWh", "kWh"),
    ("V", "V"),
    ("mV", "mV"),
    ("A", "A"),
    ("mA", "mA"),
    ("VA", "VA"),
    ("kVA", "kVA"),
    ("var", "var"),
    ("VAR", "var"),
    ("kVAR", "kvar"),
    ("kVArh", "kvarh"),
    ("kVARh", "kvarh"),
    ("kVAh", "kVAh"),
    ("Hz", "Hz"),
    ("ppm", "ppm"),
    ("ppb", "[ppb]"),
    ("\u{b5}g/m³", "ug/m3"),
    ("\u{3bc}g/m³", "ug/m3"),
    ("mg/m³", "mg/m3"),
    ("\u{b5}S/cm", "uS/cm"),
    ("\u{3bc}S/cm", "uS/cm"),
    ("mS/cm", "mS/cm"),
    ("m³", "m3"),
    ("m³/h", "m3/h"),
    ("l", "l"),
    ("L", "l"),
    ("l/min", "l/min"),
    ("L/min", "l/min"),
    ("ms", "ms"),
    ("s", "s"),
    ("sec", "s"),
    ("seconds", "s"),
    ("min", "min"),
    ("minutes", "min"),
    ("h", "h"),
    ("hours", "h"),
    ("d", "d"),
    ("days", "d"),
    ("m", "m"),
    ("cm", "cm"),
    ("mm", "mm"),
    ("km", "km"),
    ("mm/h", "mm/h"),
    ("m/s", "m/s"),
    ("km/h", "km/h"),
    ("°", "deg"),
    ("dB", "dB"),
    ("dBm", "dBm"),
    ("kg", "kg"),
    ("g", "g"),
    ("pH", "pH"),
];

/// Returns the name of `unit` for the property `name`; empty when it has none.
#[must_use]
pub fn unit(name: &str, unit: &str) -> String {
    let known = TABLE.iter().find(|(theirs, _)| *theirs == unit.trim()).map(|(_, ours)| *ours);
    match known {
        // SenML tells these percentages apart.
        Some("%") if name.contains("humidity") => "%RH".into(),
        Some("%") if name == "battery" => "%EL".into(),
        Some(known) => known.into(),
        None => annotation(unit),
    }
}

/// UCUM section 6: an annotation is printable ASCII between braces, of which it holds none.
fn annotation(unit: &str) -> String {
    const LENGTH_MAX: usize = 30;
    let plain = |c: &char| c.is_ascii_graphic() && !matches!(c, '{' | '}');
    let plain: String = unit.chars().filter(plain).take(LENGTH_MAX).collect();
    if plain.is_empty() { plain } else { format!("{{{plain}}}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_get_their_senml_or_ucum_names() {
        let table = [
            ("temperature", "°C", "Cel"),
            ("humidity", "%", "%RH"),
            ("battery", "%", "%EL"),
            ("soil_moisture", "%", "%"),
            ("pm25", "µg/m³", "ug/m3"),
            ("pm25", "μg/m³", "ug/m3"),
            ("linkquality", "lqi", "{lqi}"),
            ("color_temp", "mired", "{mired}"),
            ("state", "", ""),
            ("odd", "{a b}\u{1b}é", "{ab}"),
        ];
        for (name, theirs, ours) in table {
            assert_eq!(unit(name, theirs), ours, "{name} in {theirs}");
        }
    }
}
