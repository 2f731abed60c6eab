//! The exports: what the host calls, in the layouts of the canonical ABI, and the memory behind them.
//!
//! Everything the host hands over during a call (the batch, its texts, what it returns from imports)
//! lies in one arena that is emptied when the call ends. The rule's own memory comes from an
//! allocator of powers of two that never gives back: an instance is thrown away before that matters.
#![expect(unsafe_code, reason = "the border to the host")]

#[cfg(not(feature = "std"))]
mod memory;

use alloc::alloc::{Layout, alloc, dealloc};
use alloc::string::String;
use alloc::vec::Vec;
use core::cell::UnsafeCell;

use crate::guest::Guest;
use crate::whole::{Context, Fired};
use crate::{Error, NoData, Reading, Series, Timestamp, Value, sys};

/// A list or text: where it lies and how many items it has.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct List {
    pub at: u32,
    pub length: u32,
}

impl List {
    /// From the eight bytes of a variant's content.
    pub(crate) fn of(bytes: u64) -> Self {
        #[expect(clippy::cast_possible_truncation, reason = "two halves")]
        Self { at: bytes as u32, length: (bytes >> 32) as u32 }
    }

    /// The items, until the call ends.
    pub(crate) fn items<'a, T: Copy>(self) -> &'a [T] {
        if self.length == 0 {
            return &[];
        }
        // SAFETY: the host wrote this list in the arena, aligned as its items ask for.
        unsafe { core::slice::from_raw_parts(self.at as *const T, self.length as usize) }
    }

    fn str<'a>(self) -> &'a str {
        // SAFETY: the host passes valid UTF-8 only; the canonical ABI asks for it.
        unsafe { core::str::from_utf8_unchecked(self.items()) }
    }

    pub(crate) fn text(self) -> String {
        String::from(self.str())
    }
}

// A reading lies in the host's list as it does here: series at 0, time at 8, quality at 16, the value's
// kind at 24, its content at 32. So a batch is read where it lies, and an emitted reading is one copy.
const _: () = {
    use core::mem::offset_of;
    assert!(size_of::<Reading<'_>>() == 40 && align_of::<Reading<'_>>() == 8);
    assert!(offset_of!(Reading<'_>, series) == 0 && offset_of!(Reading<'_>, at) == 8);
    assert!(offset_of!(Reading<'_>, quality) == 16 && offset_of!(Reading<'_>, value) == 24);
    assert!(size_of::<Value<'_>>() == 16 && size_of::<NoData>() == 1);
    // A text is its address and then its length, as a list is.
    let text = core::ptr::slice_from_raw_parts(core::ptr::without_provenance::<u8>(16), 5);
    // SAFETY: two numbers made into two numbers; nothing is read behind them.
    let [at, length] = unsafe { core::mem::transmute::<*const [u8], [usize; 2]>(text) };
    assert!(at == 16 && length == 5 && size_of::<RawSeries>() == 40);
};

/// `series`.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
struct RawSeries {
    id: u32,
    device: List,
    point: List,
    has_unit: u8,
    unit: List,
    labels: List,
}

impl RawSeries {
    fn lift(&self) -> Series {
        let labels = self.labels.items::<[List; 2]>();
        Series {
            id: self.id,
            device: self.device.text(),
            point: self.point.text(),
            unit: (self.has_unit != 0).then(|| self.unit.text()),
            labels: labels.iter().map(|[name, value]| (name.text(), value.text())).collect(),
        }
    }
}

/// `fired`.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
struct RawFired {
    name: List,
    at: i64,
}

/// `result<u32, error>` and `result<_, error>` alike.
#[derive(Debug)]
#[repr(C)]
pub struct RawResult {
    failed: u32,
    content: [u32; 4],
}

/// One instance of the rule and what its last call returned. Guests have one thread.
pub struct Cell<G>(UnsafeCell<Inner<G>>);

struct Inner<G> {
    guest: Option<G>,
    result: RawResult,
    error: Option<Error>,
}

// SAFETY: a component instance is entered by one thread at a time and never re-entered.
unsafe impl<G> Sync for Cell<G> {}

impl<G: Guest> Cell<G> {
    /// Not open yet.
    #[must_use]
    pub const fn new() -> Self {
        let result = RawResult { failed: 0, content: [0; 4] };
        Self(UnsafeCell::new(Inner { guest: None, result, error: None }))
    }

    #[expect(clippy::mut_from_ref, reason = "one thread, never re-entered")]
    fn inner(&self) -> &mut Inner<G> {
        // SAFETY: as for `Sync`; every export takes it once.
        unsafe { &mut *self.0.get() }
    }

    fn with(&self, call: impl FnOnce(&mut G) -> Result<(), Error>) -> *const RawResult {
        let inner = self.inner();
        let done = match &mut inner.guest {
            Some(guest) => call(guest).map(|()| 0),
            None => Err(Error::new("open", "called before it was opened")),
        };
        inner.say(done)
    }

    /// The export `open`.
    pub fn open(&self, at: u32, length: u32) -> *const RawResult {
        #[cfg(feature = "std")]
        std::panic::set_hook(std::boxed::Box::new(|panic| {
            sys::log(sys::Level::Error, &std::string::ToString::to_string(panic));
        }));
        let series = List { at, length }.items::<RawSeries>();
        let inner = self.inner();
        let opened = G::open(series.iter().map(RawSeries::lift).collect(), &mut sys::param);
        let done = opened.map(|guest| {
            inner.guest = Some(guest);
            G::STATE_VERSION
        });
        inner.say(done)
    }

    /// The export `migrate`.
    pub fn migrate(&self, from: u32) -> *const RawResult {
        self.with(|guest| guest.migrate(from))
    }

    /// The export `series-added`.
    pub fn series_added(&self, at: u32, length: u32) -> *const RawResult {
        let series = List { at, length }.items::<RawSeries>();
        self.with(|guest| guest.series_added(series.iter().map(RawSeries::lift).collect()))
    }

    /// The export `process`.
    pub fn process(&self, context: Context, at: u32, length: u32) -> *const RawResult {
        let batch = List { at, length }.items::<Reading<'_>>();
        self.with(|guest| guest.process(&context, batch))
    }

    /// The export `on-timer`.
    pub fn on_timer(&self, context: Context, at: u32, length: u32) -> *const RawResult {
        let fired = List { at, length }.items::<RawFired>().iter();
        let fired = fired.map(|one| Fired { name: one.name.text(), at: Timestamp(one.at) });
        self.with(|guest| guest.on_timer(&context, &fired.collect::<Vec<_>>()))
    }
}

impl<G> Inner<G> {
    fn say(&mut self, done: Result<u32, Error>) -> *const RawResult {
        arena().reset();
        self.result = match done {
            Ok(number) => RawResult { failed: 0, content: [number, 0, 0, 0] },
            Err(error) => {
                let Error { code, message } = self.error.insert(error);
                let [code, message] =
                    [code, message].map(|text| list_of(text.as_ptr(), text.len()));
                let content = [code.at, code.length, message.at, message.length];
                RawResult { failed: 1, content }
            }
        };
        &raw const self.result
    }
}

#[expect(clippy::cast_possible_truncation, reason = "addresses have 32 bits here")]
fn list_of(at: *const u8, length: usize) -> List {
    List { at: at as u32, length: length as u32 }
}

/// Builds the context from the flat arguments of an export.
#[must_use]
pub fn context(batch: u64, now: i64, watermark: i64, clock_synced: i32, fresh: i32) -> Context {
    let (now, watermark) = (Timestamp(now), Timestamp(watermark));
    Context { batch, now, watermark, clock_synced: clock_synced != 0, fresh: fresh != 0 }
}

/// Copies a text to where it stays until the call ends.
pub(crate) fn keep<'a>(text: &str) -> &'a str {
    let to = arena().take(text.len(), 1);
    // SAFETY: as many bytes were just taken, and stay until the call ends; they are those of a text.
    unsafe {
        core::ptr::copy_nonoverlapping(text.as_ptr(), to, text.len());
        core::str::from_utf8_unchecked(core::slice::from_raw_parts(to, text.len()))
    }
}

/// What the host hands over during a call.
struct Arena {
    chunks: Vec<(*mut u8, usize)>,
    /// Bytes taken of the last chunk.
    used: usize,
}

/// The first chunk: a group of 200 readings.
const CHUNK_BYTES_MIN: usize = 8192;
/// Chunks are aligned for anything in the contract.
const ALIGN: usize = 8;

struct ArenaCell(UnsafeCell<Arena>);
// SAFETY: as for `Cell`.
unsafe impl Sync for ArenaCell {}
static ARENA: ArenaCell = ArenaCell(UnsafeCell::new(Arena { chunks: Vec::new(), used: 0 }));

#[expect(clippy::mut_from_ref, reason = "one thread; nobody keeps it over a call")]
fn arena() -> &'static mut Arena {
    // SAFETY: one thread; each use is over before the next begins.
    unsafe { &mut *ARENA.0.get() }
}

