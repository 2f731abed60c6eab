//! The door over a real folder and real signatures, with a site that only remembers what it was told
//! to run.

use minisign::{KeyPair, sign};

use semver::Version;

use super::*;
use crate::clock::Manual;
use crate::reading::UnixMillis;
use crate::rules::folder::End;
use crate::rules::signature::Key;

/// 2026-11-22T10:00:00Z.
const NOW: UnixMillis = UnixMillis(1_795_341_600_000);

/// A post, and the texts of what is live and on trial there.
type Told = (String, Option<String>, Option<String>);

/// What is pushed: name of the case, file, signature, place, code, words.
type Case<'a> = (&'a str, &'a str, Option<String>, Option<&'a str>, &'a str, &'a str);

/// Files are `NAME VERSION CAPABILITIES` in words. One that says `traps` does not start.
#[derive(Default)]
pub(crate) struct Words {
    running: Mutex<Vec<Told>>,
    has_trials: bool,
    /// Nothing starts any more.
    traps: std::sync::atomic::AtomicBool,
}

impl Words {
    pub(crate) fn with_trials() -> Self {
        Self { has_trials: true, ..Self::default() }
    }

    pub(crate) fn runs(&self, post: &str) -> (Option<String>, Option<String>) {
        let running = self.running.lock().unwrap();
        let last = running.iter().rev().find(|(name, ..)| name == post);
        last.map(|(_, live, trial)| (live.clone(), trial.clone())).unwrap_or_default()
    }
}

impl Site for Words {
    fn posts(&self) -> Vec<String> {
        ["smooth", "coarse", "deadband"].map(str::to_owned).to_vec()
    }

    fn examine(&self, file: &[u8]) -> Result<Examined, String> {
        let text = std::str::from_utf8(file).map_err(|_| "it is no component".to_owned())?;
        let mut words = text.split(' ');
        let name = words.next().unwrap_or_default().to_owned();
        let version = Version::parse(words.next().unwrap_or_default());
        let version = version.map_err(|_| "it has no manifest".to_owned())?;
        Ok(Examined { name, version, capabilities: words.map(str::to_owned).collect() })
    }

    fn fits(&self, _: &str, file: &[u8]) -> Result<(), String> {
        let fails = file.ends_with(b"untested");
        if fails { Err("the test freeze fails".to_owned()) } else { Ok(()) }
    }

    fn suits(&self, _: &str, _: &[u8]) -> bool {
        true
    }

    fn arrange(&self, post: &str, running: Running<'_>) -> Result<(), String> {
        let text = |file: &[u8]| String::from_utf8(file.to_vec()).unwrap();
        let all = [running.live, running.trial];
        let traps = self.traps.load(std::sync::atomic::Ordering::Relaxed);
        if traps || all.iter().flatten().any(|(_, file)| file.ends_with(b"traps")) {
            return Err("it trapped when it was opened".to_owned());
        }
        let [live, trial] = all.map(|one| one.map(|(_, file)| text(file)));
        self.running.lock().unwrap().push((post.to_owned(), live, trial));
        Ok(())
    }

    fn has_trials(&self) -> bool {
        self.has_trials
    }

    fn report(&self, _: &str) -> Option<serde_json::Value> {
        None
    }

    fn log(&self, _: &str) -> Option<Vec<(i64, &'static str, String)>> {
        None
    }
}

struct World {
    folder: tempfile::TempDir,
    pair: KeyPair,
    clock: Arc<Manual>,
    site: Words,
    door: Door,
}

