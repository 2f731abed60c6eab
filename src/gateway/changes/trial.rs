//! A configuration on trial: in force, and gone again unless somebody confirms it.
//!
//! A candidate comes over the socket and is put in force; the files on disk stay those of
//! the version before. Confirmed, they are written, by whoever confirms: the daemon has no right to,
//! and needs none. Without that the gateway loads the files again when the time is up, and a daemon
//! that dies meanwhile starts with them. So going back needs nobody's rights, no writing and no
//! running process. What cannot be confirmed is a candidate with which no batch was acknowledged,
//! where there was one before: a configuration that cuts the uplink heals itself.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use super::{Changes, on_a_thread, over, refuse_improper, refused};
use crate::api::{Refusal, Why};
use crate::config::Texts;
use crate::events::{apply as say, rounded};
use crate::gateway::Gateway;
use crate::gateway::proof::{proven, unproven};
use crate::gateway::versions::State;
use crate::limits;

/// A version in force that nobody has confirmed yet.
pub(super) struct Trial {
    pub(super) number: u64,
    texts: Texts,
    pub(super) ends: Instant,
    /// The files as they stood when it began; `None` when they could not be read.
    on_disk: Option<Texts>,
    /// What was in force before it, for when the files cannot be used at its end: the history on
    /// disk may have lost it, or never have had it.
    before: Option<Texts>,
    /// Batches that each uplink had got acknowledged, when that was lately.
    proven: Vec<(Arc<str>, u64)>,
}

impl Changes {
    /// Puts a candidate in force until it is confirmed, for `patience` at most.
    pub(super) async fn try_out(
        &mut self,
        gateway: &mut Gateway,
        texts: Texts,
        patience: Duration,
        by: &str,
    ) -> Result<Value, Refusal> {
        refuse_improper(Some(&texts))?;
        if let Some(trial) = &self.trial {
            return Err(Refusal::new(Why::Conflict, say::on_trial_already(trial.number)));
        }
        let patience = patience.clamp(limits::CONFIRM_TIME_MIN, limits::CONFIRM_TIME_MAX);
        let proven = proven(gateway, patience);
        let on_disk = self.on_disk().await;
        let before = self.version(self.kept.unwrap_or(0)).await.map(|(_, texts)| texts);
        let before = before.or_else(|| on_disk.clone());
        let taken = self.take(gateway, Some(texts)).await;
        let (plan, texts) = taken.map_err(|notice| Refusal::new(Why::Refused, notice))?;
        let ends = Instant::now() + patience;
        let hash = gateway.config_hash();
        let number = self.keep(gateway, texts.clone(), by, State::OnTrial).await.unwrap_or(0);
        // A restarted uplink counts from nothing again.
        let proven = proven.into_iter().map(|(name, batches)| {
            let restarted = plan.of(&crate::gateway::uplinks::part(&name)).is_some();
            (name, if restarted { 0 } else { batches })
        });
        let proven = proven.collect();
        self.trial = Some(Trial { number, texts, ends, on_disk, before, proven });
        gateway.events.raise(say::on_trial(number, by, &rounded(patience)));
        tracing::info!("configuration {hash} on trial, by {by}:\n{plan}");
        Ok(json!({
            "number": number,
            "confirm_s": patience.as_secs(),
            "plan": plan,
            "text": plan.to_string(),
        }))
    }

    /// First says whether the trial may be confirmed, and hands out what is to be installed; once that
    /// stands on disk, ends the trial.
    pub(super) async fn confirm(
        &mut self,
        gateway: &mut Gateway,
        anyway: bool,
        installed: bool,
    ) -> Result<Value, Refusal> {
        let Some(trial) = &self.trial else {
            return Err(Refusal::new(Why::Conflict, say::nothing_on_trial()));
        };
        let unproven = unproven(gateway, &trial.proven);
        if let Some(name) = unproven.filter(|_| !anyway) {
            let left = rounded(trial.ends.saturating_duration_since(Instant::now()));
            return Err(Refusal::new(Why::Conflict, say::uplink_unproven(&name, &left)));
        }
        let number = trial.number;
        let on_disk = self.on_disk().await;
        if !installed {
            // Installing would take away what somebody has written meanwhile, for good.
            if on_disk != trial.on_disk && on_disk.as_ref() != Some(&trial.texts) {
                return Err(Refusal::new(Why::Conflict, say::edited_meanwhile(number)));
            }
            return Ok(json!({ "number": number, "install": trial.texts }));
        }
        if on_disk.as_ref() != Some(&trial.texts) {
            return Err(Refusal::new(Why::Conflict, say::not_installed(number)));
        }
        self.trial = None;
        self.settle(gateway, number).await;
        // What the texts name may be new, or have changed since it was put in force: a rule's file.
        let _ = self.reload(gateway, "the files, after a trial").await;
        Ok(json!({ "number": number }))
    }

    async fn on_disk(&self) -> Option<Texts> {
        let path = self.path.clone();
        on_a_thread(move || Texts::read(&path).ok()).await.flatten()
    }

    /// Notes that what was tried stands on disk and stays.
    async fn settle(&mut self, gateway: &Gateway, number: u64) {
        self.kept = Some(number);
        self.mark(gateway, number, State::Kept).await;
        gateway.events.clear(&say::ON_TRIAL, say::SUBJECT, "was confirmed");
        gateway.events.clear(&say::WENT_BACK, say::SUBJECT, "was changed since");
        over(gateway);
    }

    pub(super) async fn roll_back(&mut self, gateway: &mut Gateway) -> Result<Value, Refusal> {
        let Some(trial) = &self.trial else {
            return Err(Refusal::new(Why::Conflict, say::nothing_on_trial()));
        };
        let number = trial.number;
        self.go_back(gateway, "was taken back").await;
        if self.kept == Some(number) {
            // It stands on disk; going back from there is for whoever may write there.
            return Err(Refusal::new(Why::Conflict, say::nothing_on_trial()));
        }
        Ok(json!({ "number": number, "in_force": self.kept }))
    }

    /// Ends the trial: loads what stands on disk; when that cannot be used any more, the version that
    /// was in force before. A version whose files stand there was confirmed by somebody who was cut off
    /// before the daemon was told.
    pub(super) async fn go_back(&mut self, gateway: &mut Gateway, why: &str) {
        let Some(trial) = self.trial.take() else { return };
        self.files.note();
        let outcome = self.take(gateway, None).await;
        let before = match outcome {
            Ok((_, texts)) if texts == trial.texts => {
                return self.settle(gateway, trial.number).await;
            }
            Ok((_, texts)) => {
                over(gateway);
                // The version before, unless somebody has edited the files meanwhile.
                self.keep(gateway, texts, "the files, after a trial", State::Kept).await;
                None
            }
            Err(notice) => {
                refused(gateway, &notice);
                trial.before
            }
        };
        if let Some(texts) = before
            && let Err(notice) = self.take(gateway, Some(texts)).await
        {
            refused(gateway, &notice);
        }
        self.mark(gateway, trial.number, State::WentBack).await;
        gateway.events.clear(&say::ON_TRIAL, say::SUBJECT, why);
        // One that stands tells of an earlier trial.
        gateway.events.clear(&say::WENT_BACK, say::SUBJECT, "was tried again since");
        gateway.events.raise(say::went_back(trial.number, why));
    }
}
