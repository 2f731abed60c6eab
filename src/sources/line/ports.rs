//! Lists the serial ports of this board from what the kernel shows of them, and who holds them.
//!
//! `tokio_serial::available_ports` needs libudev to tell more than names, which the cross builds do
//! not carry; /sys says the same (kernel documentation, sysfs-bus-usb and sysfs-tty).

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Serialize;

/// A serial port that exists now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PortInfo {
    /// Device node as the kernel numbers it (`/dev/ttyUSB0`); may change when replugged.
    pub path: PathBuf,
    /// `/dev/serial/by-id/..`: the adapter, wherever it is plugged. The one to configure.
    pub by_id: Option<PathBuf>,
    /// `/dev/serial/by-path/..`: the socket, whatever is plugged there. For adapters without a
    /// serial number of their own, of which two look the same by id.
    pub by_path: Option<PathBuf>,
    /// Kernel driver: `ftdi_sio`, `cdc_acm`, `serial8250`.
    pub driver: Option<String>,
    /// What the adapter says of itself, when it is on USB.
    pub usb: Option<UsbInfo>,
    /// Who has it open. `None` also when that process belongs to another user and may not be seen.
    pub holder: Option<Holder>,
}

/// What a USB adapter says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct UsbInfo {
    /// Four hexadecimal digits, assigned by the USB Implementers Forum.
    pub vendor_id: String,
    /// Four hexadecimal digits, assigned by the vendor.
    pub product_id: String,
    /// The vendor's name.
    pub vendor: Option<String>,
    /// The product's name.
    pub product: Option<String>,
    /// The adapter's serial number; cheap ones have none.
    pub serial: Option<String>,
}

/// A process that has a port open.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Holder {
    /// Process id.
    pub pid: u32,
    /// Its command name, at most 15 characters (proc(5), `/proc/pid/comm`).
    pub command: String,
}

/// Lists the serial ports of this board, by path.
#[must_use]
pub fn ports() -> Vec<PortInfo> {
    ports_under(Path::new("/"))
}

/// Returns who has `port` open, as far as this user may see. Symbolic links are followed.
#[must_use]
pub fn holder(port: &Path) -> Option<Holder> {
    let node = fs::canonicalize(port).ok()?;
    holders(Path::new("/proc"), &|open| open == node).into_values().next()
}

fn ports_under(root: &Path) -> Vec<PortInfo> {
    let by_id = links(&root.join("dev/serial/by-id"));
    let by_path = links(&root.join("dev/serial/by-path"));
    let dev = root.join("dev");
    let mut ports: Vec<_> = entries(&root.join("sys/class/tty"))
        .into_iter()
        .filter(|class| is_serial(class))
        .filter_map(|class| {
            let path = dev.join(class.file_name()?);
            Some(PortInfo {
                by_id: by_id.get(&path).cloned(),
                by_path: by_path.get(&path).cloned(),
                driver: driver(&class),
                usb: usb(&class),
                holder: None,
                path,
            })
        })
        .collect();
    ports.sort_by(|a, b| a.path.cmp(&b.path));
    let held = holders(&root.join("proc"), &|open| ports.iter().any(|port| port.path == open));
    for port in &mut ports {
        port.holder = held.get(&port.path).cloned();
    }
    ports
}

/// Consoles and pseudo terminals have no device behind them. A `ttyS` of type 0 (`PORT_UNKNOWN`,
/// linux/serial_core.h) is a place where a UART could be but is not.
fn is_serial(class: &Path) -> bool {
    class.join("device").exists() && text(&class.join("type")).as_deref() != Some("0")
}

fn driver(class: &Path) -> Option<String> {
    let link = fs::canonicalize(class.join("device/driver")).ok()?;
    Some(link.file_name()?.to_string_lossy().into_owned())
}

/// Climbs from the port to the USB device that carries it, which is the first with an `idVendor`.
fn usb(class: &Path) -> Option<UsbInfo> {
    let device = fs::canonicalize(class.join("device")).ok()?;
    let adapter = device.ancestors().find(|at| at.join("idVendor").exists())?;
    let read = |name: &str| text(&adapter.join(name));
    Some(UsbInfo {
        vendor_id: read("idVendor")?,
        product_id: read("idProduct")?,
        vendor: read("manufacturer"),
        product: read("product"),
        serial: read("serial"),
    })
}

/// Finds processes that have a file open that `wanted` names. The maker of a pseudo-terminal
/// (socat, before a serial device server) has to keep both of its ends open, and keeps nobody from
/// using it.
fn holders(proc: &Path, wanted: &dyn Fn(&Path) -> bool) -> HashMap<PathBuf, Holder> {
    let mut all = HashMap::new();
    for process in entries(proc) {
        let Some(pid) = process.file_name().and_then(|name| name.to_str()?.parse().ok()) else {
            continue;
        };
        let open = entries(&process.join("fd"));
        let open: Vec<_> = open.iter().filter_map(|open| fs::read_link(open).ok()).collect();
        let is_maker = open.iter().any(|file| file.ends_with("ptmx"));
        let is_made = |file: &Path| is_maker && file.parent().is_some_and(|it| it.ends_with("pts"));
        for file in open {
            if wanted(&file) && !is_made(&file) {
                let command = text(&process.join("comm")).unwrap_or_default();
                all.insert(file, Holder { pid, command });
            }
        }
    }
    all
}

