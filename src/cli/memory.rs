//! What the process keeps of memory that it does not use any more. A gateway reads its configuration
//! once and then works for years in a tenth of what that took: with a tenth of its blocks, and with a
//! third of its code. Neither the C library's allocator nor the kernel expects that.

#![cfg_attr(
    any(target_env = "gnu", target_os = "linux"),
    expect(unsafe_code, reason = "mallopt, malloc_trim and madvise have no safe wrapper")
)]

use std::sync::mpsc::{SyncSender, sync_channel};

/// Blocks from this size on are mapped apart and go back whole: the columns of a poll in
/// a batch. Set, it stays: left alone, glibc raises it to twice the largest block ever freed, here the
/// configuration's text and its tables. Half of it costs 5 % more CPU time for 0.2 MiB.
#[cfg(target_env = "gnu")]
const MAPPED_BYTES_MIN: libc::c_int = 32 * 1024;

/// The heap's free end goes back from this size on.
#[cfg(target_env = "gnu")]
const KEPT_BYTES_MAX: libc::c_int = 64 * 1024;

/// Makes the allocator give memory back early. Called before anything else of size happens.
///
/// Two arenas: one for reading the configuration ([`apart`]), one for everything else. More would each
/// keep the most they ever held.
pub(super) fn keep_little() {
    #[cfg(target_env = "gnu")]
    // SAFETY: mallopt(3) takes any values, and no other thread runs yet.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 2);
        libc::mallopt(libc::M_MMAP_THRESHOLD, MAPPED_BYTES_MIN);
        libc::mallopt(libc::M_TRIM_THRESHOLD, KEPT_BYTES_MAX);
    }
}

/// Keeps an arena from being used again; see [`apart`].
pub(super) struct Apart {
    _ends_when_dropped: SyncSender<()>,
}

/// Does what takes much memory for a moment on a thread of its own, whose blocks glibc puts into an
/// arena of their own. Where everything shares one, what remains of a configuration (and what is made
/// from it) lies scattered over all that reading it took, and every later use of memory spreads over
/// the holes between. The arena passes to the next thread that begins after [`Apart`] is dropped.
pub(super) fn apart<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> (T, Apart) {
    let (hold, held) = sync_channel::<()>(1);
    let (send, receive) = sync_channel(1);
    let thread = std::thread::spawn(move || {
        let _ = send.send(work());
        // Ends with an error: nothing is ever sent.
        let _ = held.recv();
    });
    match receive.recv() {
        Ok(result) => (result, Apart { _ends_when_dropped: hold }),
        Err(_) => {
            drop(hold);
            match thread.join() {
                Err(panic) => std::panic::resume_unwind(panic),
                Ok(()) => unreachable!("a thread that did not panic has sent its result"),
            }
        }
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

/// Gives back, once all is running, what dialling and the first batches took, and the code of it.
pub(super) fn settle() {
    give_back();
    #[cfg(target_os = "linux")]
    forget_code();
}

/// Unmaps the program's code; what is used again is mapped again at its next use, from the page
/// cache, at the cost of some fifty page faults. What is not (parsing, checking, dialling) becomes
/// memory that the kernel takes first when it is short. While it is mapped it takes it last: it holds
/// code that a process executes for the most useful pages there are, and cannot see that half of
/// this code will never be executed again.
///
/// Only mappings that are code, are of this program's own file, cannot be written, and of which every
/// page is the file's: then nothing can be lost. A failure costs nothing but the memory.
#[cfg(target_os = "linux")]
fn forget_code() {
    let Ok(program) = std::fs::read_link("/proc/self/exe") else { return };
    let Ok(mappings) = std::fs::read_to_string("/proc/self/smaps") else { return };
    for (start, length) in pure_code(&mappings, &program.to_string_lossy()) {
        // SAFETY: madvise(2): of a private file mapping whose pages are all the file's own,
        // MADV_DONTNEED drops page table entries only, and the next access finds the same bytes.
        // Nothing ever writes to it, so it cannot have got pages of its own since.
        unsafe {
            libc::madvise(start as *mut libc::c_void, length, libc::MADV_DONTNEED);
        }
    }
}

/// Finds, in the text of `/proc/PID/smaps` (proc(5)), start and length of the mappings of `program`
/// that hold code and no page that differs from the file: no relocation, no breakpoint.
#[cfg(target_os = "linux")]
fn pure_code(mappings: &str, program: &str) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    let mut current = None;
    for line in mappings.lines() {
        let mut words = line.split_ascii_whitespace();
        let first = words.next().unwrap_or_default();
        if let Some((start, end)) = range(first) {
            // Permissions, offset, device, inode, path: the path may have blanks.
            let is_code = words.next() == Some("r-xp");
            current = (is_code && line.ends_with(program)).then_some((start, end - start));
        } else if first == "Anonymous:" && words.next() == Some("0") {
            found.extend(current.take());
        }
    }
    found
}

/// Reads `5581c0a00000-5581c0fb0000`; `None` for the lines between, which are `Name: value`.
#[cfg(target_os = "linux")]
fn range(word: &str) -> Option<(usize, usize)> {
    let (start, end) = word.split_once('-')?;
    let number = |text| usize::from_str_radix(text, 16).ok();
    let (start, end) = (number(start)?, number(end)?);
    (start < end).then_some((start, end))
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn only_code_of_the_program_that_is_as_in_its_file_is_forgotten() {
        let mapping = |range, permissions, path, anonymous| {
            format!(
                "{range} {permissions} 00001000 08:01 4711                 {path}\n\
                 Size:        8 kB\nRss:         8 kB\nAnonymous:   {anonymous} kB\nVmFlags: rd ex\n"
            )
        };
        let own = "/opt/field gate/fieldgate";
        let text = [
            mapping("1000-3000", "r--p", own, 0),
            mapping("3000-5000", "r-xp", own, 0),
            mapping("5000-6000", "r-xp", own, 4),
            mapping("6000-7000", "rw-p", own, 0),
            mapping("7000-8000", "r-xp", "/lib/libc.so.6", 0),
            mapping("8000-9000", "r-xp", "", 0),
        ];
        assert_eq!(pure_code(&text.concat(), own), [(0x3000, 0x2000)]);
        assert_eq!(pure_code("Anonymous: 0 kB\n-\nff-0 r-xp\n", own), []);
    }

    #[test]
    fn a_program_whose_code_was_forgotten_goes_on() {
        let before: u64 = (0..1000_u64).map(|n| n.pow(2)).sum();
        for _ in 0..3 {
            settle();
        }
        assert_eq!((0..1000_u64).map(|n| n.pow(2)).sum::<u64>(), before);
        let program = std::fs::read_link("/proc/self/exe").unwrap();
        let mappings = std::fs::read_to_string("/proc/self/smaps").unwrap();
        assert!(!pure_code(&mappings, &program.to_string_lossy()).is_empty());
    }
}
