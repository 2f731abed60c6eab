//! The socket as visitors meet it: real sockets in temporary folders.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::rules::{Done, Line, Order, Push, Rule};
use super::status::{Clock, Health, Status, Store};
use super::{Answer, ConfigOrder, Desk, Refusal, Server, Settings, Why};
use crate::events::Events;
use crate::limits;

/// A gateway that does well.
struct Calm;

impl Desk for Calm {
    fn configure(&self, order: ConfigOrder) -> Answer<'_, serde_json::Value> {
        Box::pin(async move {
            match order {
                ConfigOrder::Version { number: 0 } => {
                    Err(Refusal::new(Why::Unknown, crate::events::apply::no_version(0)))
                }
                order => Ok(serde_json::to_value(order).unwrap()),
            }
        })
    }

    fn status(&self) -> Status {
        Status {
            gateway: "gw".to_owned(),
            version: "0".to_owned(),
            config: "0123abcd".to_owned(),
            uptime_s: 1,
            pid: 1,
            health: Health::Good,
            clock: Clock { set: true, why: Some("synced".to_owned()), now_ms: 0 },
            standing: Vec::new(),
            store: Store {
                path: "buffer.db".to_owned(),
                epoch: 1,
                health: "good".to_owned(),
                disk_bytes: 0,
                uncommitted: 0,
                streams: Vec::new(),
            },
            uplinks: Vec::new(),
            sources: Vec::new(),
            rules: Vec::new(),
        }
    }

    fn rules(&self) -> Answer<'_, Vec<Rule>> {
        Box::pin(async { Ok(vec![Rule { rule: "smooth".to_owned(), ..Rule::default() }]) })
    }

    fn push(&self, push: Push) -> Answer<'_, Done> {
        Box::pin(async move {
            let signature = push.signature.unwrap_or_default();
            let stands = format!("{} bytes, {} of signature", push.file.len(), signature.len());
            Ok(Done { rule: push.to.unwrap_or_default(), version: None, stands })
        })
    }

    fn order(&self, rule: String, order: Order) -> Answer<'_, Done> {
        Box::pin(async move { Ok(Done { rule, version: None, stands: format!("{order:?}") }) })
    }

    fn rule_logs(&self, rule: String) -> Answer<'_, Vec<Line>> {
        let notice = crate::events::push::nothing_there(&rule, "is not configured");
        Box::pin(async { Err(Refusal::new(Why::Unknown, notice)) })
    }
}

fn open(path: &Path, events: &Events) -> Option<Server> {
    let settings = Settings { socket: path.to_owned(), is_asked_for: true };
    Server::open(&settings, Arc::new(Calm), events)
}

/// Sends `request` and returns all that comes back.
async fn ask(path: &Path, request: &str) -> String {
    let mut stream = UnixStream::connect(path).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    // A server that hangs up early resets what it had not read.
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8_lossy(&answer).into_owned()
}

const STATUS: &str = "GET /v1/status HTTP/1.1\r\nHost: x\r\n\r\n";

/// Runs `visit` beside the server at a path of its own.
async fn beside<T>(visit: impl AsyncFnOnce(&Path) -> T) -> T {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("api.sock");
    let events = Events::default();
    let server = open(&path, &events).unwrap();
    let stop = CancellationToken::new();
    let visiting = async {
        let seen = visit(&path).await;
        stop.cancel();
        seen
    };
    let ((), seen) = tokio::join!(server.serve(stop.clone()), visiting);
    assert!(!path.exists(), "the socket outlives its server");
    assert!(events.standing().is_empty());
    seen
}

#[tokio::test]
async fn the_status_is_json_and_the_socket_is_for_user_and_group() {
    let (mode, answer) = beside(async |path| {
        let mode = std::fs::metadata(path).unwrap().permissions().mode();
        (mode & 0o777, ask(path, STATUS).await)
    })
    .await;
    assert_eq!(mode, 0o660);
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let body = answer.split("\r\n\r\n").nth(1).unwrap();
    let status: Status = serde_json::from_str(body).unwrap();
    assert_eq!(status, Calm.status());
}

#[tokio::test]
async fn what_nobody_knows_is_refused_in_words() {
    beside(async |path| {
        for request in ["GET /v1/nothing", "DELETE /v1/status", "GET /", "PATCH /v1/rules"] {
            let answer = ask(path, &format!("{request} HTTP/1.1\r\nHost: x\r\n\r\n")).await;
            assert!(answer.starts_with("HTTP/1.1 404"), "{answer}");
            assert!(answer.contains("FG-A03") && answer.contains(request), "{answer}");
        }
    })
    .await;
}

#[tokio::test]
async fn what_the_router_cannot_read_is_refused_in_our_words_too() {
    beside(async |path| {
        let large = vec![b'a'; 2 * limits::CONFIG_BYTES_MAX + 1];
        let cases: [(&str, &[u8], &str, &str); 4] = [
            ("GET /v1/history/99999999999999999999999", b"", "400", "path or query"),
            ("GET /v1/rules/%ff/logs", b"", "400", "path or query"),
            ("PUT /v1/rules?to=a&to=b", b"x", "400", "path or query"),
            ("POST /v1/apply", &large, "413", "more than"),
        ];
        for (line, body, status, words) in cases {
            let answer = send(path, line, "", body).await;
            assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{line}: {answer}");
            assert!(
                answer.contains("\"code\":\"FG-A") && answer.contains(words),
                "{line}: {answer}"
            );
        }
    })
    .await;
}

