//! The points of a process: what is known about each, and the number that stands for it in memory.
//!
//! Names come in families: the devices of one template share the names, units and addresses of its
//! points. Every text is kept once and a point is four numbers, so 10,000 points of ten alike devices
//! take 0.4 MB and not the 2.3 MB of as many names of their own.

use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, PoisonError, RwLock};

use hashbrown::HashTable;

use crate::limits;

/// Index into [`Points`]; valid for the life of the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PointId(pub u32);

/// What is known about a point besides its readings. Two points that differ in any field are two
/// series on the wire: a changed unit is never a silent rescale.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PointInfo {
    /// The device's name, one topic level.
    pub device: Arc<str>,
    /// The point's name within the device.
    pub point: Arc<str>,
    /// UCUM or SenML unit; empty when it has none.
    pub unit: Arc<str>,
    /// Protocol address as people write it (`holding 107`), when the source has one.
    pub src: Option<Arc<str>>,
}

/// Every point of this process, interned: names are compared once, at the border.
#[derive(Debug, Default)]
pub struct Points(RwLock<Interned>);

#[derive(Debug, Default)]
struct Interned {
    words: Words,
    list: Vec<Names>,
    /// Indices into `list`, found by what stands there.
    ids: HashTable<u32>,
    /// How many of them came by [`Points::learn`].
    learned: usize,
    hasher: RandomState,
}

/// Every text once.
#[derive(Debug, Default)]
struct Words {
    list: Vec<Arc<str>>,
    /// Indices into `list`, found by what stands there.
    index: HashTable<u32>,
    hasher: RandomState,
}

/// A [`PointInfo`] by its words: device, point, unit, and the address or [`NO_WORD`].
type Names = [u32; 4];

/// Stands for an address that a point does not have. There are never so many words:
const NO_WORD: u32 = u32::MAX;
const _: () = assert!(limits::POINTS_MAX < NO_WORD as usize / 4);

/// As many points as there may be are known: a sender invents names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooManyPoints;

impl Points {
    /// Returns the id of `info`, giving it one on first sight. The texts are copied: those of a
    /// configuration lie among all that reading it took, and would keep that memory from going back.
    ///
    /// # Errors
    /// When [`limits::POINTS_MAX`] different points exist already.
    pub fn intern(&self, info: PointInfo) -> Result<PointId, TooManyPoints> {
        self.get_or_add(&info, false)
    }

    /// As [`Points::intern`], for a point that nobody configured: whoever may send names it.
    ///
    /// # Errors
    /// When there are [`limits::POINTS_LEARNED_MAX`] of that kind, or [`limits::POINTS_MAX`] in all.
    pub fn learn(&self, info: PointInfo) -> Result<PointId, TooManyPoints> {
        self.get_or_add(&info, true)
    }

    fn get_or_add(&self, info: &PointInfo, is_learned: bool) -> Result<PointId, TooManyPoints> {
        if let Some(id) = self.find(info) {
            return Ok(id);
        }
        let mut all = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(id) = all.find(info) {
            return Ok(id);
        }
        let is_full = all.list.len() >= limits::POINTS_MAX;
        if is_full || is_learned && all.learned >= limits::POINTS_LEARNED_MAX {
            return Err(TooManyPoints);
        }
        let id = all.add(info)?;
        all.learned += usize::from(is_learned);
        Ok(id)
    }

