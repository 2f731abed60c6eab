//! What is in force as a whole: the configuration, and the version of each rule that was pushed beside
//! it. Every batch, `status` and `meta` name it by a short hash (`cv`), which changes with the moment a
//! version takes another's place; `meta` says which versions those are.

use std::fmt::Write as _;
use std::sync::Arc;

use tokio::sync::{Mutex, watch};

use super::orders::Orders;
use super::uplinks::Links;
use crate::config::{Config, Gateway as GatewaySettings};
use crate::rules::folder::digest;
use crate::store::Store;
use crate::store::settings::Settings as StoreSettings;
use crate::uplink::Identity;

/// See the file's head; cheap to clone.
#[derive(Clone)]
pub(super) struct Effect(Arc<Inner>);

struct Inner {
    configured: Mutex<Configured>,
    hash: watch::Sender<Arc<str>>,
    rules: Orders,
    store: Store,
    links: Links,
}

/// What the configuration says.
pub(super) struct Configured {
    /// Its hash, and what the gateway is called by.
    pub(super) identity: Identity,
    /// The store's settings.
    pub(super) store: StoreSettings,
    /// Names of uplinks by their place in the store.
    pub(super) places: Vec<Arc<str>>,
}

impl Configured {
    /// What a configuration says when everything starts.
    pub(super) fn at_start(config: &Config) -> Self {
        let identity = plain(&config.hash, &config.gateway);
        let places = super::apply::places(&[], &config.uplinks);
        Self { identity, store: config.store.clone(), places }
    }

    /// Returns the store's settings with what batches are to tell.
    pub(super) fn settings(&self, told: &Identity) -> StoreSettings {
        StoreSettings { config_hash: Arc::clone(&told.config_hash), ..self.store.clone() }
    }
}

impl Effect {
    /// Tells whoever asks what is in force from now on; `hash` is what was told until now.
    pub(super) fn new(
        configured: Configured,
        hash: watch::Sender<Arc<str>>,
        rules: &Orders,
        store: &Store,
        links: &Links,
    ) -> Self {
        let identity = of(&configured.identity, rules);
        hash.send_replace(Arc::clone(&identity.config_hash));
        links.tell(&identity);
        let (rules, store, links) = (rules.clone(), store.clone(), links.clone());
        let configured = Mutex::new(configured);
        Self(Arc::new(Inner { configured, hash, rules, store, links }))
    }

    /// Takes another configuration.
    pub(super) async fn change(&self, configured: Configured) {
        let mut now = self.0.configured.lock().await;
        *now = configured;
        self.tell(&now).await;
    }

    /// Tells of rules whenever others run. Runs until it is dropped.
    pub(super) async fn follow(self) {
        let mut changed = self.0.rules.changed();
        while changed.changed().await.is_ok() {
            let now = self.0.configured.lock().await;
            self.tell(&now).await;
        }
    }

    async fn tell(&self, now: &Configured) {
        let identity = of(&now.identity, &self.0.rules);
        let settings = now.settings(&identity);
        // A disk that refuses has said so; it takes the change with the readings, later.
        let _ = self.0.store.change(settings, now.places.clone()).await;
        self.0.links.tell(&identity);
        self.0.hash.send_replace(identity.config_hash);
    }
}

/// Returns what a configuration says of the gateway, as if its own rules ran.
pub(super) fn plain(hash: &Arc<str>, gateway: &GatewaySettings) -> Identity {
    Identity { config_hash: Arc::clone(hash), labels: gateway.labels(), rules: Vec::new() }
}

/// Returns what a gateway says of itself with this configuration and the rules that run.
pub(super) fn of(configured: &Identity, rules: &Orders) -> Identity {
    let (running, as_configured) = rules.in_force();
    let config_hash = if as_configured {
        Arc::clone(&configured.config_hash)
    } else {
        let mut text = configured.config_hash.to_string();
        for rule in &running {
            // A text takes everything.
            let _ = write!(text, "\n{} {}", rule.rule, rule.digest);
        }
        let length = configured.config_hash.len().max(8);
        digest(text.as_bytes()).chars().take(length).collect::<String>().into()
    };
    Identity { config_hash, labels: configured.labels.clone(), rules: running }
}
