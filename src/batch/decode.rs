//! From the wire back to readings. Nothing in a payload is believed: lengths are held against the
//! bytes that are left, indices against their tables, inflated size and number of readings against
//! limits. Columns stay columns, with their unwritten tails unwritten, so that a hostile batch costs
//! no more memory than its own size.

use std::io::Read;
use std::sync::Arc;

use crate::batch::frames::is_exact;
use crate::batch::pack::{Malformed, Reader};
use crate::limits;
use crate::reading::{Decimal, UnixMillis};

/// Why a payload is not a batch this version can read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DecodeError {
    /// It ends in the middle.
    Truncated,
    /// It is not MessagePack of the shape a batch has; says where.
    NotABatch(&'static str),
    /// A later major version.
    Version(u64),
    /// A body coding this version does not know.
    Coding(u64),
    /// The compressed body is damaged.
    Damaged,
    /// It would unfold beyond the limits.
    TooLarge,
    /// The envelope counts this many readings and the body holds that many.
    Count(u64, u64),
}

/// The envelope, without its body.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Header {
    /// Gateway name.
    pub gateway: String,
    /// Unix seconds when the store was created.
    pub epoch: u64,
    /// Stream name; `data` when absent.
    pub stream: String,
    /// Place in the sequence, from 1.
    pub sequence: u64,
    /// Lowest sequence number still held when this one was sealed.
    pub lowest_held: u64,
    /// Readings.
    pub readings: u64,
    /// Readings dropped by quota since the epoch began.
    pub dropped: u64,
    /// First time, ms since 1970.
    pub t0: i64,
    /// Last time, ms since 1970.
    pub t1: i64,
    /// 0 never synced, 1 synced, 2 corrected.
    pub clock: u64,
    /// Short hash of the effective configuration.
    pub config_hash: String,
    /// The envelope's `z`.
    pub coding: u64,
}

/// A batch, readable row by row.
#[derive(Debug, Clone, PartialEq)]
pub struct Decoded {
    /// The envelope.
    pub header: Header,
    /// Frames of a kind this version does not know; skipped.
    pub unknown_frames: u64,
    /// Readings of series of a kind this version does not know; skipped.
    pub unknown_readings: u64,
    pub(super) words: Vec<Arc<str>>,
    pub(super) series: Vec<Series>,
    pub(super) frames: Vec<Frame>,
    /// Readings of all frames so far, those of unknown series included.
    pub(super) claimed: usize,
}

/// Indices of words, and the kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Series {
    pub(super) device: usize,
    pub(super) point: usize,
    pub(super) unit: usize,
    pub(super) kind: i64,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Frame {
    /// Times; series and cells of each column; marks by (column, row).
    Grid(Vec<i64>, Vec<(usize, Cells)>, Vec<(usize, usize, u8)>),
    /// Time, series and cell of each row; marks by row.
    List(Vec<(i64, usize, Cell)>, Vec<(usize, u8)>),
}

/// A column as far as it was written.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Cells {
    Ints(Vec<i64>),
    Raw(Vec<Cell>),
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Cell {
    Nil,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(Arc<str>),
}

/// One reading.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Row<'a> {
    /// Index of its series within the batch.
    pub series: usize,
    /// When.
    pub at: UnixMillis,
    /// The value; `None` when there is none to use.
    pub value: Option<RowValue<'a>>,
    /// Quality code, 0 for plain good.
    pub q: u8,
}

/// A value on its way out of a batch.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum RowValue<'a> {
    /// A flag.
    Bool(bool),
    /// A number with its decimals.
    Decimal(Decimal),
    /// A number of a raw series.
    Float(f64),
    /// Text.
    Text(&'a str),
}

/// Decodes a payload.
///
/// # Errors
/// When it is not a whole batch of version 1 within the limits; see [`DecodeError`].
pub fn decode(payload: &[u8]) -> Result<Decoded, DecodeError> {
    let (header, coding, body) = envelope(payload)?;
    let inflated;
    let body = match coding {
        0 => body,
        1 => {
            inflated = inflate(flate2::read::ZlibDecoder::new(body))?;
            &inflated
        }
        2 => {
            let damaged = |_| DecodeError::Damaged;
            let mut coder = zstd::stream::read::Decoder::with_buffer(body).map_err(damaged)?;
            coder.window_log_max(limits::BATCH_ZSTD_WINDOW_LOG_MAX).map_err(damaged)?;
            inflated = inflate(coder)?;
            &inflated
        }
        other => return Err(DecodeError::Coding(other)),
    };
    let mut decoded = Decoded::empty(header, Vec::new(), &[]);
    decoded.body(body)?;
    let found = decoded.readings() + decoded.unknown_readings;
    if found != decoded.header.readings && decoded.unknown_frames == 0 {
        return Err(DecodeError::Count(decoded.header.readings, found));
    }
    Ok(decoded)
}