    /// Returns the id of a point that is already known.
    #[must_use]
    pub fn find(&self, info: &PointInfo) -> Option<PointId> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).find(info)
    }

    /// Returns what is known about `id`.
    ///
    /// # Panics
    /// When `id` came from another table; ids are made by [`Points::intern`] only.
    #[must_use]
    pub fn info(&self, id: PointId) -> PointInfo {
        let all = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let [device, point, unit, src] = all.list[id.0 as usize];
        let word = |index: u32| Arc::clone(&all.words.list[index as usize]);
        let src = (src != NO_WORD).then(|| word(src));
        PointInfo { device: word(device), point: word(point), unit: word(unit), src }
    }

    /// Returns how many points are known.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.read().unwrap_or_else(PoisonError::into_inner).list.len()
    }

    /// Returns whether no point is known yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Interned {
    fn find(&self, info: &PointInfo) -> Option<PointId> {
        let src = match &info.src {
            Some(src) => self.words.find(src)?,
            None => NO_WORD,
        };
        let word = |text| self.words.find(text);
        let names = [word(&info.device)?, word(&info.point)?, word(&info.unit)?, src];
        let found =
            self.ids.find(self.hasher.hash_one(names), |id| self.list[*id as usize] == names);
        found.copied().map(PointId)
    }

    fn add(&mut self, info: &PointInfo) -> Result<PointId, TooManyPoints> {
        let mut word = |text| self.words.intern(text);
        let names = [
            word(&info.device)?,
            word(&info.point)?,
            word(&info.unit)?,
            info.src.as_deref().map_or(Ok(NO_WORD), word)?,
        ];
        let id = u32::try_from(self.list.len()).map_err(|_| TooManyPoints)?;
        self.list.push(names);
        let (list, hasher) = (&self.list, &self.hasher);
        let hash = |id: &u32| hasher.hash_one(list[*id as usize]);
        self.ids.insert_unique(hash(&id), id, hash);
        Ok(PointId(id))
    }
}

impl Words {
    fn find(&self, text: &str) -> Option<u32> {
        let same = |index: &u32| *self.list[*index as usize] == *text;
        self.index.find(self.hasher.hash_one(text), same).copied()
    }

    fn intern(&mut self, text: &str) -> Result<u32, TooManyPoints> {
        if let Some(index) = self.find(text) {
            return Ok(index);
        }
        let index = u32::try_from(self.list.len()).map_err(|_| TooManyPoints)?;
        self.list.push(text.into());
        let (list, hasher) = (&self.list, &self.hasher);
        let hash = |index: &u32| hasher.hash_one(&*list[*index as usize]);
        self.index.insert_unique(hash(&index), index, hash);
        Ok(index)
    }
}

impl PointInfo {
    /// Names a point without a protocol address.
    #[must_use]
    pub fn new(device: &str, point: &str, unit: &str) -> Self {
        Self { device: device.into(), point: point.into(), unit: unit.into(), src: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_point_has_one_id_and_a_new_unit_a_new_one() {
        let points = Points::default();
        let a = points.intern(PointInfo::new("m", "t", "Cel")).unwrap();
        assert_eq!(points.intern(PointInfo::new("m", "t", "Cel")).unwrap(), a);
        assert_ne!(points.intern(PointInfo::new("m", "t", "K")).unwrap(), a);
    }

    #[test]
    fn senders_that_invent_names_leave_room_for_what_is_configured() {
        let points = Points::default();
        let invented = |n: usize| PointInfo::new(&format!("invented-{n}"), "p", "");
        for n in 0..limits::POINTS_LEARNED_MAX {
            points.learn(invented(n)).unwrap();
        }
        assert_eq!(points.learn(invented(limits::POINTS_LEARNED_MAX)), Err(TooManyPoints));
        let known = points.intern(PointInfo::new("meter", "p", "")).unwrap();
        assert_eq!(points.learn(PointInfo::new("meter", "p", "")), Ok(known));
        points.learn(invented(7)).unwrap();
    }

    #[test]
    fn a_point_comes_back_as_it_was_named_with_its_address_or_without() {
        let points = Points::default();
        let infos: Vec<PointInfo> = (0..2000)
            .map(|n| PointInfo {
                // Texts that stand for a device here and for a point or an address there.
                src: (n % 3 > 0).then(|| format!("x{}", n % 40).into()),
                ..PointInfo::new(&format!("x{}", n % 7), &format!("x{}", n / 7), "x1")
            })
            .collect();
        let ids: Vec<PointId> =
            infos.iter().map(|info| points.intern(info.clone()).unwrap()).collect();
        assert_eq!(points.len(), infos.len());
        for (id, info) in ids.iter().zip(&infos) {
            assert_eq!((points.info(*id), points.find(info)), (info.clone(), Some(*id)));
        }
        let moved = PointInfo { src: Some("x2".into()), ..infos[1].clone() };
        assert_eq!(points.find(&moved), None, "another address is another point");
    }
}
