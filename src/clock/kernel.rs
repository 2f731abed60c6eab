//! What Linux tells about its clock.

#![cfg_attr(target_os = "linux", expect(unsafe_code, reason = "adjtimex has no safe wrapper"))]

use std::fs;
use std::path::Path;
use std::sync::Arc;

use rustix::time::{ClockId, Timespec, clock_gettime};

use super::{BATTERY_TOLERANCE_S, Evidence, Facts, NANOS};

/// systemd-timesyncd makes it when it has set the clock for the first time since boot.
const TIMESYNCD_MARK: &str = "/run/systemd/timesync/synchronized";
/// Battery-backed clocks.
const RTC_FOLDER: &str = "/sys/class/rtc";
/// Two clocks are read as of one moment when nothing took longer than this in between.
const MOMENT_NANOS: i64 = 20_000;
/// How often that is tried.
const MOMENT_TRIES: usize = 8;

pub(super) struct Kernel;

impl Facts for Kernel {
    fn read(&self) -> (i64, i64) {
        let one = || {
            let before = since_boot();
            let wall = super::wall();
            let took = since_boot() - before;
            (took, (wall, before + took / 2))
        };
        let mut best = one();
        for _ in 1..MOMENT_TRIES {
            if best.0 <= MOMENT_NANOS {
                break;
            }
            let next = one();
            if next.0 < best.0 {
                best = next;
            }
        }
        best.1
    }

    fn synced(&self) -> bool {
        kernel_says_synced() || Path::new(TIMESYNCD_MARK).exists()
    }

    fn right_from_the_start(&self) -> Option<Evidence> {
        let clocks: Vec<u64> = fs::read_dir(RTC_FOLDER)
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|clock| fs::read_to_string(clock.path().join("since_epoch")).ok())
            .filter_map(|seconds| seconds.trim().parse().ok())
            .collect();
        let shown = u64::try_from(super::wall() / NANOS).unwrap_or(0);
        if clocks.is_empty() {
            // A PC's kernel reads the machine's or the hypervisor's clock even without a driver.
            let pc = cfg!(any(target_arch = "x86", target_arch = "x86_64"));
            return pc.then_some(Evidence::Machine);
        }
        // A battery that is flat shows another time than the one a program resumed from disk.
        let agrees = |clock: &u64| clock.abs_diff(shown) <= BATTERY_TOLERANCE_S;
        clocks.iter().any(agrees).then_some(Evidence::Battery)
    }
}

fn since_boot() -> i64 {
    let Timespec { tv_sec, tv_nsec } = clock_gettime(ClockId::Boottime);
    tv_sec.saturating_mul(NANOS).saturating_add(tv_nsec)
}

/// Names this boot. A time namespace shifts the time since boot and keeps the boot's id, so it is
/// part of the name.
pub fn boot_name() -> Arc<str> {
    let Ok(id) = fs::read_to_string("/proc/sys/kernel/random/boot_id") else {
        // A sandbox hides it. A name of this process's own believes nothing that was said under
        // another; an empty one would take every boot for this one.
        return format!("nameless {} {}", std::process::id(), super::wall()).into();
    };
    let space = fs::read_link("/proc/self/ns/time").unwrap_or_default();
    format!("{} {}", id.trim(), space.display()).into()
}

/// Asks adjtimex(2), which answers TIME_ERROR as long as nobody disciplines the clock, and again
/// when nobody did for nine hours. A sandbox that forbids the question gives no evidence.
#[cfg(target_os = "linux")]
fn kernel_says_synced() -> bool {
    const TIME_ERROR: libc::c_int = 5;
    let mut asked = std::mem::MaybeUninit::<libc::timex>::zeroed();
    // SAFETY: a timex of zeros is a valid one, with `modes` 0: nothing is changed, it is filled in.
    let state = unsafe { libc::adjtimex(asked.as_mut_ptr()) };
    (0..TIME_ERROR).contains(&state)
}

#[cfg(not(target_os = "linux"))]
fn kernel_says_synced() -> bool {
    false
}
