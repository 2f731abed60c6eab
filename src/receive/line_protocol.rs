//! Line protocol over HTTP: InfluxDB, VictoriaMetrics, QuestDB and what else takes `/write`.
//!
//! There is no ledger on the other side. A batch that comes twice writes the same values to the same
//! series and times again, which these servers keep once; that is all the deduplication there is,
//! and it costs the readings of a point that share a millisecond: the last one stays.
//!
//! A request carries whole batches up to a size, and a larger batch is divided. A server that answers
//! 4xx to a request of several batches is asked about each of them alone, so that one batch it does
//! not like does not take its neighbours with it. What it refuses alone is refused for good: the
//! usual case, a field of another type, will not get better. Such a batch may be stored in part.

mod http;
mod lines;

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use hyper::StatusCode;
use rustls::ClientConfig;

use self::http::{Address, Client, Trouble};
use super::sink::{Away, Delivery, Sink, Verdict};
use crate::events::{Notice, receive as say};
use crate::limits;

/// Posts lines to one server.
pub(super) struct LineProtocol {
    client: Client,
    /// Host and port, as people are told.
    subject: String,
}

/// Batches of a slice as lines, ready to be divided into requests.
struct Text {
    lines: String,
    /// Where the lines of each batch stand; `None` for one that is refused already.
    places: Vec<Option<Range<usize>>>,
}

/// What a server said to one request.
enum Answer {
    Taken,
    /// It will never take this, and why.
    Refused(String),
}

impl LineProtocol {
    /// Prepares a sink; connects to nothing.
    ///
    /// # Errors
    /// Says what is wrong with the URL, without repeating it: it may hold a password.
    pub(super) fn new(
        url: &str,
        token: Option<String>,
        tls: impl FnOnce() -> Result<Arc<ClientConfig>, String>,
    ) -> Result<Self, String> {
        let mut address = address(url)?;
        if url.starts_with("https://") {
            address.tls = Some(tls()?);
        }
        if let Some(token) = token {
            // InfluxDB 2's own scheme; the others take any.
            address.authorization = Some(format!("Token {token}"));
        }
        let subject = format!("line protocol {}:{}", address.host, address.port);
        Ok(Self { client: Client::new(address), subject })
    }

    async fn post(&mut self, lines: &str) -> Result<Answer, Away> {
        let away = |notice: Notice| Away(Box::new(notice));
        let answered = self.client.post(Bytes::copy_from_slice(lines.as_bytes())).await;
        let (status, text) =
            answered.map_err(|trouble| away(say::not_posted(&self.subject, &seen(&trouble))))?;
        let text: String = text.trim().chars().take(200).filter(|c| !c.is_control()).collect();
        match status {
            status if status.is_success() => Ok(Answer::Taken),
            StatusCode::BAD_REQUEST | StatusCode::UNPROCESSABLE_ENTITY => {
                Ok(Answer::Refused(format!("the server answers {}: {text}", status.as_u16())))
            }
            status => Err(away(say::post_refused(&self.subject, status.as_u16(), &text))),
        }
    }

    /// Posts the lines of one batch, in pieces when they are many.
    async fn post_one(&mut self, lines: &str) -> Result<Answer, Away> {
        let mut rest = lines;
        while !rest.is_empty() {
            let (piece, behind) = rest.split_at(piece(rest));
            rest = behind;
            if let Answer::Refused(why) = self.post(piece).await? {
                return Ok(Answer::Refused(why));
            }
        }
        Ok(Answer::Taken)
    }

    async fn store_all(&mut self, slice: &[Delivery]) -> Result<Vec<Verdict>, Away> {
        let text = Text::of(slice);
        let mut verdicts: Vec<Verdict> = text.places.iter().map(Text::verdict).collect();
        for batches in text.requests() {
            let whole = text.span(&batches);
            if batches.len() > 1 && matches!(self.post(whole).await?, Answer::Taken) {
                continue;
            }
            for batch in batches {
                let Some(place) = text.places[batch].clone() else { continue };
                if let Answer::Refused(why) = self.post_one(&text.lines[place]).await? {
                    verdicts[batch] = Verdict::Refused(why);
                }
            }
        }
        Ok(verdicts)
    }
}

impl Sink for LineProtocol {
    fn reach(&mut self) -> BoxFuture<'_, Result<(), Away>> {
        Box::pin(async move {
            let reached = self.client.reach().await;
            reached
                .map_err(|trouble| Away(Box::new(say::not_posted(&self.subject, &seen(&trouble)))))
        })
    }

    fn store<'a>(&'a mut self, slice: &'a [Delivery]) -> BoxFuture<'a, Result<Vec<Verdict>, Away>> {
        Box::pin(self.store_all(slice))
    }
}

impl Text {
    fn of(slice: &[Delivery]) -> Self {
        let mut text = Self { lines: String::new(), places: Vec::with_capacity(slice.len()) };
        for delivery in slice {
            let start = text.lines.len();
            if lines::write(&delivery.batch, &mut text.lines).is_ok() {
                text.places.push(Some(start..text.lines.len()));
            } else {
                text.lines.truncate(start);
                text.places.push(None);
            }
        }
        text
    }

    fn verdict(place: &Option<Range<usize>>) -> Verdict {
        match place {
            Some(_) => Verdict::Stored,
            None => Verdict::Refused("a time in it does not fit 64 bits of nanoseconds".into()),
        }
    }