#[tokio::test]
async fn noise_ends_its_own_connection_and_no_other() {
    beside(async |path| {
        let headers = "x: y\r\n".repeat(limits::API_HEADERS_MAX + 1);
        let crowded = format!("GET /v1/status HTTP/1.1\r\n{headers}\r\n");
        for noise in ["\r\n\r\n\r\n\u{0}\u{1}", "GET / HTTP/9.9\r\n\r\n", &crowded] {
            let answer = ask(path, noise).await;
            assert!(!answer.starts_with("HTTP/1.1 200"), "{answer}");
        }
        assert!(ask(path, STATUS).await.starts_with("HTTP/1.1 200"));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn visitors_that_say_nothing_are_sent_away_and_the_next_is_served() {
    beside(async |path| {
        let mut idle = Vec::new();
        for _ in 0..limits::API_VISITORS_MAX {
            idle.push(UnixStream::connect(path).await.unwrap());
        }
        let answer = timeout(limits::API_HEADER_TIME_MAX * 2, ask(path, STATUS)).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        for mut stream in idle {
            let mut rest = Vec::new();
            let ended = timeout(Duration::from_secs(1), stream.read_to_end(&mut rest)).await;
            assert!(ended.is_ok(), "a visitor who says nothing keeps its place");
        }
    })
    .await;
}

#[tokio::test]
async fn a_stale_socket_is_replaced_and_a_live_one_is_left() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("api.sock");
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    assert!(path.exists());
    let events = Events::default();
    let first = open(&path, &events).unwrap();
    assert!(events.standing().is_empty());

    assert!(open(&path, &events).is_none());
    let told = events.standing();
    assert!(told[0].notice.to_string().contains("another daemon"), "{told:?}");
    let stop = CancellationToken::new();
    let asked = async {
        let answer = ask(&path, STATUS).await;
        stop.cancel();
        answer
    };
    let ((), answer) = tokio::join!(first.serve(stop.clone()), asked);
    assert!(answer.starts_with("HTTP/1.1 200"), "the refused one took the socket: {answer}");
}

#[tokio::test]
async fn what_stands_in_the_way_is_told_and_left() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "precious").unwrap();
    let long = folder.path().join("s".repeat(120));
    let missing = folder.path().join("no/such/api.sock");
    for (path, words) in
        [(&file, "no socket is there"), (&long, "107 bytes"), (&missing, "folder does not exist")]
    {
        let events = Events::default();
        assert!(open(path, &events).is_none());
        let told = events.standing()[0].notice.to_string();
        assert!(told.contains("FG-A01") && told.contains(words), "{told}");
    }
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "precious");

    let events = Events::default();
    let settings = Settings { socket: missing, is_asked_for: false };
    assert!(Server::open(&settings, Arc::new(Calm), &events).is_none());
    assert!(events.standing().is_empty(), "a default that cannot be had is no trouble");
}

/// Asks with a body and headers; returns status and body.
async fn send(path: &Path, line: &str, headers: &str, body: &[u8]) -> String {
    let mut stream = UnixStream::connect(path).await.unwrap();
    let length = body.len();
    let head = format!("{line} HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n{headers}\r\n");
    let mut answer = Vec::new();
    let (mut from, mut to) = stream.split();
    let sending = async {
        // A server that has seen enough does not take the rest.
        let _ = to.write_all(head.as_bytes()).await;
        let _ = to.write_all(body).await;
    };
    let _ = tokio::join!(sending, from.read_to_end(&mut answer));
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn a_rule_comes_as_the_bytes_of_its_file_with_its_signature_in_a_header() {
    beside(async |path| {
        let header = "Fieldgate-Signature: Zm91cgpsaW5lcwo=\r\n";
        let answer = send(path, "PUT /v1/rules?to=smo%20oth", header, b"\0asm").await;
        assert!(answer.contains("\"smo oth\"") && answer.contains("4 bytes, 11 of"), "{answer}");
        let answer = send(path, "PUT /v1/rules", "", b"\0asm").await;
        assert!(answer.contains("4 bytes, 0 of signature"), "{answer}");
        for (order, said) in [
            ("enable", "Enable"),
            ("disable", "Disable"),
            ("promote", "Promote"),
            ("rollback", "RollBack"),
        ] {
            let answer = send(path, &format!("POST /v1/rules/smooth/{order}"), "", b"").await;
            assert!(answer.contains(said), "{answer}");
        }
        let answer = ask(path, "GET /v1/rules HTTP/1.1\r\nHost: x\r\n\r\n").await;
        assert!(answer.contains("\"rule\":\"smooth\""), "{answer}");
    })
    .await;
}

#[tokio::test]
async fn a_push_that_makes_no_sense_is_refused_in_words() {
    beside(async |path| {
        let long =
            format!("Fieldgate-Signature: {}\r\n", "QUFB".repeat(limits::SIGNATURE_BYTES_MAX));
        let large = vec![0; limits::API_BODY_BYTES_MAX + 1];
        #[rustfmt::skip]
        let cases: [(&str, &str, &[u8], &str, &str); 7] = [
            ("PUT /v1/rules", "Fieldgate-Signature: ????\r\n", b"x", "400", "no base64"),
            ("PUT /v1/rules", "Fieldgate-Signature: /////w==\r\n", b"x", "400", "no text"),
            ("PUT /v1/rules", &long, b"x", "400", "too long"),
            ("PUT /v1/rules", "", &large, "413", "more than"),
            ("POST /v1/rules/smooth/explode", "", b"", "404", "does not know"),
            ("GET /v1/rules/smooth/logs", "", b"", "404", "FG-W72"),
            ("DELETE /v1/rules", "", b"", "404", "FG-A03"),
        ];
        for (line, headers, body, status, words) in cases {
            let answer = send(path, line, headers, body).await;
            assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{line}: {answer}");
            assert!(answer.contains(words), "{line}: {answer}");
        }
    })
    .await;
}
