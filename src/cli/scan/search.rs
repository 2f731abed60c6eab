//! The search: ways (speeds and layouts of a line, framings of a network) from the most likely to the
//! least, on each of them every id once, and a second question to whoever seemed to answer.

use std::time::Duration;

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

/// Ids in a row that all answer over TCP before it is taken that the id does not matter there.
const EVERY_ID_AFTER: usize = 8;

/// Exceptions of a gateway that has nobody behind it under that id (Modbus Application Protocol
/// 1.1b3, section 7).
const NOBODY_THERE: [u8; 2] = [0x0A, 0x0B];

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
        let mut noise = 0;
        for (asked, id) in self.ids.iter().enumerate() {
            let (found, left) = (sight.ids(&way.name), self.left(n, asked));
            progress(Progress { way: &way.name, id: *id, found, left });
            let knock = self.knock(inquiry, *id, self.timeout, sight).await;
            noise += knock.noise;
            late.extend(knock.other.filter(|other| *other != *id));
            if knock.noise > 0 && suspects.len() < limits::SCAN_SUSPECTS_MAX {
                suspects.extend(asked.checked_sub(1).and_then(|before| self.ids.get(before)));
                suspects.push(*id);
            }
            if sight.vanished {
                break;
            }
            self.confirm(inquiry, *id, knock, (way, sight)).await;
            let answered = sight.ids(&way.name).len();
            // Over TCP, whoever answers to eight ids in a row does not look at them.
            if !self.target.is_serial() && answered == asked + 1 && answered >= EVERY_ID_AFTER {
                sight.every_id = true;
                sight.found.iter_mut().for_each(|found| found.ids.truncate(1));
                break;
            }
        }
        let patience = (2 * self.timeout).max(limits::SCAN_LATE_TIME);
        // Whoever was the last to be asked may be late, too; and who was late is asked with patience.
        if let Some(last) = self.ids.last().filter(|_| !sight.vanished && !sight.every_id) {
            noise += inquiry.listen(limits::SCAN_LATE_TIME).await;
            late.push(*last);
        }
        for id in late.into_iter().chain(suspects) {
            let is_new = self.ids.contains(&id) && !sight.ids(&way.name).contains(&id);
            if is_new && !sight.vanished && !sight.every_id {
                let knock = self.knock(inquiry, id, patience, sight).await;
                self.confirm(inquiry, id, knock, (way, sight)).await;
            }
        }
        if noise > 0 {
            sight.noise.push((way.name.clone(), noise));
        }
    }

    async fn knock(
        &self,
        inquiry: &mut Inquiry,
        id: u8,
        timeout: Duration,
        sight: &mut Sight,
    ) -> Knock {
        let knock = inquiry.knock(id, timeout).await;
        sight.echo |= knock.echo;
        sight.vanished |= knock.gone && self.is_gone(inquiry, id, timeout).await;
        knock
    }

    /// A host may close a connection over one question and take the next.
    async fn is_gone(&self, inquiry: &mut Inquiry, id: u8, timeout: Duration) -> bool {
        self.target.is_serial() || inquiry.knock(id, timeout).await.gone
    }

    /// Asks a second time: noise does not form the same intact frame twice.
    async fn confirm(
        &self,
        inquiry: &mut Inquiry,
        id: u8,
        knock: Knock,
        (way, sight): (&Way, &mut Sight),
    ) {
        let is_device = |knock: &Knock| {
            knock
                .answer
                .filter(|exception| exception.is_none_or(|code| !NOBODY_THERE.contains(&code)))
        };
        if is_device(&knock).is_none() {
            return;
        }
        let again = self.knock(inquiry, id, limits::ASK_TIMEOUT, sight).await;
        if let Some(exception) = is_device(&again) {
            sight.note(way, id, exception);
        }
    }

    /// The longest that the rest takes, from id `asked` of way `n` on.
    fn left(&self, n: usize, asked: usize) -> Duration {
        let cost = |way: &Way, ids: usize| {
            let on_the_wire = way.line.map_or(Duration::ZERO, |line| line.characters(20));
            (self.timeout + on_the_wire) * u32::try_from(ids).unwrap_or(u32::MAX)
        };
        let here = cost(&self.ways[n], self.ids.len() - asked);
        self.ways[n + 1..].iter().fold(here, |sum, way| sum + cost(way, self.ids.len()))
    }
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
        assert!(search.left(0, 0) > search.left(0, 1) && search.left(1, 0) > search.left(23, 1));
        let all = Search::new(&target, (1..=247).collect(), &usual_lines()[..4]);
        assert!(all.left(0, 0) < Duration::from_secs(110), "{:?}", all.left(0, 0));
    }
}
