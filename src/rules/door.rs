//! The one door through which rules come in, whichever way they came: as a file in the configuration,
//! over the socket, or over MQTT.
//!
//! In this order, each step only after the one before: size, signature (when `[trust]` has keys),
//! whom and when it is for, the manifest and the contract, whether that is what was signed, its place
//! among the `[rule.NAME]` tables, the table's parameters and tests, and whether the version goes back.
//! Then the file is kept, the ledger names it, and only then it runs: a power cut before the ledger
//! leaves the old rule, one after it starts the new one. Whatever refuses leaves all as it was.
//!
//! What the door does not know is how a rule runs: that is its [`Site`].

mod orders;
mod site;
#[cfg(test)]
pub(crate) mod tests;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use super::folder::{Edition, Folder, Ledger, Post, digest};
use super::signature::{Claim, Here, Keys, Kind, Signed};
use crate::clock::Clock;
use crate::events::{Notice, push as say};
use crate::limits;

pub use site::{Examined, Pushed, Running, Site, Stands, Taken};

/// Who this gateway is, and whom it trusts.
pub struct Settings {
    /// The gateway's name.
    pub gateway: Arc<str>,
    /// Its groups.
    pub groups: Vec<String>,
    /// `[trust] keys`.
    pub keys: Keys,
}

/// The door; shared by all ways.
pub struct Door {
    settings: Settings,
    clock: Arc<dyn Clock>,
    /// Held while a file comes in, which may take a compiler's time.
    folder: Mutex<Folder>,
    /// As the ledger was after the last change, for those who only look, and those who tell of it.
    shown: watch::Sender<Ledger>,
}

type Refused = Box<Notice>;

impl Door {
    /// Sets the door up over its folder.
    #[must_use]
    pub fn new(settings: Settings, clock: Arc<dyn Clock>, folder: Folder) -> Self {
        let shown = watch::Sender::new(folder.ledger().clone());
        Self { settings, clock, folder: Mutex::new(folder), shown }
    }

    /// Returns what the ledger says, without waiting for anything.
    #[must_use]
    pub fn ledger(&self) -> Ledger {
        self.shown.borrow().clone()
    }

