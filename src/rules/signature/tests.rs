//! What a signature must say before a file is believed: one table of what is refused, one of what is
//! taken, and the other end, Debian's own minisign.

use std::process::Command;

use minisign::{KeyPair, sign};
use semver::Version;

use super::*;
use crate::events::Notice;

const FILE: &[u8] = b"\0asm not read by anybody";
const COMMENT: &str = "fieldgate rule deadband 1.2.0";
/// 2026-11-22T10:00:00Z.
const NOW: UnixMillis = UnixMillis(1_795_341_600_000);

struct Pair(KeyPair);

impl Pair {
    fn new() -> Self {
        Self(KeyPair::generate_unencrypted_keypair().unwrap())
    }

    fn public(&self) -> String {
        self.0.pk.to_base64()
    }

    fn sign(&self, bytes: &[u8], comment: &str) -> String {
        sign(None, &self.0.sk, bytes, Some(comment), None).unwrap().to_string()
    }
}

fn keys(of: &[&str]) -> Keys {
    Keys::new(of.iter().map(|text| Key::parse(text).unwrap()).collect())
}

fn judge(keys: &Keys, bytes: &[u8], signature: &str) -> Result<Signed, Box<Notice>> {
    let groups = ["pumps".to_owned(), "north".to_owned()];
    let here = Here { gateway: "gw-1", groups: &groups, now: Some(NOW) };
    let signed = keys.verify("rule file deadband.wasm", bytes, Some(signature))?;
    signed.is_for("rule file deadband.wasm", &here)?;
    Ok(signed)
}

fn refusal(keys: &Keys, bytes: &[u8], signature: &str) -> String {
    match judge(keys, bytes, signature) {
        Ok(signed) => panic!("taken in: {signed:?}"),
        Err(notice) => notice.to_string(),
    }
}

#[test]
fn what_a_trusted_key_signed_is_taken_with_what_it_says() {
    let (pair, other) = (Pair::new(), Pair::new());
    let keys = keys(&[&other.public(), &format!("{} rules=dead*,agg", pair.public())]);
    let day = UnixMillis(NOW.0 - NOW.0.rem_euclid(86_400_000));
    for (comment, from, groups) in [
        (COMMENT.to_owned(), None, vec![]),
        (format!("{COMMENT} groups=pumps"), None, vec!["pumps"]),
        (format!("{COMMENT} groups=south,north"), None, vec!["south", "north"]),
        (format!("{COMMENT} not-before=2026-11-22"), Some(day), vec![]),
        (format!("{COMMENT} not-after=2026-11-22T10:00:00Z"), None, vec![]),
        (format!("{COMMENT} capabilities=log,state allow-downgrade"), None, vec![]),
    ] {
        let signed = judge(&keys, FILE, &pair.sign(FILE, &comment)).unwrap();
        assert_eq!((signed.claim.name.as_str(), signed.claim.not_before), ("deadband", from));
        assert_eq!(signed.claim.groups, groups);
        assert_eq!(signed.claim.version, Version::new(1, 2, 0));
        let again = Claim::parse(&signed.claim.to_string()).unwrap();
        assert_eq!(again, signed.claim, "what is written is what was read");
    }
    // Lines may end as on other systems.
    let crlf = pair.sign(FILE, COMMENT).replace('\n', "\r\n");
    assert!(judge(&keys, FILE, &crlf).is_ok());
}