impl World {
    fn new(has_trials: bool) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let pair = KeyPair::generate_unencrypted_keypair().unwrap();
        let clock = Arc::new(Manual::new(NOW));
        let site = Words { has_trials, ..Words::default() };
        let door = Self::door(&folder, &[&pair.pk.to_base64()], &clock);
        Self { folder, pair, clock, site, door }
    }

    fn door(folder: &tempfile::TempDir, keys: &[&str], clock: &Arc<Manual>) -> Door {
        let keys = Keys::new(keys.iter().map(|key| Key::parse(key).unwrap()).collect());
        let settings = Settings { gateway: "gw-1".into(), groups: vec!["pumps".to_owned()], keys };
        let (folder, trouble) = Folder::open(&folder.path().join("rules")).unwrap();
        assert!(trouble.is_none(), "{trouble:?}");
        Door::new(settings, Arc::clone(clock) as Arc<dyn Clock>, folder)
    }

    /// As after a start of the daemon: nothing runs, all is on disk.
    fn restart(&mut self, keys: &[&str]) {
        let mine = self.pair.pk.to_base64();
        let keys = if keys.is_empty() { vec![mine.as_str()] } else { keys.to_vec() };
        self.door = Self::door(&self.folder, &keys, &self.clock);
        self.site.running.lock().unwrap().clear();
    }

    fn signature(&self, file: &str, comment: &str) -> String {
        sign(None, &self.pair.sk, file.as_bytes(), Some(comment), None).unwrap().to_string()
    }

    fn push(&self, file: &str, to: Option<&str>) -> Result<Taken, String> {
        let comment =
            format!("fieldgate rule {}", file.split(" ").take(2).collect::<Vec<_>>().join(" "));
        self.push_as(file, &comment, to)
    }

    fn push_as(&self, file: &str, comment: &str, to: Option<&str>) -> Result<Taken, String> {
        let signature = self.signature(file, comment);
        self.push_raw(file, Some(&signature), to)
    }

    fn push_raw(
        &self,
        file: &str,
        signature: Option<&str>,
        to: Option<&str>,
    ) -> Result<Taken, String> {
        let pushed = Pushed {
            subject: "rule file x.wasm",
            file: file.as_bytes(),
            signature,
            to,
            is_configured: false,
        };
        self.door.take_in(pushed, &self.site).map_err(|notice| notice.to_string())
    }

    /// Goes back from whatever is live.
    fn fall_back(&self, why: &str) -> Result<Edition, Refused> {
        let live = self.door.ledger().posts["smooth"].live.clone().unwrap();
        self.door.fall_back(("smooth", &live), why, &self.site)
    }

    fn begin(&self, file: Option<&str>) -> (Option<Taken>, Vec<String>) {
        let comment = |file: &str| {
            format!("fieldgate rule {}", file.split(" ").take(2).collect::<Vec<_>>().join(" "))
        };
        let signature = file.map(|file| self.signature(file, &comment(file)));
        let pushed = file.map(|file| Pushed {
            subject: "rule file x.wasm",
            file: file.as_bytes(),
            signature: signature.as_deref(),
            to: None,
            is_configured: true,
        });
        let (taken, trouble) = self.door.begin("smooth", pushed, &self.site);
        (taken, trouble.iter().map(ToString::to_string).collect())
    }

    fn runs(&self) -> (Option<String>, Option<String>) {
        self.site.runs("smooth")
    }
}

fn some(text: &str) -> Option<String> {
    Some(text.to_owned())
}

#[test]
fn a_signed_rule_runs_is_followed_and_comes_back() {
    let mut world = World::new(false);
    let taken = world.push("agg 1.0.0", Some("smooth")).unwrap();
    assert_eq!((taken.post.as_str(), taken.stands), ("smooth", Stands::Live));
    // The next finds its place by what runs there.
    world.push("agg 1.1.0", None).unwrap();
    assert_eq!(world.runs(), (some("agg 1.1.0"), None));
    world.restart(&[]);
    let (taken, trouble) = world.begin(None);
    assert_eq!((taken.unwrap().edition.version, trouble.len()), (Version::new(1, 1, 0), 0));
    assert_eq!(world.runs(), (some("agg 1.1.0"), None));

    world.door.roll_back("smooth", "", &world.site).unwrap();
    assert_eq!(world.runs(), (some("agg 1.0.0"), None));
    let told = world.door.roll_back("smooth", "", &world.site).unwrap_err().to_string();
    assert!(told.contains("FG-W72") && told.contains("no earlier version"), "{told}");
    let told = world.push("agg 1.0.5", None).unwrap_err();
    assert!(told.contains("FG-W65") && told.contains("1.1.0 was taken in before"), "{told}");
}

