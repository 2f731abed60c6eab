//! Committed readings that wait for their batch, in rows of one page each that are written over
//! and over.
//!
//! A commit writes one *chunk* a stream, cut into as many slots as it takes, mostly one. A slot's
//! row fills its page and never changes its length, so that writing it touches exactly one page;
//! a row that is inserted and deleted each time would touch four more (its parent, the list of free
//! pages, the page map, the header), and an SD card pays for each. Sealing frees slots by raising
//! the stream's `floor`: a slot whose ordinal is not above it holds nothing. After a crash the slots
//! above the floor are exactly what was committed and not yet sealed.
//!
//! A chunk that does not fit one slot is compressed first: pages are what counts, and half of a
//! chunk is series numbers that follow one another.

use std::collections::{BTreeMap, HashMap};
use std::io::{Read as _, Write as _};

use rusqlite::{Connection, Result, ffi, params};

use crate::batch::chunk;
use crate::limits;
use crate::reading::{Group, PointId, Points, Stream, UnixMillis};
use crate::store::damaged;
use crate::store::lane::Lane;
use crate::store::schema::int;
use crate::store::series;

/// Bytes of a row's body: with the row's own header (at most 12 bytes) it fills a leaf page, which
/// takes 4,061 bytes of a 4,096-byte page before it spills.
const BODY_BYTES: usize = 4040;
/// Checksum, ordinal, stream, part, parts, length.
const HEAD_BYTES: usize = 4 + 8 + 1 + 2 + 2 + 2;
const DATA_BYTES: usize = BODY_BYTES - HEAD_BYTES;

/// Which slots are in use.
#[derive(Default)]
pub(super) struct Slots {
    epoch: u64,
    free: Vec<i64>,
    used: [Vec<i64>; Stream::ALL.len()],
    last: i64,
    body: Vec<u8>,
}

/// What stands in a slot.
pub(super) struct Part<'a> {
    pub(super) ordinal: u64,
    pub(super) stream: usize,
    pub(super) part: u16,
    pub(super) parts: u16,
    pub(super) data: &'a [u8],
}

/// What reading the slots found.
#[derive(Default)]
pub(super) struct Found {
    /// Highest ordinal in any slot.
    pub(super) ordinal: u64,
    /// Committed readings, in the order of their commits.
    pub(super) groups: Vec<Group>,
    /// Chunks that were set aside.
    pub(super) damaged: u64,
}

impl Slots {
    /// Reads all slots back; what is damaged is set aside.
    pub(super) fn load(
        conn: &Connection,
        epoch: u64,
        lanes: &[Lane],
        points: &Points,
        now: UnixMillis,
    ) -> Result<(Self, Found)> {
        let (mut slots, mut found) = (Self { epoch, ..Self::default() }, Found::default());
        let mut chunks: BTreeMap<(u64, usize), Vec<Piece>> = BTreeMap::new();
        let mut bad = Vec::new();
        let mut statement = conn.prepare("SELECT id, body FROM slot")?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let id = row.get(0)?;
            // A column of another type is damage like any other.
            let body = row.get_ref(1)?.as_bytes().unwrap_or(&[0]);
            slots.last = slots.last.max(id);
            match parse(epoch, body) {
                Some(part) => {
                    found.ordinal = found.ordinal.max(part.ordinal);
                    if part.ordinal > lanes[part.stream].floor {
                        let place = chunks.entry((part.ordinal, part.stream)).or_default();
                        place.push((part.part, part.parts, part.data.to_vec()));
                        slots.used[part.stream].push(id);
                        continue;
                    }
                }
                None => bad.push((id, body.to_vec())),
            }
            slots.free.push(id);
        }
        drop(rows);
        for (id, body) in bad {
            found.damaged += 1;
            damaged::keep(conn, "slot", id, now, &body)?;
            conn.execute("UPDATE slot SET body = zeroblob(?2) WHERE id = ?1", params![id, 0])?;
        }
        let mut names = Names { conn, epoch, points, known: HashMap::new(), failure: None };
        for ((ordinal, stream), parts) in chunks {
            let (whole, data) = join(parts);
            let read = groups(&data, Stream::ALL[stream], |id| names.point(id));
            if let Some(error) = names.failure.take() {
                return Err(error);
            }
            match read.filter(|_| whole) {
                Some(groups) => found.groups.extend(groups),
                None => {
                    found.damaged += 1;
                    damaged::keep(conn, "chunk", int(ordinal), now, &data)?;
                }
            }
        }
        Ok((slots, found))
    }

    /// Writes a chunk under its ordinal.
    pub(super) fn write(
        &mut self,
        conn: &Connection,
        stream: Stream,
        ordinal: u64,
        data: &[u8],
    ) -> Result<()> {
        let data = &pack(data)?;
        let parts = data.len().div_ceil(DATA_BYTES);
        let parts = u16::try_from(parts).map_err(|_| too_big())?;
        for part in 0..parts {
            let from = usize::from(part) * DATA_BYTES;
            let piece = &data[from..data.len().min(from + DATA_BYTES)];
            let head = Part { ordinal, stream: stream as usize, part, parts, data: piece };
            head.write(self.epoch, &mut self.body);
            let id = if let Some(id) = self.free.pop() {
                conn.prepare_cached("UPDATE slot SET body = ?2 WHERE id = ?1")?
                    .execute(params![id, self.body])?;
                id
            } else {
                self.last += 1;
                conn.prepare_cached("INSERT INTO slot (id, body) VALUES (?1, ?2)")?
                    .execute(params![self.last, self.body])?;
                self.last
            };
            self.used[stream as usize].push(id);
        }
        Ok(())
    }

    /// Returns whether readings of a stream stand in slots.
    pub(super) fn are_used(&self, stream: Stream) -> bool {
        !self.used[stream as usize].is_empty()
    }

    /// Frees the slots of a stream whose readings were sealed.
    pub(super) fn release(&mut self, stream: Stream) {
        self.free.append(&mut self.used[stream as usize]);
    }
}

