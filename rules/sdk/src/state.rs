//! State as bytes: small, the same on every machine, without a format library in every rule.
//!
//! Numbers are little-endian, lengths are four bytes, options one byte before their content. What
//! does not read back is not this state, and the caller decides.

use alloc::collections::{BTreeMap, VecDeque};
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

use crate::Timestamp;

/// What a rule remembers. `#[derive(State)]` writes this for structs whose fields are [`State`].
pub trait State: Sized {
    /// Raise it when the meaning of the bytes changes, and read the old ones in
    /// [`crate::Rule::migrate`].
    const VERSION: u32 = 1;

    /// Appends it as bytes.
    fn save(&self, to: &mut Vec<u8>);

    /// Takes it off the front of `from`; `None` when the bytes are not such a state.
    fn load(from: &mut &[u8]) -> Option<Self>;

    /// Appends all of them, as [`State::save`] of each would.
    #[doc(hidden)]
    fn save_each(all: &[Self], to: &mut Vec<u8>) {
        all.iter().for_each(|one| one.save(to));
    }
}

fn take<const N: usize>(from: &mut &[u8]) -> Option<[u8; N]> {
    let (head, rest) = from.split_first_chunk::<N>()?;
    *from = rest;
    Some(*head)
}

macro_rules! numbers {
    ($($kind:ty),*) => {$(
        impl State for $kind {
            fn save(&self, to: &mut Vec<u8>) {
                to.extend_from_slice(&self.to_le_bytes());
            }
            fn load(from: &mut &[u8]) -> Option<Self> {
                Some(Self::from_le_bytes(take(from)?))
            }
            // Room once, not for each: what a rule remembers most of is numbers.
            fn save_each(all: &[Self], to: &mut Vec<u8>) {
                const BYTES: usize = size_of::<$kind>();
                let begin = to.len();
                to.resize(begin + all.len() * BYTES, 0);
                for (place, one) in to[begin..].chunks_exact_mut(BYTES).zip(all) {
                    place.copy_from_slice(&one.to_le_bytes());
                }
            }
        }
    )*};
}
numbers!(u8, u16, u32, u64, i8, i16, i32, i64, f32, f64);

impl State for () {
    fn save(&self, _: &mut Vec<u8>) {}
    fn load(_: &mut &[u8]) -> Option<Self> {
        Some(())
    }
}

impl State for bool {
    fn save(&self, to: &mut Vec<u8>) {
        to.push(u8::from(*self));
    }
    fn load(from: &mut &[u8]) -> Option<Self> {
        match u8::load(from)? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }
}

impl State for Timestamp {
    fn save(&self, to: &mut Vec<u8>) {
        self.0.save(to);
    }
    fn load(from: &mut &[u8]) -> Option<Self> {
        i64::load(from).map(Self)
    }
}

/// To the microsecond, which is as fine as time gets here.
impl State for Duration {
    fn save(&self, to: &mut Vec<u8>) {
        u64::try_from(self.as_micros()).unwrap_or(u64::MAX).save(to);
    }
    fn load(from: &mut &[u8]) -> Option<Self> {
        u64::load(from).map(Self::from_micros)
    }
}

impl<T: State> State for Option<T> {
    fn save(&self, to: &mut Vec<u8>) {
        self.is_some().save(to);
        if let Some(inner) = self {
            inner.save(to);
        }
    }
    fn load(from: &mut &[u8]) -> Option<Self> {
        Some(if bool::load(from)? { Some(T::load(from)?) } else { None })
    }
}

fn save_length(length: usize, to: &mut Vec<u8>) {
    u32::try_from(length).unwrap_or(u32::MAX).save(to);
}

fn load_all<T: State, C: FromIterator<T>>(from: &mut &[u8]) -> Option<C> {
    // Nothing is reserved for what the length says: the bytes must be there.
    let length = u32::load(from)?;
    (0..length).map(|_| T::load(from)).collect()
}

impl<T: State> State for Vec<T> {
    fn save(&self, to: &mut Vec<u8>) {
        save_length(self.len(), to);
        T::save_each(self, to);
    }
    fn load(from: &mut &[u8]) -> Option<Self> {
        load_all(from)
    }
}

impl<T: State> State for VecDeque<T> {
    fn save(&self, to: &mut Vec<u8>) {
        save_length(self.len(), to);
        let (front, back) = self.as_slices();
        T::save_each(front, to);
        T::save_each(back, to);
    }
    fn load(from: &mut &[u8]) -> Option<Self> {
        load_all(from)
    }
}

impl<K: State + Ord, V: State> State for BTreeMap<K, V> {
    fn save(&self, to: &mut Vec<u8>) {
        save_length(self.len(), to);
        for (key, value) in self {
            key.save(to);
            value.save(to);
        }
    }
    fn load(from: &mut &[u8]) -> Option<Self> {
        load_all::<(K, V), Self>(from)
    }
}

impl State for String {
    fn save(&self, to: &mut Vec<u8>) {
        save_length(self.len(), to);
        to.extend_from_slice(self.as_bytes());
    }
    fn load(from: &mut &[u8]) -> Option<Self> {
        let length = usize::try_from(u32::load(from)?).ok()?;
        let (text, rest) = from.split_at_checked(length)?;
        *from = rest;
        Some(Self::from(core::str::from_utf8(text).ok()?))
    }
}

macro_rules! tuples {
    ($(($($name:ident . $at:tt),*)),*) => {$(
        impl<$($name: State),*> State for ($($name,)*) {
            fn save(&self, to: &mut Vec<u8>) {
                $(self.$at.save(to);)*
            }
            fn load(from: &mut &[u8]) -> Option<Self> {
                Some(($($name::load(from)?,)*))
            }
        }
    )*};
}
tuples!((A.0), (A.0, B.1), (A.0, B.1, C.2), (A.0, B.1, C.2, D.3));

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;
    use alloc::vec;

    #[derive(crate::State, Default, Debug, PartialEq)]
    struct Everything {
        number: Option<f64>,
        at: Timestamp,
        names: Vec<String>,
        by_name: BTreeMap<String, (u32, bool)>,
        queue: VecDeque<i64>,
        after: Duration,
    }

    #[test]
    fn state_reads_back_as_it_was_written_and_cut_short_it_is_refused() {
        let state = Everything {
            number: Some(-1.5),
            at: Timestamp(-7),
            names: vec!["a".to_string(), "ü".to_string()],
            by_name: [("x".to_string(), (3, true))].into(),
            queue: [1, 2].into(),
            after: Duration::from_millis(1500),
        };
        let mut bytes = Vec::new();
        state.save(&mut bytes);
        assert_eq!(Everything::load(&mut bytes.as_slice()), Some(state));
        for length in 0..bytes.len() {
            assert_eq!(Everything::load(&mut &bytes[..length]), None, "{length} bytes");
        }
    }

    #[test]
    fn a_length_that_lies_reserves_nothing() {
        let bytes = [0xff, 0xff, 0xff, 0xff, 1, 2, 3];
        assert_eq!(Vec::<u64>::load(&mut bytes.as_slice()), None);
        assert_eq!(String::load(&mut bytes.as_slice()), None);
    }
}
