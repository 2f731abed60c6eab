//! What the C library's allocator keeps of memory that nobody uses any more. Its defaults suit a
//! program that will soon want it back; a gateway peaks once, when it reads its configuration, and
//! then for years works in a tenth of that.

#![cfg_attr(
    target_env = "gnu",
    expect(unsafe_code, reason = "mallopt and malloc_trim have no safe wrapper")
)]

/// Blocks from this size on are mapped apart and go back whole, and the heap's free end goes back
/// from this size on. Set, it stays: left alone, glibc raises both to twice the largest block ever
/// freed, here the configuration's text and its tables.
#[cfg(target_env = "gnu")]
const KEPT_BYTES_MAX: libc::c_int = 64 * 1024;

/// Makes the allocator give memory back early. Called before anything else of size happens.
///
/// One arena: the store's thread and the reactor's meet at the allocator for microseconds a second,
/// and two arenas each keep the most they ever held.
pub(super) fn keep_little() {
    #[cfg(target_env = "gnu")]
    // SAFETY: mallopt(3) takes any values, and no other thread runs yet.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
        libc::mallopt(libc::M_MMAP_THRESHOLD, KEPT_BYTES_MAX);
        libc::mallopt(libc::M_TRIM_THRESHOLD, KEPT_BYTES_MAX);
    }
}

/// Returns to the system what reading the configuration and planning from it took: a parsed file of
/// 10,000 points is several times the size of what remains of it.
pub(super) fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: malloc_trim(3) may be called at any time from any thread.
    unsafe {
        libc::malloc_trim(0);
    }
}