impl Arena {
    fn take(&mut self, bytes: usize, align: usize) -> *mut u8 {
        let start = self.used.next_multiple_of(align);
        if let Some(&(chunk, size)) = self.chunks.last()
            && start + bytes <= size
        {
            self.used = start + bytes;
            // SAFETY: within the chunk.
            return unsafe { chunk.add(start) };
        }
        let last = self.chunks.last().map_or(CHUNK_BYTES_MIN / 2, |(_, size)| *size);
        let size = bytes.max(last * 2).next_multiple_of(ALIGN);
        // SAFETY: not of size zero.
        let chunk = unsafe { alloc(Layout::from_size_align_unchecked(size, ALIGN)) };
        assert!(!chunk.is_null(), "out of memory for what the host hands over");
        self.chunks.push((chunk, size));
        self.used = bytes;
        chunk
    }

    /// Forgets everything and keeps the largest chunk, which is the last.
    fn reset(&mut self) {
        self.used = 0;
        if self.chunks.len() > 1 {
            let last = self.chunks.len() - 1;
            for (chunk, size) in self.chunks.drain(..last) {
                // SAFETY: allocated like this in `take`.
                unsafe { dealloc(chunk, Layout::from_size_align_unchecked(size, ALIGN)) };
            }
        }
    }
}

/// The export `cabi_realloc`: memory for what the host hands over.
///
/// # Safety
/// `old` is what an earlier call gave, of `old_bytes` bytes, when those are not zero.
pub unsafe fn realloc(old: *mut u8, old_bytes: usize, align: usize, bytes: usize) -> *mut u8 {
    if bytes == 0 {
        return align as *mut u8;
    }
    let new = arena().take(bytes, align);
    // SAFETY: both have that many bytes and do not overlap.
    unsafe { core::ptr::copy_nonoverlapping(old, new, old_bytes.min(bytes)) };
    new
}