    /// Returns what wakes whenever the ledger changes, whoever changed it.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<Ledger> {
        self.shown.subscribe()
    }

    /// Whether signatures are asked for.
    #[must_use]
    pub fn asks_for_signatures(&self) -> bool {
        !self.settings.keys.is_empty()
    }

    /// Takes a file in, or says why not. Waits for the compiler and the disk.
    ///
    /// # Errors
    /// Why it stays outside; then nothing has changed.
    pub fn take_in(&self, pushed: Pushed<'_>, site: &dyn Site) -> Result<Taken, Refused> {
        let mut folder = self.folder();
        let subject = pushed.subject;
        let (signed, examined) = self.look_at(&pushed, site)?;
        let post = find_post(&pushed, &examined.name, folder.ledger(), site)?;
        site.fits(&post, pushed.file).map_err(|why| Box::new(say::not_taken(subject, &why)))?;
        let Examined { name, version, .. } = examined;
        let edition = Edition { name, version, digest: digest(pushed.file) };
        if let Some(signed) = &signed {
            ratchet(subject, signed, &edition, folder.ledger())?;
        }
        folder.keep(&edition, pushed.file, pushed.signature)?;
        let before = folder.ledger().posts.get(&post).cloned().unwrap_or_default();
        let suits =
            |live: &Edition| folder.read(live).is_some_and(|held| site.suits(&post, &held.file));
        let is_tried = site.has_trials() && before.live.as_ref().is_some_and(suits);
        let (after, stands) = succeed(&before, &edition, &pushed, is_tried);
        let change = |ledger: &mut Ledger| {
            ledger.posts.insert(post.clone(), after.clone());
            if let Some(signed) = &signed {
                let key = format!("{}/{}", signed.key, edition.name);
                ledger.highest.insert(key, edition.clone());
            }
        };
        self.settle(&mut folder, change, |folder| arrange(folder, &post, site))
            .map_err(|why| why.named(subject))?;
        Ok(Taken { post, edition, stands })
    }

    /// Says what is to run at a post when the gateway starts or its configuration is read again. A
    /// configured file that is not the one looked at last comes in like any other; if it is refused,
    /// or has not changed, what was live goes on, or the last good one when that is damaged. What
    /// was wrong is told in the second part.
    pub fn begin(
        &self,
        post: &str,
        configured: Option<Pushed<'_>>,
        site: &dyn Site,
    ) -> (Option<Taken>, Vec<Refused>) {
        let mut trouble = Vec::new();
        let known = self.ledger().posts.get(post).cloned().unwrap_or_default();
        if let Some(file) = configured {
            let is_new = known.file.as_deref() != Some(digest(file.file).as_str());
            if is_new || known.live.is_none() {
                match self.take_in(Pushed { to: Some(post), is_configured: true, ..file }, site) {
                    Ok(taken) => return (Some(taken), trouble),
                    Err(why) => trouble.push(why),
                }
            }
        }
        (self.resume(post, site, &mut trouble), trouble)
    }

    /// Starts what the ledger names; falls back to the last good version.
    fn resume(&self, post: &str, site: &dyn Site, trouble: &mut Vec<Refused>) -> Option<Taken> {
        let mut folder = self.folder();
        let known = folder.ledger().posts.get(post)?.clone();
        let subject = format!("rule {post}");
        for (edition, is_live) in [(&known.live, true), (&known.good, false)] {
            let Some(edition) = edition else { continue };
            let mut next = known.clone();
            if !is_live {
                next.live = Some(edition.clone());
                (next.good, next.trial, next.on_probation) = (None, None, false);
            }
            let signed = self.still_trusted(&folder, edition, &subject);
            let change = |ledger: &mut Ledger| drop(ledger.posts.insert(post.to_owned(), next));
            let started = signed.and_then(|()| {
                self.settle(&mut folder, change, |folder| arrange(folder, post, site))
                    .map_err(|why| why.named(&subject))
            });
            match started {
                Ok(()) => {
                    let stands = if known.enabled { Stands::Live } else { Stands::Off };
                    return Some(Taken { post: post.to_owned(), edition: edition.clone(), stands });
                }
                Err(why) => trouble.push(why),
            }
        }
        None
    }

    /// Looks at a kept file as if it came today, but for its time and its version: those bound the
    /// taking in. A key that was taken out of `[trust]` takes its rules with it.
    fn still_trusted(
        &self,
        folder: &Folder,
        edition: &Edition,
        subject: &str,
    ) -> Result<(), Refused> {
        let damaged = || Box::new(say::version_damaged(subject, &edition.version.to_string()));
        let held = folder.read(edition).ok_or_else(damaged)?;
        if self.settings.keys.is_empty() {
            return Ok(());
        }
        self.settings.keys.verify(subject, &held.file, held.signature.as_deref()).map(drop)
    }

    /// Notes the serial number of a desired state; returns whether it is new.
    ///
    /// # Errors
    /// When it is not above the last one of that key, or the disk refuses.
    pub fn note_want(&self, subject: &str, signed: &Signed) -> Result<bool, Refused> {
        let mut folder = self.folder();
        let serial = signed.claim.serial();
        let known = folder.ledger().wants.get(&signed.key).copied();
        let had = known.unwrap_or(0);
        if serial < had && !signed.claim.allow_downgrade {
            return Err(Box::new(say::older_want(subject, serial, had)));
        }
        folder.change(|ledger| {
            ledger.wants.insert(signed.key.clone(), serial);
        })?;
        self.show(&folder);
        Ok(known != Some(serial))
    }

    /// Looks whether a desired state is a trusted key's, for this gateway, now.
    ///
    /// # Errors
    /// Why not.
    pub fn trusts_want(
        &self,
        subject: &str,
        bytes: &[u8],
        signature: &str,
    ) -> Result<Signed, Refused> {
        let signed = self.settings.keys.verify(subject, bytes, Some(signature))?;
        let Claim { kind, name, .. } = &signed.claim;
        let gateway = &*self.settings.gateway;
        if *kind != Kind::Want || (name != "*" && name != gateway) {
            let what = if *kind == Kind::Want { "gateway" } else { "rule" };
            return Err(Box::new(say::other_gateway(subject, &format!("{what} {name}"), gateway)));
        }
        signed.is_for(subject, &self.here())?;
        Ok(signed)
    }

    /// Whether a version's file is kept, so that it need not be sent.
    #[must_use]
    pub fn read(&self, edition: &Edition) -> Option<Vec<u8>> {
        self.folder().read(edition).map(|held| held.file)
    }

    fn look_at(
        &self,
        pushed: &Pushed<'_>,
        site: &dyn Site,
    ) -> Result<(Option<Signed>, Examined), Refused> {
        let Pushed { subject, file, signature, .. } = *pushed;
        if file.len() > limits::RULE_FILE_BYTES_MAX {
            return Err(Box::new(say::too_large(subject, file.len(), limits::RULE_FILE_BYTES_MAX)));
        }
        let mut signed = None;
        if self.asks_for_signatures() {
            let found = self.settings.keys.verify(subject, file, signature)?;
            if found.claim.kind != Kind::Rule {
                let what = found.claim.to_string();
                return Err(Box::new(say::other_rule(subject, &what, "a rule")));
            }
            found.is_for(subject, &self.here())?;
            signed = Some(found);
        }
        let examined = site.examine(file).map_err(|why| Box::new(say::not_taken(subject, &why)))?;
        if let Some(signed) = &signed {
            agrees(subject, &signed.claim, &examined)?;
        }
        Ok((signed, examined))
    }

    fn here(&self) -> Here<'_> {
        let Settings { gateway, groups, .. } = &self.settings;
        let now = self.clock.plausible().then(|| self.clock.now());
        Here { gateway, groups, now }
    }

    /// Changes the ledger and then what runs; when that fails, changes the ledger back and lets run
    /// what ran.
    fn settle(
        &self,
        folder: &mut Folder,
        change: impl FnOnce(&mut Ledger),
        arrange: impl Fn(&Folder) -> Result<(), String>,
    ) -> Result<(), Unsettled> {
        let before = folder.ledger().clone();
        folder.change(change).map_err(Unsettled::Disk)?;
        let arranged = arrange(folder);
        if let Err(why) = arranged {
            let back = folder.change(|ledger| *ledger = before);
            self.show(folder);
            return Err(match back {
                Ok(()) => Unsettled::Site(why),
                Err(notice) => Unsettled::Disk(notice),
            });
        }
        self.show(folder);
        Ok(())
    }

    fn show(&self, folder: &Folder) {
        self.shown.send_if_modified(|shown| {
            let changes = shown != folder.ledger();
            folder.ledger().clone_into(shown);
            changes
        });
    }

    fn folder(&self) -> MutexGuard<'_, Folder> {
        self.folder.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why a change did not come about.
