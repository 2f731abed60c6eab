//! A serial line: what `line = "9600 8N1"` means, how long a character takes on it, and how it is
//! opened. Modbus RTU and framed serial devices share it.

pub mod ports;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use ports::{PortInfo, ports};
use tokio_serial::{
    DataBits, ErrorKind, FlowControl, Parity, SerialPortBuilderExt, SerialStream, StopBits,
};

/// Speed and character layout of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LineSettings {
    /// Bits a second, 50 to 4,000,000.
    pub baud: u32,
    /// 5 to 8.
    pub data_bits: u8,
    /// `'N'`, `'E'` or `'O'`.
    pub parity: char,
    /// 1 or 2.
    pub stop_bits: u8,
}

/// A serial port by its path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SerialLine {
    /// Name in the configuration (`rs485-1`).
    pub name: String,
    /// Device node; `/dev/serial/by-id/..` survives replugging, `/dev/ttyUSB0` may not.
    pub path: PathBuf,
    /// How it talks.
    pub line: LineSettings,
}

impl LineSettings {
    /// The default of the Modbus serial line guide (section 2.5.1) is 19200 8E1; most devices in
    /// the field are shipped at 9600 8N1, which is what an absent `line` means.
    pub const DEFAULT: Self = Self { baud: 9600, data_bits: 8, parity: 'N', stop_bits: 1 };

    /// Reads `"9600 8N1"`.
    ///
    /// # Errors
    /// Says which part is wrong and what would do.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut words = text.split_ascii_whitespace();
        let (Some(speed), layout, None) = (words.next(), words.next(), words.next()) else {
            return Err(format!("\"{text}\" is not a line setting; write \"9600 8N1\""));
        };
        let baud =
            speed.parse().ok().filter(|baud| (50..=4_000_000).contains(baud)).ok_or_else(|| {
                format!("\"{speed}\" is not a speed from 50 to 4000000 bits a second")
            })?;
        let layout = layout.unwrap_or("8N1").to_ascii_uppercase();
        let &[bits @ b'5'..=b'8', parity @ (b'N' | b'E' | b'O'), stop @ (b'1' | b'2')] =
            layout.as_bytes()
        else {
            return Err(format!(
                "\"{layout}\" is not data bits (5 to 8), parity (N, E or O) and stop bits (1 or 2); \
                 write \"8N1\""
            ));
        };
        Ok(Self { baud, data_bits: bits - b'0', parity: parity.into(), stop_bits: stop - b'0' })
    }

    /// Returns the bits a character takes on the wire: start, data, parity, stop.
    #[must_use]
    pub fn bits_per_character(self) -> u32 {
        1 + u32::from(self.data_bits) + u32::from(self.parity != 'N') + u32::from(self.stop_bits)
    }

    /// Returns how long `n` characters take on the wire.
    #[must_use]
    pub fn characters(self, n: u32) -> Duration {
        let bits = u64::from(n) * u64::from(self.bits_per_character());
        Duration::from_nanos(bits * 1_000_000_000 / u64::from(self.baud))
    }
}

impl fmt::Display for LineSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}{}{}", self.baud, self.data_bits, self.parity, self.stop_bits)
    }
}

impl SerialLine {
    /// Opens the port for this process alone (TIOCEXCL and a lock).
    ///
    /// # Errors
    /// When the port does not exist, is taken, or refuses the settings. The text is the system's;
    /// `events::serial` turns it into a notice.
    pub fn open(&self) -> io::Result<SerialStream> {
        tokio_serial::new(path_text(&self.path), self.line.baud)
            .data_bits(match self.line.data_bits {
                5 => DataBits::Five,
                6 => DataBits::Six,
                7 => DataBits::Seven,
                _ => DataBits::Eight,
            })
            .parity(match self.line.parity {
                'E' => Parity::Even,
                'O' => Parity::Odd,
                _ => Parity::None,
            })
            .stop_bits(if self.line.stop_bits == 2 { StopBits::Two } else { StopBits::One })
            .flow_control(FlowControl::None)
            .open_native_async()
            .map_err(|error| match error.kind {
                // So it calls a port that is locked or was opened by somebody for himself alone
                // (EBUSY); as a system error it would mean that there is no such port.
                ErrorKind::NoDevice => io::ErrorKind::ResourceBusy.into(),
                _ => error.into(),
            })
    }
}

fn path_text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_setting_reads_back_as_written() {
        for text in ["9600 8N1", "19200 8E1", "115200 7O2"] {
            assert_eq!(LineSettings::parse(text).unwrap().to_string(), text);
        }
        assert_eq!(LineSettings::parse("19200").unwrap().to_string(), "19200 8N1");
    }

    #[test]
    fn a_wrong_part_is_named() {
        assert!(LineSettings::parse("96oo 8N1").unwrap_err().contains("96oo"));
        assert!(LineSettings::parse("9600 8X1").unwrap_err().contains("8X1"));
        assert!(LineSettings::parse("9600 8N1 fast").is_err());
        assert!(LineSettings::parse("").is_err());
    }

    #[test]
    fn eleven_bits_at_19200_take_573_microseconds() {
        let line = LineSettings::parse("19200 8E1").unwrap();
        assert_eq!(line.characters(1).as_micros(), 572);
    }
}
