//! Desired states that are none, and files that do not come through.

use super::*;

fn file() -> Vec<u8> {
    (0..10_000_u32).map(|n| (n % 251) as u8).collect()
}

fn sent(chunk: usize) -> Sent {
    let version = Version::new(1, 2, 0);
    let edition = Edition { name: "aggregate".to_owned(), version, digest: digest(&file()) };
    let (signature, from) = ("four lines".to_owned(), From::Chunks(chunk));
    Sent { edition, size: file().len(), signature, from }
}

#[test]
fn what_is_written_is_what_is_read() {
    for from in [From::Chunks(65_536), From::Https("https://host/r.wasm".to_owned())] {
        let sent = Sent { from, ..sent(1024) };
        let wishes = parse(write("smooth", &sent).as_bytes()).unwrap();
        assert_eq!(wishes, [Wish { post: "smooth".to_owned(), file: Some(sent), enabled: None }]);
    }
    let off = parse(br#"{"rules":{"a":{"enabled":false},"b":{"enabled":true}}}"#).unwrap();
    assert_eq!(off.iter().map(|wish| wish.enabled).collect::<Vec<_>>(), [Some(false), Some(true)]);
    assert_eq!(parse(br#"{"rules":{}}"#).unwrap(), []);
}

#[test]
fn a_document_that_is_none_is_refused_and_says_why() {
    let good = write("smooth", &sent(65_536));
    let with = |old: &str, new: &str| {
        assert!(good.contains(old), "{old}");
        good.replace(old, new)
    };
    let digest = digest(&file());
    #[rustfmt::skip]
    let cases: Vec<(String, &str)> = vec![
        (String::new(), "no JSON"),
        ("\u{0}".to_owned(), "no JSON"),
        ("[]".to_owned(), "no object"),
        ("{}".to_owned(), "no rules"),
        ("{\"rules\":[]}".to_owned(), "rules is no object"),
        ("{\"rules\":{},\"more\":1}".to_owned(), "unknown key"),
        ("{\"rules\":{\"a\":1}}".to_owned(), "a is no object"),
        ("{\"rules\":{\"a\":{}}}".to_owned(), "wants nothing"),
        ("{\"rules\":{\"\":{\"enabled\":true}}}".to_owned(), "no name"),
        ("{\"rules\":{\"a\":{\"enabled\":1}}}".to_owned(), "neither true nor false"),
        (good[..good.len() - 1].to_owned(), "no JSON"),
        (format!("{good}{good}"), "no JSON"),
        (with("\"aggregate\"", "\"../x\""), "names no rule"),
        (with("\"aggregate\"", "7"), "no name"),
        (with("1.2.0", "1.2"), "no version"),
        (with("1.2.0", "1.2.0+b"), "no version"),
        (with(&digest, "abc"), "no SHA-256"),
        (with(&digest, &digest.to_uppercase()), "no SHA-256"),
        (with("\"size\":10000", "\"size\":0"), "no size"),
        (with("\"size\":10000", "\"size\":-1"), "no size"),
        (with("\"size\":10000", "\"size\":1e4"), "no size"),
        (with("\"size\":10000", &format!("\"size\":{}", limits::RULE_FILE_BYTES_MAX + 1)), "no size"),
        (with("four lines", &"s".repeat(limits::SIGNATURE_BYTES_MAX + 1)), "overlong signature"),
        (with("\"signature\":\"four lines\",", ""), "no signature"),
        (with("65536", "1"), "chunks of other"),
        (with("65536", "10000000"), "chunks of other"),
        (with("{\"chunk\":65536}", "{}"), "one place"),
        (with("{\"chunk\":65536}", "{\"chunk\":65536,\"https\":\"https://h/\"}"), "one place"),
        (with("{\"chunk\":65536}", "{\"ftp\":\"ftp://h/\"}"), "unknown key"),
        (with("{\"chunk\":65536}", "{\"https\":\"http://h/\"}"), "no address"),
        (with("{\"chunk\":65536}", "{\"https\":\"https://h/ x\"}"), "no address"),
        (with("{\"chunk\":65536}", "{\"https\":7}"), "no address"),
        (with("\"version\"", "\"versoin\""), "unknown key"),
    ];
    for (text, words) in cases {
        let told = parse(text.as_bytes()).unwrap_err();
        assert!(told.contains(words), "{text}: {told}");
    }
    let crowd: Vec<_> =
        (0..=limits::RULES_MAX).map(|n| format!("\"r{n}\":{{\"enabled\":true}}")).collect();
    let crowd = format!("{{\"rules\":{{{}}}}}", crowd.join(","));
    assert!(parse(crowd.as_bytes()).unwrap_err().contains("more than"));
}

#[test]
fn a_payload_is_four_lines_and_the_bytes_behind_them() {
    assert_eq!(split(b"a\nb\nc\nd\n{}\n"), Ok(("a\nb\nc\nd\n", &b"{}\n"[..])));
    for (payload, words) in [
        (b"".to_vec(), "four lines"),
        (b"{\"rules\":{}}".to_vec(), "four lines"),
        (b"a\nb\nc\n{}".to_vec(), "four lines"),
        (vec![b'a'; limits::SIGNATURE_BYTES_MAX + 9], "four lines"),
        (b"\xff\nb\nc\nd\n{}".to_vec(), "no text"),
        (vec![b'\n'; limits::WANT_BYTES_MAX + 1], "too large"),
    ] {
        assert!(split(&payload).unwrap_err().contains(words));
    }
}

#[test]
fn chunks_come_in_any_order_and_twice_and_make_the_file() {
    let (file, sent) = (file(), sent(1024));
    let mut assembly = Assembly::new(&sent, 1024);
    let chunks: Vec<_> = file.chunks(1024).collect();
    assert_eq!(assembly.chunks(), chunks.len());
    for (number, chunk) in chunks.iter().enumerate().rev().filter(|(number, _)| number % 2 == 0) {
        assert_eq!(assembly.take(number, chunk), Chunk::New);
        assert_eq!(assembly.take(number, chunk), Chunk::Again);
        // What comes later under the same number does not replace it.
        assert_eq!(assembly.take(number, &vec![0; chunk.len()]), Chunk::Again);
    }
    assert_eq!(assembly.missing(100), [1, 3, 5, 7, 9]);
    assert_eq!(assembly.missing(2), [1, 3]);
    for (number, chunk) in chunks.iter().enumerate() {
        assembly.take(number, chunk);
    }
    assert!(assembly.is_whole());
    assert_eq!(assembly.finish().unwrap(), file);
}

#[test]
fn a_file_that_does_not_come_through_whole_is_refused_and_says_why() {
    let (file, sent) = (file(), sent(1024));
    let chunks: Vec<_> = file.chunks(1024).collect();
    let whole = || {
        let mut assembly = Assembly::new(&sent, 1024);
        for (number, chunk) in chunks.iter().enumerate() {
            assembly.take(number, chunk);
        }
        assembly
    };
    assert!(whole().finish().is_ok());

    let mut missing = Assembly::new(&sent, 1024);
    for (number, chunk) in chunks.iter().enumerate().skip(1) {
        missing.take(number, chunk);
    }
    assert!(missing.finish().unwrap_err().contains("1 of 10 chunks are missing, the first is 0"));

    let mut swapped = Assembly::new(&sent, 1024);
    for (number, chunk) in chunks.iter().take(9).enumerate() {
        swapped.take([1, 0, 2, 3, 4, 5, 6, 7, 8][number], chunk);
    }
    swapped.take(9, chunks[9]);
    assert!(swapped.finish().unwrap_err().contains("should be"), "two chunks changed places");

    let mut assembly = Assembly::new(&sent, 1024);
    assert_eq!(assembly.take(10, chunks[0]), Chunk::Beyond);
    assert_eq!(assembly.take(usize::MAX, chunks[0]), Chunk::Beyond);
    assert_eq!(assembly.take(0, chunks[9]), Chunk::WrongLength);
    assert_eq!(assembly.take(9, chunks[0]), Chunk::WrongLength);
    assert_eq!(assembly.take(0, b""), Chunk::WrongLength);
    assert_eq!(assembly.take(0, &file), Chunk::WrongLength);
    assert_eq!(assembly.missing(1), [0], "what was refused left no mark");
}
