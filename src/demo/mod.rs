//! The river in one process: simulated devices on one side, a broker of its own on the other, and
//! between them the same gateway that `run` starts, from a configuration file it writes and names.
//! Like the gateway this is a wiring board, so tasks start here too.

mod broker;
mod devices;
mod watch;

use std::fmt::Write as _;
use std::future::Future;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::net::{TcpListener, UdpSocket};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::config;
use crate::error::{Exit, Fatal};
use crate::events;
use crate::gateway::Gateway;
use broker::Broker;
use devices::{Line, Registers};
use watch::Watch;

/// What to show.
#[derive(Debug, Clone)]
pub struct Options {
    /// How long the broker is away, once, after [`OUTAGE_AFTER`].
    pub outage: Option<Duration>,
    /// End by itself after this long.
    pub duration: Option<Duration>,
    /// One JSON reading a line, in place of the table.
    pub json: bool,
    /// Where configuration and buffer go; a temporary folder when absent.
    pub folder: Option<PathBuf>,
}

/// When the outage begins: late enough that the first batches have been seen.
pub const OUTAGE_AFTER: Duration = Duration::from_secs(6);

/// Runs the demonstration until `stop` is cancelled or its time is up.
///
/// # Errors
/// When no port, pseudo-terminal or folder can be had, or the gateway does not start.
pub async fn run(options: Options, stop: CancellationToken) -> Result<Exit, Fatal> {
    let scratch = Scratch::make(options.folder.clone()).map_err(unavailable)?;
    let mut tasks = JoinSet::new();
    let broker = Broker::new();
    let places = start_devices(&broker, &mut tasks).await.map_err(unavailable)?;
    let path = scratch.folder.join("fieldgate.toml");
    std::fs::write(&path, places.configuration()).map_err(unavailable)?;
    let config = config::load(&path, config::Options::default())?;
    let watch = Watch::new(&options, broker.subscribe("fg/1/+/data"));
    watch.introduce(&path);
    let gateway = Gateway::start(config)?;
    let watched = watch.run(&broker, &gateway.store, stop).await;
    broker.bring_back();
    gateway.stop().await?;
    tasks.shutdown().await;
    watched
}

/// Where the simulated world is found.
struct Places {
    broker: SocketAddr,
    chiller: SocketAddr,
    coap: SocketAddr,
    meter_line: PathBuf,
    scale_line: PathBuf,
}

async fn start_devices(broker: &Broker, tasks: &mut JoinSet<()>) -> io::Result<Places> {
    let meter = Line::open()?;
    let scale = Line::open()?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let places = Places {
        broker: free_address().await?,
        chiller: listener.local_addr()?,
        coap: UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await?.local_addr()?,
        meter_line: meter.path.clone(),
        scale_line: scale.path.clone(),
    };
    tasks.spawn(lives("the broker", broker.clone().serve(places.broker)));
    tasks.spawn(lives("the chiller", devices::modbus_tcp(listener, Registers::chiller())));
    tasks.spawn(lives("the meter", devices::modbus_rtu(meter, Registers::meter())));
    tasks.spawn(lives("the scale", devices::scale(scale)));
    tasks.spawn(lives("the tank", devices::tank(places.coap)));
    tasks.spawn(devices::zigbee(broker.clone()));
    Ok(places)
}

async fn free_address() -> io::Result<SocketAddr> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?.local_addr()
}

/// Says so when a simulated device ends, which it should not.
async fn lives(what: &str, device: impl Future<Output = io::Result<()>>) {
    if let Err(e) = device.await {
        tracing::error!("{}", events::gateway::demo_lost(what, e.kind()));
    }
}

impl Places {
    /// Writes the configuration a person would write for these devices.
    fn configuration(&self) -> String {
        let mut text = String::new();
        let _ = write!(
            text,
            r#"# Written by fieldgate demo. Try: fieldgate check --config THIS_FILE
[gateway]
name = "demo"
clock = "trusted"                        # a board fresh from its box shows readings at once, whatever its clock says

[port.rs485-1]
path = "{meter}"
line = "9600 8N1"

[port.rs232-1]
path = "{scale}"

[device.meter-1]                         # Modbus RTU, points from a template
template = "eastron-sdm630"
via   = "modbus rs485-1 id 1"
every = "1s"

[device.chiller]                         # Modbus TCP
via   = "modbus tcp {chiller} id 1"
every = "1s"
points.supply_temp = {{ at = "holding 107", as = "i16", scale = 0.1, unit = "Cel", decimals = 1 }}
points.return_temp = {{ at = "holding 108", as = "i16", scale = 0.1, unit = "Cel", decimals = 1 }}
points.running     = {{ at = "coil 3", as = "bool" }}
points.alarms      = {{ at = "holding 200", as = "bits", bits = {{ 0 = "low_pressure", 3 = "freeze" }} }}

[device.scale]                           # serial line, frames by end mark
via   = "serial rs232-1"
frame = {{ end = "\r\n" }}
match = '^(?<status>ST|US),GS,\s*(?<weight>[-+]?\d+\.\d+)kg$'
points.weight = {{ unit = "kg", decimals = 2 }}
points.status = {{ as = "text" }}

[source.zigbee]                          # a zigbee2mqtt bridge
via    = "zigbee2mqtt mqtt://{broker}"
rename = {{ "0x00158d0001a2b3c4" = "door-north" }}

[source.push]                            # devices post to us
via = "coap listen {coap}"

[buffer]
path = "buffer.db"

[api]
socket = "api.sock"

[uplink.cloud]
url   = "mqtt://{broker}"
batch = {{ max_age = "2s" }}
"#,
            meter = self.meter_line.display(),
            scale = self.scale_line.display(),
            chiller = self.chiller,
            broker = self.broker,
            coap = self.coap,
        );
        text
    }
}

/// A folder that is removed afterwards, unless the person named it.
struct Scratch {
    folder: PathBuf,
    kept: bool,
}

impl Scratch {
    fn make(named: Option<PathBuf>) -> io::Result<Self> {
        let kept = named.is_some();
        let folder = named.unwrap_or_else(|| {
            std::env::temp_dir().join(format!("fieldgate-demo-{}", std::process::id()))
        });
        std::fs::create_dir_all(&folder)?;
        Ok(Self { folder, kept })
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if !self.kept {
            let _ = std::fs::remove_dir_all(Path::new(&self.folder));
        }
    }
}

#[expect(clippy::needless_pass_by_value, reason = "fits map_err")]
fn unavailable(error: io::Error) -> Fatal {
    Fatal::new(Exit::Unreachable, events::gateway::no_demo(error.kind()).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Trust;

    #[test]
    fn a_board_whose_clock_was_never_set_shows_the_demo_at_once() {
        let scratch = Scratch::make(None).unwrap();
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
        let places = Places {
            broker: address,
            chiller: address,
            coap: address,
            meter_line: "/dev/null".into(),
            scale_line: "/dev/zero".into(),
        };
        let path = scratch.folder.join("fieldgate.toml");
        std::fs::write(&path, places.configuration()).unwrap();
        let config = config::load(&path, config::Options::default()).unwrap();
        // Else batches would wait for network time first.
        assert!(matches!(config.gateway.clock, Trust::Trusted));
        assert_eq!(config.sources.len(), 5);
    }
}