/// Maps what the links of a folder point to onto the links.
fn links(folder: &Path) -> HashMap<PathBuf, PathBuf> {
    let resolved = |link: PathBuf| Some((fs::canonicalize(&link).ok()?, link));
    entries(folder).into_iter().filter_map(resolved).collect()
}

/// What cannot be listed is as good as empty: sandboxes hide parts of /proc and /sys.
fn entries(folder: &Path) -> Vec<PathBuf> {
    let Ok(list) = fs::read_dir(folder) else { return Vec::new() };
    list.flatten().map(|entry| entry.path()).collect()
}

fn text(file: &Path) -> Option<String> {
    let text = fs::read_to_string(file).ok()?;
    let text = text.trim();
    (!text.is_empty()).then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn put(root: &Path, path: &str, content: &str) {
        let file = root.join(path);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, content).unwrap();
    }

    fn link(root: &Path, from: &str, to: &str) {
        let link = root.join(from);
        fs::create_dir_all(link.parent().unwrap()).unwrap();
        fs::create_dir_all(root.join(to).parent().unwrap()).unwrap();
        symlink(root.join(to), link).unwrap();
    }

    /// A board as the kernel shows it: a USB adapter that a process holds, a UART, an empty UART
    /// place, a console.
    fn board() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let root = fs::canonicalize(folder.path()).unwrap();
        let usb = "sys/devices/usb1/1-1";
        put(&root, &format!("{usb}/idVendor"), "0403\n");
        put(&root, &format!("{usb}/idProduct"), "6001\n");
        put(&root, &format!("{usb}/manufacturer"), "FTDI\n");
        put(&root, &format!("{usb}/serial"), "A50285BI\n");
        put(&root, &format!("{usb}/1-1:1.0/ttyUSB0/port_number"), "0");
        put(&root, "sys/bus/usb-serial/drivers/ftdi_sio/bind", "");
        link(
            &root,
            &format!("{usb}/1-1:1.0/ttyUSB0/driver"),
            "sys/bus/usb-serial/drivers/ftdi_sio",
        );
        link(&root, "sys/class/tty/ttyUSB0/device", &format!("{usb}/1-1:1.0/ttyUSB0"));
        put(&root, "sys/devices/platform/serial0/uevent", "");
        for (name, kind) in [("ttyS0", "4\n"), ("ttyS1", "0\n")] {
            put(&root, &format!("sys/class/tty/{name}/type"), kind);
            link(&root, &format!("sys/class/tty/{name}/device"), "sys/devices/platform/serial0");
        }
        put(&root, "sys/class/tty/tty1/dev", "4:1");
        put(&root, "dev/ttyUSB0", "");
        put(&root, "dev/ttyS0", "");
        link(&root, "dev/serial/by-id/usb-FTDI_A50285BI-if00-port0", "dev/ttyUSB0");
        link(&root, "proc/4711/fd/3", "dev/ttyUSB0");
        put(&root, "proc/4711/comm", "minicom\n");
        put(&root, "proc/version", "");
        (folder, root)
    }

    #[test]
    fn ports_are_listed_with_their_adapter_and_who_holds_them() {
        let (_folder, root) = board();
        let ports = ports_under(&root);
        let names: Vec<_> = ports.iter().map(|port| port.path.file_name().unwrap()).collect();
        assert_eq!(names, ["ttyS0", "ttyUSB0"]);
        let usb = &ports[1];
        assert_eq!(usb.by_id, Some(root.join("dev/serial/by-id/usb-FTDI_A50285BI-if00-port0")));
        assert_eq!(usb.by_path, None);
        assert_eq!(usb.driver.as_deref(), Some("ftdi_sio"));
        let adapter = usb.usb.as_ref().unwrap();
        assert_eq!((&*adapter.vendor_id, &*adapter.product_id), ("0403", "6001"));
        assert_eq!(adapter.serial.as_deref(), Some("A50285BI"));
        assert_eq!(adapter.product, None);
        assert_eq!(usb.holder, Some(Holder { pid: 4711, command: "minicom".into() }));
        assert_eq!((&ports[0].usb, &ports[0].holder), (&None, &None));
    }

    #[test]
    fn a_board_that_shows_nothing_has_no_ports() {
        assert_eq!(ports_under(Path::new("/nonexistent")), []);
    }

    #[test]
    fn the_maker_of_a_pseudo_terminal_does_not_hold_it_and_its_user_does() {
        let folder = tempfile::tempdir().unwrap();
        let root = fs::canonicalize(folder.path()).unwrap();
        let node = root.join("dev/pts/3");
        put(&root, "dev/pts/3", "");
        link(&root, "proc/10/fd/5", "dev/ptmx");
        link(&root, "proc/10/fd/6", "dev/pts/3");
        put(&root, "proc/10/comm", "socat\n");
        let held = || holders(&root.join("proc"), &|open| open == node);
        assert_eq!(held(), HashMap::new());
        link(&root, "proc/11/fd/3", "dev/pts/3");
        put(&root, "proc/11/comm", "minicom\n");
        assert_eq!(held()[&node], Holder { pid: 11, command: "minicom".into() });
    }

    #[test]
    fn a_file_this_process_has_open_is_held_by_this_process() {
        let file = tempfile::NamedTempFile::new().unwrap();
        assert_eq!(holder(file.path()).map(|holder| holder.pid), Some(std::process::id()));
        assert_eq!(holder(Path::new("/nonexistent")), None);
    }
}