impl Part<'_> {
    fn write(&self, epoch: u64, body: &mut Vec<u8>) {
        body.clear();
        body.extend_from_slice(&[0; 4]);
        body.extend_from_slice(&self.ordinal.to_le_bytes());
        body.push(self.stream.try_into().unwrap_or(u8::MAX));
        body.extend_from_slice(&self.part.to_le_bytes());
        body.extend_from_slice(&self.parts.to_le_bytes());
        body.extend_from_slice(&u16::try_from(self.data.len()).unwrap_or(u16::MAX).to_le_bytes());
        body.extend_from_slice(self.data);
        let crc = damaged::crc(&[&epoch.to_le_bytes(), &body[4..]]);
        body[..4].copy_from_slice(&crc.to_le_bytes());
        body.resize(BODY_BYTES, 0);
    }
}

/// Looks up the points of series numbers. A disk that refuses is no damage of the chunk that asks: it
/// is kept aside.
struct Names<'a> {
    conn: &'a Connection,
    epoch: u64,
    points: &'a Points,
    known: HashMap<i64, PointId>,
    failure: Option<rusqlite::Error>,
}

impl Names<'_> {
    fn point(&mut self, number: i64) -> Option<PointId> {
        if let Some(point) = self.known.get(&number) {
            return Some(*point);
        }
        let info = match series::name_of(self.conn, self.epoch, number) {
            Ok(info) => info?,
            Err(error) => {
                self.failure = Some(error);
                return None;
            }
        };
        let point = self.points.intern(info).ok()?;
        self.known.insert(number, point);
        Some(point)
    }
}

/// Counts the readings in the slots, a stream each; those of damaged slots are not counted.
pub(super) fn count(
    conn: &Connection,
    epoch: u64,
    lanes: &[Lane],
) -> Result<[u64; Stream::ALL.len()]> {
    let mut chunks: BTreeMap<(u64, usize), Vec<Piece>> = BTreeMap::new();
    let mut statement = conn.prepare("SELECT body FROM slot")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let body = row.get_ref(0)?.as_bytes().unwrap_or_default();
        if let Some(part) = parse(epoch, body).filter(|it| it.ordinal > lanes[it.stream].floor) {
            let place = chunks.entry((part.ordinal, part.stream)).or_default();
            place.push((part.part, part.parts, part.data.to_vec()));
        }
    }
    let mut readings = [0; Stream::ALL.len()];
    for ((_, stream), parts) in chunks {
        let (whole, data) = join(parts);
        // Which points they are of makes no difference to how many there are.
        let read = groups(&data, Stream::ALL[stream], |_| Some(PointId(0))).filter(|_| whole);
        readings[stream] += read.iter().flatten().map(|it| it.samples.len() as u64).sum::<u64>();
    }
    Ok(readings)
}