#[test]
fn what_is_not_quite_signed_is_refused_and_says_why() {
    let (pair, other) = (Pair::new(), Pair::new());
    let trusted = keys(&[&pair.public()]);
    let good = pair.sign(FILE, COMMENT);
    let line = |n: usize| good.lines().nth(n).unwrap().to_owned();
    let with = |n: usize, text: &str| {
        let mut lines: Vec<_> = good.lines().collect();
        lines[n] = text;
        lines.join("\n")
    };
    let flipped = |n: usize, at: usize| {
        let mut bytes = line(n).into_bytes();
        bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
        with(n, std::str::from_utf8(&bytes).unwrap())
    };
    let newer = pair.sign(FILE, "fieldgate rule deadband 9.0.0");
    let other_file = pair.sign(b"another file", COMMENT);
    let third = |text: &str| text.lines().nth(2).unwrap().to_owned();
    let fourth = |text: &str| text.lines().nth(3).unwrap().to_owned();
    let legacy = line(1)
        .replacen("RUR", "RWR", 1)
        .replacen("RUQ", "RWQ", 1)
        .replacen("RUS", "RWS", 1)
        .replacen("RUT", "RWT", 1);
    #[rustfmt::skip]
    let cases: Vec<(&str, String, &[u8], &str, &str)> = vec![
        ("empty", String::new(), FILE, "W61", "it is empty"),
        ("blank", "\n\n\n\n".into(), FILE, "W61", "it is empty"),
        ("noise", "\u{1}\u{2}\u{3}".into(), FILE, "W61", "breaks off"),
        ("four lines of noise", "a\nb\nc\nd".into(), FILE, "W61", "comments are missing"),
        ("one line", line(0), FILE, "W61", "breaks off"),
        ("two lines", format!("{}\n{}", line(0), line(1)), FILE, "W61", "breaks off"),
        ("three lines", format!("{}\n{}\n{}", line(0), line(1), line(2)), FILE, "W61", "breaks off"),
        ("five lines", format!("{}\nmore", good.trim_end()), FILE, "W61", "goes on"),
        ("twice", format!("{}\n{good}", good.trim_end()), FILE, "W61", "goes on"),
        ("overlong", format!("{}{}", good, " ".repeat(limits::SIGNATURE_BYTES_MAX)), FILE, "W61", "longer than any"),
        ("no base64", with(1, "????"), FILE, "W61", "lines are not"),
        ("cut base64", with(1, &line(1)[..40]), FILE, "W61", "lines are not"),
        ("longer base64", with(1, &format!("{}AAAA", line(1))), FILE, "W61", "lines are not"),
        ("no second signature", with(3, ""), FILE, "W61", "breaks off"),
        ("cut second signature", with(3, &line(3)[..60]), FILE, "W61", "lines are not"),
        ("lines swapped", [line(2), line(3), line(0), line(1)].join("\n"), FILE, "W61", "comments are missing"),
        ("no trusted comment", with(2, "trusted comment:"), FILE, "W61", "comments are missing"),
        ("untrusted twice", with(2, &line(0)), FILE, "W61", "comments are missing"),
        ("unknown algorithm", with(1, &line(1).replacen('R', "X", 1)), FILE, "W61", "algorithm"),
        ("old form", with(1, &legacy), FILE, "W61", "old form"),
        ("another file", good.clone(), b"\0asm other", "W62", "was changed"),
        ("one byte more", good.clone(), b"\0asm not read by anybody\0", "W62", "was changed"),
        ("truncated file", good.clone(), b"\0asm not read by anybod", "W62", "was changed"),
        ("empty file", good.clone(), b"", "W62", "was changed"),
        ("signature of another file", other_file.clone(), FILE, "W62", "was changed"),
        ("first bit of the signature", flipped(1, 20), FILE, "W62", "was changed"),
        ("last bits of the signature", flipped(1, 90), FILE, "W62", "was changed"),
        ("bit of the second signature", flipped(3, 10), FILE, "W62", "was changed"),
        ("changed comment", with(2, "trusted comment: fieldgate rule deadband 9.0.0"), FILE, "W62", "was changed"),
        ("comment with a space more", with(2, &format!("{} ", line(2))), FILE, "W62", "was changed"),
        ("comment with a word more", with(2, &format!("{} allow-downgrade", line(2))), FILE, "W62", "was changed"),
        ("comment of another signature", with(2, &third(&newer)), FILE, "W62", "was changed"),
        ("comment and second signature of another", [line(0), line(1), third(&newer), fourth(&newer)].join("\n"), FILE, "W62", "was changed"),
        ("second signature of another file", with(3, &fourth(&other_file)), FILE, "W62", "was changed"),
        ("a stranger's", other.sign(FILE, COMMENT), FILE, "W62", "not trusted here"),
        ("a stranger's bytes with our key's name", with(1, &{
            let (mut ours, theirs) = (line(1), other.sign(FILE, COMMENT));
            // The identity is in the first 10 bytes; 16 characters hold 12.
            ours.replace_range(16.., &theirs.lines().nth(1).unwrap()[16..]);
            ours
        }), FILE, "W62", "was changed"),
    ];
    assert!(cases.len() >= 36);
    for (case, signature, bytes, code, words) in cases {
        let told = refusal(&trusted, bytes, &signature);
        assert!(told.starts_with(&format!("FG-{code}")) && told.contains(words), "{case}: {told}");
        assert!(told.contains("what ran before goes on"), "{case}: {told}");
        assert!(told.contains("Try:"), "{case}: {told}");
    }
    let told = trusted.verify("rule file a.wasm", FILE, None).unwrap_err().to_string();
    assert!(told.starts_with("FG-W60") && told.contains("rule sign"), "{told}");
    let told = refusal(&trusted, FILE, &other.sign(FILE, COMMENT));
    let ids = [&other, &pair].map(|pair| Key::parse(&pair.public()).unwrap().id);
    assert!(ids.iter().all(|id| told.contains(id)), "{told}");
}