#[test]
fn what_is_refused_at_the_door_leaves_everything_as_it_was() {
    let world = World::new(false);
    world.push("agg 2.0.0", Some("smooth")).unwrap();
    world.push("agg 2.0.0", Some("coarse")).unwrap();
    let before = world.door.ledger();
    let good = |file: &str, comment: &str| world.signature(file, comment);
    let large = format!("agg 3.0.0 {}", "x".repeat(limits::RULE_FILE_BYTES_MAX));
    #[rustfmt::skip]
    let cases: Vec<Case<'_>> = vec![
        ("unsigned", "agg 3.0.0", None, None, "W60", "not signed"),
        ("swapped", "agg 3.0.0", Some(good("agg 3.1.0", "fieldgate rule agg 3.1.0")), Some("smooth"), "W62", "was changed"),
        ("too large", &large, None, Some("smooth"), "W67", "at most"),
        ("a want", "agg 3.0.0", Some(good("agg 3.0.0", "fieldgate want gw-1 5")), Some("smooth"), "W63", "want gw-1 5"),
        ("another name", "agg 3.0.0", Some(good("agg 3.0.0", "fieldgate rule deadband 3.0.0")), Some("smooth"), "W63", "signed as deadband"),
        ("another version", "agg 3.0.0", Some(good("agg 3.0.0", "fieldgate rule agg 4.0.0")), Some("smooth"), "W63", "signed as agg 4.0.0"),
        ("a higher claim for an old file", "agg 1.0.0", Some(good("agg 1.0.0", "fieldgate rule agg 9.0.0")), Some("smooth"), "W63", "is agg 1.0.0"),
        ("another group", "agg 3.0.0", Some(good("agg 3.0.0", "fieldgate rule agg 3.0.0 groups=south")), Some("smooth"), "W63", "south"),
        ("expired", "agg 3.0.0", Some(good("agg 3.0.0", "fieldgate rule agg 3.0.0 not-after=2026-01-01")), Some("smooth"), "W64", "expired"),
        ("not yet", "agg 3.0.0", Some(good("agg 3.0.0", "fieldgate rule agg 3.0.0 not-before=2027-01-01")), Some("smooth"), "W64", "and later"),
        ("older", "agg 1.9.9", Some(good("agg 1.9.9", "fieldgate rule agg 1.9.9")), Some("smooth"), "W65", "2.0.0 was taken"),
        ("older, as pre-release", "agg 2.0.0-rc.1", Some(good("agg 2.0.0-rc.1", "fieldgate rule agg 2.0.0-rc.1")), Some("smooth"), "W65", "2.0.0 was taken"),
        ("same version, other bytes", "agg 2.0.0 log", Some(good("agg 2.0.0 log", "fieldgate rule agg 2.0.0")), Some("smooth"), "W65", "another file under"),
        ("asks for more", "agg 3.0.0 log state", Some(good("agg 3.0.0 log state", "fieldgate rule agg 3.0.0 capabilities=log")), Some("smooth"), "W63", "asks for state"),
        ("no manifest", "agg", Some(good("agg", "fieldgate rule agg 3.0.0")), Some("smooth"), "W67", "no manifest"),
        ("no component", "agg three", Some(good("agg three", "fieldgate rule agg 3.0.0")), Some("smooth"), "W67", "no manifest"),
        ("no place", "other 1.0.0", Some(good("other 1.0.0", "fieldgate rule other 1.0.0")), None, "W66", "no [rule.other]"),
        ("no such place", "agg 3.0.0", Some(good("agg 3.0.0", "fieldgate rule agg 3.0.0")), Some("nowhere"), "W66", "smooth, coarse, deadband"),
        ("several places", "agg 3.0.0", Some(good("agg 3.0.0", "fieldgate rule agg 3.0.0")), None, "W66", "smooth and coarse"),
        ("a test fails", "agg 3.0.0 untested", Some(good("agg 3.0.0 untested", "fieldgate rule agg 3.0.0")), Some("smooth"), "W67", "test freeze fails"),
        ("does not start", "agg 3.0.0 traps", Some(good("agg 3.0.0 traps", "fieldgate rule agg 3.0.0")), Some("smooth"), "W67", "trapped when"),
    ];
    for (case, file, signature, to, code, words) in cases {
        let told = world.push_raw(file, signature.as_deref(), to).unwrap_err();
        assert!(told.starts_with(&format!("FG-{code}")) && told.contains(words), "{case}: {told}");
        assert_eq!(world.door.ledger(), before, "{case}");
        assert_eq!(world.runs(), (some("agg 2.0.0"), None), "{case}");
    }
    // The same once more is no fault, and a signer may go back on purpose.
    assert!(world.push("agg 2.0.0", Some("smooth")).is_ok());
    let back = "fieldgate rule agg 1.0.0 allow-downgrade";
    world.push_as("agg 1.0.0", back, Some("smooth")).unwrap();
    assert_eq!(world.runs(), (some("agg 1.0.0"), None));
    let told = world.push("agg 0.9.0", Some("smooth")).unwrap_err();
    assert!(told.contains("FG-W65"), "the ratchet holds from there on: {told}");
}

