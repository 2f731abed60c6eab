//! What rules leave behind, in four tables: keys and values, timers, declared outputs, and the place
//! in the input. A change is written in the transaction of the readings that the same batch led to.
//!
//! Whatever of a rule fails its checksum costs that rule all that was kept of it, and nothing else: a
//! window with one sum missing is worse than a window that begins again. So does a change that
//! stands on what this store does not have, as after a damaged store was moved aside: it is not
//! written, and the rule is asked for all it knows.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use rusqlite::{Connection, Result, Row, params};

use crate::limits;
use crate::reading::Stream;
use crate::state::{Change, Declared, Kept, Onto, Place};
use crate::store::damaged;
use crate::store::schema::{count, int};

/// The tables, all with the rule's name first.
const TABLES: [&str; 4] = ["rule_place", "rule_state", "rule_timer", "rule_output"];

/// What changed since the last commit, by rule. Bounded by what a rule may keep, however long the
/// disk refuses: of each key only the last value waits.
pub(super) type Changes = BTreeMap<Arc<str>, Waiting>;

/// What changed of one rule.
#[derive(Default)]
pub(super) struct Waiting {
    onto: Onto,
    state: BTreeMap<Arc<str>, Option<Arc<[u8]>>>,
    timers: BTreeMap<Arc<str>, Option<i64>>,
    declared: Vec<Declared>,
    place: Place,
}

impl Waiting {
    /// Adds a later change. Returns whether so much waits that the rule should say all it knows
    /// instead: keys that come and go leave a mark each.
    pub(super) fn merge(&mut self, change: Change) -> bool {
        if change.onto != Onto::Kept {
            *self = Self { onto: change.onto, ..Self::default() };
        } else if self.onto == Onto::Gone {
            return false;
        }
        self.state.extend(change.state);
        self.timers.extend(change.timers);
        self.declared.extend(change.declared);
        self.place = change.place;
        self.state.len() + self.timers.len() > limits::RULE_CHANGES_WAITING_MAX
    }
}

/// What one rule has on disk, as `buffer status` shows it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RuleStatus {
    /// Keys of its state.
    pub keys: u64,
    /// Bytes of keys and values.
    pub bytes: u64,
    /// Timers that are set.
    pub timers: u64,
    /// Outputs that it has declared.
    pub outputs: u64,
    /// The last batch that it has processed.
    pub batch: u64,
    /// Readings older than this come late, in microseconds since 1970 UTC.
    pub watermark: i64,
}

/// All that is kept of the rules that are whole, and the names of those that were not.
pub(super) type Found = (BTreeMap<Arc<str>, Kept>, Vec<Arc<str>>);

/// The rules that the open store knows.
#[derive(Default)]
pub(super) struct Rules {
    /// With the number of outputs that each has declared.
    known: BTreeMap<Arc<str>, usize>,
    /// Those whose changes stand on what is not here.
    pub(super) lacking: BTreeSet<Arc<str>>,
}

impl Rules {
    /// Looks which rules there are.
    pub(super) fn load(conn: &Connection, epoch: u64) -> Result<Self> {
        let mut known = BTreeMap::new();
        let mut statement = conn.prepare(
            "SELECT rule, batch, watermark, version, crc,
               (SELECT count(*) FROM rule_output AS o WHERE o.rule = p.rule)
             FROM rule_place AS p",
        )?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            // What is damaged is told when it is read.
            let Ok(Some((rule, _))) = place_of(row, epoch) else { continue };
            known.insert(rule.into(), usize::try_from(count(row, 5)?).unwrap_or(usize::MAX));
        }
        Ok(Self { known, lacking: BTreeSet::new() })
    }

    /// Writes what changed, in the current transaction.
    pub(super) fn write(&mut self, conn: &Connection, epoch: u64, changes: &Changes) -> Result<()> {
        for (rule, waiting) in changes {
            match waiting.onto {
                Onto::Kept if !self.known.contains_key(rule) => {
                    self.lacking.insert(Arc::clone(rule));
                    continue;
                }
                Onto::Kept => {}
                Onto::Nothing | Onto::Gone => {
                    self.known.remove(rule);
                    forget(conn, rule)?;
                }
            }
            if waiting.onto != Onto::Gone {
                let declared = self.known.entry(Arc::clone(rule)).or_default();
                write(conn, epoch, (rule, declared), waiting)?;
            }
        }
        Ok(())
    }

    /// Reads all that is kept, in a transaction that also forgets what is damaged. Returns the names
    /// of those rules too.
    pub(super) fn read(&mut self, conn: &Connection, epoch: u64) -> Result<Found> {
        let (all, damaged) = read(conn, epoch)?;
        let mut named = Vec::new();
        for name in &damaged {
            let rule: Arc<str> = String::from_utf8_lossy(name).into();
            self.known.remove(&rule);
            // Row by row: a damaged name does not stand where an index looks for it.
            for table in TABLES {
                let sql = format!("DELETE FROM {table} WHERE +rule = CAST(?1 AS TEXT)");
                conn.execute(&sql, [name])?;
            }
            named.push(rule);
        }
        Ok((all, named))
    }
}

