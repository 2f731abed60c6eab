//! A rule's file from an HTTPS address that a signed desired state names. The bytes are nobody's to
//! trust before their digest was compared, so all there is to do here is to bound them: size, time,
//! redirects, and HTTPS at every step.

use std::sync::Arc;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::client::conn::http1::handshake;
use hyper::header::{ACCEPT, HOST, LOCATION, USER_AGENT};
use hyper::{Request, Response, StatusCode, Uri, body::Incoming};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::limits;
use crate::mqtt::{Tls, tls_configuration};

/// Fetches a file of exactly `size` bytes.
///
/// # Errors
/// Why it cannot be had, in words that complete "did not come through:".
pub async fn fetch(url: &str, size: usize) -> Result<Vec<u8>, String> {
    let system = Tls { ca: None, client: None };
    let config = tls_configuration(&system, None)
        .map_err(|_| "the system's certificate authorities cannot be read".to_owned())?;
    fetch_with(url, size, config).await
}

/// As [`fetch`], with other authorities.
pub(super) async fn fetch_with(
    url: &str,
    size: usize,
    config: Arc<rustls::ClientConfig>,
) -> Result<Vec<u8>, String> {
    let work = async {
        let mut at = url.to_owned();
        for _ in 0..=limits::FETCH_REDIRECTS_MAX {
            let uri = parse(&at)?;
            match get(&uri, size, Arc::clone(&config)).await? {
                Got::File(bytes) => return Ok(bytes),
                Got::Elsewhere(to) => at = resolve(&uri, &to)?,
            }
        }
        Err(format!("it was sent on more than {} times", limits::FETCH_REDIRECTS_MAX))
    };
    match timeout(limits::FETCH_TIME_MAX, work).await {
        Ok(done) => done,
        Err(_) => Err(format!("it took more than {} s", limits::FETCH_TIME_MAX.as_secs())),
    }
}

enum Got {
    File(Vec<u8>),
    Elsewhere(String),
}

fn parse(url: &str) -> Result<Uri, String> {
    let uri: Uri = url.parse().map_err(|_| format!("{url:?} is no address"))?;
    let named = uri.authority().is_some_and(|authority| !authority.as_str().contains('@'));
    if uri.scheme_str() != Some("https") || !named {
        return Err(format!("{url:?} is no https:// address"));
    }
    Ok(uri)
}

/// Where a redirect leads: a whole address, or a path on the same host (RFC 9110, section 10.2.2).
fn resolve(from: &Uri, to: &str) -> Result<String, String> {
    if to.len() > limits::FETCH_URL_BYTES_MAX {
        return Err("it was sent on to an overlong address".to_owned());
    }
    match from.authority() {
        Some(authority) if to.starts_with('/') && !to.starts_with("//") => {
            Ok(format!("https://{authority}{to}"))
        }
        _ => Ok(to.to_owned()),
    }
}

async fn get(uri: &Uri, size: usize, config: Arc<rustls::ClientConfig>) -> Result<Got, String> {
    let host = uri.host().unwrap_or_default();
    let bare = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    let unreached = |what: &str| format!("{host} {what}");
    let stream = TcpStream::connect((bare.as_str(), uri.port_u16().unwrap_or(443)))
        .await
        .map_err(|_| unreached("cannot be reached"))?;
    let name = ServerName::try_from(bare).map_err(|_| unreached("is no name of a host"))?;
    let stream = TlsConnector::from(config)
        .connect(name, stream)
        .await
        .map_err(|_| unreached("has no certificate that this system trusts"))?;
    let broken = |_| format!("{host} broke off");
    let (mut sender, connection) = handshake(TokioIo::new(stream)).await.map_err(broken)?;
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let request = Request::get(path)
        .header(HOST, uri.authority().map_or(host, |authority| authority.as_str()))
        .header(USER_AGENT, concat!("fieldgate/", env!("CARGO_PKG_VERSION")))
        .header(ACCEPT, "application/wasm, */*")
        .body(Empty::<Bytes>::new())
        .map_err(|_| format!("{path:?} cannot be asked for"))?;
    let answer = async {
        let answer = sender.send_request(request).await.map_err(broken)?;
        read(answer, host, size).await
    };
    let mut answer = std::pin::pin!(answer);
    tokio::select! {
        biased;
        answer = &mut answer => answer,
        // The connection may end with the answer still in the buffers.
        _ = connection => answer.await,
    }
}

