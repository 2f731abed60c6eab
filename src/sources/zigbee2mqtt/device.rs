//! One Zigbee device: its states become groups.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value as Json;

use super::definition::{Feature, Kind};
use super::last_seen::last_seen;
use crate::clock::counts_from_boot;
use crate::reading::{
    Group, NoData, PointId, PointInfo, Points, Quality, Sample, Stream, TooManyPoints, UnixMillis,
    Value,
};

/// What is known of a device.
#[derive(Debug)]
pub struct Device {
    /// `0x00158d00018255df`; never changes.
    pub address: String,
    /// What it is called here.
    pub name: Arc<str>,
    /// Properties that are points, with their ids once they were read.
    features: Vec<(Feature, Option<PointId>)>,
    /// Lists of points that were seen together; the batch encoder recognises them by address.
    lists: Vec<Arc<[PointId]>>,
    /// Its points are reported as timed out already.
    absent: bool,
    /// Its points are reported as malformed already.
    malformed: bool,
}

/// Lists remembered; beyond that they are made anew, which only costs.
const LISTS_MAX: usize = 8;
/// A state that is older than this was kept somewhere: by the broker, or by zigbee2mqtt, which
/// publishes what it remembers when it starts. Below, it is the way through the bridge.
const OLD_AFTER: Duration = Duration::from_secs(60);

impl Device {
    /// Describes a device as the newest list does; `before` is what was known of it.
    #[must_use]
    pub fn new(address: String, name: &str, features: Vec<Feature>, before: Option<Self>) -> Self {
        let (mut absent, mut malformed, mut ids) = (false, false, Vec::new());
        if let Some(before) = before {
            (absent, malformed) = (before.absent, before.malformed);
            // Under another name every point is another one.
            ids = if *before.name == *name { before.features } else { Vec::new() };
        }
        let known = |feature: &Feature| ids.iter().find(|(f, _)| f == feature)?.1;
        let features = features.into_iter().map(|feature| {
            let id = known(&feature);
            (feature, id)
        });
        Self {
            address,
            name: name.into(),
            features: features.collect(),
            lists: Vec::new(),
            absent,
            malformed,
        }
    }

    /// Returns whether the last state could not be read.
    #[must_use]
    pub fn is_malformed(&self) -> bool {
        self.malformed
    }

    /// Reads a state. `None` when it holds no point.
    ///
    /// A retained state is old: its values are uncertain, and so are those of a state whose
    /// `last_seen` is. They get the time of `last_seen` when there is one.
    ///
    /// # Errors
    /// When the process knows too many points already.
    pub fn state(
        &mut self,
        state: &Json,
        retain: bool,
        now: UnixMillis,
        names: &Points,
    ) -> Result<Option<Group>, TooManyPoints> {
        // Without the time of the bridge, or our own, nothing is known about how old this is.
        let seen = last_seen(state).filter(|seen| *seen <= now && !counts_from_boot(*seen));
        let old_ms = i64::try_from(OLD_AFTER.as_millis()).unwrap_or(i64::MAX);
        let old = retain || seen.is_some_and(|seen| now.0 - seen.0 > old_ms);
        let quality = if old { Quality::Uncertain } else { Quality::Good };
        let at = seen.filter(|_| old).unwrap_or(now);
        let (mut found, mut samples) = (Vec::new(), Vec::new());
        for (feature, id) in &mut self.features {
            let Some(value) = feature.read(state) else { continue };
            found.push(known(&self.name, feature, id, names)?);
            samples.push(match value {
                Ok(value) => Sample { value: Ok(value), quality },
                Err(why) => Sample::none(why),
            });
        }
        self.malformed = false;
        if samples.is_empty() {
            return Ok(None);
        }
        // What the broker kept says nothing about whether the device is there.
        self.absent &= old;
        Ok(Some(Group { stream: Stream::Data, at, points: self.list(found), samples }))
    }

    /// Marks every point as timed out; `None` when that was done since the device last spoke.
    pub fn absent(&mut self, now: UnixMillis, names: &Points) -> Option<Group> {
        if std::mem::replace(&mut self.absent, true) {
            return None;
        }
        self.without_data(NoData::Timeout, now, names)
    }

    /// Marks every point as malformed; `None` when that was done since the last good state.
    pub fn malformed(&mut self, now: UnixMillis, names: &Points) -> Option<Group> {
        if std::mem::replace(&mut self.malformed, true) {
            return None;
        }
        self.without_data(NoData::Malformed, now, names)
    }

    /// Returns the point that says whether zigbee2mqtt can reach the device.
    pub fn available(
        &mut self,
        online: bool,
        retain: bool,
        now: UnixMillis,
        names: &Points,
    ) -> Option<Group> {
        let id = names.intern(PointInfo::new(&self.name, "available", "")).ok()?;
        let quality = if retain { Quality::Uncertain } else { Quality::Good };
        let sample = Sample { value: Ok(Value::Bool(online)), quality };
        let points = self.list(vec![id]);
        Some(Group { stream: Stream::Data, at: now, points, samples: vec![sample] })
    }

    fn without_data(&mut self, why: NoData, now: UnixMillis, names: &Points) -> Option<Group> {
        let name = &self.name;
        let ids: Vec<_> = self
            .features
            .iter_mut()
            // What the configuration hopes for is a point once the device has shown it.
            .filter(|(feature, id)| feature.kind != Kind::Any || id.is_some())
            .filter_map(|(feature, id)| known(name, feature, id, names).ok())
            .collect();
        if ids.is_empty() {
            return None;
        }
        let samples = vec![Sample::none(why); ids.len()];
        Some(Group { stream: Stream::Data, at: now, points: self.list(ids), samples })
    }

    fn list(&mut self, found: Vec<PointId>) -> Arc<[PointId]> {
        if let Some(list) = self.lists.iter().find(|list| ***list == found[..]) {
            return Arc::clone(list);
        }
        let list: Arc<[PointId]> = found.into();
        if self.lists.len() < LISTS_MAX {
            self.lists.push(Arc::clone(&list));
        }
        list
    }
}

/// Returns the id of a property's point, looking it up the first time.
fn known(
    device: &Arc<str>,
    feature: &Feature,
    id: &mut Option<PointId>,
    names: &Points,
) -> Result<PointId, TooManyPoints> {
    if let Some(id) = id {
        return Ok(*id);
    }
    let found = names.intern(PointInfo {
        device: Arc::clone(device),
        point: Arc::clone(&feature.name),
        unit: Arc::clone(&feature.unit),
        src: None,
    })?;
    *id = Some(found);
    Ok(found)
}
