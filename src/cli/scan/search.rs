//! The search: ways (speeds and layouts of a line, framings of a network) from the most likely to the
//! least, on each of them every id once, and a second question to whoever seemed to answer.

use std::time::Duration;

use tokio::time::Instant;

use super::super::target::Target;
use super::patience;
use crate::events::Notice;
use crate::limits;
use crate::sources::line::LineSettings;
use crate::sources::modbus::inquiry::{Inquiry, Knock};
use crate::sources::modbus::settings::Link;

/// What to look for, and where.
pub(in crate::cli) struct Search<'a> {
    target: &'a Target,
    pub(super) ids: Vec<u8>,
    ways: Vec<Way>,
    all: bool,
    timeout: Duration,
}

/// One way to speak to the target.
#[derive(Debug, Clone)]
struct Way {
    /// `9600 8N1`, `Modbus TCP`.
    name: String,
    link: Link,
    line: Option<LineSettings>,
}

/// What has been seen so far; whole at any moment, so that an interrupted search shows it.
#[derive(Debug, Default)]
pub(in crate::cli) struct Sight {
    /// Ways on which somebody answered.
    pub(in crate::cli) found: Vec<Found>,
    /// Ways that were tried to their end.
    pub(in crate::cli) tried: Vec<String>,
    /// Bytes that were no answer, by way.
    pub(in crate::cli) noise: Vec<(String, usize)>,
    /// Bytes that came before anything was asked.
    pub(in crate::cli) unasked: usize,
    /// What is sent comes back.
    pub(in crate::cli) echo: bool,
    /// The port or connection went away.
    pub(in crate::cli) vanished: bool,
    /// A person ended it.
    pub(in crate::cli) stopped: bool,
    /// Over TCP: whoever is there answers to every id.
    pub(in crate::cli) every_id: bool,
    /// Somebody answers later than the daemon waits unless it is told to.
    pub(in crate::cli) slow: bool,
    /// Questions over which a host closed the connection, on the way that is being tried.
    closed: usize,
}

/// Who answered on one way.
#[derive(Debug, Clone)]
pub(in crate::cli) struct Found {
    /// `9600 8N1`, `Modbus TCP`.
    pub(in crate::cli) way: String,
    /// How it is reached.
    pub(in crate::cli) link: Link,
    /// Its line, when it is one.
    pub(in crate::cli) line: Option<LineSettings>,
    /// Ids, each with the exception it answered with.
    pub(in crate::cli) ids: Vec<(u8, Option<u8>)>,
}

/// How far a search is.
pub(in crate::cli) struct Progress<'a> {
    /// The way that is being tried.
    pub(in crate::cli) way: &'a str,
    /// The id that is being asked.
    pub(in crate::cli) id: u8,
    /// Ids that answered on this way.
    pub(in crate::cli) found: Vec<u8>,
    /// The longest that the rest can take.
    pub(in crate::cli) left: Duration,
}

/// Speeds from the most to the least common in the field, and under each the layouts likewise. 9600
/// 8N1 is what most devices are shipped with, 19200 8E1 what the specification asks for.
const FIRST: [(u32, char, u8); 6] = [
    (9600, 'N', 1),
    (19_200, 'E', 1),
    (9600, 'E', 1),
    (19_200, 'N', 1),
    (38_400, 'N', 1),
    (115_200, 'N', 1),
];
const SPEEDS: [u32; 6] = [9600, 19_200, 38_400, 115_200, 4800, 2400];
const LAYOUTS: [(char, u8); 4] = [('N', 1), ('E', 1), ('O', 1), ('N', 2)];

/// Ids in a row that all answer over TCP before it is tried whether the id matters there at all.
const EVERY_ID_AFTER: usize = 8;

/// Ids that no device may have (MODBUS over Serial Line 1.02, section 2.2: reserved): whoever answers
/// to all of them does not look at the id, and meters that stand in a row behind a gateway do not.
const NOBODYS_IDS: [u8; 2] = [250, 253];