#[test]
fn what_was_signed_for_others_or_for_another_time_is_refused_and_says_why() {
    let pair = Pair::new();
    let trusted = keys(&[&pair.public()]);
    #[rustfmt::skip]
    let cases = [
        ("fieldgate rule deadband 1.2.0 groups=south", "W63", "groups south"),
        ("fieldgate rule deadband 1.2.0 groups=pump,pumps2,Pumps", "W63", "Pumps"),
        ("fieldgate rule deadband 1.2.0 not-before=2026-11-22T10:00:01Z", "W64", "and later"),
        ("fieldgate rule deadband 1.2.0 not-before=2027-01-01", "W64", "and later"),
        ("fieldgate rule deadband 1.2.0 not-after=2026-11-22T09:59:59Z", "W64", "expired"),
        ("fieldgate rule deadband 1.2.0 not-after=2026-11-22", "W64", "expired"),
        ("fieldgate rule deadband 1.2.0 not-before=2026-01-01 not-after=2026-02-01", "W64", "expired"),
        ("", "W61", "does not begin"),
        ("timestamp:1795341600\tfile:deadband.wasm\tprehashed", "W61", "control characters"),
        ("timestamp:1795341600 file:deadband.wasm", "W61", "does not begin"),
        (" fieldgate rule deadband 1.2.0", "W61", "does not begin"),
        ("Fieldgate rule deadband 1.2.0", "W61", "does not begin"),
        ("fieldgate", "W61", "neither"),
        ("fieldgate bundle deadband 1.2.0", "W61", "neither"),
        ("fieldgate rule", "W61", "names no rule"),
        ("fieldgate rule  1.2.0", "W61", "names no rule"),
        ("fieldgate rule ../deadband 1.2.0", "W61", "names no rule"),
        ("fieldgate rule Deadband 1.2.0", "W61", "names no rule"),
        ("fieldgate rule -deadband 1.2.0", "W61", "names no rule"),
        ("fieldgate rule déadband 1.2.0", "W61", "names no rule"),
        ("fieldgate rule deadband", "W61", "no version"),
        ("fieldgate rule deadband 1", "W61", "no version"),
        ("fieldgate rule deadband 1.2", "W61", "no version"),
        ("fieldgate rule deadband v1.2.0", "W61", "no version"),
        ("fieldgate rule deadband 01.2.0", "W61", "no version"),
        ("fieldgate rule deadband 1.2.0.4", "W61", "no version"),
        ("fieldgate rule deadband 1.2.0+build", "W61", "build metadata"),
        ("fieldgate rule deadband 99999999999999999999.0.0", "W61", "no version"),
        ("fieldgate rule deadband 1.2.0 ", "W61", "two spaces"),
        ("fieldgate rule deadband 1.2.0  groups=pumps", "W61", "two spaces"),
        ("fieldgate rule deadband 1.2.0 group=pumps", "W61", "does not know"),
        ("fieldgate rule deadband 1.2.0 groups", "W61", "does not know"),
        ("fieldgate rule deadband 1.2.0 groups=", "W61", "empty"),
        ("fieldgate rule deadband 1.2.0 groups=a,,b", "W61", "empty"),
        ("fieldgate rule deadband 1.2.0 groups=pumps groups=south", "W61", "groups twice"),
        ("fieldgate rule deadband 1.2.0 allow-downgrade allow-downgrade", "W61", "twice"),
        ("fieldgate rule deadband 1.2.0 allow-downgrade=yes", "W61", "does not know"),
        ("fieldgate rule deadband 1.2.0 not-before=tomorrow", "W61", "no time"),
        ("fieldgate rule deadband 1.2.0 not-before=2026-13-01", "W61", "no time"),
        ("fieldgate rule deadband 1.2.0 not-after=2026-11-22T10:00", "W61", "no time"),
        ("fieldgate rule deadband 1.2.0 not-after=1969-12-31T23:59:59Z", "W61", "no time"),
        ("fieldgate rule deadband 1.2.0 not-before=2027-01-01 not-after=2026-01-01", "W61", "before it begins"),
        ("fieldgate rule deadband 1.2.0 capabilities=", "W61", "empty"),
        ("fieldgate want gw-1 0", "W61", "serial"),
        ("fieldgate want gw-1 -1", "W61", "serial"),
        ("fieldgate want gw-1 1.0.0", "W61", "serial"),
        ("fieldgate want gw/1 1", "W61", "no gateway"),
        ("fieldgate want gw-* 1", "W61", "no gateway"),
        ("fieldgate want gw-1 1 capabilities=log", "W61", "does not know"),
    ];
    for (comment, code, words) in cases {
        let told = refusal(&trusted, FILE, &pair.sign(FILE, comment));
        assert!(told.starts_with(&format!("FG-{code}")), "{comment}: {told}");
        assert!(told.contains(words), "{comment}: {told}");
    }
    let crowd = format!("{COMMENT} groups=pumps,{}", vec!["g"; limits::SIGNED_NAMES_MAX].join(","));
    assert!(refusal(&trusted, FILE, &pair.sign(FILE, &crowd)).contains("more than"));
    let long = format!("{COMMENT} groups={}", vec!["group"; 200].join(","));
    assert!(refusal(&trusted, FILE, &pair.sign(FILE, &long)).contains("bytes"));
    let name = "a".repeat(limits::RULE_NAME_BYTES_MAX + 1);
    let long = pair.sign(FILE, &format!("fieldgate rule {name} 1.0.0"));
    assert!(refusal(&trusted, FILE, &long).contains("names no rule"));
}