#[test]
fn a_version_beside_a_live_one_is_on_trial_until_it_is_promoted_or_sent_back() {
    let mut world = World::new(true);
    assert_eq!(world.push("agg 1.0.0", Some("smooth")).unwrap().stands, Stands::Live);
    assert_eq!(world.push("agg 1.1.0", None).unwrap().stands, Stands::Trial);
    assert_eq!(world.runs(), (some("agg 1.0.0"), some("agg 1.1.0")));
    world.restart(&[]);
    assert_eq!(world.begin(None).0.unwrap().edition.version, Version::new(1, 0, 0));
    assert_eq!(world.runs(), (some("agg 1.0.0"), some("agg 1.1.0")), "the trial goes on");

    world.door.promote("smooth", "", &world.site).unwrap();
    assert_eq!(world.runs(), (some("agg 1.1.0"), None));
    world.push("agg 1.2.0", None).unwrap();
    world.door.roll_back("smooth", "", &world.site).unwrap();
    assert_eq!(world.runs(), (some("agg 1.1.0"), None), "first a trial is ended");
    world.door.roll_back("smooth", "", &world.site).unwrap();
    assert_eq!(world.runs(), (some("agg 1.0.0"), None), "then the last good one comes back");
    let told = world.door.promote("smooth", "", &world.site).unwrap_err().to_string();
    assert!(told.contains("FG-W72") && told.contains("on trial"), "{told}");
    let told = world.door.promote("nowhere", "", &world.site).unwrap_err().to_string();
    assert!(told.contains("FG-W72") && told.contains("not configured"), "{told}");
}

#[test]
fn a_rule_that_is_switched_off_stays_off_over_pushes_and_starts() {
    let mut world = World::new(true);
    world.push("agg 1.0.0", Some("smooth")).unwrap();
    world.door.enable("smooth", false, &world.site).unwrap();
    assert_eq!(world.runs(), (None, None));
    assert_eq!(world.push("agg 1.1.0", None).unwrap().stands, Stands::Off);
    world.restart(&[]);
    assert_eq!(world.begin(None).0.unwrap().stands, Stands::Off);
    assert_eq!(world.runs(), (None, None));
    world.door.enable("smooth", true, &world.site).unwrap();
    assert_eq!(world.runs(), (some("agg 1.1.0"), None));
}

#[test]
fn a_configured_file_counts_when_it_changes_and_a_pushed_one_outlasts_starts() {
    let mut world = World::new(false);
    world.begin(Some("agg 1.0.0"));
    world.push("agg 1.1.0", Some("smooth")).unwrap();
    world.restart(&[]);
    let (taken, trouble) = world.begin(Some("agg 1.0.0"));
    assert_eq!((taken.unwrap().edition.version, trouble.len()), (Version::new(1, 1, 0), 0));

    let (taken, _) = world.begin(Some("agg 1.2.0"));
    assert_eq!(taken.unwrap().edition.version, Version::new(1, 2, 0));
    // One that is refused is told, and what was live goes on.
    let (taken, trouble) = world.begin(Some("agg 1.0.0"));
    assert_eq!(taken.unwrap().edition.version, Version::new(1, 2, 0));
    assert!(trouble[0].contains("FG-W65"), "{trouble:?}");
}