/// Exceptions of a gateway that has nobody behind it under that id (Modbus Application Protocol
/// 1.1b3, section 7).
pub(in crate::cli) const NOBODY_THERE: [u8; 2] = [0x0A, 0x0B];

/// Returns the lines to try, the most likely first.
pub(in crate::cli) fn usual_lines() -> Vec<LineSettings> {
    let line = |(baud, parity, stop_bits)| LineSettings { baud, data_bits: 8, parity, stop_bits };
    let all =
        SPEEDS.into_iter().flat_map(|baud| LAYOUTS.map(|(parity, stop)| (baud, parity, stop)));
    let rest = all.filter(|one| !FIRST.contains(one));
    FIRST.into_iter().chain(rest).map(line).collect()
}

impl Sight {
    /// Returns the ids that answered on one way.
    fn ids(&self, way: &str) -> Vec<u8> {
        let found = self.found.iter().filter(|found| found.way == way);
        found.flat_map(|found| found.ids.iter().map(|(id, _)| *id)).collect()
    }

    /// Takes out those for whom the host itself answered with this exception. When all are such, it is
    /// one device that answers so to every id.
    fn settle(&mut self, way: &str, code: u8) {
        let Some(found) = self.found.iter_mut().find(|found| found.way == way) else { return };
        if found.ids.iter().all(|(_, said)| *said == Some(code)) {
            self.every_id = true;
            found.ids.truncate(1);
        } else {
            found.ids.retain(|(_, said)| *said != Some(code));
        }
    }

    fn note(&mut self, way: &Way, id: u8, exception: Option<u8>) {
        let Way { name, link, line } = way;
        match self.found.iter_mut().find(|found| found.way == *name) {
            Some(found) => found.ids.push((id, exception)),
            None => self.found.push(Found {
                way: name.clone(),
                link: link.clone(),
                line: *line,
                ids: vec![(id, exception)],
            }),
        }
    }
}

impl<'a> Search<'a> {
    /// Plans to ask `ids` on `lines`, or on the usual ones, the configured one first.
    pub(in crate::cli) fn new(target: &'a Target, ids: Vec<u8>, lines: &[LineSettings]) -> Self {
        let way = |line: LineSettings| Way {
            name: line.to_string(),
            link: target.link(line, false),
            line: Some(line),
        };
        let ways = match target {
            Target::Serial { .. } if !lines.is_empty() => lines.iter().copied().map(way).collect(),
            Target::Serial { known, .. } => {
                let mut lines = usual_lines();
                if let Some((_, line)) = known {
                    lines.retain(|other| other != line);
                    lines.insert(0, *line);
                }
                lines.into_iter().map(way).collect()
            }
            Target::Network { .. } => [("Modbus TCP", false), ("RTU over TCP", true)]
                .map(|(name, rtu)| {
                    let link = target.link(LineSettings::DEFAULT, rtu);
                    Way { name: name.to_owned(), link, line: None }
                })
                .to_vec(),
        };
        // Nobody may answer to the id of all on a line (MODBUS over Serial Line 1.02, section 2.2).
        let serial = target.is_serial();
        let ids = ids.into_iter().filter(|id| *id != 0 || !serial).collect();
        Self { target, ids, ways, all: false, timeout: patience(serial) }
    }

    /// Goes on when somebody was found.
    pub(in crate::cli) fn all(self, all: bool) -> Self {
        Self { all, ..self }
    }

    /// Waits so long for each answer.
    pub(in crate::cli) fn timeout(self, timeout: Option<Duration>) -> Self {
        Self { timeout: timeout.unwrap_or(self.timeout), ..self }
    }

