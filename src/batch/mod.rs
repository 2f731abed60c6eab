//! The wire format.

/// How a body is coded: the envelope's `z`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(u8)]
pub enum Coding {
    /// A map inside the envelope.
    #[default]
    Plain = 0,
    /// RFC 1950.
    Zlib = 1,
    /// RFC 8878.
    Zstd = 2,
}