async fn read(answer: Response<Incoming>, host: &str, size: usize) -> Result<Got, String> {
    match answer.status() {
        StatusCode::OK => {}
        status if status.is_redirection() => {
            let to = answer.headers().get(LOCATION).and_then(|to| to.to_str().ok());
            let to = to.ok_or_else(|| format!("{host} sends on and does not say where"))?;
            return Ok(Got::Elsewhere(to.to_owned()));
        }
        status => return Err(format!("{host} answers with status {}", status.as_u16())),
    }
    let body = Limited::new(answer.into_body(), size).collect().await;
    let bytes = body.map_err(|_| format!("{host} sends more than {size} bytes, or broke off"))?;
    let bytes = bytes.to_bytes();
    if bytes.len() == size {
        return Ok(Got::File(bytes.to_vec()));
    }
    Err(format!("{host} sends {} bytes; it has {size}", bytes.len()))
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;
    use tokio_rustls::TlsAcceptor;

    use super::*;

    /// A server on the loopback that answers each connection with the next of `answers`.
    async fn fetch_from(answers: &[&str], size: usize) -> Result<Vec<u8>, String> {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        let key = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der());
        let certificate = made.cert.der().clone();
        let server = rustls::ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.clone()], key.unwrap())
            .unwrap();
        let mut roots = rustls::RootCertStore::empty();
        roots.add(certificate).unwrap();
        let client =
            rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let acceptor = TlsAcceptor::from(Arc::new(server));
        let serve = async {
            for answer in answers {
                let (stream, _) = listener.accept().await.unwrap();
                let Ok(mut stream) = acceptor.accept(stream).await else { continue };
                let mut request = [0; 1024];
                let _ = stream.read(&mut request).await;
                let answer = answer.replace("PORT", &port.to_string());
                let _ = stream.write_all(answer.as_bytes()).await;
                let _ = stream.shutdown().await;
            }
            std::future::pending::<()>().await;
        };
        let url = format!("https://localhost:{port}/rule.wasm");
        tokio::select! {
            () = serve => unreachable!(),
            got = fetch_with(&url, size, Arc::new(client)) => got,
        }
    }

    #[tokio::test]
    async fn a_file_of_the_right_size_comes_also_from_where_it_was_sent_on() {
        let file = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nrule";
        assert_eq!(fetch_from(&[file], 4).await.unwrap(), b"rule");
        let path = "HTTP/1.1 302 Found\r\nLocation: /there\r\nContent-Length: 0\r\n\r\n";
        let whole = "HTTP/1.1 301 Moved\r\nLocation: https://localhost:PORT/there\r\nContent-Length: 0\r\n\r\n";
        assert_eq!(fetch_from(&[path, whole, file], 4).await.unwrap(), b"rule");
    }

    #[tokio::test]
    async fn what_is_not_that_file_is_refused_and_says_why() {
        let on = "HTTP/1.1 302 Found\r\nLocation: /on\r\nContent-Length: 0\r\n\r\n";
        let plain =
            "HTTP/1.1 302 Found\r\nLocation: http://localhost/r\r\nContent-Length: 0\r\n\r\n";
        for (answers, words) in [
            (&["HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nrules"][..], "more than 4 bytes"),
            (&["HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nrul"], "3 bytes; it has 4"),
            (&["HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nru"], "broke off"),
            (&["HTTP/1.1 200 OK\r\n\r\n"], "0 bytes; it has 4"),
            (&["HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"], "status 404"),
            (&["HTTP/1.1 302 Found\r\nContent-Length: 0\r\n\r\n"], "does not say where"),
            (&[plain], "no https://"),
            (&[on, on, on, on, on], "more than 4 times"),
            (&["noise\r\n\r\n"], "broke off"),
        ] {
            let told = fetch_from(answers, 4).await.unwrap_err();
            assert!(told.contains(words), "{words}: {told}");
        }
        let told = fetch("https://user@localhost/r", 4).await.unwrap_err();
        assert!(told.contains("no https://"), "{told}");
    }
}
