//! What is done to a rule once it is in: switched on and off, promoted, sent back, proven.
//!
//! Each is one change of the ledger, on disk before anything runs differently, so a power cut leaves
//! what was or what shall be.

use super::{Door, Refused, Site, arrange};
use crate::events::push as say;
use crate::rules::folder::{Edition, End, Ended, Ledger, Post};

impl Door {
    /// Switches a rule on or off.
    ///
    /// # Errors
    /// When there is no such rule, or it cannot run.
    pub fn enable(&self, post: &str, enabled: bool, site: &dyn Site) -> Result<(), Refused> {
        self.change_post(post, site, |known| {
            known.enabled = enabled;
            Ok(())
        })
    }

    /// Makes the version on trial the live one, on probation; `why` is empty when a person wants it.
    /// What it goes back to is the last version that had proven itself.
    ///
    /// # Errors
    /// When none is on trial, or it cannot run.
    pub fn promote(&self, post: &str, why: &str, site: &dyn Site) -> Result<Edition, Refused> {
        self.change_post(post, site, |known| {
            let trial = known.trial.take().ok_or("has no version on trial")?;
            let before = known.live.replace(trial.clone());
            if !known.on_probation || known.good.is_none() {
                known.good = before;
            }
            known.on_probation = known.good.is_some();
            known.ended = Some(Ended::new(trial.clone(), End::Promoted, why));
            Ok(trial)
        })
    }

    /// Ends a trial; without one, goes back to the last good version.
    ///
    /// # Errors
    /// When there is neither, or the last good one cannot run.
    pub fn roll_back(&self, post: &str, why: &str, site: &dyn Site) -> Result<Edition, Refused> {
        self.change_post(post, site, |known| {
            match known.trial.take() {
                Some(trial) => known.ended = Some(Ended::new(trial, End::SentAway, why)),
                None => go_back(known, why)?,
            }
            known.live.clone().ok_or("runs no version")
        })
    }

    /// Goes back from the version `failed` to the last good one. One on trial beside it goes, too: what
    /// it was compared with is no measure.
    ///
    /// # Errors
    /// When another runs by now, there is none to go back to, or it cannot run.
    pub fn fall_back(
        &self,
        (post, failed): (&str, &Edition),
        why: &str,
        site: &dyn Site,
    ) -> Result<Edition, Refused> {
        self.change_post(post, site, |known| {
            if known.live.as_ref() != Some(failed) {
                return Err("runs another version by now");
            }
            known.trial = None;
            go_back(known, why)?;
            known.live.clone().ok_or("runs no version")
        })
    }

    /// Ends the probation of the live version: it has proven itself. Nothing that runs changes.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn prove(&self, post: &str) -> Result<(), Refused> {
        let mut folder = self.folder();
        folder.change(|ledger| {
            if let Some(known) = ledger.posts.get_mut(post) {
                known.on_probation = false;
            }
        })?;
        self.show(&folder);
        Ok(())
    }

    fn change_post<T>(
        &self,
        post: &str,
        site: &dyn Site,
        change: impl FnOnce(&mut Post) -> Result<T, &'static str>,
    ) -> Result<T, Refused> {
        let mut folder = self.folder();
        let subject = format!("rule {post}");
        if !site.posts().iter().any(|known| known == post) {
            return Err(Box::new(say::nothing_there(&subject, "is not configured")));
        }
        let mut next = folder.ledger().posts.get(post).cloned().unwrap_or_default();
        let said = change(&mut next).map_err(|why| Box::new(say::nothing_there(&subject, why)))?;
        let change = |ledger: &mut Ledger| drop(ledger.posts.insert(post.to_owned(), next));
        self.settle(&mut folder, change, |folder| arrange(folder, post, site))
            .map_err(|why| why.named(&subject))?;
        Ok(said)
    }
}

fn go_back(known: &mut Post, why: &str) -> Result<(), &'static str> {
    let good = known.good.take().ok_or("has no earlier version to go back to")?;
    let fallen = known.live.replace(good);
    known.on_probation = false;
    known.ended = fallen.map(|fallen| Ended::new(fallen, End::RolledBack, why));
    Ok(())
}
