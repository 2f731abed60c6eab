//! Sets of sequence numbers that are nearly all of them: kept as ranges, so that a million numbers
//! in a row cost as much as one. Store and uplink note in them who has what.

/// A set of numbers from 1. Its size in memory is that of its ranges, 16 bytes each; whoever keeps
/// one bounds their number with [`Ranges::spans`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ranges(Vec<(u64, u64)>);

impl Ranges {
    /// Returns whether it holds nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the number of ranges.
    #[must_use]
    pub fn spans(&self) -> usize {
        self.0.len()
    }

    /// Returns the ranges, ascending; both ends are in the set.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (u64, u64)> + '_ {
        self.0.iter().copied()
    }

    /// Returns whether `number` is in the set.
    #[must_use]
    pub fn contains(&self, number: u64) -> bool {
        let after = self.0.partition_point(|(first, _)| *first <= number);
        after > 0 && self.0[after - 1].1 >= number
    }

    /// Adds `first` to `last`; nothing when `last` is less.
    pub fn insert(&mut self, first: u64, last: u64) {
        if last < first {
            return;
        }
        // Ranges that touch the new one become part of it.
        let from = self.0.partition_point(|(_, end)| end.saturating_add(1) < first);
        let to = self.0.partition_point(|(begin, _)| *begin <= last.saturating_add(1));
        let (mut begin, mut end) = (first, last);
        if from < to {
            begin = begin.min(self.0[from].0);
            end = end.max(self.0[to - 1].1);
        }
        self.0.splice(from..to, [(begin, end)]);
    }

    /// Takes `first` to `last` out.
    pub fn remove(&mut self, first: u64, last: u64) {
        if last < first {
            return;
        }
        let from = self.0.partition_point(|(_, end)| *end < first);
        let to = self.0.partition_point(|(begin, _)| *begin <= last);
        if from >= to {
            return;
        }
        let before = (self.0[from].0, first.saturating_sub(1));
        let after = (last.saturating_add(1), self.0[to - 1].1);
        let before = (before.0 < first).then_some(before);
        let after = (after.1 > last).then_some(after);
        self.0.splice(from..to, before.into_iter().chain(after));
    }

    /// Adds all of another set.
    pub fn extend(&mut self, other: &Self) {
        for (first, last) in other.iter() {
            self.insert(first, last);
        }
    }

    /// Returns the first run of numbers from `from` on that are not in the set, up to `last` at most.
    #[must_use]
    pub fn gap(&self, from: u64, last: u64) -> Option<(u64, u64)> {
        let next = self.0.partition_point(|(_, end)| *end < from);
        let (first, next) = match self.0.get(next) {
            Some((begin, end)) if *begin <= from => (end.checked_add(1)?, next + 1),
            _ => (from, next),
        };
        let end = self.0.get(next).map_or(last, |(begin, _)| last.min(begin - 1));
        (first <= end).then_some((first, end))
    }

    /// Returns how many of the numbers from `first` to `last` are in the set.
    #[must_use]
    pub fn count(&self, first: u64, last: u64) -> u64 {
        let from = self.0.partition_point(|(_, end)| *end < first);
        let within = self.0[from..].iter().take_while(|(begin, _)| *begin <= last);
        within.map(|(begin, end)| end.min(&last) - begin.max(&first) + 1).sum()
    }

    /// Returns what is in both sets.
    #[must_use]
    pub fn intersection(&self, other: &Self) -> Self {
        let mut both = Self::default();
        let (mut ours, mut theirs) = (self.iter().peekable(), other.iter().peekable());
        while let (Some(a), Some(b)) = (ours.peek().copied(), theirs.peek().copied()) {
            both.insert(a.0.max(b.0), a.1.min(b.1));
            if a.1 < b.1 {
                ours.next()
            } else {
                theirs.next()
            };
        }
        both
    }

    /// Forgets the highest ranges beyond `most`.
    pub fn truncate(&mut self, most: usize) {
        self.0.truncate(most);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn ranges_agree_with_a_plain_set_whatever_happens() {
        let mut seed = 0x5EED_u64;
        let mut random = move |below: u64| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (seed >> 33) % below
        };
        for _ in 0..300 {
            let (mut ranges, mut plain) = (Ranges::default(), BTreeSet::new());
            let (mut other, mut plain_other) = (Ranges::default(), BTreeSet::new());
            for _ in 0..40 {
                let first = 1 + random(60);
                let last = (first + random(8)).saturating_sub(1);
                match random(4) {
                    0 => {
                        ranges.remove(first, last);
                        plain.retain(|n| *n < first || *n > last);
                    }
                    1 => {
                        other.insert(first, last);
                        plain_other.extend(first..=last);
                    }
                    _ => {
                        ranges.insert(first, last);
                        plain.extend(first..=last);
                    }
                }
                let listed: Vec<u64> = ranges.iter().flat_map(|(a, b)| a..=b).collect();
                assert_eq!(listed, plain.iter().copied().collect::<Vec<_>>());
                assert!(ranges.0.windows(2).all(|w| w[0].1 + 1 < w[1].0), "{ranges:?}");
                assert!((0..80).all(|n| ranges.contains(n) == plain.contains(&n)));
                assert_eq!(
                    ranges.count(first, last + 9),
                    plain.range(first..=last + 9).count() as u64
                );
                let free = (first..=66).find(|n| !plain.contains(n));
                let end = free.map(|a| (a..=66).take_while(|n| !plain.contains(n)).last().unwrap());
                assert_eq!(ranges.gap(first, 66), free.zip(end), "{ranges:?} from {first}");
                let both: Vec<u64> =
                    ranges.intersection(&other).iter().flat_map(|(a, b)| a..=b).collect();
                assert_eq!(both, plain.intersection(&plain_other).copied().collect::<Vec<_>>());
            }
            ranges.extend(&other);
            assert_eq!(ranges.count(0, u64::MAX), plain.union(&plain_other).count() as u64);
        }
    }

    #[test]
    fn the_ends_of_all_numbers_are_no_trouble() {
        let mut ranges = Ranges::default();
        ranges.insert(5, u64::MAX);
        ranges.insert(0, 2);
        assert_eq!(ranges.gap(0, u64::MAX), Some((3, 4)));
        assert_eq!(ranges.gap(5, u64::MAX), None);
        ranges.remove(0, u64::MAX);
        assert!(ranges.is_empty() && ranges.gap(1, u64::MAX) == Some((1, u64::MAX)));
    }
}