/// Reads the envelope alone, without inflating the body.
///
/// # Errors
/// When it is not the envelope of a whole batch of version 1; see [`DecodeError`].
pub fn header(payload: &[u8]) -> Result<Header, DecodeError> {
    envelope(payload).map(|(header, ..)| header)
}

/// Returns the length of the first whole MessagePack value, or `None` when more bytes are needed:
/// this is how payloads that were written one behind the other are told apart.
///
/// # Errors
/// When what stands there is not MessagePack, or no map, as every envelope is.
pub fn first_value(bytes: &[u8]) -> Result<Option<usize>, DecodeError> {
    if !matches!(bytes.first(), None | Some(0x80..=0x8f | 0xde | 0xdf)) {
        return Err(DecodeError::NotABatch("the envelope"));
    }
    match Reader::new(bytes).skip() {
        Ok(value) => Ok(Some(value.len())),
        Err(Malformed::Short) => Ok(None),
        Err(Malformed::Type | Malformed::Deep) => Err(DecodeError::NotABatch("MessagePack")),
    }
}

/// Keys without which a batch has no place in a sequence or its readings no time.
const REQUIRED: [&str; 7] = ["v", "gw", "ep", "seq", "n", "t0", "b"];

/// Reads the envelope and returns it with the body's coding and bytes.
fn envelope(payload: &[u8]) -> Result<(Header, u64, &[u8]), DecodeError> {
    let mut reader = Reader::new(payload);
    let mut header = Header { stream: "data".into(), ..Header::default() };
    let mut body = None;
    let mut seen = [false; REQUIRED.len()];
    for _ in 0..reader.map().map_err(at("the envelope"))? {
        let Ok(key) = reader.clone().str() else {
            // A key that is no text belongs to nobody here.
            reader.skip().map_err(at("an envelope key"))?;
            reader.skip().map_err(at("an envelope value"))?;
            continue;
        };
        reader.skip().map_err(at("an envelope key"))?;
        match key {
            "v" => match reader.uint().map_err(at("v"))? {
                1 => {}
                other => return Err(DecodeError::Version(other)),
            },
            "gw" => header.gateway = reader.str().map_err(at("gw"))?.to_owned(),
            "ep" => header.epoch = reader.uint().map_err(at("ep"))?,
            "st" => header.stream = reader.str().map_err(at("st"))?.to_owned(),
            "seq" => header.sequence = reader.uint().map_err(at("seq"))?,
            "lo" => header.lowest_held = reader.uint().map_err(at("lo"))?,
            "n" => header.readings = reader.uint().map_err(at("n"))?,
            "dr" => header.dropped = reader.uint().map_err(at("dr"))?,
            "t0" => header.t0 = reader.int().map_err(at("t0"))?,
            "t1" => header.t1 = reader.int().map_err(at("t1"))?,
            "ck" => header.clock = reader.uint().map_err(at("ck"))?,
            "cv" => header.config_hash = reader.str().map_err(at("cv"))?.to_owned(),
            "z" => header.coding = reader.uint().map_err(at("z"))?,
            "b" => body = Some(reader.skip().map_err(at("b"))?),
            _ => {
                reader.skip().map_err(at("an unknown envelope key"))?;
                continue;
            }
        }
        if let Some(at) = REQUIRED.iter().position(|required| *required == key) {
            seen[at] = true;
        }
    }
    if let Some(missing) = seen.iter().position(|seen| !seen) {
        return Err(DecodeError::NotABatch(REQUIRED[missing]));
    }
    if header.sequence == 0 {
        return Err(DecodeError::NotABatch("seq"));
    }
    if !reader.is_at_end() {
        return Err(DecodeError::NotABatch("bytes behind the envelope"));
    }
    if !is_exact(header.t0) || !is_exact(header.t1) {
        return Err(DecodeError::NotABatch("a time of 2^53 ms or more"));
    }
    let body = body.ok_or(DecodeError::NotABatch("b"))?;
    let coded = if header.coding == 0 { body } else { Reader::new(body).bin().map_err(at("b"))? };
    let coding = header.coding;
    Ok((header, coding, coded))
}

fn inflate(coder: impl Read) -> Result<Vec<u8>, DecodeError> {
    let mut body = Vec::new();
    let limit = limits::BATCH_INFLATED_BYTES_MAX as u64 + 1;
    coder.take(limit).read_to_end(&mut body).map_err(|_| DecodeError::Damaged)?;
    if body.len() > limits::BATCH_INFLATED_BYTES_MAX {
        Err(DecodeError::TooLarge)
    } else {
        Ok(body)
    }
}