#[test]
fn a_version_that_is_damaged_or_no_longer_trusted_gives_way_to_the_last_good_one() {
    let mut world = World::new(false);
    world.push("agg 1.0.0", Some("smooth")).unwrap();
    let taken = world.push("agg 1.1.0", Some("smooth")).unwrap();
    let rules = world.folder.path().join("rules/agg");
    std::fs::write(rules.join(taken.edition.folder()).join("rule.wasm"), "rot").unwrap();
    world.restart(&[]);
    let (taken, trouble) = world.begin(None);
    assert_eq!(taken.unwrap().edition.version, Version::new(1, 0, 0));
    assert!(trouble[0].contains("FG-W71") && trouble[0].contains("1.1.0"), "{trouble:?}");

    let stranger = KeyPair::generate_unencrypted_keypair().unwrap().pk.to_base64();
    world.restart(&[&stranger]);
    let (taken, trouble) = world.begin(None);
    assert_eq!(taken, None, "a key that was taken out takes its rules with it");
    assert!(trouble[0].contains("FG-W62"), "{trouble:?}");
}

#[test]
fn a_date_bounds_the_taking_in_and_not_the_running() {
    let mut world = World::new(false);
    let comment = "fieldgate rule agg 1.0.0 not-after=2026-11-23";
    world.push_as("agg 1.0.0", comment, Some("smooth")).unwrap();
    world.clock.set(UnixMillis(NOW.0 + 400 * 86_400_000));
    world.restart(&[]);
    assert_eq!(world.begin(None).0.unwrap().stands, Stands::Live);
    let told = world.push_as("agg 1.0.0", comment, Some("coarse")).unwrap_err();
    assert!(told.contains("FG-W64"), "{told}");
}

#[test]
fn a_desired_state_is_for_this_gateway_and_never_older() {
    let world = World::new(false);
    let text = "{}";
    let judge = |comment: &str| {
        let signature = world.signature(text, comment);
        let signed = world
            .door
            .trusts_want("desired state", text.as_bytes(), &signature)
            .map_err(|notice| notice.to_string())?;
        world.door.note_want("desired state", &signed).map_err(|notice| notice.to_string())
    };
    assert_eq!(judge("fieldgate want gw-1 7"), Ok(true));
    assert_eq!(judge("fieldgate want * 7"), Ok(false), "the same once more is no fault");
    for (comment, code, words) in [
        ("fieldgate want gw-2 8", "W63", "gateway gw-2"),
        ("fieldgate rule gw-1 8.0.0", "W63", "rule gw-1"),
        ("fieldgate want gw-1 8 groups=south", "W63", "south"),
        ("fieldgate want gw-1 8 not-after=2026-01-01", "W64", "expired"),
        ("fieldgate want gw-1 6", "W69", "7 was taken before"),
    ] {
        let told = judge(comment).unwrap_err();
        assert!(told.starts_with(&format!("FG-{code}")) && told.contains(words), "{told}");
    }
    assert_eq!(judge("fieldgate want gw-1 3 allow-downgrade"), Ok(true));
}

/// The editions of a post by their versions: live, trial, good.
fn versions(post: &Post) -> [Option<String>; 3] {
    [&post.live, &post.trial, &post.good]
        .map(|edition| edition.as_ref().map(|edition| edition.version.to_string()))
}

#[test]
fn a_promoted_version_is_on_probation_over_starts_until_it_has_proven_itself_or_fallen() {
    let mut world = World::new(true);
    world.push("agg 1.0.0", Some("smooth")).unwrap();
    assert!(!world.door.ledger().posts["smooth"].on_probation, "nothing it could go back to");
    world.push("agg 1.1.0", None).unwrap();
    world.door.promote("smooth", "it did well", &world.site).unwrap();
    world.restart(&[]);
    world.begin(None);
    let known = world.door.ledger().posts["smooth"].clone();
    assert!(known.on_probation, "a power cut must not end it");
    let ended = known.ended.unwrap();
    assert_eq!((ended.end, ended.why.as_str()), (End::Promoted, "it did well"));

    // One that is promoted over a version without proof goes back to the one that has some.
    world.push("agg 1.2.0", None).unwrap();
    world.door.promote("smooth", "", &world.site).unwrap();
    world.push("agg 1.3.0", None).unwrap();
    world.fall_back("it trapped").unwrap();
    let known = world.door.ledger().posts["smooth"].clone();
    assert_eq!(versions(&known), [some("1.0.0"), None, None], "the one on trial goes, too");
    let ended = known.ended.unwrap();
    assert_eq!((ended.end, ended.why.as_str()), (End::RolledBack, "it trapped"));
    assert_eq!(ended.edition.version, Version::new(1, 2, 0));
    assert!(!known.on_probation);
    assert_eq!(world.runs(), (some("agg 1.0.0"), None));
    let told = world.fall_back("").unwrap_err().to_string();
    assert!(told.contains("FG-W72"), "{told}");
    let gone = (ended.edition, world.door.ledger());
    let told = world.door.fall_back(("smooth", &gone.0), "", &world.site).unwrap_err().to_string();
    assert!(told.contains("runs another version by now"), "{told}");
    assert_eq!(world.door.ledger(), gone.1);

    world.push("agg 2.0.0", None).unwrap();
    world.door.promote("smooth", "", &world.site).unwrap();
    world.door.prove("smooth").unwrap();
    world.push("agg 2.1.0", None).unwrap();
    world.door.promote("smooth", "", &world.site).unwrap();
    let known = world.door.ledger().posts["smooth"].clone();
    assert_eq!(versions(&known), [some("2.1.0"), None, some("2.0.0")]);
}

