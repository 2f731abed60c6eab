//! `[device.NAME]`: which kind it is, and the Modbus kind.

use std::sync::Arc;
use std::time::Duration;

use crate::events::config as codes;
use crate::sources::modbus::settings::{Bus, Device, Form, Link, Point, WordOrder};

use super::address;
use super::fault::Fault;
use super::findings::{Plain, Where, key_as_written};
use super::keys;
use super::layer::At;
use super::merge::Named;
use super::reader::Table;
use super::resolve::{PortUse, Resolver};
use super::text::Place;
use super::value;
use super::via::{self, Via};

/// What points take from their device unless they say otherwise.
struct Defaults {
    every: Duration,
    order: WordOrder,
    registers_max: u16,
}

impl<'a> Resolver<'a> {
    /// Resolves one device.
    pub fn device(&mut self, named: &Named<'a>) {
        let path = Where::table(&format!("device.{}", key_as_written(named.name)));
        let template = self.template(named.layer);
        let written = named.layer.table.get("via").and_then(|via| via.get_ref().as_str());
        let protocol = template.and_then(|layer| layer.table.get("protocol")?.get_ref().as_str());
        let is_serial = match written {
            Some(via) => via.trim_start().starts_with("serial"),
            None => protocol == Some("serial"),
        };
        let keys = if is_serial { keys::SERIAL } else { keys::MODBUS };
        let table = Table::new(self.findings, path, keys, named.layer, template);
        let via = table.text_needed("via").and_then(|at| {
            let parsed = via::device(at.value);
            if let Err(why) = &parsed {
                let found = format!("device {} cannot be reached like this", named.name);
                self.findings.fault(Fault::at(&codes::BAD_VALUE, at.place, found, why.as_str()));
            }
            Some((parsed.ok()?, at.place))
        });
        if let Some(at) = table.text("template") {
            self.check_template(&table, at, protocol, is_serial);
        }
        if is_serial {
            self.serial_device(named, &table, via);
        } else {
            self.modbus_device(named, &table, via);
        }
    }

    fn check_template(
        &self,
        table: &Table<'a>,
        at: At<'a, &str>,
        protocol: Option<&str>,
        is_serial: bool,
    ) {
        let Some(protocol) = protocol else { return };
        let kind = if is_serial { "serial" } else { "modbus" };
        if protocol != kind {
            self.findings.fault(
                Fault::at(
                    &codes::EXCLUSIVE,
                    at.place,
                    format!("template {} is for {protocol} devices", at.value),
                    format!("{} is reached via {kind}", table.title()),
                )
                .hint(format!("via = \"{protocol} ..\", or another template")),
            );
        }
    }

