//! Another configuration for a running gateway: what changed is stopped and started, everything else
//! does not notice. The order is that of a start, part by part: the store before those who fill and
//! empty it, uplinks before sources. Whatever can fail is made before anything is stopped.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::effect::{self, Configured};
use super::parts::{How, Parts, Plan, name_of};
use super::{Gateway, sources, uplinks};
use tokio::task::spawn_blocking;

use crate::config::Config;
use crate::error::Fatal;
use crate::events::{Notice, apply as say};
use crate::limits;
use crate::pipeline::bands;
use crate::sources::{Outlet, Source};
use crate::store::settings::Settings as StoreSettings;
use crate::uplink::Identity;
use crate::uplink::settings::Uplink as UplinkSettings;

impl Gateway {
    /// Says what [`Gateway::apply`] would do.
    #[must_use]
    pub fn plan(&self, config: &Config) -> Plan {
        self.parts.plan(&Parts::of(config))
    }

    /// Takes another configuration. What is not touched goes on without losing a reading; a part that
    /// changed is away for the moment that its end and its start take.
    ///
    /// # Errors
    /// When something changed that only a restart can change, or a source cannot be made. Then
    /// everything is as it was.
    pub async fn apply(&mut self, config: Config) -> Result<Plan, Notice> {
        let Some(outlet) = self.outlet.clone() else {
            return Err(say::stopping());
        };
        let mut parts = Parts::of(&config);
        let plan = self.parts.plan(&parts);
        let fixed = plan.needing_restart();
        if !fixed.is_empty() {
            return Err(say::needs_restart(&fixed.join(", ")));
        }
        let identity = effect::plain(&config.hash, &config.gateway);
        let news = self.build(config.sources, &plan, &outlet).map_err(|notice| *notice)?;

        self.config_hash.send_replace(Arc::clone(&config.hash));
        self.change_uplinks(config.uplinks, (config.store, identity), &plan).await;
        if plan.of("the deadbands").is_some() {
            self.deadbands.send_replace(bands(&config.deadbands));
        }
        if plan.has_rules() {
            // What a start has not finished is overtaken.
            self.beginning.shutdown().await;
            let (orders, events) = (self.rule_orders.clone(), self.events.clone());
            // A file that changed is compiled before it takes the place of one that runs.
            let chosen = spawn_blocking(move || orders.configure(config.rules, &events)).await;
            let chosen = chosen.unwrap_or_else(|_| self.rule_orders.running());
            for (name, failure) in self.rules.apply(chosen).await {
                tracing::error!("{}", say::rule_not_taken(&name, &failure.message));
                parts.forget_rule(&name);
            }
        }
        self.change_sources(news, &plan, &outlet).await;
        self.parts = parts;
        Ok(plan)
    }

    /// Makes the sources that are new or changed; opens nothing.
    fn build(
        &self,
        all: Vec<crate::config::SourceSettings>,
        plan: &Plan,
        outlet: &Outlet,
    ) -> Result<Vec<Box<dyn Source>>, Box<Notice>> {
        let concerned = all.into_iter().filter(|source| plan.of(&name_of(source)).is_some());
        let built = concerned.map(|source| sources::build(source, &outlet.points));
        built.collect::<Result<_, Fatal>>().map_err(|fatal| Box::new(say::not_made(&fatal.message)))
    }