    /// Divides the batches into requests of a size; one that is larger has a request of its own.
    fn requests(&self) -> Vec<Range<usize>> {
        let mut requests: Vec<Range<usize>> = Vec::new();
        let mut bytes = 0;
        for (batch, place) in self.places.iter().enumerate() {
            let more = place.as_ref().map_or(0, Range::len);
            match requests.last_mut() {
                Some(last) if bytes + more <= limits::LINE_PROTOCOL_BODY_BYTES_MAX => {
                    last.end = batch + 1;
                    bytes += more;
                }
                _ => {
                    requests.push(batch..batch + 1);
                    bytes = more;
                }
            }
        }
        requests
    }

    /// Returns the lines of neighbouring batches. Refused ones left none.
    fn span(&self, batches: &Range<usize>) -> &str {
        let mut places = self.places[batches.clone()].iter().flatten();
        let Some(first) = places.next() else { return "" };
        let end = places.next_back().map_or(first.end, |last| last.end);
        &self.lines[first.start..end]
    }
}

/// Returns the length of the first piece of `lines` that fits a request, to the end of a line.
fn piece(lines: &str) -> usize {
    if lines.len() <= limits::LINE_PROTOCOL_BODY_BYTES_MAX {
        return lines.len();
    }
    let fits = &lines.as_bytes()[..limits::LINE_PROTOCOL_BODY_BYTES_MAX];
    let newline = |part: &[u8]| part.iter().rposition(|byte| *byte == b'\n');
    let first = || lines.bytes().position(|byte| byte == b'\n');
    newline(fits).or_else(first).map_or(lines.len(), |at| at + 1)
}

/// Says what was seen of a server that did not answer.
fn seen(trouble: &Trouble) -> String {
    use std::io::ErrorKind;
    match trouble {
        Trouble::Unreached(ErrorKind::ConnectionRefused) => "nothing listens there".into(),
        Trouble::Unreached(_) => "there is no way to it, or its name has no address".into(),
        Trouble::Tls(why) => why.clone(),
        Trouble::Silent => "it did not answer in time".into(),
        Trouble::Broken => "it ended the connection without an answer".into(),
    }
}

/// Reads `http[s]://[user:password@]host[:port]/path?query`. Without a path it is `/write`.
fn address(url: &str) -> Result<Address, String> {
    let form = "http[s]://[user:password@]host[:port]/write?db=..";
    let wrong = |why: &str| format!("{why}; the form is {form}");
    let (rest, usual) = match (url.strip_prefix("http://"), url.strip_prefix("https://")) {
        (Some(rest), _) => (rest, 80),
        (_, Some(rest)) => (rest, 443),
        _ => return Err(wrong("only http:// and https:// are known")),
    };
    let (place, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    let (who, place) = match place.rsplit_once('@') {
        Some((who, place)) => (Some(who), place),
        None => (None, place),
    };
    let (host, port) = match place.rfind(':') {
        Some(at) if !place.ends_with(']') => {
            let port = place[at + 1..].parse().ok().filter(|port| *port != 0);
            (&place[..at], port.ok_or_else(|| wrong("the port is no number from 1 to 65535"))?)
        }
        _ => (place, usual),
    };
    let host = host.trim_matches(['[', ']']);
    let odd = |c: char| c.is_whitespace() || c.is_control();
    if host.is_empty() || url.contains(odd) {
        return Err(wrong("the host is missing, or a blank stands in it"));
    }
    let path = match path {
        "" | "/" => "/write".to_owned(),
        query if query.starts_with('?') => format!("/write{query}"),
        path => path.to_owned(),
    };
    let authorization = who.map(|who| format!("Basic {}", base64(who.as_bytes())));
    Ok(Address { host: host.to_owned(), port, tls: None, path, authorization })
}

/// Base 64 (RFC 4648, section 4), for the one header that wants it.
fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for three in bytes.chunks(3) {
        let part = |at: usize| u32::from(three.get(at).copied().unwrap_or(0));
        let all = part(0) << 16 | part(1) << 8 | part(2);
        for place in 0..4 {
            let letter = LETTERS[(all >> (18 - 6 * place)) as usize & 63];
            text.push(if place > three.len() { '=' } else { letter.into() });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_taken_apart() {
        let plain = address("http://h:8086/write?db=x").unwrap();
        assert_eq!((plain.host.as_str(), plain.port), ("h", 8086));
        assert_eq!((plain.path.as_str(), plain.authorization), ("/write?db=x", None));
        let full = address("https://me:secret@[::1]").unwrap();
        assert_eq!((full.host.as_str(), full.port, full.path.as_str()), ("::1", 443, "/write"));
        assert_eq!(full.authorization.as_deref(), Some("Basic bWU6c2VjcmV0"));
        assert_eq!(address("http://h?db=x").unwrap().path, "/write?db=x");
        for bad in ["h", "ftp://h", "http://", "http://h:0", "http://h/a b"] {
            assert!(address(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn base64_is_that_of_the_rfc() {
        let cases =
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg==")];
        for (plain, coded) in cases {
            assert_eq!(base64(plain.as_bytes()), coded);
        }
    }

    #[test]
    fn requests_hold_whole_batches_and_large_ones_are_cut_between_lines() {
        let max = limits::LINE_PROTOCOL_BODY_BYTES_MAX;
        let lengths = [max / 2, max / 2, 10, 3 * max, 10];
        let mut start = 0;
        let places = lengths.map(|length| {
            start += length;
            Some(start - length..start)
        });
        let text = Text { lines: "x".repeat(start), places: places.into() };
        assert_eq!(text.requests(), [0..2, 2..3, 3..4, 4..5]);
        assert_eq!(text.span(&(0..2)).len(), max);
        let line = format!("{}\n", "x".repeat(99));
        let lines = line.repeat(max / 50);
        assert_eq!(piece(&lines), max / 100 * 100);
        assert_eq!(piece(&"x".repeat(max + 5)), max + 5);
    }
}
