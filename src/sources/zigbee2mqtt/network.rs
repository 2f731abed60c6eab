//! A Zigbee network as its bridge tells it. No I/O: messages go in, readings, notices and further
//! subscriptions come out of [`Network::said`], and its tests are tables.
//!
//! Nothing is understood before the retained list of devices has come; so only the bridge's own
//! topics are subscribed to at first, and the devices' when the list is known. Friendly names may
//! contain `/`; those devices are subscribed to one by one, which spares us the wildcard over
//! everything and with it the bridge's log.
//!
//! A device is called by `rename` (its address first, then its friendly name), else by its friendly
//! name with `.` for `/` and `_` for what no topic level may hold. If two devices would share a
//! name, the later one gets the last four digits of its address.

use std::collections::{HashMap, HashSet};
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, SeqAccess, Visitor};
use serde_json::Value as Json;

use super::definition::{Entry, Feature, Kind, features};
use super::device::Device;
use super::settings::Bridge;
use crate::events::{Code, Notice, zigbee as told};
use crate::limits::{NAME_BYTES_MAX, ZIGBEE_DEVICES_MAX, ZIGBEE_STATE_BYTES_MAX};
use crate::reading::{Group, Points, UnixMillis};

/// What a message amounts to.
#[derive(Debug)]
pub enum Said {
    /// Readings.
    Group(Group),
    /// Something is wrong.
    Raise(Notice),
    /// Something is over: code, subject, and how that completes the subject.
    Clear(&'static Code, String, &'static str),
    /// A topic filter to subscribe to.
    Subscribe(String),
}

/// Devices and what is known of them.
#[derive(Debug)]
pub struct Network {
    bridge: Bridge,
    subject: String,
    devices: Vec<Device>,
    /// Friendly name to index in `devices`.
    topics: HashMap<String, usize>,
    /// Filters of this session.
    subscribed: HashSet<String>,
    listed: bool,
    said: Vec<Said>,
}

impl Network {
    /// Knows nothing yet.
    #[must_use]
    pub fn new(bridge: Bridge) -> Self {
        Self {
            subject: format!("source {}", bridge.name),
            bridge,
            devices: Vec::new(),
            topics: HashMap::new(),
            subscribed: HashSet::new(),
            listed: false,
            said: Vec::new(),
        }
    }

    /// Returns how notices call this source: `source zigbee`.
    #[must_use]
    pub fn subject(&self) -> &str {
        &self.subject
    }

    /// Begins a session with the broker and returns the filters to subscribe to first. What is
    /// known of devices stays known.
    pub fn begin(&mut self) -> Vec<String> {
        self.subscribed.clear();
        self.listed = false;
        ["devices", "state", "response/device/rename"]
            .map(|leaf| format!("{}/bridge/{leaf}", self.bridge.base))
            .into()
    }

    /// Returns whether the list of devices has come in this session.
    #[must_use]
    pub fn listed(&self) -> bool {
        self.listed
    }

    /// Says that no list came in a reasonable time.
    pub fn unlisted(&mut self) {
        self.said.push(Said::Raise(told::no_list(&self.subject, &self.bridge.base)));
    }