#[test]
fn a_version_that_cannot_take_the_place_leaves_the_running_one_there() {
    let world = World::new(true);
    world.push("agg 1.0.0", Some("smooth")).unwrap();
    world.push("agg 1.1.0", None).unwrap();
    let before = world.door.ledger();
    world.site.traps.store(true, std::sync::atomic::Ordering::Relaxed);
    let told = world.door.promote("smooth", "", &world.site).unwrap_err().to_string();
    assert!(told.contains("FG-W67") && told.contains("trapped"), "{told}");
    assert_eq!(world.door.ledger(), before);
}

#[test]
fn a_power_cut_at_any_step_of_a_trials_end_leaves_what_was_or_what_shall_be_and_both_run() {
    type Order = fn(&World) -> Result<(), Refused>;
    let orders: [(&str, Order); 5] = [
        ("push", |world| {
            let signature = world.signature("agg 3.0.0", "fieldgate rule agg 3.0.0");
            let pushed = Pushed {
                subject: "it",
                file: b"agg 3.0.0",
                signature: Some(&signature),
                to: Some("smooth"),
                is_configured: false,
            };
            world.door.take_in(pushed, &world.site).map(drop)
        }),
        ("promote", |world| world.door.promote("smooth", "", &world.site).map(drop)),
        ("send away", |world| world.door.roll_back("smooth", "", &world.site).map(drop)),
        ("fall back", |world| world.fall_back("").map(drop)),
        ("prove", |world| world.door.prove("smooth")),
    ];
    for (what, order) in orders {
        let mut cuts = 0;
        for steps in 0.. {
            let mut world = World::new(true);
            world.push("agg 1.0.0", Some("smooth")).unwrap();
            world.push("agg 1.1.0", None).unwrap();
            world.door.promote("smooth", "", &world.site).unwrap();
            world.push("agg 1.2.0", None).unwrap();
            let before = world.door.ledger().posts["smooth"].clone();

            world.door.folder().cut_after(Some(steps));
            let done = order(&world);
            let told = world.door.ledger().posts["smooth"].clone();
            world.restart(&[]);
            let (taken, trouble) = world.begin(None);
            assert!(trouble.is_empty(), "{what} after {steps} steps: {trouble:?}");
            let after = world.door.ledger().posts["smooth"].clone();
            assert_eq!(taken.map(|taken| taken.edition), after.live, "{what} after {steps} steps");
            let [live, trial, _] = versions(&after);
            let named = |version: Option<String>| version.map(|version| format!("agg {version}"));
            assert_eq!(world.runs(), (named(live), named(trial)), "{what} after {steps} steps");
            if done.is_ok() {
                assert_eq!(after, told, "{what} was done");
                assert_ne!(after, before, "{what} does something");
                break;
            }
            assert_eq!(told, before, "{what} was not done, and is told");
            cuts += 1;
            // It can be done once more, whichever of the two it is.
            let again = order(&world).map_err(|notice| notice.code.id);
            assert!(after != before || again == Ok(()), "{what} after {steps} steps: {again:?}");
        }
        assert!(cuts >= 4, "{what}: only {cuts} steps were cut");
    }
}
