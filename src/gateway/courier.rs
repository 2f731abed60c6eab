//! Rules over MQTT: takes desired states from an uplink's broker, has their files sent, brings them to
//! the door, and says on `have` what became of it.
//!
//! A file is asked for some chunks at a time: the courier listens to exactly those topics, then says in
//! `have` which ones it wants, so that a publisher may send them when somebody listens, and one that
//! retains them need not hear. It depends on no order and no retained message: what does not come is
//! asked for again, and given up after [`limits::CHUNK_TRIES_MAX`] times.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::orders::blocking;
use crate::events::{Events, Notice, push as say};
use crate::limits;
use crate::mqtt::{Errand, ErrandSender, Message};
use crate::rules::door::{Door, Pushed, Site};
use crate::rules::fetch::fetch;
use crate::rules::folder::{Edition, End, Ended, digest};
use crate::rules::want::{self, Assembly, From, Sent, Wish};
use crate::uplink::LinkState;

/// Who serves the topics `want` and `have` of one uplink.
pub(super) struct Courier {
    pub(super) door: Arc<Door>,
    pub(super) site: Arc<dyn Site>,
    pub(super) events: Events,
    /// `fg/1/GATEWAY`
    pub(super) root: String,
    pub(super) broker: ErrandSender,
    pub(super) link: watch::Receiver<LinkState>,
}

/// What the courier is about.
#[derive(Default)]
struct State {
    /// Logins seen.
    connections: u64,
    /// Serial number of the desired state that is being done, or was done last.
    want: Option<u64>,
    /// SHA-256 of its payload, by which its sender knows the answer.
    payload: String,
    /// What is still to be done of it.
    wishes: VecDeque<Wish>,
    coming: Option<Coming>,
    /// What did not come about, by post.
    errors: BTreeMap<String, Notice>,
    /// The last desired state that was refused as a whole: digest of its payload, and why.
    refused: Option<(String, Notice)>,
    /// Whether it came before: what was sent away since then is not taken in again for it.
    is_repeated: bool,
    /// What `have` said last on this connection.
    told: Option<Value>,
}

/// A file on its way in chunks.
struct Coming {
    post: String,
    sent: Sent,
    assembly: Assembly,
    /// Chunks that were asked for last.
    asked: Vec<usize>,
    tries: u32,
    due: Instant,
}

