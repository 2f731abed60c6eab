//! The command line's way to the daemon: one request over its socket, its answer, or why there is
//! none, in words.

use std::io;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1::handshake;
use hyper::header::{CONTENT_TYPE, HOST, HeaderValue};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;
use tokio::time::timeout;

use crate::config;
use crate::error::{Exit, Fatal};
use crate::events::api as say;
use crate::limits;

/// The daemon that runs with one configuration.
pub(super) struct Daemon {
    socket: PathBuf,
}

/// What is sent along with a request.
#[derive(Default)]
pub(super) struct Along {
    pub(super) body: Bytes,
    /// `application/json`, `application/octet-stream`.
    pub(super) kind: Option<&'static str>,
    /// A header of our own.
    pub(super) header: Option<(&'static str, String)>,
}

impl Daemon {
    /// Finds the socket that the configuration at `path` names.
    pub(super) fn of(path: &Path) -> Self {
        Self { socket: config::socket(path) }
    }

    /// Asks a question without a body, as [`Daemon::send`].
    pub(super) fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Fatal> {
        self.send(Method::GET, path, Along::default())
    }

    /// Sends one request and waits for its answer, on a runtime of its own.
    ///
    /// # Errors
    /// 3 when no daemon answers, 1 with the daemon's own words when it refuses.
    pub(super) fn send<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        along: Along,
    ) -> Result<T, Fatal> {
        super::block_on(async {
            let (status, body) = timeout(limits::API_TIME_MAX, self.exchange(method, path, along))
                .await
                .unwrap_or(Err(io::ErrorKind::TimedOut))
                .map_err(|kind| self.unreached(kind))?;
            if status == StatusCode::OK {
                return serde_json::from_slice(&body).map_err(|_| self.strange());
            }
            let answer: serde_json::Value =
                serde_json::from_slice(&body).map_err(|_| self.strange())?;
            let words = answer["message"].as_str().ok_or_else(|| self.strange())?;
            Err(Fatal::new(Exit::Problem, words))
        })
    }

    async fn exchange(
        &self,
        method: Method,
        path: &str,
        along: Along,
    ) -> Result<(StatusCode, Bytes), io::ErrorKind> {
        let stream = timeout(limits::API_CONNECT_TIME_MAX, UnixStream::connect(&self.socket))
            .await
            .map_err(|_| io::ErrorKind::TimedOut)?
            .map_err(|e| e.kind())?;
        let broken = |_| io::ErrorKind::ConnectionReset;
        let (mut sender, connection) = handshake(TokioIo::new(stream)).await.map_err(broken)?;
        let mut request = Request::builder().method(method).uri(path).header(HOST, "fieldgate");
        if let Some(kind) = along.kind {
            request = request.header(CONTENT_TYPE, kind);
        }
        if let Some((name, value)) = along.header {
            let value = HeaderValue::from_str(&value).map_err(|_| io::ErrorKind::InvalidInput)?;
            request = request.header(name, value);
        }
        let request =
            request.body(Full::new(along.body)).map_err(|_| io::ErrorKind::InvalidInput)?;
        let answer = async {
            let answer = sender.send_request(request).await.map_err(broken)?;
            let status = answer.status();
            let body = Limited::new(answer.into_body(), limits::API_ANSWER_BYTES_MAX);
            let body = body.collect().await.map_err(|_| io::ErrorKind::ConnectionReset)?;
            Ok((status, body.to_bytes()))
        };
        let mut answer = std::pin::pin!(answer);
        tokio::select! {
            biased;
            answer = &mut answer => answer,
            // The connection may end with the answer still in the buffers.
            _ = connection => answer.await,
        }
    }

    fn unreached(&self, kind: io::ErrorKind) -> Fatal {
        Fatal::new(Exit::Unreachable, say::no_daemon(&self.socket, kind).to_string())
    }

    fn strange(&self) -> Fatal {
        Fatal::new(Exit::Unreachable, say::strange_answer(&self.socket).to_string())
    }
}
