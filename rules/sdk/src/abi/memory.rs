//! Memory and last words of a rule without the standard library.
//!
//! Blocks are powers of two from 16 bytes, each size with its list of free ones: at most half of a
//! block is waste, nothing is ever split or joined, and there is nothing to go wrong in 60 lines.
#![expect(unsafe_code, reason = "an allocator")]

use core::alloc::{GlobalAlloc, Layout};
use core::cell::UnsafeCell;
use core::fmt::Write;

use crate::sys::{self, Level};

struct Blocks(UnsafeCell<Inner>);

struct Inner {
    /// By the logarithm of its size, the first free block; each holds the address of the next.
    free: [*mut u8; 32],
    /// Memory never used yet.
    top: usize,
    end: usize,
}

// SAFETY: a guest has one thread.
unsafe impl Sync for Blocks {}

#[global_allocator]
static BLOCKS: Blocks =
    Blocks(UnsafeCell::new(Inner { free: [core::ptr::null_mut(); 32], top: 0, end: 0 }));

/// Blocks of at least 16 bytes are aligned to 16.
const BLOCK_BYTES_MIN: usize = 16;
const PAGE_BYTES: usize = 1 << 16;

fn class(layout: Layout) -> usize {
    let size = layout.size().max(BLOCK_BYTES_MIN);
    size.next_power_of_two().trailing_zeros() as usize
}

// SAFETY: blocks do not overlap and are at least as large as asked for.
unsafe impl GlobalAlloc for Blocks {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: one thread, and nothing in here calls back.
        let inner = unsafe { &mut *self.0.get() };
        let class = class(layout);
        if class >= inner.free.len() || layout.align() > BLOCK_BYTES_MIN {
            return core::ptr::null_mut();
        }
        let block = inner.free[class];
        if !block.is_null() {
            // SAFETY: free blocks hold the address of the next.
            inner.free[class] = unsafe { block.cast::<*mut u8>().read() };
            return block;
        }
        inner.fresh(1 << class)
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: as in `alloc`; the block has room for an address.
        unsafe {
            let inner = &mut *self.0.get();
            let class = class(layout);
            block.cast::<*mut u8>().write(inner.free[class]);
            inner.free[class] = block;
        }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        // SAFETY: the caller's promises; the alignment is unchanged.
        unsafe {
            let wanted = Layout::from_size_align_unchecked(bytes, layout.align());
            if class(wanted) == class(layout) {
                return block;
            }
            let new = self.alloc(wanted);
            if !new.is_null() {
                core::ptr::copy_nonoverlapping(block, new, layout.size().min(bytes));
                self.dealloc(block, layout);
            }
            new
        }
    }
}

impl Inner {
    fn fresh(&mut self, bytes: usize) -> *mut u8 {
        if self.top == 0 {
            self.top = (&raw const heap_base as usize).next_multiple_of(BLOCK_BYTES_MIN);
            self.end = core::arch::wasm32::memory_size(0) * PAGE_BYTES;
        }
        if self.top + bytes > self.end {
            let pages = (self.top + bytes - self.end).div_ceil(PAGE_BYTES);
            if core::arch::wasm32::memory_grow(0, pages) == usize::MAX {
                return core::ptr::null_mut();
            }
            self.end += pages * PAGE_BYTES;
        }
        let block = self.top as *mut u8;
        self.top += bytes;
        block
    }
}

unsafe extern "C" {
    /// Where the linker says that memory is free.
    #[link_name = "__heap_base"]
    static heap_base: u8;
}

/// Text on the stack, cut where it is full: a panic may come from want of memory.
struct LastWords {
    bytes: [u8; 240],
    length: usize,
}

impl Write for LastWords {
    fn write_str(&mut self, text: &str) -> core::fmt::Result {
        let mut end = text.len().min(self.bytes.len() - self.length);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        self.bytes[self.length..self.length + end].copy_from_slice(&text.as_bytes()[..end]);
        self.length += end;
        Ok(())
    }
}

#[panic_handler]
fn panic(panic: &core::panic::PanicInfo) -> ! {
    let mut words = LastWords { bytes: [0; 240], length: 0 };
    // Nothing can be done about what does not fit.
    let _ = write!(words, "{panic}");
    sys::log(Level::Error, core::str::from_utf8(&words.bytes[..words.length]).unwrap_or("panic"));
    core::arch::wasm32::unreachable()
}