    /// Searches, and keeps `sight` true all the while.
    ///
    /// # Errors
    /// The notice about why the target cannot be opened at all.
    pub(in crate::cli) async fn run(
        &self,
        sight: &mut Sight,
        progress: &mut dyn FnMut(Progress<'_>),
    ) -> Result<(), Box<Notice>> {
        for (n, way) in self.ways.iter().enumerate() {
            let mut inquiry = match self.target.open(way.link.clone()).await {
                Ok(inquiry) => inquiry,
                Err(_) if n > 0 && !self.exists() => {
                    sight.vanished = true;
                    return Ok(());
                }
                // A driver may not know one of the speeds; the others are tried all the same.
                Err(_) if n > 0 => continue,
                Err(notice) => return Err(notice),
            };
            if n == 0 && way.line.is_some() {
                sight.unasked = inquiry.listen(limits::LISTEN_TIME).await;
            }
            self.on_one_way(n, &mut inquiry, sight, progress).await;
            if sight.vanished {
                return Ok(());
            }
            sight.tried.push(way.name.clone());
            if !sight.found.is_empty() && !self.all {
                break;
            }
        }
        Ok(())
    }

    fn exists(&self) -> bool {
        match self.target {
            Target::Serial { path, .. } => path.exists(),
            Target::Network { .. } => true,
        }
    }

    async fn on_one_way(
        &self,
        n: usize,
        inquiry: &mut Inquiry,
        sight: &mut Sight,
        progress: &mut dyn FnMut(Progress<'_>),
    ) {
        let way = &self.ways[n];
        let (mut late, mut suspects) = (Vec::new(), Vec::new());
        let (mut noise, mut pace) = (0, Pace { timeout: self.timeout, asked: Vec::new() });
        let mut spoken_for = None;
        sight.closed = 0;
        for (asked, id) in self.ids.iter().enumerate() {
            let (found, left) = (sight.ids(&way.name), self.left(n, asked, pace.timeout));
            progress(Progress { way: &way.name, id: *id, found, left });
            pace.asked.push((*id, Instant::now()));
            let knock = self.knock(inquiry, *id, pace.timeout, (way, sight)).await;
            noise += knock.noise;
            late.extend(&knock.others);
            // A gateway that waits for the absent behind it falls further behind with each question
            // that does not wait for the answer to the one before.
            for other in knock.others.iter().filter(|_| !self.target.is_serial()) {
                pace.adapt(*other);
            }
            if knock.noise > 0 && suspects.len() < limits::SCAN_SUSPECTS_MAX {
                suspects.extend(asked.checked_sub(1).and_then(|before| self.ids.get(before)));
                suspects.push(*id);
            }
            if sight.vanished {
                break;
            }
            self.confirm(inquiry, *id, knock, (way, sight)).await;
            match self.absent(inquiry, asked + 1, (way, sight)).await {
                Absent::Silent => {}
                Absent::Exception(code) => spoken_for = Some(code),
                Absent::AsAnybody => {
                    sight.every_id = true;
                    sight.found.iter_mut().for_each(|found| found.ids.truncate(1));
                    break;
                }
            }
        }
        if !sight.vanished && !sight.every_id {
            // Whoever was the last to be asked may be late, too.
            let knock = inquiry.overhear(self.late_time(way, sight)).await;
            noise += knock.noise;
            late.extend(knock.others);
            suspects.extend(self.ids.last());
            self.ask_again(inquiry, (&late, &suspects), (way, sight)).await;
        }
        if let Some(code) = spoken_for {
            sight.settle(&way.name, code);
        }
        // Who takes connections, and closes each of them over its first question, is not for us.
        sight.vanished |= n == 0 && sight.closed > 0 && sight.closed >= self.ids.len();
        if noise > 0 {
            sight.noise.push((way.name.clone(), noise));
        }
    }

    /// What comes of ids that nobody has, when everybody answered so far. Over TCP only: on a line each
    /// answer comes from a device of that id.
    async fn absent(
        &self,
        inquiry: &mut Inquiry,
        asked: usize,
        (way, sight): (&Way, &mut Sight),
    ) -> Absent {
        let is_time = asked == EVERY_ID_AFTER || (asked > 1 && asked == self.ids.len());
        let all_answer = sight.ids(&way.name).len() == asked;
        if self.target.is_serial() || !is_time || !all_answer {
            return Absent::Silent;
        }
        let mut codes = Vec::new();
        for id in NOBODYS_IDS {
            let knock = self.knock(inquiry, id, self.timeout, (way, sight)).await;
            match is_device(&knock) {
                None => return Absent::Silent,
                Some(code) => codes.push(code),
            }
        }
        match codes[..] {
            [Some(one), Some(other)] if one == other => Absent::Exception(one),
            _ => Absent::AsAnybody,
        }
    }

    /// How long to wait for a late answer to the last questions. A line is left alone for as long as
    /// most devices take; on a network it costs nothing to wait longer for the only one there is.
    fn late_time(&self, way: &Way, sight: &Sight) -> Duration {
        match self.target.is_serial() || !sight.ids(&way.name).is_empty() {
            true => limits::SCAN_LATE_TIME.max(self.timeout),
            false => limits::SCAN_PATIENCE,
        }
    }

    /// Asks once more: those who were heard to answer late with all patience, those who may have been
    /// behind some noise with a little.
    async fn ask_again(
        &self,
        inquiry: &mut Inquiry,
        (late, suspects): (&[u8], &[u8]),
        (way, sight): (&Way, &mut Sight),
    ) {
        let little = (2 * self.timeout).max(limits::SCAN_LATE_TIME);
        let much = limits::SCAN_PATIENCE.max(self.timeout);
        let all = late.iter().map(|id| (*id, much)).chain(suspects.iter().map(|id| (*id, little)));
        for (id, patience) in all {
            let is_new = self.ids.contains(&id) && !sight.ids(&way.name).contains(&id);
            if is_new && !sight.vanished {
                let knock = self.knock(inquiry, id, patience, (way, sight)).await;
                self.confirm(inquiry, id, knock, (way, sight)).await;
            }
        }
    }

    /// Asks one id. A host may close a connection over one question, or after each answer, and take the
    /// next question on a new one; only one that takes no connection any more has vanished.
    async fn knock(
        &self,
        inquiry: &mut Inquiry,
        id: u8,
        timeout: Duration,
        (way, sight): (&Way, &mut Sight),
    ) -> Knock {
        let mut knock = inquiry.knock(id, timeout).await;
        if knock.gone && !self.target.is_serial() {
            knock = inquiry.knock(id, timeout).await;
        }
        sight.echo |= knock.echo;
        if knock.gone {
            sight.closed += 1;
            sight.vanished |=
                self.target.is_serial() || self.target.open(way.link.clone()).await.is_err();
        }
        knock
    }

    /// Asks a second time: noise does not form the same intact frame twice.
    async fn confirm(
        &self,
        inquiry: &mut Inquiry,
        id: u8,
        knock: Knock,
        (way, sight): (&Way, &mut Sight),
    ) {
        if is_device(&knock).is_none() {
            return;
        }
        // It answered, so it is worth the longest wait.
        let patience = limits::SCAN_PATIENCE.max(self.timeout);
        let since = Instant::now();
        let again = self.knock(inquiry, id, patience, (way, sight)).await;
        if let Some(exception) = is_device(&again) {
            sight.slow |= since.elapsed() >= limits::ASK_TIMEOUT;
            sight.note(way, id, exception);
        }
    }

    /// The longest that the rest takes, from id `asked` of way `n` on, with `timeout` for each there.
    fn left(&self, n: usize, asked: usize, timeout: Duration) -> Duration {
        let cost = |way: &Way, ids: usize, timeout: Duration| {
            let on_the_wire = way.line.map_or(Duration::ZERO, |line| line.characters(20));
            (timeout + on_the_wire) * u32::try_from(ids).unwrap_or(u32::MAX)
        };
        let here = cost(&self.ways[n], self.ids.len() - asked, timeout);
        let later = self.ways[n + 1..].iter();
        later.fold(here, |sum, way| sum + cost(way, self.ids.len(), self.timeout))
    }
}

/// What a host says in the place of units that are not there.
enum Absent {
    Silent,
    /// This exception: its own, when others answer otherwise.
    Exception(u8),
    /// What a unit would.
    AsAnybody,
}

/// How long a host needs, as far as its late answers tell.
struct Pace {
    timeout: Duration,
    /// When each id was asked.
    asked: Vec<(u8, Instant)>,
}

impl Pace {
    /// Waits from now on as long as `late` took, and a little more.
    fn adapt(&mut self, late: u8) {
        let asked = self.asked.iter().rev().find(|(id, _)| *id == late);
        if let Some((_, at)) = asked {
            let took = at.elapsed().min(limits::SCAN_PATIENCE);
            self.timeout = self.timeout.max(took + took / 4);
        }
    }
}

/// Returns what a device answered, and nothing for a gateway's word that nobody is there.
fn is_device(knock: &Knock) -> Option<Option<u8>> {
    knock.answer.filter(|exception| exception.is_none_or(|code| !NOBODY_THERE.contains(&code)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_speed_and_layout_is_tried_once_and_the_usual_ones_first() {
        let lines = usual_lines();
        let text: Vec<_> = lines.iter().map(ToString::to_string).collect();
        assert_eq!(text[..3], ["9600 8N1", "19200 8E1", "9600 8E1"]);
        assert_eq!(lines.len(), 24);
        assert!(text.iter().all(|one| text.iter().filter(|other| one == *other).count() == 1));
        for line in ["2400 8O1", "4800 8N2", "115200 8E1"] {
            assert!(text.iter().any(|one| one == line), "{line}");
        }
    }

    #[test]
    fn a_configured_line_is_tried_before_all_others_and_the_time_left_shrinks() {
        let line = LineSettings::parse("4800 8O1").unwrap();
        let target =
            Target::Serial { path: "/dev/x".into(), known: Some(("bus".to_owned(), line)) };
        let search = Search::new(&target, vec![0, 1, 2], &[]);
        assert_eq!((search.ways.len(), &*search.ways[0].name), (24, "4800 8O1"));
        assert_eq!(search.ids, [1, 2], "0 is everybody on a line");
        let left = |n, asked| search.left(n, asked, search.timeout);
        assert!(left(0, 0) > left(0, 1) && left(1, 0) > left(23, 1));
        let all = Search::new(&target, (1..=247).collect(), &usual_lines()[..4]);
        let longest = all.left(0, 0, all.timeout);
        assert!(longest < Duration::from_secs(110), "{longest:?}");
    }

    #[test]
    fn a_late_answer_makes_the_questions_after_it_wait_longer_and_never_less() {
        let second = Duration::from_secs(1);
        let ago = Instant::now().checked_sub(2 * second).unwrap_or_else(Instant::now);
        let mut pace = Pace { timeout: second / 2, asked: vec![(3, ago), (4, Instant::now())] };
        pace.adapt(9);
        assert_eq!(pace.timeout, second / 2, "nobody asked 9");
        pace.adapt(3);
        assert!(pace.timeout >= 2 * second && pace.timeout < 4 * second, "{:?}", pace.timeout);
        let before = pace.timeout;
        pace.adapt(4);
        assert_eq!(pace.timeout, before);
    }

    #[test]
    fn who_is_spoken_for_by_a_gateway_is_no_device_and_one_device_is_one() {
        let found = |ids: &[(u8, Option<u8>)]| Sight {
            found: vec![Found {
                way: "Modbus TCP".to_owned(),
                link: Link::Tcp { host: "plc".into(), port: 502 },
                line: None,
                ids: ids.to_vec(),
            }],
            ..Sight::default()
        };
        let mut behind = found(&[(1, Some(4)), (3, None), (4, Some(2)), (5, Some(4))]);
        behind.settle("Modbus TCP", 4);
        assert_eq!((behind.ids("Modbus TCP"), behind.every_id), (vec![3, 4], false));
        let mut alone = found(&[(1, Some(2)), (2, Some(2))]);
        alone.settle("Modbus TCP", 2);
        assert_eq!((alone.ids("Modbus TCP"), alone.every_id), (vec![1], true));
    }
}