#[test]
fn a_key_for_some_rules_signs_no_others_and_no_desired_state() {
    let pair = Pair::new();
    let narrow = keys(&[&format!("{} rules=dead*,agg", pair.public())]);
    assert!(judge(&narrow, FILE, &pair.sign(FILE, "fieldgate rule agg 1.0.0")).is_ok());
    for comment in [
        "fieldgate rule aggregate 1.0.0",
        "fieldgate rule alive 1.0.0",
        "fieldgate want gw-1 1",
        "fieldgate want * 1",
    ] {
        let told = refusal(&narrow, FILE, &pair.sign(FILE, comment));
        assert!(told.starts_with("FG-W62") && told.contains("may not sign"), "{told}");
    }
}

#[test]
fn a_clock_that_is_not_set_judges_no_times_and_takes_what_has_none() {
    let pair = Pair::new();
    let trusted = keys(&[&pair.public()]);
    let here = Here { gateway: "gw-1", groups: &[], now: None };
    let judge = |comment: &str| {
        let signed = trusted.verify("it", FILE, Some(&pair.sign(FILE, comment))).unwrap();
        signed.is_for("it", &here).map_err(|notice| notice.to_string())
    };
    assert_eq!(judge(COMMENT), Ok(()));
    for word in ["not-before=2020-01-01", "not-after=2099-01-01"] {
        let told = judge(&format!("{COMMENT} {word}")).unwrap_err();
        assert!(told.starts_with("FG-W64") && told.contains("clock is not set"), "{told}");
    }
}

#[test]
fn a_key_that_is_none_says_what_one_is() {
    let pair = Pair::new().public();
    for (text, words) in [
        (String::new(), "56 characters"),
        ("RWQ".to_owned(), "56 characters"),
        (pair[..54].to_owned(), "56 characters"),
        (format!("{pair}A"), "56 characters"),
        (pair.replacen("RW", "XX", 1), "56 characters"),
        (format!("{pair} groups=a"), "is not known"),
        (format!("{pair} rules="), "is not known"),
        (format!("{pair} {pair}"), "is not known"),
    ] {
        let told = Key::parse(&text).unwrap_err();
        assert!(told.contains(words), "{text}: {told}");
    }
    assert_eq!(Key::parse(&pair).unwrap().id.len(), 16);
}

#[test]
fn debians_minisign_and_ours_sign_alike() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    let minisign = |arguments: &[&str]| {
        let ran = Command::new("minisign").args(arguments).output();
        let ran = ran.expect("minisign is not installed; tests/run installs it");
        (ran.status.success(), String::from_utf8_lossy(&ran.stdout).into_owned())
    };
    assert!(minisign(&["-G", "-W", "-p", &at("k.pub"), "-s", &at("k.key")]).0);
    std::fs::write(at("r.wasm"), FILE).unwrap();
    assert!(minisign(&["-S", "-s", &at("k.key"), "-m", &at("r.wasm"), "-t", COMMENT]).0);
    let public = std::fs::read_to_string(at("k.pub")).unwrap();
    let public = public.lines().nth(1).unwrap();
    let theirs = std::fs::read_to_string(at("r.wasm.minisig")).unwrap();
    let signed = judge(&keys(&[public]), FILE, &theirs).unwrap();
    assert_eq!(signed.claim.to_string(), COMMENT);
    let shown = std::fs::read_to_string(at("k.pub")).unwrap();
    // minisign writes the number of a key without zeros in front, in one of sixteen cases.
    let (words, number) = shown.lines().next().unwrap().rsplit_once(' ').unwrap();
    assert_eq!(format!("{number:0>16}"), signed.key, "{words}");

    let pair = Pair::new();
    std::fs::write(at("r.wasm.minisig"), pair.sign(FILE, COMMENT)).unwrap();
    let (good, said) = minisign(&["-V", "-P", &pair.public(), "-m", &at("r.wasm")]);
    assert!(good && said.contains(COMMENT), "{said}");
    std::fs::write(at("r.wasm"), b"changed").unwrap();
    assert!(!minisign(&["-V", "-P", &pair.public(), "-m", &at("r.wasm")]).0);
}