pub(super) fn at(place: &'static str) -> impl Fn(Malformed) -> DecodeError {
    move |malformed| match malformed {
        Malformed::Short => DecodeError::Truncated,
        Malformed::Type | Malformed::Deep => DecodeError::NotABatch(place),
    }
}

impl Decoded {
    /// A batch without frames, whose series have kinds but no names.
    pub(super) fn empty(header: Header, words: Vec<Arc<str>>, kinds: &[i64]) -> Self {
        let nameless = |kind: &i64| Series { device: 0, point: 0, unit: 0, kind: *kind };
        Self {
            header,
            unknown_frames: 0,
            unknown_readings: 0,
            words,
            series: kinds.iter().map(nameless).collect(),
            frames: Vec::new(),
            claimed: 0,
        }
    }

    /// Returns the device, point and unit of a series.
    #[must_use]
    pub fn name(&self, series: usize) -> (&str, &str, &str) {
        let Series { device, point, unit, .. } = self.series[series];
        (&self.words[device], &self.words[point], &self.words[unit])
    }

    /// Returns how many series it names; their indices are below.
    #[must_use]
    pub fn series_count(&self) -> usize {
        self.series.len()
    }

    /// Returns whether a series is of flags, 0 and 1.
    #[must_use]
    pub fn is_flag(&self, series: usize) -> bool {
        self.series[series].kind == super::kind::BOOL
    }

    /// Returns how many readings it holds, those of unknown series not counted.
    #[must_use]
    pub fn readings(&self) -> u64 {
        let of = |frame: &Frame| match frame {
            Frame::Grid(times, columns, _) => times.len() * columns.len(),
            Frame::List(rows, _) => rows.len(),
        };
        self.frames.iter().map(|frame| of(frame) as u64).sum()
    }

    fn body(&mut self, body: &[u8]) -> Result<(), DecodeError> {
        let mut reader = Reader::new(body);
        let mut frames = None;
        for _ in 0..reader.map().map_err(at("the body"))? {
            // As in the envelope, a key that is no text is unknown.
            let key = reader.clone().str().unwrap_or("");
            reader.skip().map_err(at("a body key"))?;
            match key {
                "w" => {
                    let len = reader.array().map_err(at("words"))?;
                    if len > limits::BATCH_WORDS_MAX {
                        return Err(DecodeError::TooLarge);
                    }
                    let words = (0..len).map(|_| reader.str().map(Into::into));
                    self.words = words.collect::<Result<_, _>>().map_err(at("words"))?;
                }
                "s" => self.read_series(&mut reader)?,
                "f" => {
                    frames = Some(reader.clone());
                    reader.skip().map_err(at("frames"))?;
                }
                _ => drop(reader.skip().map_err(at("an unknown body key"))?),
            }
        }
        if !reader.is_at_end() {
            return Err(DecodeError::NotABatch("bytes behind the body"));
        }
        for series in &self.series {
            let top = series.device.max(series.point).max(series.unit);
            if top >= self.words.len() {
                return Err(DecodeError::NotABatch("a series names a word that is not there"));
            }
        }
        match frames {
            Some(mut frames) => self.read_frames(&mut frames),
            None => Ok(()),
        }
    }

    fn read_series(&mut self, reader: &mut Reader<'_>) -> Result<(), DecodeError> {
        let count = reader.array().map_err(at("series"))?;
        if count > limits::BATCH_PARTS_MAX {
            return Err(DecodeError::TooLarge);
        }
        self.series = Vec::with_capacity(count);
        for _ in 0..count {
            let len = reader.array().map_err(at("a series"))?;
            if len < 4 {
                return Err(DecodeError::NotABatch("a series"));
            }
            let mut index = || {
                let n = reader.uint().map_err(at("a series"))?;
                usize::try_from(n).map_err(|_| DecodeError::NotABatch("a series"))
            };
            let (device, point, unit) = (index()?, index()?, index()?);
            let kind = reader.int().map_err(at("a series kind"))?;
            for _ in 4..len {
                reader.skip().map_err(at("series attributes"))?;
            }
            self.series.push(Series { device, point, unit, kind });
        }
        Ok(())
    }
}

impl std::fmt::Display for DecodeError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Truncated => f.write_str("it ends in the middle"),
            Self::NotABatch(place) => write!(f, "it is not a whole batch of version 1 ({place})"),
            Self::Version(v) => write!(f, "it is of version {v}, and this program reads version 1"),
            Self::Coding(z) => write!(f, "its body is coded as z = {z}, which is unknown here"),
            Self::Damaged => f.write_str("its compressed body is damaged"),
            Self::TooLarge => f.write_str("it would unfold beyond all limits"),
            Self::Count(n, found) => write!(f, "it counts {n} readings and holds {found}"),
        }
    }
}

impl std::error::Error for DecodeError {}
