//! The fuzzers' corpus, replayed: every input that once taught them something, and every seed.

use std::path::Path;
use std::time::{Duration, Instant};

#[path = "../../fuzz/targets.rs"]
pub mod targets;

/// Runs a target over the files of its corpus, and over each of them cut short and with bits turned.
fn replay(name: &str) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(name);
    let (_, target) = targets::ALL.iter().find(|(known, _)| *known == name).unwrap();
    let mut inputs = Vec::new();
    for entry in std::fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        let input = std::fs::read(&path).unwrap();
        let input = input.as_slice();
        // A panic names the line it came from, not the file that caused it.
        let run = || target(input);
        assert!(std::panic::catch_unwind(run).is_ok(), "{} breaks {name}", path.display());
        let step = (input.len() / 64).max(1);
        for at in (0..input.len()).step_by(step) {
            target(&input[..at]);
            let mut turned = input.to_vec();
            turned[at] ^= 1 << (at % 8);
            target(&turned);
        }
        inputs.push(input.to_vec());
    }
    assert!(!inputs.is_empty(), "{} is empty", folder.display());
    let seconds = std::env::var("FIELDGATE_FUZZ_SECONDS").ok().and_then(|text| text.parse().ok());
    if let Some(seconds) = seconds {
        wander(name, *target, inputs, Duration::from_secs(seconds));
    }
}

/// Goes on with inputs that nobody wrote: those of the corpus, changed and mixed at random. It is blind
/// where libFuzzer sees, and needs no build of its own. What breaks the target is kept.
fn wander(name: &str, target: fn(&[u8]), corpus: Vec<Vec<u8>>, time: Duration) {
    let (begun, mut dice, mut count) = (Instant::now(), Dice(0x9e37_79b9_7f4a_7c15), 0_u64);
    let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap();
    dice.0 ^= u64::from(now.subsec_nanos()) << 20 ^ now.as_secs();
    while begun.elapsed() < time {
        let mut input = corpus[dice.below(corpus.len())].clone();
        for _ in 0..=dice.below(8) {
            dice.change(&mut input, &corpus);
        }
        let run = || target(&input);
        if std::panic::catch_unwind(run).is_err() {
            let kept = std::env::temp_dir().join(format!("fieldgate-{name}-{count}"));
            std::fs::write(&kept, &input).unwrap();
            panic!("{} breaks {name}", kept.display());
        }
        count += 1;
    }
    println!("{name}: {count} inputs in {} s", time.as_secs());
}

/// xorshift64*: random enough to wander.
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % end.max(1)
    }

    fn byte(&mut self) -> u8 {
        u8::try_from(self.below(256)).unwrap()
    }

    fn change(&mut self, input: &mut Vec<u8>, corpus: &[Vec<u8>]) {
        let at = self.below(input.len() + 1);
        let end = (at + self.below(32)).min(input.len());
        match self.below(7) {
            0 => drop(input.drain(at..end)),
            1 => drop(input.splice(at..at, (0..end - at).map(|_| 0_u8).collect::<Vec<_>>())),
            2 => {
                let other = &corpus[self.below(corpus.len())];
                let from = self.below(other.len() + 1);
                let to = (from + self.below(64)).min(other.len());
                drop(input.splice(at..end, other[from..to].to_vec()));
            }
            3 => {
                let twice = input[at..end].to_vec();
                drop(input.splice(at..at, twice));
            }
            4 => input[at..end]
                .iter_mut()
                .for_each(|byte| *byte = [0, 1, 0x7f, 0x80, 0xff][self.below(5)]),
            5 if at < input.len() => input[at] = self.byte(),
            _ if at < input.len() => input[at] ^= 1 << self.below(8),
            _ => input.push(self.byte()),
        }
        input.truncate(64 * 1024);
    }
}

/// One test a target, so that a failure names it, and a list that must be all of them.
macro_rules! replayed {
    ($($target:ident)*) => {
        $(#[test] fn $target() { replay(stringify!($target)); })*

        #[test]
        fn every_target_is_replayed() {
            let names = [$(stringify!($target)),*];
            let all = targets::ALL.map(|(name, _)| name);
            assert_eq!(names.as_slice(), all);
            let manifest = include_str!("../../fuzz/Cargo.toml");
            assert!(names.iter().all(|name| manifest.contains(&format!("name = \"{name}\""))));
        }
    };
}

replayed! {
    batch_body batch_decode batch_redate batch_round_trip chunk_decode coap_body coap_datagram
    config_file modbus_frame mqtt_session receive_message rule_host rule_manifest rule_signature
    rule_want senml_cbor senml_json serial_frames serial_parse store_wreck uplink_ack
    zigbee2mqtt
}
