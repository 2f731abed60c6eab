//! One connection to an HTTP server, kept from request to request. A request that is given up half
//! way takes its connection with it.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1::{Connection, SendRequest, handshake};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST, USER_AGENT};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::limits;
use crate::mqtt::Wire;
use crate::receive::tls;

/// Where to post to.
#[derive(Debug, Clone)]
pub(super) struct Address {
    pub(super) host: String,
    pub(super) port: u16,
    /// TLS, for `https://`.
    pub(super) tls: Option<Arc<ClientConfig>>,
    /// Path and query.
    pub(super) path: String,
    /// The `Authorization` header.
    pub(super) authorization: Option<String>,
}

/// Why no answer came.
#[derive(Debug)]
pub(super) enum Trouble {
    /// There is no way to the server, for this reason.
    Unreached(io::ErrorKind),
    /// TLS was not agreed on, and why.
    Tls(String),
    /// Nothing came within [`limits::LINE_PROTOCOL_TIME_MAX`].
    Silent,
    /// The connection ended before an answer, or what came is no HTTP.
    Broken,
}

type Link = (SendRequest<Full<Bytes>>, Connection<TokioIo<Box<dyn Wire>>, Full<Bytes>>);

/// Posts bodies.
pub(super) struct Client {
    address: Address,
    link: Option<Link>,
}

impl Client {
    pub(super) fn new(address: Address) -> Self {
        Self { address, link: None }
    }

    /// Connects, when there is no connection yet, and keeps it for the first body.
    pub(super) async fn reach(&mut self) -> Result<(), Trouble> {
        if self.link.is_none() {
            let connected = timeout(limits::SINK_REACH_TIME_MAX, self.address.connect()).await;
            self.link = Some(connected.map_err(|_| Trouble::Silent)??);
        }
        Ok(())
    }

    /// Posts a body; returns the answer's status and the beginning of its text.
    pub(super) async fn post(&mut self, body: Bytes) -> Result<(StatusCode, String), Trouble> {
        let (address, kept) = (&self.address, self.link.take());
        let work = async {
            // A server closes a connection that was idle; that shows with the first request after.
            if let Some(link) = kept
                && let Ok(done) = exchange(link, address.request(body.clone())?).await
            {
                return Ok(done);
            }
            exchange(address.connect().await?, address.request(body)?).await
        };
        let (answer, link) = match timeout(limits::LINE_PROTOCOL_TIME_MAX, work).await {
            Ok(done) => done?,
            Err(_) => return Err(Trouble::Silent),
        };
        self.link = link;
        Ok(answer)
    }
}

/// Sends one request and reads its answer. The connection comes back when it can be used again.
async fn exchange(
    (mut sender, connection): Link,
    request: Request<Full<Bytes>>,
) -> Result<((StatusCode, String), Option<Link>), Trouble> {
    let mut connection = Some(connection);
    let answer: Result<_, Trouble> = {
        let answer = async {
            let answer = sender.send_request(request).await.map_err(|_| Trouble::Broken)?;
            let status = answer.status();
            let text = Limited::new(answer.into_body(), limits::LINE_PROTOCOL_ANSWER_BYTES_MAX);
            let text = match text.collect().await {
                Ok(text) => String::from_utf8_lossy(&text.to_bytes()).into_owned(),
                Err(_) => String::new(),
            };
            Ok((status, text))
        };
        let mut answer = std::pin::pin!(answer);
        loop {
            let Some(open) = connection.as_mut() else { break answer.await };
            tokio::select! {
                biased;
                answer = &mut answer => break answer,
                // The end may come with an answer still in the buffers; and where none will come,
                // only a connection that is let go of says so.
                _ = open => connection = None,
            }
        }
    };
    let answer = answer?;
    let usable = connection.filter(|_| !sender.is_closed());
    Ok((answer, usable.map(|connection| (sender, connection))))
}

impl Address {
    async fn connect(&self) -> Result<Link, Trouble> {
        let Self { host, port, tls, .. } = self;
        let stream = TcpStream::connect((host.as_str(), *port))
            .await
            .map_err(|e| Trouble::Unreached(e.kind()))?;
        // One request, one answer: nothing is gained by waiting for more to send.
        let _ = stream.set_nodelay(true);
        let wire: Box<dyn Wire> = match tls {
            None => Box::new(stream),
            Some(configuration) => {
                let agreed = tls::agree(configuration, host, stream).await;
                Box::new(agreed.map_err(|why| why.map_or(Trouble::Broken, Trouble::Tls))?)
            }
        };
        handshake(TokioIo::new(wire)).await.map_err(|_| Trouble::Broken)
    }

    fn request(&self, body: Bytes) -> Result<Request<Full<Bytes>>, Trouble> {
        let Self { host, port, path, authorization, .. } = self;
        let host = if host.contains(':') { format!("[{host}]") } else { host.clone() };
        let mut request = Request::post(path.as_str())
            .header(HOST, format!("{host}:{port}"))
            .header(USER_AGENT, concat!("fieldgate-receive/", env!("CARGO_PKG_VERSION")))
            .header(CONTENT_TYPE, "text/plain; charset=utf-8");
        if let Some(authorization) = authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        request.body(Full::new(body)).map_err(|_| Trouble::Broken)
    }
}
