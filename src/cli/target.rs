//! What a person names on a command line: a configured port, a device node, a part of its name, or a
//! host; and why it cannot be had, in words.

use std::fmt;
use std::io;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use crate::config::{self, host_and_port, outline};
use crate::error::{Exit, Fatal};
use crate::events::{Notice, firsthour, modbus, serial};
use crate::sources::line::ports::{self, holder};
use crate::sources::line::{LineSettings, SerialLine};
use crate::sources::modbus::inquiry::Inquiry;
use crate::sources::modbus::settings::Link;

/// Where Modbus devices may be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Target {
    /// A serial port.
    Serial {
        /// Its device node.
        path: PathBuf,
        /// Name and line in the configuration, when it stands there.
        known: Option<(String, LineSettings)>,
    },
    /// A device or converter on the network.
    Network {
        /// Name or address.
        host: String,
        /// Usually 502.
        port: u16,
    },
}

/// The port of Modbus TCP (MODBUS Messaging on TCP/IP 1.0b, section 4.2.2.1).
pub(super) const MODBUS_PORT: u16 = 502;

impl Target {
    /// Finds out what is meant.
    ///
    /// # Errors
    /// When it can be neither a port nor a host.
    pub(super) fn find(named: &str, config: &Path) -> Result<Self, Fatal> {
        let outline = outline::outline(config);
        if let Some(port) = outline.port(named) {
            let line = LineSettings::parse(&port.line).unwrap_or(LineSettings::DEFAULT);
            return Ok(Self::serial(&port.path, Some((port.name.clone(), line))));
        }
        let known = |path: &Path| {
            let port = outline.ports.iter().find(|port| same(&port.path, path))?;
            let line = LineSettings::parse(&port.line).unwrap_or(LineSettings::DEFAULT);
            Some((port.name.clone(), line))
        };
        if named.trim().is_empty() {
            let notice = firsthour::no_target(named, "names no port or host", "fieldgate ports");
            return Err(Fatal::new(Exit::Usage, notice.to_string()));
        }
        if named.starts_with(['/', '.']) {
            let path = Path::new(named);
            if !path.exists() {
                let notice = serial::missing(&format!("port {named}"), path);
                return Err(Fatal::new(Exit::Unreachable, notice.to_string()));
            }
            return Ok(Self::serial(path, known(path)));
        }
        let node = ["/dev/serial/by-id", "/dev/serial/by-path", "/dev"]
            .iter()
            .map(|folder| Path::new(folder).join(named))
            .find(|path| path.exists());
        if let Some(path) = node {
            return Ok(Self::serial(&path, known(&path)));
        }
        // Whoever names a device means the line or host behind which it is.
        let device = outline.devices.iter().find(|device| device.name == named);
        let bus = device.and_then(|device| bus_of(&device.via)).filter(|bus| *bus != named);
        if let Some(bus) = bus {
            return Self::find(bus, config);
        }
        match host_and_port(named, Some(MODBUS_PORT)) {
            Ok((host, port)) => Ok(Self::Network { host, port }),
            Err(why) => {
                let ports: Vec<_> = outline.ports.iter().map(|port| &*port.name).collect();
                let next = match ports.as_slice() {
                    [] => "fieldgate ports".to_owned(),
                    ports => format!("fieldgate ports; configured are {}", ports.join(", ")),
                };
                let notice =
                    firsthour::no_target(named, &format!("is no port or host: {why}"), &next);
                Err(Fatal::new(Exit::Usage, notice.to_string()))
            }
        }
    }

    fn serial(path: &Path, known: Option<(String, LineSettings)>) -> Self {
        Self::Serial { path: path.to_owned(), known }
    }

    pub(super) fn is_serial(&self) -> bool {
        matches!(self, Self::Serial { .. })
    }

