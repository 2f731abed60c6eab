//! The source on scripted lines and a paused clock: what it says, when, and how often it tries.

use std::collections::VecDeque;
use std::future::Future;
use std::path::PathBuf;

use tokio::io::{DuplexStream, duplex};
use tokio::sync::mpsc;
use tokio::time::sleep;

use super::settings::{Checksum, Form, Framing, Parse, Point};
use super::*;
use crate::clock::System;
use crate::events::{Condition, Events};
use crate::reading::{Decimal, NoData, Value};
use crate::sources::line::LineSettings;

/// Lines in the order they are opened; when they are used up there is no port any more.
struct Lines(VecDeque<DuplexStream>);

impl Opener for Lines {
    fn open(&mut self) -> io::Result<Box<dyn Port>> {
        match self.0.pop_front() {
            Some(line) => Ok(Box::new(line)),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }
}

/// Everything a test watches.
struct World {
    groups: mpsc::Receiver<Group>,
    events: Events,
    counts: Arc<Counts>,
    points: Arc<Points>,
}

fn scale() -> Device {
    let point = |name: &str, form| Point {
        name: name.into(),
        key: name.into(),
        form,
        scale: 1.0,
        offset: 0.0,
        decimals: None,
        unit: "kg".into(),
    };
    Device {
        name: "scale".into(),
        line: SerialLine {
            name: "rs232-1".into(),
            path: PathBuf::from("/nonexistent/port"),
            line: LineSettings::DEFAULT,
        },
        framing: Framing::End(b"\n".to_vec()),
        checksum: None,
        parse: Parse::Match(regex::Regex::new(r"^w=(?<weight>\S+)$").unwrap()),
        points: vec![point("weight", Form::Number)],
        ask: None,
        silent_after: None,
    }
}

/// Runs `device` on `lines` for as long as `script` takes.
async fn with<F: Future<Output = ()>>(
    device: Device,
    lines: impl IntoIterator<Item = DuplexStream>,
    script: impl FnOnce(World) -> F,
) {
    let (sender, groups) = mpsc::channel(4096);
    let points = Arc::new(Points::default());
    let events = Events::default();
    let lines = Box::new(Lines(lines.into_iter().collect()));
    let mut source = SerialDevice::on(device, &points, lines).unwrap();
    let world = World {
        groups,
        events: events.clone(),
        counts: source.counts(),
        points: Arc::clone(&points),
    };
    let outlet = Outlet { groups: sender, points, clock: Arc::new(System), events };
    tokio::select! {
        () = source.run(outlet, CancellationToken::new()) => panic!("a source never returns"),
        () = script(world) => {}
    }
}

impl World {
    /// Waits for the next group and writes it as a line.
    async fn next(&mut self) -> String {
        let group = self.groups.recv().await.unwrap();
        let words: Vec<_> = group
            .readings()
            .map(|reading| {
                let value = match reading.sample.value {
                    Ok(Value::Decimal(Decimal { digits, places })) => format!("{digits}e-{places}"),
                    other => format!("{other:?}"),
                };
                format!("{}={value}", self.points.info(reading.point).point)
            })
            .collect();
        words.join(" ")
    }

    fn ready(&mut self) -> Vec<Group> {
        std::iter::from_fn(|| self.groups.try_recv().ok()).collect()
    }

    fn standing(&self) -> Vec<&'static str> {
        self.events.standing().iter().map(|condition| condition.notice.code.id).collect()
    }

    fn condition(&self, code: &str) -> Option<Condition> {
        self.events.standing().into_iter().find(|condition| condition.notice.code.id == code)
    }

    fn opens(&self) -> u64 {
        self.counts.opens.load(Ordering::Relaxed)
    }
}

fn s(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds)
}