fn forget(conn: &Connection, rule: &str) -> Result<()> {
    for table in TABLES {
        conn.prepare_cached(&format!("DELETE FROM {table} WHERE rule = ?1"))?.execute([rule])?;
    }
    Ok(())
}

fn write(
    conn: &Connection,
    epoch: u64,
    (rule, declared): (&str, &mut usize),
    waiting: &Waiting,
) -> Result<()> {
    for (key, value) in &waiting.state {
        match value {
            Some(value) => conn
                .prepare_cached("INSERT OR REPLACE INTO rule_state VALUES (?1, ?2, ?3, ?4)")?
                .execute(params![rule, key, &value[..], state_crc(epoch, rule, key, value)])?,
            None => conn
                .prepare_cached("DELETE FROM rule_state WHERE rule = ?1 AND key = ?2")?
                .execute([rule, key])?,
        };
    }
    for (name, at) in &waiting.timers {
        match at {
            Some(at) => conn
                .prepare_cached("INSERT OR REPLACE INTO rule_timer VALUES (?1, ?2, ?3, ?4)")?
                .execute(params![rule, name, at, timer_crc(epoch, rule, name, *at)])?,
            None => conn
                .prepare_cached("DELETE FROM rule_timer WHERE rule = ?1 AND name = ?2")?
                .execute([rule, name])?,
        };
    }
    for output in &waiting.declared {
        let Declared { stream, device, point, unit } = output;
        let crc = output_crc(epoch, rule, *declared as u64, output);
        conn.prepare_cached(
            "INSERT OR REPLACE INTO rule_output VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        )?
        .execute(params![
            rule,
            int(*declared as u64),
            *stream as u8,
            device,
            point,
            unit,
            crc
        ])?;
        *declared += 1;
    }
    let Place { batch, watermark, version } = waiting.place;
    conn.prepare_cached("INSERT OR REPLACE INTO rule_place VALUES (?1, ?2, ?3, ?4, ?5)")?
        .execute(params![
            rule,
            int(batch),
            watermark,
            version,
            place_crc(epoch, rule, &waiting.place)
        ])
        .map(drop)
}

/// Reads all rules; those of which something is damaged, or that have no place, only by name.
fn read(conn: &Connection, epoch: u64) -> Result<Sorted> {
    let mut all: BTreeMap<Arc<str>, Kept> = BTreeMap::new();
    let mut damaged = BTreeSet::new();
    let places = "SELECT rule, batch, watermark, version, crc FROM rule_place";
    sound(conn, places, &mut damaged, |row| {
        let found = place_of(row, epoch)?;
        Ok(found
            .map(|(rule, place)| all.insert(rule.into(), Kept { place, ..Kept::default() }))
            .is_some())
    })?;
    let states = "SELECT rule, key, value, crc FROM rule_state";
    sound(conn, states, &mut damaged, |row| {
        let (rule, key, value): (String, String, Vec<u8>) = (row.get(0)?, row.get(1)?, row.get(2)?);
        let sound = state_crc(epoch, &rule, &key, &value) == row.get::<_, i64>(3)?;
        let kept = all.get_mut(&*rule).filter(|_| sound);
        Ok(kept.map(|kept| kept.state.insert(key.into(), value.into())).is_some())
    })?;
    sound(conn, "SELECT rule, name, at, crc FROM rule_timer", &mut damaged, |row| {
        let (rule, name, at): (String, String, i64) = (row.get(0)?, row.get(1)?, row.get(2)?);
        let sound = timer_crc(epoch, &rule, &name, at) == row.get::<_, i64>(3)?;
        let kept = all.get_mut(&*rule).filter(|_| sound);
        Ok(kept.map(|kept| kept.timers.insert(name.into(), at)).is_some())
    })?;
    let outputs = "SELECT rule, place, stream, device, point, unit, crc FROM rule_output
                   ORDER BY rule, place";
    sound(conn, outputs, &mut damaged, |row| {
        let (rule, place): (String, u64) = (row.get(0)?, count(row, 1)?);
        let text = |column| row.get::<_, String>(column).map(Arc::from);
        let stream = Stream::ALL.into_iter().find(|s| Ok(*s as u8) == row.get(2));
        let Some(stream) = stream else { return Ok(false) };
        let output = Declared { stream, device: text(3)?, point: text(4)?, unit: text(5)? };
        let sound = output_crc(epoch, &rule, place, &output) == row.get::<_, i64>(6)?;
        let next = |kept: &&mut Kept| sound && kept.declared.len() as u64 == place;
        Ok(all.get_mut(&*rule).filter(next).map(|kept| kept.declared.push(output)).is_some())
    })?;
    all.retain(|rule, _| !damaged.contains(rule.as_bytes()));
    Ok((all, damaged))
}

/// A rule's name as it stands in a row, which may be damaged itself.
type Name = Vec<u8>;
/// The rules that are whole, and the names of those that are not.
type Sorted = (BTreeMap<Arc<str>, Kept>, BTreeSet<Name>);

/// Takes row by row. One that is not taken, or cannot be read, damages the rule that it names.
fn sound(
    conn: &Connection,
    sql: &str,
    damaged: &mut BTreeSet<Name>,
    mut take: impl FnMut(&Row<'_>) -> Result<bool>,
) -> Result<()> {
    each(conn, sql, |row| {
        match take(row) {
            Ok(true) => {}
            Err(error @ rusqlite::Error::SqliteFailure(..)) => return Err(error),
            Ok(false) | Err(_) => {
                let name = row.get_ref(0)?;
                damaged.insert(name.as_bytes().unwrap_or_default().to_vec());
            }
        }
        Ok(())
    })
}

/// Counts the rules of which something is damaged.
pub(super) fn count_damaged(conn: &Connection, epoch: u64) -> Result<u64> {
    read(conn, epoch).map(|(_, damaged)| damaged.len() as u64)
}

/// Says what each rule has, without looking at values.
pub(super) fn status(conn: &Connection) -> Result<BTreeMap<Arc<str>, RuleStatus>> {
    let mut all = BTreeMap::new();
    let sql = "SELECT rule, batch, watermark,
                 (SELECT count(*) FROM rule_state AS s WHERE s.rule = p.rule),
                 (SELECT coalesce(sum(length(key) + length(value)), 0) FROM rule_state AS s
                  WHERE s.rule = p.rule),
                 (SELECT count(*) FROM rule_timer AS t WHERE t.rule = p.rule),
                 (SELECT count(*) FROM rule_output AS o WHERE o.rule = p.rule)
               FROM rule_place AS p";
    each(conn, sql, |row| {
        let status = RuleStatus {
            batch: count(row, 1)?,
            watermark: row.get(2)?,
            keys: count(row, 3)?,
            bytes: count(row, 4)?,
            timers: count(row, 5)?,
            outputs: count(row, 6)?,
        };
        all.insert(row.get::<_, String>(0)?.into(), status);
        Ok(())
    })?;
    Ok(all)
}

fn each(conn: &Connection, sql: &str, mut row: impl FnMut(&Row<'_>) -> Result<()>) -> Result<()> {
    let mut statement = conn.prepare(sql)?;
    let mut rows = statement.query([])?;
    while let Some(found) = rows.next()? {
        row(found)?;
    }
    Ok(())
}

/// Reads a row of `rule_place`; `None` when its checksum fails.
fn place_of(row: &Row<'_>, epoch: u64) -> Result<Option<(String, Place)>> {
    let rule: String = row.get(0)?;
    let (batch, watermark, version, crc): (i64, i64, i64, i64) =
        (row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?);
    let (Ok(batch), Ok(version)) = (u64::try_from(batch), u32::try_from(version)) else {
        return Ok(None);
    };
    let place = Place { batch, watermark, version };
    Ok((place_crc(epoch, &rule, &place) == crc).then_some((rule, place)))
}

/// A checksum over the epoch and each part behind its length.
fn crc(epoch: u64, parts: &[&[u8]]) -> i64 {
    let mut all = Vec::with_capacity(1 + parts.len() * 2);
    let lengths: Vec<[u8; 8]> =
        parts.iter().map(|part| (part.len() as u64).to_le_bytes()).collect();
    let epoch = epoch.to_le_bytes();
    all.push(&epoch[..]);
    for (length, part) in lengths.iter().zip(parts) {
        all.push(length);
        all.push(part);
    }
    damaged::crc(&all).into()
}

fn state_crc(epoch: u64, rule: &str, key: &str, value: &[u8]) -> i64 {
    crc(epoch, &[rule.as_bytes(), key.as_bytes(), value])
}

fn timer_crc(epoch: u64, rule: &str, name: &str, at: i64) -> i64 {
    crc(epoch, &[rule.as_bytes(), name.as_bytes(), &at.to_le_bytes()])
}

fn output_crc(epoch: u64, rule: &str, place: u64, output: &Declared) -> i64 {
    let Declared { stream, device, point, unit } = output;
    let numbers = [place.to_le_bytes(), u64::from(*stream as u8).to_le_bytes()];
    let texts = [device.as_bytes(), point.as_bytes(), unit.as_bytes()];
    crc(epoch, &[rule.as_bytes(), numbers.as_flattened(), texts[0], texts[1], texts[2]])
}

fn place_crc(epoch: u64, rule: &str, place: &Place) -> i64 {
    let Place { batch, watermark, version } = *place;
    let numbers = [int(batch), watermark, i64::from(version)].map(i64::to_le_bytes);
    crc(epoch, &[rule.as_bytes(), numbers.as_flattened()])
}