    fn modbus_device(
        &mut self,
        named: &Named<'a>,
        table: &Table<'a>,
        via: Option<(Via, Place<'a>)>,
    ) {
        let defaults = Defaults {
            every: table.duration("every"),
            order: word_order(table).unwrap_or_default(),
            registers_max: table.integer("registers_max").unwrap_or(125),
        };
        let name = self.word(named.name);
        let mut device = Device {
            name: Arc::clone(&name),
            id: 0,
            timeout: table.duration("timeout"),
            pause: table.duration("pause"),
            gap_max: table.integer("gap").unwrap_or(0),
            registers_max: defaults.registers_max,
            points: Vec::new(),
        };
        let points = table.points(keys::MODBUS_POINT);
        table.needs_points();
        let mut without_decimals = Vec::new();
        let mut readings = 0;
        device.points.reserve_exact(points.len());
        for (point_name, table) in points {
            let Some(point) = self.modbus_point(&name, point_name, &table, &defaults) else {
                continue;
            };
            readings += match &point.form {
                Form::Bits(bits) => bits.len(),
                _ => 1,
            };
            if matches!(point.form, Form::F32 | Form::F64) && point.decimals.is_none() {
                without_decimals.push(point_name);
            }
            device.points.push(point);
        }
        self.count_points(readings, named.place);
        self.warn_of_decimals(named.name, &without_decimals);
        if let Some((via, place)) = via {
            self.join_bus(device, named, via, place);
        }
    }

    fn warn_of_decimals(&self, device: &str, points: &[At<'a, &str>]) {
        let Some(first) = points.first() else { return };
        let named: Vec<_> = points.iter().take(4).map(|at| at.value).collect();
        let more = match points.len() {
            0..=4 => String::new(),
            many => format!(" and {} more", many - 4),
        };
        self.findings.warning(
            Fault::at(
                &codes::NO_DECIMALS,
                first.place,
                format!("device {device}: no decimals for {}{more}", named.join(", ")),
                "unrounded floats take five times the space on disk and on the wire",
            )
            .hint("decimals = 2"),
        );
    }

    fn join_bus(&mut self, mut device: Device, named: &Named<'a>, via: Via, place: Place<'a>) {
        let (key, bus, id) = match via {
            Via::ModbusPort { port, id } => {
                let Some(line) = self.take_port(&port, PortUse::Modbus(named.name), place) else {
                    return;
                };
                (
                    format!("port {port}"),
                    Bus { name: port, link: Link::Rtu(line), devices: Vec::new() },
                    id,
                )
            }
            Via::ModbusNet { rtu, host, port, id } => {
                let name = if host.contains(':') {
                    format!("[{host}]:{port}")
                } else {
                    format!("{host}:{port}")
                };
                let link =
                    if rtu { Link::RtuOverTcp { host, port } } else { Link::Tcp { host, port } };
                (format!("net {name}"), Bus { name, link, devices: Vec::new() }, id)
            }
            _ => return,
        };
        device.id = id;
        let index = match self.bus_of.get(&key) {
            Some(index) => {
                if self.buses[*index].link != bus.link {
                    self.findings.fault(
                        Fault::at(
                            &codes::EXCLUSIVE,
                            place,
                            format!("{} is reached both as tcp and as rtu-over-tcp", bus.name),
                            "one port of a converter speaks one of them",
                        )
                        .hint("write the same for all devices behind it"),
                    );
                    return;
                }
                *index
            }
            None => {
                self.bus_of.insert(key, self.buses.len());
                self.buses.push(bus);
                self.buses.len() - 1
            }
        };
        self.warn_of_id(index, id, named.name, place);
        self.buses[index].devices.push(device);
    }

    fn warn_of_id(&mut self, bus: usize, id: u8, name: &'a str, place: Place<'a>) {
        let bus_name = &self.buses[bus].name;
        if id > 247 && matches!(self.buses[bus].link, Link::Rtu(_)) {
            self.findings.warning(
                Fault::at(
                    &codes::RESERVED_ID,
                    place,
                    format!("device {name} has the reserved id {id}"),
                    "the Modbus specification gives 1 to 247 to devices on a serial line",
                )
                .hint("give the device another id when it is put into service"),
            );
        }
        if let Some(other) = self.ids.insert((bus, id), name) {
            self.findings.warning(
                Fault::at(
                    &codes::SAME_ID,
                    place,
                    format!("devices {other} and {name} have the same id {id} on {bus_name}"),
                    "right for one device under two names, wrong for two devices",
                )
                .hint("give one of them another id if they are two"),
            );
        }
    }

    fn modbus_point(
        &mut self,
        device: &Arc<str>,
        at: At<'a, &'a str>,
        table: &Table<'a>,
        defaults: &Defaults,
    ) -> Option<Point> {
        let is_named = self.check_name("point", at);
        let address = table.text_needed("at").and_then(|at| {
            let parsed = address::parse(at.value);
            if let Err(why) = &parsed {
                let found = format!("\"{}\" is no Modbus address", at.value.escape_debug());
                self.findings.fault(
                    Fault::at(&codes::BAD_ADDRESS, at.place, found, why.as_str())
                        .hint("at = \"holding 8\""),
                );
            }
            Some((parsed.ok()?, at.place))
        });
        let bit_table = address.map(|((table, _), _)| table.is_bits());
        let form = self.modbus_form(at.value, table, bit_table);
        let scaling = super::scaling::read(table, form.as_ref().is_none_or(is_number));
        let unit = table.text("unit").map_or("", |at| at.value);
        let every = table.duration_if_any("every").unwrap_or(defaults.every);
        let order = word_order(table).unwrap_or(defaults.order);
        let (((table_kind, address), place), form, true) = (address?, form?, is_named) else {
            return None;
        };
        if u32::from(address) + u32::from(form.width()) > 0x1_0000 {
            self.findings.fault(Fault::at(
                &codes::BAD_ADDRESS,
                place,
                format!("{} registers from {address} on end behind 65535", form.width()),
                "a table has the addresses 0 to 65535",
            ));
            return None;
        }
        if !table_kind.is_bits() && form.width() > defaults.registers_max {
            let found = format!("{} registers do not fit one read", form.width());
            table.bad(
                place,
                found,
                format!("registers_max of this device is {}", defaults.registers_max),
            );
            return None;
        }
        let name = self.word(at.value);
        if let Some(band) = scaling.deadband {
            self.deadband(device, &name, band);
        }
        let is_float = matches!(form, Form::F32 | Form::F64);
        let decimals = scaling.decimals.or(if is_float { None } else { scaling.natural_decimals });
        Some(Point {
            name,
            table: table_kind,
            address,
            form,
            order,
            scale: scaling.scale,
            offset: scaling.offset,
            decimals,
            unit: self.word(unit),
            every,
        })
    }

    fn modbus_form(
        &mut self,
        point: &str,
        table: &Table<'a>,
        bit_table: Option<bool>,
    ) -> Option<Form> {
        let has_bits = table.raw("bits").is_some();
        let form = match table.text("as") {
            None if table.raw("as").is_some() => return None,
            None => {
                let (form, word) = match (has_bits, bit_table) {
                    (true, _) => (Form::Bits(Vec::new()), "bits"),
                    (false, Some(true)) => (Form::Bool, "bool"),
                    (false, _) => (Form::U16, "u16"),
                };
                self.findings.set(&table.path, "as", Plain::Text(word), None);
                form
            }
            Some(at) => match address::form(at.value) {
                Ok(form) => {
                    if bit_table == Some(true) && form != Form::Bool {
                        let found = format!("as = \"{}\" for a coil or discrete input", at.value);
                        table.bad(at.place, found, "as = \"bool\": they are single bits");
                        return None;
                    }
                    form
                }
                Err(why) => {
                    let found = format!("as = {} is no type", Plain::Text(at.value));
                    table.bad(at.place, found, why);
                    return None;
                }
            },
        };
        match form {
            Form::Bits(_) if !has_bits => {
                table.missing("bits");
                None
            }
            Form::Bits(_) => self.bits(point, table).map(Form::Bits),
            form => {
                if let Some(raw) = table.raw("bits") {
                    table.bad(
                        raw.place,
                        "bits without as = \"bits\"",
                        "as = \"bits\", or remove bits",
                    );
                }
                Some(form)
            }
        }
    }

    fn bits(&mut self, point: &str, table: &Table<'a>) -> Option<Vec<(u8, Arc<str>)>> {
        let mut bits: Vec<(u8, Arc<str>)> = Vec::new();
        for (key, name) in table.words("bits") {
            let joined = format!("{point}.{}", name.value);
            let whole = At { value: joined.as_str(), ..name };
            let is_named = !name.value.is_empty() && value::name_trouble(&joined).is_none();
            if !is_named {
                let empty = At { value: name.value, ..whole };
                self.check_name("bit", if name.value.is_empty() { empty } else { whole });
                continue;
            }
            let word = self.word(name.value);
            if bits.iter().any(|(_, other)| *other == word) {
                table.bad(
                    name.place,
                    format!("two bits are named \"{word}\""),
                    "a name for each bit",
                );
            }
            match address::bit(key.value, word) {
                Some(bit) => bits.push(bit),
                None => table.bad(
                    key.place,
                    format!("\"{}\" is no bit of a register", key.value.escape_debug()),
                    "bits are 0 (the lowest) to 15",
                ),
            }
        }
        if bits.is_empty() && self.findings.is_clean() {
            table.missing("bits");
        }
        (!bits.is_empty()).then_some(bits)
    }
}

fn is_number(form: &Form) -> bool {
    !matches!(form, Form::Bool | Form::Text(_) | Form::Bits(_))
}

fn word_order(table: &Table<'_>) -> Option<WordOrder> {
    table.choice("word_order").map(|word| match word {
        "CDAB" => WordOrder::Cdab,
        "BADC" => WordOrder::Badc,
        "DCBA" => WordOrder::Dcba,
        _ => WordOrder::Abcd,
    })
}