    /// Hands out what is to be done, in order.
    pub fn said(&mut self) -> std::vec::Drain<'_, Said> {
        self.said.drain(..)
    }

    /// Notes that no device can be heard: every point has no data until its device speaks again.
    pub fn away(&mut self, now: UnixMillis, names: &Points) {
        for device in &mut self.devices {
            self.said.extend(device.absent(now, names).map(Said::Group));
        }
    }

    /// Takes a message. `retain` says that the broker kept it: old news.
    pub fn on_message(
        &mut self,
        topic: &str,
        payload: &[u8],
        retain: bool,
        now: UnixMillis,
        names: &Points,
    ) {
        let base = self.bridge.base.as_str();
        let Some(rest) = topic.strip_prefix(base).and_then(|rest| rest.strip_prefix('/')) else {
            return;
        };
        // An empty payload is how a retained topic is cleared.
        if payload.is_empty() {
            return;
        }
        match rest.strip_prefix("bridge/") {
            Some("devices") => self.on_list(payload),
            Some("state") => self.on_bridge_state(payload, now, names),
            Some("response/device/rename") => self.on_rename(payload),
            Some(_) => {}
            None => match rest.strip_suffix("/availability") {
                Some(name) => self.on_availability(name, payload, retain, now, names),
                None => self.on_state(rest, payload, retain, now, names),
            },
        }
    }

    fn on_list(&mut self, payload: &[u8]) {
        let list = match serde_json::from_slice::<List>(payload) {
            Ok(list) => list,
            Err(error) => {
                let at = (error.line(), error.column());
                let why = format!("cannot read the list of devices (line {}, byte {})", at.0, at.1);
                self.said.push(Said::Raise(told::list_unread(&self.subject, why)));
                return;
            }
        };
        if list.surplus > 0 {
            let why = format!("has {} devices more than are taken", list.surplus);
            self.said.push(Said::Raise(told::list_unread(&self.subject, why)));
        } else {
            self.clear(&told::LIST_UNREAD, "has a list of devices");
        }
        self.clear(&told::NO_LIST, "has a list of devices");
        let mut before: HashMap<String, Device> =
            self.devices.drain(..).map(|device| (device.address.clone(), device)).collect();
        let mut taken = HashSet::new();
        self.topics.clear();
        for entry in list.entries {
            let Some(address) = entry.ieee_address else { continue };
            if entry.kind.as_deref() == Some("Coordinator") || !taken.insert(address.clone()) {
                continue;
            }
            let friendly = entry.friendly_name.filter(|name| !name.trim().is_empty());
            let friendly = friendly.unwrap_or_else(|| address.clone());
            let name = self.name(&address, &friendly);
            let exposes = entry.definition.and_then(|definition| definition.exposes);
            let features = self.wanted(features(&exposes.unwrap_or_default()));
            let before = before.remove(&address);
            let device = Device::new(address, &name, features, before);
            self.topics.insert(friendly, self.devices.len());
            self.devices.push(device);
        }
        self.listed = true;
        self.subscribe();
    }

    /// Subscribes to what the list has made known.
    fn subscribe(&mut self) {
        let base = self.bridge.base.as_str();
        let mut filters = vec![format!("{base}/+"), format!("{base}/+/availability")];
        for name in self.topics.keys().filter(|name| name.contains('/')) {
            if !name.contains(['+', '#']) {
                filters.push(format!("{base}/{name}"));
                filters.push(format!("{base}/{name}/availability"));
            }
        }
        for filter in filters {
            if self.subscribed.insert(filter.clone()) {
                self.said.push(Said::Subscribe(filter));
            }
        }
    }

    fn on_bridge_state(&mut self, payload: &[u8], now: UnixMillis, names: &Points) {
        match online(payload) {
            Some(true) => self.clear(&told::BRIDGE_OFFLINE, "is heard again"),
            Some(false) => {
                self.said.push(Said::Raise(told::bridge_offline(&self.subject)));
                self.away(now, names);
            }
            None => {}
        }
    }

    /// Between a rename and the next list, states come under the new name already.
    fn on_rename(&mut self, payload: &[u8]) {
        let Ok(answer) = serde_json::from_slice::<Json>(payload) else { return };
        let word = |key| answer.get("data")?.get(key)?.as_str();
        if let (Some("ok"), Some(from), Some(to)) =
            (answer.get("status").and_then(Json::as_str), word("from"), word("to"))
            && to.len() <= NAME_BYTES_MAX
            && let Some(index) = self.topics.remove(from)
        {
            self.topics.insert(to.to_owned(), index);
            self.subscribe();
        }
    }

    fn on_availability(
        &mut self,
        friendly: &str,
        payload: &[u8],
        retain: bool,
        now: UnixMillis,
        names: &Points,
    ) {
        let Some(index) = self.topics.get(friendly) else { return };
        let Some(online) = online(payload) else { return };
        let device = &mut self.devices[*index];
        let subject = format!("{}: {}", self.subject, device.name);
        if online {
            self.said.push(Said::Clear(&told::OFFLINE, subject, "is online"));
        } else {
            self.said.push(Said::Raise(told::offline(&subject, &device.address)));
            self.said.extend(device.absent(now, names).map(Said::Group));
        }
        if wanted(&self.bridge.points, "available") {
            let group = device.available(online, retain, now, names);
            self.said.extend(group.map(Said::Group));
        }
    }

    fn on_state(
        &mut self,
        friendly: &str,
        payload: &[u8],
        retain: bool,
        now: UnixMillis,
        names: &Points,
    ) {
        // A group, or a command on its way to a device (`name/set`).
        let Some(index) = self.topics.get(friendly) else { return };
        let device = &mut self.devices[*index];
        let subject = || format!("{}: {}", self.subject, device.name);
        let short = payload.len() <= ZIGBEE_STATE_BYTES_MAX;
        let state = short.then(|| serde_json::from_slice::<Json>(payload).ok()).flatten();
        let Some(state) = state.filter(Json::is_object) else {
            let notice = told::state_unread(&subject(), friendly, payload);
            self.said.push(Said::Raise(notice));
            self.said.extend(device.malformed(now, names).map(Said::Group));
            return;
        };
        if device.is_malformed() {
            self.said.push(Said::Clear(&told::STATE_UNREAD, subject(), "is understood again"));
        }
        match device.state(&state, retain, now, names) {
            Ok(group) => self.said.extend(group.map(Said::Group)),
            Err(_) => {
                let why = "has more points than this gateway takes";
                self.said.push(Said::Raise(told::list_unread(&self.subject, why)));
            }
        }
    }

    fn clear(&mut self, code: &'static Code, now: &'static str) {
        self.said.push(Said::Clear(code, self.subject.clone(), now));
    }

    /// Returns what the device is called here.
    fn name(&self, address: &str, friendly: &str) -> String {
        let renamed = self.bridge.rename.get(address).or_else(|| self.bridge.rename.get(friendly));
        let mut name = renamed.cloned().unwrap_or_else(|| plain(friendly));
        if self.devices.iter().any(|device| *device.name == *name) {
            let tail = address.char_indices().rev().nth(3).map_or(0, |(at, _)| at);
            name = format!("{name}-{}", &address[tail..]);
        }
        name
    }

    /// Returns the properties that the configuration wants, described or not.
    fn wanted(&self, described: Vec<Feature>) -> Vec<Feature> {
        let mut all = described;
        all.retain(|feature| wanted(&self.bridge.points, &feature.name));
        for point in &self.bridge.points {
            let known = |feature: &Feature| covers(point, &feature.name);
            if point != "available" && !all.iter().any(known) {
                let path = point.split('.').map(str::to_owned).collect();
                all.push(Feature::new(path, Kind::Any, ""));
            }
        }
        all
    }
}

