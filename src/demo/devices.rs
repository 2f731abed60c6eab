//! Simulated devices: a power meter on a Modbus RTU line, a chiller behind Modbus TCP, a scale on a
//! serial line, Zigbee sensors behind a bridge, and a tank that posts over CoAP. They speak the real
//! protocols over real sockets and pseudo-terminals; only the physics is made up.

use std::f64::consts::TAU;
use std::fs::File;
use std::future::{Ready, ready};
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::time::Duration;

use libc::O_NOCTTY;
use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, UdpSocket};
use tokio::time::{Instant, interval};
use tokio_modbus::server::{Service, rtu, tcp};
use tokio_modbus::{ExceptionCode, Request, Response, SlaveRequest};
use tokio_serial::{SerialPort, SerialStream};

use crate::demo::broker::Broker;

/// A wave around `middle`, so many units high, with a period of its own.
fn wave(since: Instant, middle: f64, height: f64, seconds: f64) -> f64 {
    middle + height * (TAU * since.elapsed().as_secs_f64() / seconds).sin()
}

/// A Modbus device that answers from a function of time.
#[derive(Clone)]
pub struct Registers {
    since: Instant,
    read: fn(Instant, u16) -> u16,
}

impl Registers {
    /// The input registers of an Eastron SDM630: binary32 pairs (its manual, section 1.2.1).
    #[must_use]
    pub fn meter() -> Self {
        Self { since: Instant::now(), read: meter_register }
    }

    /// Holding registers of a chiller.
    #[must_use]
    pub fn chiller() -> Self {
        Self { since: Instant::now(), read: chiller_register }
    }

    fn block(&self, from: u16, count: u16) -> Vec<u16> {
        (from..from.saturating_add(count)).map(|at| (self.read)(self.since, at)).collect()
    }

    fn answer(&self, request: &Request<'_>) -> Result<Response, ExceptionCode> {
        Ok(match request {
            Request::ReadHoldingRegisters(from, count) => {
                Response::ReadHoldingRegisters(self.block(*from, *count))
            }
            Request::ReadInputRegisters(from, count) => {
                Response::ReadInputRegisters(self.block(*from, *count))
            }
            Request::ReadCoils(from, count) => {
                let tens = self.since.elapsed().as_secs() / 10;
                let on = |n| (u64::from(n) + tens).is_multiple_of(2);
                Response::ReadCoils((0..*count).map(|n| on(from.saturating_add(n))).collect())
            }
            _ => return Err(ExceptionCode::IllegalFunction),
        })
    }
}

fn meter_register(since: Instant, at: u16) -> u16 {
    let amperes = wave(since, 8.2, 3.0, 23.0);
    let value = match at / 2 {
        phase @ 0..=2 => wave(since, 230.4, 1.5, 17.0 + f64::from(phase)),
        3..=5 => amperes,
        6..=8 => amperes * 224.0,
        9..=11 => amperes * 230.4,
        12..=14 => amperes * 54.0,
        15..=17 | 31 => 0.972,
        24 => 3.0 * amperes,
        26 => 3.0 * amperes * 224.0,
        28 => 3.0 * amperes * 230.4,
        30 => 3.0 * amperes * 54.0,
        35 => wave(since, 50.0, 0.02, 11.0),
        36 | 171 => 10_412.5 + since.elapsed().as_secs_f64() / 640.0,
        38 | 172 => 2_507.2 + since.elapsed().as_secs_f64() / 2650.0,
        pair @ 100..=102 => wave(since, 399.1, 2.0, 19.0 + f64::from(pair)),
        112 => 0.3,
        _ => 0.0,
    };
    #[expect(clippy::cast_possible_truncation, reason = "the meter itself has binary32")]
    let bits = (value as f32).to_bits();
    let [a, b, c, d] = bits.to_be_bytes();
    if at.is_multiple_of(2) { u16::from_be_bytes([a, b]) } else { u16::from_be_bytes([c, d]) }
}

fn chiller_register(since: Instant, at: u16) -> u16 {
    #[expect(clippy::cast_possible_truncation, reason = "tenths of degrees, far below the limit")]
    let tenths = |value: f64| (value * 10.0).round() as i16;
    match at {
        107 => tenths(wave(since, 6.5, 1.2, 31.0)).cast_unsigned(),
        108 => tenths(wave(since, 12.3, 1.0, 31.0)).cast_unsigned(),
        200 => u16::from(since.elapsed().as_secs() % 60 >= 45),
        _ => 0,
    }
}

impl Service for Registers {
    type Request = SlaveRequest<'static>;
    type Response = Option<Response>;
    type Exception = ExceptionCode;
    type Future = Ready<Result<Self::Response, ExceptionCode>>;

    fn call(&self, asked: Self::Request) -> Self::Future {
        // On a line with several devices, only the one that is meant answers.
        ready(if asked.slave == 1 { self.answer(&asked.request).map(Some) } else { Ok(None) })
    }
}

/// Serves a Modbus TCP device for ever.
///
/// # Errors
/// When the listener fails.
pub async fn modbus_tcp(listener: TcpListener, device: Registers) -> std::io::Result<()> {
    let connected = |stream, address| {
        let device = device.clone();
        async move { tcp::accept_tcp_connection(stream, address, |_| Ok(Some(device.clone()))) }
    };
    tcp::Server::new(listener).serve(&connected, |_| ()).await
}

