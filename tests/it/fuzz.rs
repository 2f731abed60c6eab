//! The fuzzers' corpus, replayed: every input that once taught them something, and every seed.

use std::path::Path;

#[path = "../../fuzz/targets.rs"]
pub mod targets;

/// Runs a target over the files of its corpus, and over each of them cut short and with bits turned.
fn replay(name: &str) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(name);
    let (_, target) = targets::ALL.iter().find(|(known, _)| *known == name).unwrap();
    let mut inputs = 0;
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
        inputs += 1;
    }
    assert!(inputs > 0, "{} is empty", folder.display());
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
    batch_decode batch_round_trip chunk_decode coap_body coap_datagram config_file modbus_frame
    mqtt_session rule_host rule_manifest rule_signature rule_want senml_cbor senml_json
    serial_frames serial_parse uplink_ack zigbee2mqtt
}