/// An empty wish takes everything.
fn wanted(wish: &[String], point: &str) -> bool {
    wish.is_empty() || wish.iter().any(|wish| covers(wish, point))
}

/// `color` covers `color.x`.
fn covers(wish: &str, point: &str) -> bool {
    point.strip_prefix(wish).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// Makes a name that is one topic level.
fn plain(friendly: &str) -> String {
    let name: String = friendly
        .chars()
        .map(|c| match c {
            '/' => '.',
            '+' | '#' => '_',
            c if c.is_control() => '_',
            c => c,
        })
        .collect();
    name[..name.floor_char_boundary(NAME_BYTES_MAX)].to_owned()
}

/// Reads `{"state":"online"}`, or the bare word of zigbee2mqtt before 2.0.
fn online(payload: &[u8]) -> Option<bool> {
    let json = serde_json::from_slice::<Json>(payload).ok();
    let word = json.as_ref().and_then(|json| json.get("state").unwrap_or(json).as_str());
    match word.map_or(payload, str::as_bytes) {
        b"online" => Some(true),
        b"offline" => Some(false),
        _ => None,
    }
}

/// The list, cut at the most devices taken while it is read.
struct List {
    entries: Vec<Entry>,
    surplus: usize,
}

impl<'de> Deserialize<'de> for List {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(ListVisitor)
    }
}

struct ListVisitor;

impl<'de> Visitor<'de> for ListVisitor {
    type Value = List;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of devices")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<List, A::Error> {
        let mut list = List { entries: Vec::new(), surplus: 0 };
        while list.entries.len() < ZIGBEE_DEVICES_MAX {
            match seq.next_element()? {
                Some(entry) => list.entries.push(entry),
                None => return Ok(list),
            }
        }
        while seq.next_element::<serde::de::IgnoredAny>()?.is_some() {
            list.surplus += 1;
        }
        Ok(list)
    }
}