enum Unsettled {
    Disk(Refused),
    Site(String),
}

impl Unsettled {
    fn named(self, subject: &str) -> Refused {
        match self {
            Self::Disk(notice) => notice,
            Self::Site(why) => Box::new(say::not_taken(subject, &why)),
        }
    }
}

/// Makes the site run what the ledger says of a post.
fn arrange(folder: &Folder, post: &str, site: &dyn Site) -> Result<(), String> {
    let known = folder.ledger().posts.get(post).cloned().unwrap_or_default();
    let read = |edition: &Option<Edition>| match edition {
        Some(edition) if known.enabled => {
            let held = folder.read(edition);
            let held = held.ok_or_else(|| format!("its version {} is damaged", edition.version));
            held.map(|held| Some((edition.clone(), held.file)))
        }
        _ => Ok(None),
    };
    let (live, trial) = (read(&known.live)?, read(&known.trial)?);
    let running = Running {
        live: live.as_ref().map(|(edition, file)| (edition, file.as_slice())),
        trial: trial.as_ref().map(|(edition, file)| (edition, file.as_slice())),
    };
    site.arrange(post, running)
}

/// Looks whether the file is what its signer says it is.
fn agrees(subject: &str, claim: &Claim, examined: &Examined) -> Result<(), Refused> {
    let Examined { name, version, capabilities } = examined;
    if (&claim.name, &claim.version) != (name, version) {
        let signed = format!("{} {}", claim.name, claim.version);
        let notice = say::other_rule(subject, &signed, &format!("{name} {version}"));
        return Err(Box::new(notice));
    }
    let Some(allowed) = &claim.capabilities else { return Ok(()) };
    let more: Vec<_> =
        capabilities.iter().filter(|asked| !allowed.contains(asked)).cloned().collect();
    if more.is_empty() { Ok(()) } else { Err(Box::new(say::asks_for_more(subject, &more))) }
}

