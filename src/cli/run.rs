//! `fieldgate run`: configuration before any port, announce, run with changes, drain.

use std::convert::Infallible;
use std::path::{Path, PathBuf};

use tokio::signal::unix::{SignalKind, signal};
use tokio::time::sleep;

use crate::cli::memory;
use crate::cli::systemd::Systemd;
use crate::clock;
use crate::config::{self, Config};
use crate::error::{Exit, Fatal};
use crate::gateway::{Changes, Gateway, Starts, Versions};
use crate::limits;
use crate::store::Health;

/// Runs the gateway until SIGTERM or SIGINT.
///
/// # Errors
/// 78 when the configuration has faults, 70 when the gateway broke.
pub(super) fn run(path: &Path) -> Result<Exit, Fatal> {
    memory::keep_little();
    super::log_to_stderr(super::LevelFilter::INFO);
    let (main, path) = (path.to_owned(), path.to_owned());
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
    super::block_on(keep(config, apart, main))
}

/// Keeps a gateway running, and its configuration changing, until it is told to stop or breaks.
async fn keep(mut config: Config, apart: memory::Apart, path: PathBuf) -> Result<Exit, Fatal> {
    // Until somebody listens it would end the process, and count as a death.
    let _heard = signal(SignalKind::hangup());
    let systemd = Systemd::from_environment();
    let versions = Versions::of(&config);
    let state = config.store.path.parent().unwrap_or(Path::new("."));
    let starts = Starts::begin(state, &clock::boot_name());
    let rules = config.rules.iter().map(|rule| rule.file.clone()).collect();
    let buffer = config.store.path.clone();
    starts.limit(&mut config);
    let mut gateway = match Gateway::start(config) {
        Ok(gateway) => gateway,
        Err(fatal) => {
            if fatal.exit != Exit::Broken {
                // It refused in words: no death.
                starts.end();
            }
            return Err(fatal);
        }
    };
    match gateway.store.status().health {
        Health::Good => tracing::info!("keeps readings in {}", buffer.display()),
        _ => tracing::warn!("keeps readings in memory until {} is there", buffer.display()),
    }
    drop(apart);
    memory::give_back();
    let mut changes = Changes::new(&path, versions, starts, &mut gateway, memory::give_back);
    changes.watch(rules);
    let report = systemd.report(gateway.pulse());
    tokio::select! {
        signal = told_to_stop() => {
            tracing::info!("{}: committing and sending what is left", signal?);
            systemd.stopping().await;
            gateway.stop().await?;
            changes.end();
            tracing::info!("stopped");
            Ok(Exit::Done)
        }
        never = settled() => match never {},
        never = report => match never {},
        fatal = changes.run(&mut gateway) => {
            // The other parts are stopped in order all the same; why it broke is the last word.
            systemd.stopping().await;
            let _ = gateway.stop().await;
            Err(fatal)
        }
    }
}

/// Gives back memory that only the start has needed, when it is over, and later what only a reload, a
/// login or a question has.
async fn settled() -> Infallible {
    sleep(limits::SETTLED_AFTER).await;
    loop {
        memory::settle();
        sleep(limits::SETTLED_EVERY).await;
    }
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

/// Waits for SIGTERM or SIGINT.
pub(super) async fn told_to_stop() -> Result<&'static str, Fatal> {
    let listen = |kind| signal(kind).map_err(|e| super::system_refuses("cannot hear signals", &e));
    let mut terminate = listen(SignalKind::terminate())?;
    let mut interrupt = listen(SignalKind::interrupt())?;
    tokio::select! {
        _ = terminate.recv() => Ok("told to stop"),
        _ = interrupt.recv() => Ok("interrupted"),
    }
}
