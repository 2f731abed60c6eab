//! `fieldgate demo`: the arguments of the demonstration, and its end.

use std::path::PathBuf;

use clap::Args;
use tokio_util::sync::CancellationToken;

use crate::demo::{self, Options};
use crate::error::{Exit, Fatal};

/// Shows the whole river with simulated devices and a broker of its own: no hardware, no other
/// program.
#[derive(Debug, Args)]
pub(super) struct Demo {
    /// Take the broker away for this long, and show the buffer fill and drain
    #[arg(long, value_name = "TIME", value_parser = super::time)]
    outage: Option<humantime::Duration>,
    /// End by itself after this long
    #[arg(long = "for", value_name = "TIME", value_parser = super::time)]
    duration: Option<humantime::Duration>,
    /// JSON, one reading a line
    #[arg(long)]
    json: bool,
    /// Keep configuration and buffer in this folder
    #[arg(long, value_name = "FOLDER")]
    folder: Option<PathBuf>,
}

impl Demo {
    pub(super) fn run(self) -> Result<Exit, Fatal> {
        super::log_to_stderr(super::LevelFilter::WARN);
        let options = Options {
            outage: self.outage.map(Into::into),
            duration: self.duration.map(Into::into),
            json: self.json,
            folder: self.folder,
        };
        super::block_on(async {
            let stop = CancellationToken::new();
            let demo = demo::run(options, stop.clone());
            tokio::pin!(demo);
            tokio::select! {
                ended = &mut demo => ended,
                signal = super::run::told_to_stop() => {
                    signal?;
                    stop.cancel();
                    demo.await
                }
            }
        })
    }
}