impl Courier {
    /// Serves until `stop` is cancelled.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        let (mut state, mut ledger) = (State::default(), self.door.changes());
        loop {
            let due = state.coming.as_ref().map(|coming| coming.due);
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                changed = self.link.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    let link = *self.link.borrow_and_update();
                    if link.connected && link.connections != state.connections {
                        state.connections = link.connections;
                        self.greet(&mut state).await;
                    }
                }
                Some(letter) = self.broker.letters.recv() => self.open(letter, &mut state).await,
                // A trial ended, or somebody on the gateway did something.
                Ok(()) = ledger.changed() => self.tell_if_new(&mut state).await,
                () = at(due) => self.ask_again(&mut state).await,
            }
        }
    }

    /// Says on a new connection what stands, and listens.
    async fn greet(&self, state: &mut State) {
        self.listen(vec![format!("{}/want", self.root)]).await;
        if let Some(coming) = &mut state.coming {
            coming.tries = 0;
        }
        state.told = None;
        self.ask(state).await;
    }

    async fn open(&self, letter: Message, state: &mut State) {
        let Some(rest) = letter.topic.strip_prefix(&self.root) else { return };
        match rest.strip_prefix("/want").map(|rest| rest.strip_prefix('/')) {
            // An empty payload takes back what a broker retained.
            Some(None) if letter.payload.is_empty() => {}
            Some(None) => self.want(&letter.payload, state).await,
            Some(Some(chunk)) => self.chunk(chunk, &letter.payload, state).await,
            None => {}
        }
    }

    /// Takes a desired state.
    async fn want(&self, payload: &[u8], state: &mut State) {
        match self.read(payload) {
            Ok((serial, is_repeated, wishes)) => {
                let came = digest(payload);
                if state.payload == came && state.coming.is_some() {
                    // The same once more, from a broker that retains it: go on.
                    return;
                }
                *state = State {
                    connections: state.connections,
                    want: Some(serial),
                    payload: came,
                    wishes: wishes.into(),
                    is_repeated,
                    ..State::default()
                };
                self.fulfil(state).await;
            }
            Err(notice) => {
                self.events.raise((*notice).clone());
                state.refused = Some((digest(payload), *notice));
                self.tell(state).await;
            }
        }
    }

    /// Reads it: its serial number, whether that was taken before, and what it wants.
    fn read(&self, payload: &[u8]) -> Result<(u64, bool, Vec<Wish>), Box<Notice>> {
        let subject = "desired state";
        let bad = |why: &str| Box::new(say::bad_want(subject, why));
        let (signature, document) = want::split(payload).map_err(bad)?;
        let signed = self.door.trusts_want(subject, document, signature)?;
        let wishes = want::parse(document).map_err(|why| bad(&why))?;
        let is_repeated = !self.door.note_want(subject, &signed)?;
        self.events.clear(&say::BAD_WANT, subject, "is one that is understood");
        Ok((signed.claim.serial(), is_repeated, wishes))
    }

    /// Goes through what is wanted until a file has to be waited for, or all is done.
    async fn fulfil(&self, state: &mut State) {
        while state.coming.is_none() {
            let Some(wish) = state.wishes.pop_front() else { break };
            let post = wish.post.clone();
            if let Err(notice) = self.grant(wish, state).await {
                self.events.raise((*notice).clone());
                state.errors.insert(post, *notice);
            }
        }
        self.ask(state).await;
    }

    async fn grant(&self, wish: Wish, state: &mut State) -> Result<(), Box<Notice>> {
        let Wish { post, file, enabled } = wish;
        if let Some(enabled) = enabled {
            let (door, site, named) =
                (Arc::clone(&self.door), Arc::clone(&self.site), post.clone());
            blocking(move || door.enable(&named, enabled, &*site)).await?;
        }
        let Some(sent) = file else { return Ok(()) };
        let known = self.door.ledger().posts.get(&post).cloned().unwrap_or_default();
        if [&known.live, &known.trial].into_iter().flatten().any(|here| *here == sent.edition) {
            return Ok(());
        }
        let was_sent_off = known
            .ended
            .as_ref()
            .is_some_and(|ended| ended.edition == sent.edition && ended.end != End::Promoted);
        if state.is_repeated && was_sent_off {
            // A broker that retains what was wanted must not bring back what did not do.
            return Ok(());
        }
        let (door, edition) = (Arc::clone(&self.door), sent.edition.clone());
        if let Some(file) = blocking(move || Ok(door.read(&edition))).await? {
            return self.bring(post, sent, file).await;
        }
        match sent.from.clone() {
            From::Chunks(bytes) => {
                let assembly = Assembly::new(&sent, bytes);
                let (asked, due) = (Vec::new(), Instant::now());
                state.coming = Some(Coming { post, sent, assembly, asked, tries: 0, due });
                Ok(())
            }
            From::Https(url) => {
                let subject = subject(&sent.edition);
                let fetched = fetch(&url, sent.size).await;
                let file = fetched.map_err(|why| Box::new(say::not_transferred(&subject, &why)))?;
                let found = digest(&file);
                if found != sent.edition.digest {
                    let why =
                        format!("its SHA-256 is {found} and should be {}", sent.edition.digest);
                    return Err(Box::new(say::not_transferred(&subject, &why)));
                }
                self.bring(post, sent, file).await
            }
        }
    }

    /// Brings a file to the door.
    async fn bring(&self, post: String, sent: Sent, file: Vec<u8>) -> Result<(), Box<Notice>> {
        let (door, site) = (Arc::clone(&self.door), Arc::clone(&self.site));
        blocking(move || {
            let subject = subject(&sent.edition);
            let pushed = Pushed {
                subject: &subject,
                file: &file,
                signature: Some(&sent.signature),
                to: Some(&post),
                is_configured: false,
            };
            door.take_in(pushed, &*site).map(drop)
        })
        .await
    }

    async fn chunk(&self, topic: &str, payload: &Bytes, state: &mut State) {
        let Some(coming) = &mut state.coming else { return };
        let number = topic.strip_prefix(coming.sent.edition.digest.as_str());
        let number = number.and_then(|rest| rest.strip_prefix('/')?.parse::<usize>().ok());
        let Some(number) = number else { return };
        if coming.assembly.take(number, payload) == want::Chunk::New {
            coming.tries = 0;
            coming.due = Instant::now() + limits::CHUNK_TIME_MAX;
        }
        if coming.assembly.is_whole() {
            self.arrived(state).await;
        } else if coming.asked.iter().all(|number| coming.assembly.has(*number)) {
            self.ask(state).await;
        }
    }

    async fn arrived(&self, state: &mut State) {
        let Some(Coming { post, sent, assembly, .. }) = state.coming.take() else { return };
        let file = assembly.finish();
        let subject = subject(&sent.edition);
        let brought = match file {
            Ok(file) => self.bring(post.clone(), sent, file).await,
            Err(why) => Err(Box::new(say::not_transferred(&subject, &why))),
        };
        if let Err(notice) = brought {
            self.events.raise((*notice).clone());
            state.errors.insert(post, *notice);
        }
        self.fulfil(state).await;
    }

    async fn ask_again(&self, state: &mut State) {
        let Some(coming) = &mut state.coming else { return };
        coming.tries += 1;
        if coming.tries > limits::CHUNK_TRIES_MAX {
            self.arrived(state).await;
        } else {
            self.ask(state).await;
        }
    }

    /// Listens for what is missing, and says so.
    async fn ask(&self, state: &mut State) {
        if let Some(coming) = &mut state.coming {
            coming.due = Instant::now() + limits::CHUNK_TIME_MAX;
            let digest = &coming.sent.edition.digest;
            let missing = coming.assembly.missing(limits::CHUNKS_ASKED_MAX);
            let topics = missing.iter().map(|n| format!("{}/want/{digest}/{n}", self.root));
            let topics = topics.collect();
            coming.asked = missing;
            self.listen(topics).await;
        }
        self.tell(state).await;
    }

    async fn listen(&self, topics: Vec<String>) {
        // It fails when the uplink has ended, and so does this.
        let _ = self.broker.errands.send(Errand::Listen(topics)).await;
    }

    /// Publishes `have` when it is not what was said last. Who is not connected hears it later.
    async fn tell_if_new(&self, state: &mut State) {
        let is_connected = self.link.borrow().connected;
        if is_connected && state.told.as_ref() != Some(&self.have(state)) {
            self.tell(state).await;
        }
    }

    /// Publishes `have`.
    async fn tell(&self, state: &mut State) {
        let topic = format!("{}/have", self.root);
        let have = self.have(state);
        let payload = Bytes::from(have.to_string());
        state.told = Some(have);
        let _ = self.broker.errands.send(Errand::Publish { topic, payload, retain: true }).await;
    }

    fn have(&self, state: &State) -> Value {
        let error =
            |notice: &Notice| json!({ "code": notice.code.id, "message": notice.to_string() });
        let mut rules = serde_json::Map::new();
        for (post, known) in &self.door.ledger().posts {
            let edition = |of: &Option<Edition>| {
                of.as_ref().map(|Edition { name, version, digest }| {
                    json!({ "name": name, "version": version.to_string(), "digest": digest })
                })
            };
            let value = json!({
                "enabled": known.enabled, "live": edition(&known.live),
                "trial": edition(&known.trial), "good": edition(&known.good),
                "ended": known.ended.as_ref().map(Ended::to_json),
            });
            rules.insert(post.clone(), value);
        }
        for (post, notice) in &state.errors {
            let rule = rules.entry(post.clone()).or_insert_with(|| json!({}));
            rule["error"] = error(notice);
        }
        let mut have = json!({ "v": 1, "want": state.want, "rules": rules });
        if state.want.is_some() {
            have["payload"] = json!(state.payload);
        }
        if let Some(coming) = &state.coming {
            let chunks = coming.assembly.missing(limits::CHUNKS_ASKED_MAX);
            have["asks"] = json!({ "digest": coming.sent.edition.digest, "chunks": chunks });
        }
        if let Some((payload, notice)) = &state.refused {
            have["refused"] = error(notice);
            have["refused"]["payload"] = json!(payload);
        }
        have
    }
}

fn subject(edition: &Edition) -> String {
    format!("rule {} {}", edition.name, edition.version)
}

async fn at(due: Option<Instant>) {
    match due {
        Some(due) => sleep_until(due).await,
        None => std::future::pending().await,
    }
}