/// Serves a Modbus RTU device on its end of a line for ever.
///
/// # Errors
/// When the line fails.
pub async fn modbus_rtu(line: Line, device: Registers) -> std::io::Result<()> {
    let Line { device: wire, held: _held, .. } = line;
    rtu::Server::new(wire).serve_forever(device).await
}

/// A pseudo-terminal: the device's end, and the path of the gateway's.
pub struct Line {
    device: SerialStream,
    /// Where the gateway opens it.
    pub path: PathBuf,
    /// The gateway's end held open, without the lock a port has: otherwise the device's end would
    /// fail whenever the gateway is not there.
    held: File,
}

impl Line {
    /// Opens a pair.
    ///
    /// # Errors
    /// When the system has no pseudo-terminals left.
    pub fn open() -> std::io::Result<Self> {
        let (device, mut gateway) = SerialStream::pair()?;
        gateway.set_exclusive(false)?;
        let path = gateway.name().map(PathBuf::from).unwrap_or_default();
        let held = File::options().read(true).write(true).custom_flags(O_NOCTTY).open(&path)?;
        Ok(Self { device, path, held })
    }
}

/// Sends a weight every half second, in the words of a common industrial scale.
///
/// # Errors
/// When the line fails.
pub async fn scale(mut line: Line) -> std::io::Result<()> {
    let (since, mut ticks) = (Instant::now(), interval(Duration::from_millis(500)));
    loop {
        ticks.tick().await;
        let weight = wave(since, 120.0, 40.0, 41.0);
        let status = if since.elapsed().as_secs() % 7 < 5 { "ST" } else { "US" };
        line.device.write_all(format!("{status},GS,+{weight:08.2}kg\r\n").as_bytes()).await?;
    }
}

/// Publishes what a zigbee2mqtt bridge would.
pub async fn zigbee(broker: Broker) {
    let exposes = |property: &str, unit: &str| json!({"type": "numeric", "name": property, "property": property, "unit": unit, "access": 1});
    let contact = json!({"type": "binary", "name": "contact", "property": "contact",
        "value_on": false, "value_off": true, "access": 1});
    let device = |address: &str, name: &str, model: &str, exposes: Vec<serde_json::Value>| {
        json!({"ieee_address": address, "friendly_name": name, "type": "EndDevice",
            "supported": true, "disabled": false,
            "definition": {"model": model, "vendor": "Aqara", "description": "", "exposes": exposes}})
    };
    let devices = json!([
        device("0x00158d0001a2b3c4", "door", "MCCGQ11LM", vec![contact, exposes("battery", "%")]),
        device(
            "0x00158d0002b3c4d5",
            "office",
            "WSDCGQ11LM",
            vec![exposes("temperature", "°C"), exposes("humidity", "%"), exposes("battery", "%")]
        ),
    ]);
    broker.publish("zigbee2mqtt/bridge/state", r#"{"state":"online"}"#, true);
    broker.publish("zigbee2mqtt/bridge/devices", devices.to_string(), true);
    let (since, mut ticks) = (Instant::now(), interval(Duration::from_secs(2)));
    loop {
        let ticked = ticks.tick().await;
        let climate = json!({
            "temperature": (wave(since, 21.4, 0.8, 37.0) * 100.0).round() / 100.0,
            "humidity": (wave(since, 46.0, 4.0, 53.0) * 100.0).round() / 100.0,
            "battery": 97, "linkquality": 120,
        });
        broker.publish("zigbee2mqtt/office", climate.to_string(), false);
        let closed = ticked.duration_since(since).as_secs() % 20 < 12;
        let door = json!({"contact": closed, "battery": 91, "linkquality": 84});
        broker.publish("zigbee2mqtt/door", door.to_string(), false);
    }
}

/// Posts a SenML pack every three seconds, as a sensor on a tank would.
///
/// # Errors
/// When no socket can be had.
pub async fn tank(listener: SocketAddr) -> std::io::Result<()> {
    use coap_lite::{ContentFormat, MessageType, Packet, RequestType};
    let socket = UdpSocket::bind("127.0.0.1:0").await?;
    let (since, mut ticks) = (Instant::now(), interval(Duration::from_secs(3)));
    for message_id in (1..=u16::MAX).cycle() {
        ticks.tick().await;
        let pack = json!([
            {"bn": "tank-1/", "n": "level", "u": "m", "v": (wave(since, 2.4, 0.6, 61.0) * 1000.0).round() / 1000.0},
            {"n": "temperature", "u": "Cel", "v": (wave(since, 15.2, 0.4, 83.0) * 10.0).round() / 10.0},
        ]);
        let mut packet = Packet::new();
        packet.header.set_type(MessageType::Confirmable);
        packet.header.code = coap_lite::MessageClass::Request(RequestType::Post);
        packet.header.message_id = message_id;
        packet.add_option(coap_lite::CoapOption::UriPath, b"tank-1".to_vec());
        packet.set_content_format(ContentFormat::ApplicationSenmlJSON);
        packet.payload = pack.to_string().into_bytes();
        if let Ok(bytes) = packet.to_bytes() {
            socket.send_to(&bytes, listener).await?;
        }
    }
    Ok(())
}
