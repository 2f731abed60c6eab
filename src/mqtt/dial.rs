//! From a broker's settings to a session: name, TCP, TLS, login, each step named when it fails.

use std::io::ErrorKind;
use std::net::SocketAddr;

use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::error::words;
use super::meter::Metered;
use super::session::{Session, Wire};
use super::tls;
use super::witness::Presented;
use super::{Broker, Certificate, ConnectError, Step, Tls};
use crate::limits;

/// Connects to `broker` and logs in. `clean` asks it to forget an earlier session of this client
/// (MQTT 3.1.1, section 3.1.2.4).
///
/// Secrets and certificate files are read anew each time.
///
/// # Errors
/// Says which step failed and what was seen. All steps together take at most
/// [`limits::MQTT_CONNECT_TIME_MAX`].
pub async fn connect(broker: &Broker, clean: bool) -> Result<Session, ConnectError> {
    connect_on(broker, clean, None).await
}

/// As [`connect`], and says of each step as it is passed what was seen there.
///
/// # Errors
/// As [`connect`].
pub async fn connect_watched(
    broker: &Broker,
    clean: bool,
    watch: &mut (dyn FnMut(Passed) + Send),
) -> Result<Session, ConnectError> {
    connect_on(broker, clean, Some(watch)).await
}

/// A step of connecting that has been passed, and what was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Passed {
    /// The name has these addresses.
    Name(Vec<SocketAddr>),
    /// This one took the connection.
    Tcp(SocketAddr),
    /// TLS is agreed on; the broker's certificate and those above it.
    Tls(Vec<Certificate>),
    /// TLS failed; what the broker has presented until then.
    Presented(Vec<Certificate>),
    /// The login was accepted.
    Login,
}

type Watch<'a> = Option<&'a mut (dyn FnMut(Passed) + Send)>;

async fn connect_on(
    broker: &Broker,
    clean: bool,
    mut watch: Watch<'_>,
) -> Result<Session, ConnectError> {
    let mut step = Step::Name;
    match timeout(limits::MQTT_CONNECT_TIME_MAX, walk(broker, clean, &mut step, &mut watch)).await {
        Ok(result) => result,
        Err(_) => Err(ConnectError::Silent(step)),
    }
}

/// Takes the steps; `step` is the one being taken.
async fn walk(
    broker: &Broker,
    clean: bool,
    step: &mut Step,
    watch: &mut Watch<'_>,
) -> Result<Session, ConnectError> {
    broker.meter.dialled();
    let addresses = look_up(broker).await?;
    tell(watch, || Passed::Name(addresses.clone()));
    *step = Step::Tcp;
    let stream = open(&addresses).await?;
    let peer = stream.peer_addr();
    tell(watch, || peer.map_or(Passed::Name(Vec::new()), Passed::Tcp));
    let stream = broker.meter.on(stream);
    let wire: Box<dyn Wire> = match &broker.tls {
        None => Box::new(stream),
        Some(settings) => {
            *step = Step::Tls;
            secure(stream, settings, broker, watch).await?
        }
    };
    *step = Step::Login;
    let session = Session::open(wire, broker, clean).await?;
    tell(watch, || Passed::Login);
    Ok(session)
}

fn tell(watch: &mut Watch<'_>, passed: impl FnOnce() -> Passed) {
    if let Some(watch) = watch {
        watch(passed());
    }
}

async fn look_up(broker: &Broker) -> Result<Vec<SocketAddr>, ConnectError> {
    let host = broker.host.trim_matches(['[', ']']);
    let none = |why| ConnectError::Name { host: broker.host.clone(), why };
    let addresses: Vec<_> = tokio::net::lookup_host((host, broker.port))
        .await
        .map_err(|_| none("cannot be resolved: no name server answers, or it is not known"))?
        .collect();
    if addresses.is_empty() {
        return Err(none("has no address"));
    }
    Ok(addresses)
}

/// Tries the addresses in the resolver's order. Each gets its share of the time, so that an IPv6
/// address that swallows packets does not keep us from the IPv4 one behind it.
async fn open(addresses: &[SocketAddr]) -> Result<TcpStream, ConnectError> {
    let shares = u32::try_from(addresses.len() + 1).unwrap_or(u32::MAX);
    let share = limits::MQTT_CONNECT_TIME_MAX / shares;
    let mut last = ConnectError::Silent(Step::Tcp);
    for address in addresses {
        let opened = timeout(share, open_one(*address)).await;
        match opened.unwrap_or_else(|_| Err(ErrorKind::TimedOut.into())) {
            Ok(stream) => return Ok(stream),
            Err(e) if e.kind() == ErrorKind::ConnectionRefused => {
                last = ConnectError::Refused(*address);
            }
            Err(e) => last = ConnectError::Unreachable { address: *address, why: words(e.kind()) },
        }
    }
    Err(last)
}

async fn open_one(address: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // A batch is one write; waiting to fill a segment would only delay its last one.
    socket.set_nodelay(true)?;
    socket.set_keepalive(true)?;
    // Best effort: without it a slow link is only found slow later.
    let _ = socket2::SockRef::from(&socket).set_tcp_notsent_lowat(limits::MQTT_UNSENT_BYTES_MAX);
    socket.connect(address).await
}

async fn secure(
    stream: Metered<TcpStream>,
    settings: &Tls,
    broker: &Broker,
    watch: &mut Watch<'_>,
) -> Result<Box<dyn Wire>, ConnectError> {
    let settings = settings.clone();
    let alpn = broker.preset.alpn_on(broker.port);
    let presented = watch.is_some().then(Presented::default);
    let witness = presented.clone();
    // Reading and parsing the system's 150 CA certificates takes a slow board tens of
    // milliseconds, which a serial line would notice.
    let config = tokio::task::spawn_blocking(move || tls::watched(&settings, alpn, witness))
        .await
        .map_err(|_| ConnectError::Settings("TLS cannot be set up".to_owned()))??;
    let name = tls::server_name(broker.host.trim_matches(['[', ']']))?;
    let secured = TlsConnector::from(config).connect(name, stream).await;
    let chain = || presented.map(|presented| presented.chain()).unwrap_or_default();
    match secured {
        Ok(stream) => {
            tell(watch, || Passed::Tls(chain()));
            Ok(Box::new(stream))
        }
        Err(e) => {
            tell(watch, || Passed::Presented(chain()));
            Err(ConnectError::from_io(&e, Step::Tls))
        }
    }
}
