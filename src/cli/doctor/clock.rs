//! `doctor clock`: whether this board's clock can be believed, what speaks for it, and what follows
//! while it cannot.

use std::path::Path;
use std::time::UNIX_EPOCH;

use super::{Finding, Tell};
use crate::batch::text::rfc3339;
use crate::clock::{Board, Clock as _, State, System, Trust, believable};
use crate::events::{clock as say, firsthour};
use crate::reading::UnixMillis;

/// Files that were written while the clock was right are no older than it shows; so much may be a
/// race with whoever writes them now.
const BEHIND_MAX_MS: i64 = 60_000;

/// Examines the clock; `witnesses` are files whose times it is held against.
pub(in crate::cli) fn examine(trust: Trust, witnesses: &[&Path], tell: Tell<'_>) -> bool {
    let shown = System.now();
    let time = rfc3339(shown);
    if !believable(shown) {
        let notice = say::refused(shown)
            .seen(
                "TLS refuses the broker's certificate as not valid yet, or as expired, until then.",
            )
            .seen("Uplinks dial again every half minute and recover by themselves once it is set.")
            .try_next("sudo timedatectl set-ntp true; or sudo date -s \"YYYY-MM-DD hh:mm\"");
        tell(Finding::bad("time", format!("{time} cannot be")).told(notice));
        return false;
    }
    let newest =
        witnesses.iter().filter_map(|file| Some((*file, written(file)?))).max_by_key(|it| it.1);
    if let Some((file, at)) = newest.filter(|(_, at)| at.0 > shown.0 + BEHIND_MAX_MS) {
        let notice = firsthour::clock_behind(&time, file, &rfc3339(at));
        tell(Finding::bad("time", format!("{time} is behind {}", file.display())).told(notice));
        return false;
    }
    tell(Finding::good("time", format!("{time} (UTC)")));
    evidence(&Board::new(trust).state(), tell)
}

fn evidence(state: &State, tell: Tell<'_>) -> bool {
    let Some(why) = state.set else {
        tell(Finding::odd("believed", "no: nothing vouches for it").told(say::not_set()));
        return true;
    };
    tell(Finding::good("believed", why.words()));
    true
}

fn written(file: &Path) -> Option<UnixMillis> {
    let at = std::fs::metadata(file).ok()?.modified().ok()?;
    let since = at.duration_since(UNIX_EPOCH).ok()?;
    Some(UnixMillis(i64::try_from(since.as_millis()).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(witnesses: &[&Path]) -> (bool, Vec<Finding>) {
        let mut all = Vec::new();
        let good = examine(Trust::Trusted, witnesses, &mut |finding| all.push(finding));
        (good, all)
    }

    #[test]
    fn a_file_from_the_future_convicts_the_clock() {
        let file = tempfile::NamedTempFile::new().unwrap();
        assert!(findings(&[file.path(), Path::new("/nonexistent")]).0);
        let later = file.as_file().metadata().unwrap().modified().unwrap()
            + std::time::Duration::from_secs(86_400);
        file.as_file().set_modified(later).unwrap();
        let (good, all) = findings(&[file.path()]);
        let text = all[0].to_string();
        assert!(!good && text.contains("FG-H08") && text.contains("timedatectl"), "{text}");
    }
}