    /// Stops the uplinks that change or go, tells the store who takes batches now, and starts those
    /// that are new. Each that stays keeps its place in the store and its connection.
    async fn change_uplinks(
        &mut self,
        wanted: Vec<UplinkSettings>,
        (store, identity): (StoreSettings, Identity),
        plan: &Plan,
    ) {
        let concerned = |name: &str| plan.of(&uplinks::part(name)).is_some();
        let stopped: Vec<Arc<str>> =
            self.places.iter().filter(|name| concerned(name)).cloned().collect();
        let goodbye = limits::UPLINK_GOODBYE_TIME_MAX + limits::MQTT_GOODBYE_TIME_MAX;
        self.broke |= self.uplinks.stop(&stopped, goodbye).await;
        for name in &stopped {
            self.events.part_gone(&uplinks::part(name), &[]);
        }
        self.places = places(&self.places, &wanted);
        let places = self.places.clone();
        self.effect.change(Configured { identity, store, places }).await;
        for settings in wanted {
            let place = self.places.iter().position(|name| **name == *settings.name);
            let place = place.and_then(|place| u8::try_from(place).ok());
            if let Some(place) = place.filter(|_| concerned(&settings.name)) {
                self.uplinks.start(settings, self.store.share(place));
            }
        }
    }

    /// Stops the sources that change or go, and starts those that are new. A changed bus takes over
    /// what the one before it knew of the devices that stay.
    async fn change_sources(&mut self, news: Vec<Box<dyn Source>>, plan: &Plan, outlet: &Outlet) {
        let names = plan.changes.iter().filter(|change| self.sources.has(&change.part));
        let names: Vec<Arc<str>> = names.map(|change| Arc::clone(&change.part)).collect();
        let patience = limits::RELOAD_SOURCES_TIME_MAX;
        let mut ended: BTreeMap<_, _> =
            self.sources.stop(names.iter().map(|name| &**name), patience).await;
        for mut source in news {
            let name = source.name();
            let mut going_on = Vec::new();
            if let (Some(before), Some(change)) = (ended.remove(&*name), plan.of(&name)) {
                going_on = source.take_over(before, &|device| !change.touches(device));
            }
            self.events.part_gone(&name, &going_on);
            self.sources.start(source, outlet);
        }
        for name in names.iter().filter(|name| plan.has(name, How::Removed)) {
            self.events.part_gone(name, &[]);
            tracing::info!("reads {name} no more");
        }
    }
}