/// Lets no version go back that its key has passed.
fn ratchet(
    subject: &str,
    signed: &Signed,
    edition: &Edition,
    ledger: &Ledger,
) -> Result<(), Refused> {
    let had = ledger.highest.get(&format!("{}/{}", signed.key, edition.name));
    let Some(had) = had.filter(|_| !signed.claim.allow_downgrade) else { return Ok(()) };
    let (version, before) = (edition.version.to_string(), had.version.to_string());
    if edition.version < had.version {
        return Err(Box::new(say::older(subject, &version, &before)));
    }
    if edition.version == had.version && edition.digest != had.digest {
        return Err(Box::new(say::same_version(subject, &version)));
    }
    Ok(())
}

/// Finds the table that a file is for.
fn find_post(
    pushed: &Pushed<'_>,
    name: &str,
    ledger: &Ledger,
    site: &dyn Site,
) -> Result<String, Refused> {
    let posts = site.posts();
    let wanted = pushed.to.unwrap_or(name);
    if posts.iter().any(|post| post == wanted) {
        return Ok(wanted.to_owned());
    }
    let runs = |post: &&String| {
        let live = ledger.posts.get(*post).and_then(|known| known.live.as_ref());
        pushed.to.is_none() && live.is_some_and(|live| live.name == name)
    };
    let running: Vec<_> = posts.iter().filter(runs).cloned().collect();
    match running.as_slice() {
        [one] => Ok(one.clone()),
        [] => Err(Box::new(say::no_post(pushed.subject, wanted, &posts))),
        several => Err(Box::new(say::several_posts(pushed.subject, name, several))),
    }
}

/// Says what a post runs after a version came in: that beside the live one, if it is to be tried so.
fn succeed(
    before: &Post,
    edition: &Edition,
    pushed: &Pushed<'_>,
    is_tried: bool,
) -> (Post, Stands) {
    let mut after = before.clone();
    if pushed.is_configured {
        after.file = Some(edition.digest.clone());
    }
    let is_live = after.live.as_ref() == Some(edition);
    let begins_live = !is_tried || !after.enabled;
    if is_live {
        after.trial = None;
    } else if begins_live {
        after.good = after.live.replace(edition.clone()).or(after.good);
        (after.trial, after.on_probation) = (None, false);
    } else {
        after.trial = Some(edition.clone());
    }
    let stands = match (after.enabled, is_live || begins_live) {
        (false, _) => Stands::Off,
        (true, true) => Stands::Live,
        (true, false) => Stands::Trial,
    };
    (after, stands)
}