/// A line that is silent long enough for its first frame to be known as whole.
async fn say(line: &mut DuplexStream, text: &str) {
    sleep(s(0.1)).await;
    line.write_all(text.as_bytes()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn frames_become_groups_however_they_are_split() {
    let (mut far, near) = duplex(64);
    with(scale(), [near], |mut world| async move {
        say(&mut far, "w=12.340\nw=1").await;
        say(&mut far, "3\n").await;
        assert_eq!(world.next().await, "weight=12340e-3");
        assert_eq!(world.next().await, "weight=13e-0");
        assert!(world.standing().is_empty());
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_pulled_cable_is_one_absence_and_readings_resume_by_themselves() {
    let (mut first, near1) = duplex(64);
    let (mut second, near2) = duplex(64);
    with(scale(), [near1, near2], |mut world| async move {
        say(&mut first, "w=1\n").await;
        assert_eq!(world.next().await, "weight=1e-0");
        drop(first);
        assert_eq!(world.next().await, "weight=Err(Timeout)");
        assert_eq!(world.standing(), ["FG-S01"]);
        sleep(s(1.0)).await;
        say(&mut second, "w=2\n").await;
        assert_eq!(world.next().await, "weight=2e-0");
        assert!(world.standing().is_empty());
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_port_that_stays_away_is_tried_ever_slower_and_told_once() {
    with(scale(), [], |mut world| async move {
        sleep(s(600.0)).await;
        // 0.25, 0.5, 1, 2 and 4 s, then every 5 s.
        let opens = world.opens();
        assert!((110..=125).contains(&opens), "{opens} opens in 10 minutes");
        assert_eq!(world.ready().len(), 1, "one group says that there is no data");
        assert_eq!(world.condition("FG-S01").unwrap().count, opens);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_port_that_opens_and_ends_at_once_does_not_spin() {
    let dead = (0..1000).map(|_| duplex(1).1);
    with(scale(), dead, |mut world| async move {
        sleep(s(600.0)).await;
        assert!(world.opens() <= 125, "{} opens in 10 minutes", world.opens());
        assert!(world.counts.reads.load(Ordering::Relaxed) == 0);
        assert_eq!(world.ready().len(), 1);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_loose_plug_that_flaps_is_one_condition_with_a_count() {
    let (mut far, near): (VecDeque<_>, Vec<_>) = (0..100).map(|_| duplex(64)).unzip();
    with(scale(), near, |mut world| async move {
        let mut told = 0;
        while let Some(mut line) = far.pop_front() {
            say(&mut line, "w=1\n").await;
            while world.next().await != "weight=1e-0" {}
            told += u32::from(world.standing().is_empty());
            drop(line);
            sleep(s(0.4)).await;
        }
        assert!(told <= 2, "told to be back {told} times");
        assert!(world.condition("FG-S01").unwrap().count >= 98);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn garbage_is_malformed_once_a_second_and_good_frames_pass_between() {
    let (mut far, near) = duplex(1 << 20);
    with(scale(), [near], |mut world| async move {
        sleep(s(0.1)).await;
        for _ in 0..100 {
            far.write_all(b"gar\x00ba\xffge\nw=5\n").await.unwrap();
            sleep(s(0.1)).await;
        }
        let groups = world.ready();
        let malformed =
            groups.iter().filter(|group| group.samples[0].value == Err(NoData::Malformed)).count();
        assert!((9..=11).contains(&malformed), "{malformed} malformed groups in 10 s");
        assert_eq!(groups.len() - malformed, 100, "every good frame is a reading");
        assert_eq!(world.counts.unread.load(Ordering::Relaxed), 100);
        let told = world.condition("FG-S05").unwrap().notice.to_string();
        assert!(told.contains("gar\\x00ba\\xffge"), "{told}");
        far.write_all(b"w=5\n").await.unwrap();
        sleep(s(61.0)).await;
        far.write_all(b"w=5\n").await.unwrap();
        sleep(s(0.1)).await;
        assert!(world.standing().is_empty(), "it is over after a good minute");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_frame_with_a_bad_checksum_is_malformed_and_another_sentence_is_passed_over() {
    let device = Device { checksum: Some(Checksum::Xor8), ..scale() };
    let (mut far, near) = duplex(64);
    let with_sum = |text: &str| {
        let sum = text.bytes().fold(0, |all, byte| all ^ byte);
        [text.as_bytes(), &[sum, b'\n']].concat()
    };
    with(device, [near], |mut world| async move {
        sleep(s(0.1)).await;
        far.write_all(&with_sum("w=7")).await.unwrap();
        far.write_all(&with_sum("status")).await.unwrap();
        far.write_all(b"w=9x\n").await.unwrap();
        assert_eq!(world.next().await, "weight=7e-0");
        assert_eq!(world.next().await, "weight=Err(Malformed)");
        assert_eq!(world.standing(), ["FG-S04"]);
        assert!(world.ready().is_empty(), "the other sentence is no reading");
        assert_eq!(world.counts.damaged.load(Ordering::Relaxed), 1);
        assert_eq!(world.counts.unread.load(Ordering::Relaxed), 1);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn silence_is_one_absence_until_the_device_is_heard_again() {
    let device = Device { silent_after: Some(s(10.0)), ..scale() };
    let (mut far, near) = duplex(64);
    with(device, [near], |mut world| async move {
        say(&mut far, "w=1\n").await;
        assert_eq!(world.next().await, "weight=1e-0");
        sleep(s(100.0)).await;
        assert_eq!(world.ready().len(), 1);
        assert_eq!(world.standing(), ["FG-S03"]);
        far.write_all(b"w=2\n").await.unwrap();
        assert_eq!(world.next().await, "weight=2e-0");
        assert!(world.standing().is_empty());
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_question_without_an_answer_is_a_reading_without_data() {
    let device = Device { ask: Some((b"?\r".to_vec(), s(1.0))), ..scale() };
    let (mut far, near) = duplex(64);
    with(device, [near], |mut world| async move {
        let mut question = [0; 2];
        far.read_exact(&mut question).await.unwrap();
        assert_eq!(&question, b"?\r");
        far.write_all(b"w=1\n").await.unwrap();
        assert_eq!(world.next().await, "weight=1e-0");
        for _ in 0..4 {
            far.read_exact(&mut question).await.unwrap();
        }
        for _ in 0..3 {
            assert_eq!(world.next().await, "weight=Err(Timeout)");
        }
        assert!(world.ready().is_empty(), "one absence for each question in vain");
        assert_eq!(world.counts.unanswered.load(Ordering::Relaxed), 3);
        assert_eq!(world.standing(), ["FG-S03"]);
        far.write_all(b"w=2\n").await.unwrap();
        assert_eq!(world.next().await, "weight=2e-0");
        assert!(world.standing().is_empty());
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_cannot_be_read_is_malformed_and_not_a_timeout() {
    let device = Device { ask: Some((b"?".to_vec(), s(2.0))), ..scale() };
    let (mut far, near) = duplex(64);
    with(device, [near], |mut world| async move {
        let mut question = [0; 1];
        for answer in ["garbage\n", "w=1\n"] {
            far.read_exact(&mut question).await.unwrap();
            far.write_all(answer.as_bytes()).await.unwrap();
        }
        far.read_exact(&mut question).await.unwrap();
        assert_eq!(world.next().await, "weight=Err(Malformed)");
        assert_eq!(world.next().await, "weight=1e-0");
        assert!(world.ready().is_empty());
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_device_that_no_longer_takes_bytes_is_opened_again() {
    let device = Device { ask: Some((vec![b'?'; 64], s(1.0))), ..scale() };
    let (_stuck, near1) = duplex(8);
    let (mut far, near2) = duplex(64);
    with(device, [near1, near2], |mut world| async move {
        let mut question = [0; 64];
        far.read_exact(&mut question).await.unwrap();
        assert_eq!(world.opens(), 2);
        assert_eq!(world.next().await, "weight=Err(Timeout)");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_stray_line_feed_between_frames_is_not_worth_a_word() {
    let device = Device { framing: Framing::End(b"\r".to_vec()), ..scale() };
    let (mut far, near) = duplex(64);
    with(device, [near], |mut world| async move {
        say(&mut far, "w=1\r").await;
        say(&mut far, "\n").await;
        sleep(s(3600.0)).await;
        assert_eq!(world.next().await, "weight=1e-0");
        assert!(world.standing().is_empty(), "{:?}", world.standing());
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn bytes_that_never_end_a_frame_are_told_and_held_in_bounds() {
    let (mut far, near) = duplex(4096);
    with(scale(), [near], |mut world| async move {
        for _ in 0..400 {
            say(&mut far, &"x".repeat(1000)).await;
        }
        assert_eq!(world.standing(), ["FG-S04", "FG-S06"]);
        assert_eq!(world.counts.damaged.load(Ordering::Relaxed), 1, "one overlong frame");
        assert_eq!(world.ready().len(), 1);
        say(&mut far, "\nw=3\n").await;
        assert_eq!(world.next().await, "weight=3e-0");
        assert!(world.condition("FG-S06").is_none());
    })
    .await;
}