/// Gives every uplink a place in the store: those that stay keep theirs, new ones take the first that
/// is free. An empty name is a free place.
pub(super) fn places(before: &[Arc<str>], wanted: &[UplinkSettings]) -> Vec<Arc<str>> {
    let is_wanted = |name: &str| wanted.iter().any(|uplink| uplink.name == name);
    let mut places: Vec<Arc<str>> = before
        .iter()
        .map(|name| if is_wanted(name) { Arc::clone(name) } else { "".into() })
        .collect();
    for uplink in wanted {
        if places.iter().any(|name| **name == *uplink.name) {
            continue;
        }
        let name = uplink.name.as_str().into();
        match places.iter_mut().find(|name| name.is_empty()) {
            Some(free) => *free = name,
            None => places.push(name),
        }
    }
    while places.last().is_some_and(|name| name.is_empty()) {
        places.pop();
    }
    places
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::{Options, load};

    const MAIN: &str = "[gateway]\nname = \"g\"\nsite = \"s\"\n[buffer]\npath = \"b.db\"\n\
        [uplink.a]\nurl = \"mqtt://127.0.0.1:1\"\n[source.x]\nvia = \"coap listen 127.0.0.1:0\"\n\
        [device.one]\nvia = \"modbus tcp 127.0.0.1:2 id 1\"\n\
        points.t = { at = \"holding 1\", as = \"u16\", deadband = 2.0 }\n\
        [device.two]\nvia = \"modbus tcp 127.0.0.1:2 id 2\"\n\
        points.t = { at = \"holding 1\", as = \"u16\" }\n";

    fn parts(folder: &Path, text: &str) -> Parts {
        let path = folder.join("fieldgate.toml");
        std::fs::write(&path, text).unwrap();
        Parts::of(&load(&path, Options::default()).unwrap_or_else(|faults| panic!("{faults}")))
    }

    fn plan(from: &str, to: &str) -> String {
        let folder = tempfile::tempdir().unwrap();
        let (before, after) = (parts(folder.path(), from), parts(folder.path(), to));
        let plan = before.plan(&after);
        let shown = plan.to_string();
        shown.lines().filter(|line| !line.starts_with("not touched")).collect::<Vec<_>>().join("; ")
    }

    #[test]
    fn a_plan_names_what_changes_and_nothing_else() {
        assert_eq!(plan(MAIN, MAIN), "nothing changes");
        // What does not change a value changes nothing.
        let reordered = format!("# a comment\n{MAIN}keep = true\n").replace("keep = true\n", "");
        assert_eq!(plan(MAIN, &reordered), "nothing changes");
        let other = |from: &str, to: &str| plan(MAIN, &MAIN.replace(from, to));
        assert_eq!(
            other("site = \"s\"", "site = \"t\""),
            "the gateway's labels change while it runs"
        );
        assert_eq!(
            other("name = \"g\"", "name = \"h\"").split("; ").next().unwrap(),
            "the gateway's name changes at the next restart only"
        );
        assert_eq!(other("b.db", "c.db"), "the buffer's path changes at the next restart only");
        assert_eq!(other("127.0.0.1:1\"", "127.0.0.1:9\""), "uplink a is stopped and started anew");
        assert_eq!(
            other("[uplink.a]", "[uplink.b]"),
            "uplink b is added and started; uplink a is stopped and removed"
        );
        assert_eq!(other("deadband = 2.0", "deadband = 1.0"), "the deadbands change while it runs");
        assert_eq!(
            other("id 2\"", "id 3\""),
            "bus 127.0.0.1:2 goes on with changed devices;   two changes"
        );
        assert_eq!(
            other("listen 127.0.0.1:0", "listen 127.0.0.1:5"),
            "coap listener x is stopped and started anew"
        );
    }

    #[test]
    fn every_source_is_known_by_the_name_it_gives_itself() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("fieldgate.toml");
        let all = format!(
            "{MAIN}[port.p]\npath = \"/dev/null\"\nline = \"9600 8N1\"\n\
             [device.scale]\nvia = \"serial p\"\nframe = {{ end = \"\\n\" }}\n\
             match = '^(?<w>\\d+)$'\npoints.w = {{}}\n\
             [source.z]\nvia = \"zigbee2mqtt mqtt://localhost\"\n\
             [source.c]\nvia = \"coap coap://localhost/x\"\nevery = \"1s\"\n"
        );
        std::fs::write(&path, all).unwrap();
        let config = load(&path, Options::default()).unwrap_or_else(|faults| panic!("{faults}"));
        assert_eq!(config.sources.len(), 5);
        for settings in config.sources {
            let name = name_of(&settings);
            let source = sources::build(settings, &crate::reading::Points::default()).unwrap();
            assert_eq!(source.name(), name);
        }
    }

    #[test]
    fn an_uplink_that_stays_keeps_its_place_in_the_store() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("fieldgate.toml");
        let uplinks = |names: &[&str]| {
            let of = |name: &&str| {
                format!("[uplink.{name}]\nurl = \"mqtt://127.0.0.1:1\"\nclient_id = \"{name}\"\n")
            };
            let text: String = names.iter().map(of).collect();
            std::fs::write(&path, format!("[source.x]\nvia = \"coap listen [::]:1\"\n{text}"))
                .unwrap();
            load(&path, Options::default()).unwrap_or_else(|faults| panic!("{faults}")).uplinks
        };
        let arcs = |names: &[&str]| names.iter().map(|name| Arc::from(*name)).collect::<Vec<_>>();
        let after = |before: &[&str], wanted: &[&str]| places(&arcs(before), &uplinks(wanted));
        assert_eq!(after(&[], &["a", "b"]), arcs(&["a", "b"]));
        assert_eq!(after(&["a", "b"], &["b"]), arcs(&["", "b"]));
        assert_eq!(after(&["", "b"], &["b", "c", "d"]), arcs(&["c", "b", "d"]));
        assert_eq!(after(&["a", "b"], &["a"]), arcs(&["a"]));
    }
}
