//! What a Modbus bus is told to read: resolved by `config`, valid by construction there.

use std::sync::Arc;
use std::time::Duration;

use crate::sources::line::SerialLine;

/// One bus: a serial line with its devices, or one TCP connection with the units behind it.
#[derive(Debug, Clone, PartialEq)]
pub struct Bus {
    /// What people call it: the port's name, or `192.168.1.40:502`.
    pub name: String,
    /// How it is reached.
    pub link: Link,
    /// Its devices, in the order of the configuration.
    pub devices: Vec<Device>,
}

/// How a bus is reached.
#[derive(Debug, Clone, PartialEq)]
pub enum Link {
    /// RTU frames on a serial line.
    Rtu(SerialLine),
    /// Modbus TCP (MBAP frames).
    Tcp {
        /// Name or address.
        host: String,
        /// Usually 502.
        port: u16,
    },
    /// RTU frames through a TCP serial server.
    RtuOverTcp {
        /// Name or address.
        host: String,
        /// The converter's port.
        port: u16,
    },
}

/// One device (slave, unit) on a bus.
#[derive(Debug, Clone, PartialEq)]
pub struct Device {
    /// Name in the configuration.
    pub name: Arc<str>,
    /// Unit identifier, 0 to 255 (1 to 247 on a serial line).
    pub id: u8,
    /// How long an answer may take after the request has left.
    pub timeout: Duration,
    /// Pause this device needs between two requests.
    pub pause: Duration,
    /// Unused registers that may be read along to save a request.
    pub gap_max: u16,
    /// Registers this device allows in one read, 1 to 125.
    pub registers_max: u16,
    /// What to read.
    pub points: Vec<Point>,
}

/// One point of a device.
#[derive(Debug, Clone, PartialEq)]
pub struct Point {
    /// Name within the device. With [`Form::Bits`] each named bit becomes `name.bit`.
    pub name: Arc<str>,
    /// Which of the four tables.
    pub table: Table,
    /// Protocol address, from 0.
    pub address: u16,
    /// How the registers are to be understood.
    pub form: Form,
    /// Order of bytes and words for values of more than one register; `Dcba` and `Badc` also swap
    /// the bytes of a single register.
    pub order: WordOrder,
    /// `value = raw * scale + offset`.
    pub scale: f64,
    /// See `scale`; in the point's unit.
    pub offset: f64,
    /// Decimals to keep; `None` keeps what the number has.
    pub decimals: Option<u8>,
    /// UCUM or SenML unit; empty when it has none.
    pub unit: Arc<str>,
    /// How often it is read.
    pub every: Duration,
}

/// The four Modbus tables (Modbus Application Protocol 1.1b3, section 4.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Table {
    /// Read/write bits, function 1.
    Coil,
    /// Read-only bits, function 2.
    Discrete,
    /// Read/write registers, function 3.
    Holding,
    /// Read-only registers, function 4.
    Input,
}

/// How registers are to be understood.
#[derive(Debug, Clone, PartialEq)]
pub enum Form {
    /// A coil or discrete input; of a register: not zero.
    Bool,
    /// One register, unsigned.
    U16,
    /// One register, two's complement.
    I16,
    /// Two registers.
    U32,
    /// Two registers.
    I32,
    /// Four registers.
    U64,
    /// Four registers.
    I64,
    /// Two registers, IEEE 754 binary32.
    F32,
    /// Four registers, IEEE 754 binary64.
    F64,
    /// Four decimal digits in one register.
    Bcd16,
    /// Eight decimal digits in two registers.
    Bcd32,
    /// Characters, two a register, so many bytes; ends at the first NUL.
    Text(u16),
    /// Named bits of one register, bit 0 the lowest; each is a boolean point of its own.
    Bits(Vec<(u8, Arc<str>)>),
}

/// Order of the bytes A (most significant) to D in two registers; four registers follow the same
/// pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum WordOrder {
    /// Big-endian words of big-endian bytes: what the specification has in mind.
    #[default]
    Abcd,
    /// Little-endian words of big-endian bytes.
    Cdab,
    /// Big-endian words of little-endian bytes.
    Badc,
    /// Little-endian throughout.
    Dcba,
}

impl Table {
    /// Returns the word used in the configuration: `holding`.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Coil => "coil",
            Self::Discrete => "discrete",
            Self::Holding => "holding",
            Self::Input => "input",
        }
    }

    /// Returns whether its elements are bits.
    #[must_use]
    pub fn is_bits(self) -> bool {
        matches!(self, Self::Coil | Self::Discrete)
    }
}

impl Form {
    /// Returns how many registers (or, in a bit table, bits) a value takes.
    #[must_use]
    pub fn width(&self) -> u16 {
        match self {
            Self::Bool | Self::U16 | Self::I16 | Self::Bcd16 | Self::Bits(_) => 1,
            Self::U32 | Self::I32 | Self::F32 | Self::Bcd32 => 2,
            Self::U64 | Self::I64 | Self::F64 => 4,
            Self::Text(bytes) => bytes.div_ceil(2),
        }
    }
}