    /// Returns how notices call it.
    pub(super) fn subject(&self) -> String {
        match self {
            Self::Serial { known: Some((name, _)), .. } => format!("port {name}"),
            Self::Serial { path, .. } => format!("port {}", path.display()),
            Self::Network { .. } => format!("host {self}"),
        }
    }

    /// Returns the link to it, at `line` when it is a port, with RTU frames over TCP when `rtu`.
    pub(super) fn link(&self, line: LineSettings, rtu: bool) -> Link {
        match self {
            Self::Serial { path, .. } => {
                Link::Rtu(SerialLine { name: self.to_string(), path: path.clone(), line })
            }
            Self::Network { host, port } if rtu => {
                Link::RtuOverTcp { host: host.clone(), port: *port }
            }
            Self::Network { host, port } => Link::Tcp { host: host.clone(), port: *port },
        }
    }

    /// Returns the path that survives replugging, or the one that was named.
    pub(super) fn stable_path(&self) -> Option<PathBuf> {
        let Self::Serial { path, .. } = self else { return None };
        let path = std::path::absolute(path).unwrap_or_else(|_| path.clone());
        if path.starts_with("/dev/serial") {
            return Some(path);
        }
        let listed = ports::ports().into_iter().find(|port| same(&port.path, &path));
        Some(listed.and_then(|port| port.by_id.or(port.by_path)).unwrap_or(path))
    }

    /// Opens it.
    ///
    /// # Errors
    /// The notice that says why not; a port that another program has is not even tried.
    pub(super) async fn open(&self, link: Link) -> Result<Inquiry, Box<Notice>> {
        if let Some(notice) = self.taken() {
            return Err(Box::new(notice));
        }
        Inquiry::open(link).await.map_err(|error| Box::new(self.not_opened(&error)))
    }

    /// Returns the notice about who has the port, when somebody else has.
    pub(super) fn taken(&self) -> Option<Notice> {
        let Self::Serial { path, .. } = self else { return None };
        let holder = holder(path).filter(|holder| holder.pid != std::process::id())?;
        let daemon = holder.command == "fieldgate";
        let subject = self.subject();
        Some(firsthour::in_use(&subject, path, &holder.command, holder.pid, daemon))
    }

    /// Whether a gateway that runs here has a device at this host.
    pub(super) fn is_polled(&self, config: &Path) -> bool {
        let is_here = |via: &str| {
            let bus = bus_of(via).and_then(|bus| host_and_port(bus, Some(MODBUS_PORT)).ok());
            bus.is_some_and(|(host, port)| *self == Self::Network { host, port })
        };
        let there = outline::outline(config).devices.iter().any(|device| is_here(&device.via));
        // Whoever may not connect to its socket is refused by somebody, too.
        let runs = |error: &io::Error| error.kind() == io::ErrorKind::PermissionDenied;
        there
            && UnixStream::connect(config::socket(config))
                .map_or_else(|error| runs(&error), |_| true)
    }