/// Reads a slot; `None` when it is damaged, or of another epoch. An emptied slot is a part of
/// ordinal 0, which is above no floor.
pub(super) fn parse(epoch: u64, body: &[u8]) -> Option<Part<'_>> {
    if body.is_empty() {
        return Some(Part { ordinal: 0, stream: 0, part: 0, parts: 0, data: &[] });
    }
    part(body, |checked| damaged::crc(&[&epoch.to_le_bytes(), checked]))
}

fn part(body: &[u8], crc_of: impl Fn(&[u8]) -> u32) -> Option<Part<'_>> {
    let (crc, rest) = body.split_first_chunk::<4>()?;
    let (ordinal, after) = rest.split_first_chunk::<8>()?;
    let (stream, after) = after.split_first()?;
    let (part, after) = after.split_first_chunk::<2>()?;
    let (parts, after) = after.split_first_chunk::<2>()?;
    let (length, after) = after.split_first_chunk::<2>()?;
    let length = usize::from(u16::from_le_bytes(*length));
    let data = after.get(..length)?;
    let checked = rest.get(..HEAD_BYTES - 4 + length)?;
    let sound = crc_of(checked) == u32::from_le_bytes(*crc);
    (sound && usize::from(*stream) < Stream::ALL.len()).then(|| Part {
        ordinal: u64::from_le_bytes(*ordinal),
        stream: usize::from(*stream),
        part: u16::from_le_bytes(*part),
        parts: u16::from_le_bytes(*parts),
        data,
    })
}

/// Part, parts and data of a slot that was read.
pub(super) type Piece = (u16, u16, Vec<u8>);

/// Joins the parts of a chunk, and says whether none is missing.
pub(super) fn join(mut parts: Vec<Piece>) -> (bool, Vec<u8>) {
    parts.sort_unstable_by_key(|part| part.0);
    let whole = parts
        .iter()
        .enumerate()
        .all(|(n, (part, all, _))| usize::from(*part) == n && usize::from(*all) == parts.len());
    (whole, parts.into_iter().flat_map(|part| part.2).collect())
}

/// Reads the readings of a chunk; `point` gives the point of a series number.
pub(super) fn groups(
    data: &[u8],
    stream: Stream,
    point: impl FnMut(i64) -> Option<PointId>,
) -> Option<Vec<Group>> {
    chunk::decode(&unpack(data)?, stream, point).ok()
}

/// A chunk begins with how it is packed.
const PLAIN: u8 = 0;
const DEFLATED: u8 = 1;

fn pack(data: &[u8]) -> Result<Vec<u8>> {
    let small = data.len() < DATA_BYTES;
    let mut out = Vec::with_capacity(data.len().min(DATA_BYTES) + 1);
    out.push(if small { PLAIN } else { DEFLATED });
    if small {
        out.extend_from_slice(data);
        return Ok(out);
    }
    let mut coder = flate2::write::DeflateEncoder::new(out, flate2::Compression::fast());
    // Writing to memory fails only when there is none.
    coder.write_all(data).and_then(|()| coder.finish()).map_err(|_| too_big())
}

fn unpack(data: &[u8]) -> Option<Vec<u8>> {
    match data.split_first()? {
        (&PLAIN, rest) => Some(rest.to_vec()),
        (&DEFLATED, rest) => {
            let mut out = Vec::new();
            let most = limits::BATCH_INFLATED_BYTES_MAX as u64;
            flate2::read::DeflateDecoder::new(rest).take(most).read_to_end(&mut out).ok()?;
            Some(out)
        }
        _ => None,
    }
}

fn too_big() -> rusqlite::Error {
    rusqlite::Error::SqliteFailure(ffi::Error::new(ffi::SQLITE_TOOBIG), None)
}

/// Version 2: the epoch under every checksum, so that a slot of another store is none of this.
pub(super) fn add_epochs(conn: &Connection, epoch: u64) -> Result<()> {
    let mut rows = conn.prepare("SELECT id, body FROM slot")?;
    let mut rows = rows.query([])?;
    let mut write = conn.prepare("UPDATE slot SET body = ?2 WHERE id = ?1")?;
    let mut body = Vec::new();
    while let Some(row) = rows.next()? {
        // What is damaged stays as it is, and is found by the start that follows.
        let Ok(old) = row.get_ref(1)?.as_bytes() else { continue };
        let Some(part) = part(old, |checked| damaged::crc(&[checked])) else { continue };
        part.write(epoch, &mut body);
        write.execute(params![row.get::<_, i64>(0)?, body])?;
    }
    Ok(())
}
