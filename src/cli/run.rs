//! `fieldgate run`: configuration before any port, announce, run, drain.

use std::convert::Infallible;
use std::path::Path;

use tokio::signal::unix::{SignalKind, signal};
use tokio::time::sleep;

use crate::cli::memory;
use crate::cli::systemd::Systemd;
use crate::config::{self, Config};
use crate::error::{Exit, Fatal};
use crate::gateway::Gateway;
use crate::limits;
use crate::store::Health;

/// Runs the gateway until SIGTERM or SIGINT.
///
/// # Errors
/// 78 when the configuration has faults, 70 when the gateway broke.
pub(super) fn run(path: &Path) -> Result<Exit, Fatal> {
    memory::keep_little();
    super::log_to_stderr(super::LevelFilter::INFO);
    let path = path.to_owned();
    let (config, apart) = memory::apart(move || config::load(&path, config::Options::default()));
    let config = config.map_err(|faults| {
        Fatal::new(
            Exit::Misconfigured,
            format!("{faults}\nfieldgate does not start with these faults. Try: fieldgate check"),
        )
    })?;
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    announce(&config);
    super::block_on(async {
        let systemd = Systemd::from_environment();
        let buffer = config.store.path.clone();
        let mut gateway = Gateway::start(config)?;
        match gateway.store.status().health {
            Health::Good => tracing::info!("keeps readings in {}", buffer.display()),
            _ => tracing::warn!("keeps readings in memory until {} is there", buffer.display()),
        }
        drop(apart);
        memory::give_back();
        let report = systemd.report(gateway.pulse());
        tokio::select! {
            signal = told_to_stop() => {
                tracing::info!("{}: committing and sending what is left", signal?);
                systemd.stopping().await;
                gateway.stop().await?;
                tracing::info!("stopped");
                Ok(Exit::Done)
            }
            never = settled() => match never {},
            never = report => match never {},
            fatal = gateway.broken() => {
                // The other parts are stopped in order all the same; why it broke is the last word.
                systemd.stopping().await;
                let _ = gateway.stop().await;
                Err(fatal)
            }
        }
    })
}

/// Gives back memory that only the start has needed, when it is over.
async fn settled() -> Infallible {
    sleep(limits::SETTLED_AFTER).await;
    memory::settle();
    std::future::pending().await
}

fn announce(config: &Config) {
    let version = env!("CARGO_PKG_VERSION");
    tracing::info!("fieldgate {version}: gateway {}, config {}", config.gateway.name, config.hash);
    for uplink in &config.uplinks {
        let broker = &uplink.broker;
        let scheme = if broker.tls.is_some() { "mqtts" } else { "mqtt" };
        tracing::info!("sends to {} at {scheme}://{}:{}", uplink.name, broker.host, broker.port);
    }
}

/// Waits for SIGTERM or SIGINT; SIGHUP only says that a restart is needed.
pub(super) async fn told_to_stop() -> Result<&'static str, Fatal> {
    let listen = |kind| signal(kind).map_err(|e| super::system_refuses("cannot hear signals", &e));
    let mut terminate = listen(SignalKind::terminate())?;
    let mut interrupt = listen(SignalKind::interrupt())?;
    let mut hang_up = listen(SignalKind::hangup())?;
    loop {
        tokio::select! {
            _ = terminate.recv() => return Ok("told to stop"),
            _ = interrupt.recv() => return Ok("interrupted"),
            _ = hang_up.recv() => {
                tracing::info!("a changed configuration takes effect at the next restart");
            }
        }
    }
}