    fn not_opened(&self, error: &io::Error) -> Notice {
        let subject = self.subject();
        let path = match self {
            Self::Serial { path, .. } => path,
            Self::Network { host, .. } => {
                let notice = modbus::not_connected(&subject, &self.to_string(), error);
                // A name that nobody knows may have been meant as a port's.
                return match host.contains(['.', ':']) || is_answer(error) {
                    true => notice,
                    false => notice
                        .likely("it is meant as a serial port, and none has this name")
                        .try_next("fieldgate ports"),
                };
            }
        };
        match error.kind() {
            _ if !path.exists() => serial::missing(&subject, path),
            io::ErrorKind::PermissionDenied => serial::denied(&subject, path),
            io::ErrorKind::WouldBlock | io::ErrorKind::ResourceBusy => {
                serial::taken(&subject, path, None)
            }
            _ => serial::unfit(&subject, path, "this line"),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Serial { known: Some((name, _)), .. } => f.write_str(name),
            Self::Serial { path, .. } => write!(f, "{}", path.display()),
            Self::Network { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Network { host, port } => write!(f, "{host}:{port}"),
        }
    }
}

/// Returns the port or host of a Modbus device, from its `via`.
fn bus_of(via: &str) -> Option<&str> {
    let words: Vec<_> = via.split_whitespace().collect();
    match words.as_slice() {
        ["modbus", "tcp" | "rtu-over-tcp", bus, "id", ..] | ["modbus", bus, "id", ..] => Some(*bus),
        _ => None,
    }
}

/// Whether an error comes from the network, and not from looking a name up.
fn is_answer(error: &io::Error) -> bool {
    use io::ErrorKind::{
        ConnectionRefused, ConnectionReset, HostUnreachable, NetworkUnreachable, TimedOut,
    };
    let kinds = [ConnectionRefused, ConnectionReset, HostUnreachable, NetworkUnreachable, TimedOut];
    kinds.contains(&error.kind())
}

/// Whether two paths lead to the same node.
fn same(a: &Path, b: &Path) -> bool {
    a == b || matches!((a.canonicalize(), b.canonicalize()), (Ok(a), Ok(b)) if a == b)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_polled_when_a_device_is_there_and_the_gateway_runs() {
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join("fieldgate.toml");
        let text = "[api]\nsocket = \"api.sock\"\n\
                    [device.plc]\nvia = \"modbus tcp 10.0.0.9 id 1\"\n";
        std::fs::write(&config, text).unwrap();
        let at = |host: &str| Target::Network { host: host.to_owned(), port: 502 };
        assert!(!at("10.0.0.9").is_polled(&config), "nothing runs");
        let _gateway = std::os::unix::net::UnixListener::bind(folder.path().join("api.sock"));
        assert!(at("10.0.0.9").is_polled(&config));
        assert!(!at("10.0.0.8").is_polled(&config), "there is no device");
    }

    #[test]
    fn ports_nodes_and_hosts_are_told_apart() {
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join("fieldgate.toml");
        let node = folder.path().join("ttyX");
        std::fs::write(&node, "").unwrap();
        let text = format!(
            "[port.bus]\npath = \"{}\"\nline = \"19200 8E1\"\n\
             [device.pump]\nvia = \"modbus bus id 3\"\n\
             [device.plc]\nvia = \"modbus tcp 10.0.0.9 id 1\"\n",
            node.display()
        );
        std::fs::write(&config, text).unwrap();
        let find = |named: &str| Target::find(named, &config);
        let by_name = find("bus").unwrap();
        assert_eq!(by_name, find(node.to_str().unwrap()).unwrap());
        assert_eq!((by_name.subject(), by_name.to_string()), ("port bus".into(), "bus".into()));
        assert!(matches!(by_name.link(LineSettings::DEFAULT, false), Link::Rtu(_)));
        let host = find("10.0.0.9").unwrap();
        assert_eq!((find("pump").unwrap(), find("plc").unwrap()), (by_name, host.clone()));
        assert_eq!(host, Target::Network { host: "10.0.0.9".into(), port: 502 });
        assert_eq!(find("[::1]:1502").unwrap().to_string(), "[::1]:1502");
        let gone = find("/dev/ttyNONE").unwrap_err();
        assert!(gone.exit == Exit::Unreachable && gone.message.contains("FG-S01"), "{gone}");
        let none = find(" ").unwrap_err();
        assert!(none.exit == Exit::Usage && none.message.contains("fieldgate ports"), "{none}");
        let unknown = Target::Network { host: "rs485-7".into(), port: 502 };
        let told = unknown.not_opened(&io::Error::other("no such name")).to_string();
        assert!(told.contains("meant as a serial port"), "{told}");
        let refused = unknown.not_opened(&io::ErrorKind::ConnectionRefused.into()).to_string();
        assert!(!refused.contains("serial port"), "{refused}");
        let none = find("plc:port").unwrap_err();
        assert!(none.exit == Exit::Usage && none.message.contains("bus"), "{none}");
    }
}
