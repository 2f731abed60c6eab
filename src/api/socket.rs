//! The socket itself: who may have it, and how many may talk to it for how long.

use std::fs::Permissions;
use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::routes::routes;
use super::{Desk, Settings};
use crate::events::{Events, Notice, api as say};
use crate::limits;

/// Whom the socket's file lets in: its user and its group.
const MODE: u32 = 0o660;

/// A socket that was taken. Its file is removed when this goes, unless another stands there by then.
pub struct Server {
    listener: UnixListener,
    routes: Router,
    path: PathBuf,
    inode: u64,
}

impl Server {
    /// Takes the socket, or says why it cannot be had; the gateway goes on without.
    pub fn open(settings: &Settings, desk: Arc<dyn Desk>, events: &Events) -> Option<Self> {
        let path = &settings.socket;
        let folder_is_there = path.parent().is_some_and(Path::is_dir);
        if !settings.is_asked_for && !folder_is_there {
            // Started by hand: systemd makes the folder.
            tracing::info!("no socket for status and rules: {} has no folder", path.display());
            return None;
        }
        match Self::bind(path, desk) {
            Ok(server) => Some(server),
            Err(notice) if settings.is_asked_for => {
                events.raise(*notice);
                None
            }
            Err(notice) => {
                tracing::info!("{notice}");
                None
            }
        }
    }

    fn bind(path: &Path, desk: Arc<dyn Desk>) -> Result<Self, Box<Notice>> {
        let refused = |e: io::Error| Box::new(say::no_socket(path, &e));
        clear_stale(path)?;
        let listener = UnixListener::bind(path).map_err(refused)?;
        std::fs::set_permissions(path, Permissions::from_mode(MODE)).map_err(refused)?;
        let inode = std::fs::symlink_metadata(path).map_err(refused)?.ino();
        Ok(Self { listener, routes: routes(desk), path: path.to_owned(), inode })
    }

    /// Answers until `stop` is cancelled; who is being answered then is left.
    pub async fn serve(self, stop: CancellationToken) {
        let mut visitors = JoinSet::new();
        loop {
            let is_open = visitors.len() < limits::API_VISITORS_MAX;
            tokio::select! {
                () = stop.cancelled() => return,
                accepted = self.listener.accept(), if is_open => match accepted {
                    Ok((stream, _)) => {
                        visitors.spawn(answer(stream, self.routes.clone()));
                    }
                    // Out of files for a moment; what is open now will close.
                    Err(_) => sleep(limits::API_ACCEPT_PAUSE).await,
                },
                Some(_) = visitors.join_next() => {}
            }
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let ours = std::fs::symlink_metadata(&self.path).is_ok_and(|m| m.ino() == self.inode);
        if ours {
            // One that stays is stale for the next start.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Removes a socket that nobody answers on. One that somebody answers on is left, as is anything
/// that is no socket.
fn clear_stale(path: &Path) -> Result<(), Box<Notice>> {
    let Ok(found) = std::fs::symlink_metadata(path) else { return Ok(()) };
    if !found.file_type().is_socket() {
        return Err(Box::new(say::no_socket_there(path)));
    }
    match std::os::unix::net::UnixStream::connect(path) {
        Err(e) if e.kind() == io::ErrorKind::ConnectionRefused => {
            std::fs::remove_file(path).map_err(|e| Box::new(say::no_socket(path, &e)))
        }
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        // It answers, or has no room for one more: somebody is there.
        _ => Err(Box::new(say::socket_taken(path))),
    }
}

/// Serves one request, for a bounded time.
async fn answer(stream: UnixStream, routes: Router) {
    let mut server = http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(limits::API_HEADER_TIME_MAX);
    server.keep_alive(false).max_headers(limits::API_HEADERS_MAX);
    let service = TowerToHyperService::new(routes);
    let connection = server.serve_connection(TokioIo::new(stream), service);
    // A visitor that breaks off or dawdles is no news.
    let _ = timeout(limits::API_TIME_MAX, connection).await;
}
