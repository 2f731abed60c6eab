//! `doctor disk`: the file system that the buffer lies on: how it is mounted, whether it takes a write,
//! what room is left, how it is worn, and what the buffer says of itself.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::Instant;

use bytesize::ByteSize;

use super::{Finding, Tell};
use crate::cli::wear::Outlook;
use crate::events::{counted, firsthour};
use crate::store::settings::Settings;
use crate::store::{self, OpenError, Shelf};

/// A write and sync that takes longer makes readings wait in memory.
const SLOW_MS: u128 = 2000;

/// Examines the disk under the buffer of `settings`.
pub(in crate::cli) fn examine(settings: &Settings, tell: Tell<'_>) -> bool {
    let folder = settings.path.parent().filter(|it| !it.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new("."));
    if !folder.is_dir() {
        let notice = firsthour::no_folder(folder);
        tell(Finding::bad("folder", format!("{} does not exist", folder.display())).told(notice));
        return false;
    }
    let mounted = mount(folder, tell);
    let takes = write(folder, tell);
    let room = room(settings, folder, tell);
    worn(folder, tell);
    mounted & takes & room & buffer(settings, tell)
}

/// Looks at how the file system is mounted (proc_pid_mountinfo(5)).
fn mount(folder: &Path, tell: Tell<'_>) -> bool {
    let Some(mount) =
        mount_of(folder, &fs::read_to_string("/proc/self/mountinfo").unwrap_or_default())
    else {
        return true;
    };
    let Mount { place, kind, source, options } = &mount;
    let said = format!("{kind} on {source}, mounted at {} ({options})", place.display());
    if options.split(',').any(|option| option == "ro") {
        let notice = firsthour::disk_read_only(place, source);
        tell(Finding::bad("mount", said).told(notice));
        return false;
    }
    let doubt = match kind.as_str() {
        "tmpfs" | "ramfs" => Some("it lies in memory: a restart empties it"),
        "overlay" => {
            Some("an overlay may forget everything at a restart; see that it is a real disk")
        }
        "nfs" | "nfs4" | "cifs" | "smb3" | "9p" | "fuse.sshfs" => {
            Some("SQLite cannot keep its promises on a network share")
        }
        "vfat" | "exfat" => Some("this file system survives power cuts badly; ext4 does better"),
        _ => None,
    };
    tell(match doubt {
        Some(doubt) => Finding::odd("mount", format!("{said}: {doubt}")),
        None => Finding::good("mount", said),
    });
    true
}

/// A line of mountinfo.
struct Mount {
    place: PathBuf,
    kind: String,
    source: String,
    options: String,
}

/// Finds the mount that `folder` lies on: the last of the longest places that lead to it.
fn mount_of(folder: &Path, mountinfo: &str) -> Option<Mount> {
    let folder = folder.canonicalize().ok()?;
    let mounts = mountinfo.lines().filter_map(|line| {
        let (fixed, rest) = line.split_once(" - ")?;
        let mut fields = fixed.split(' ').skip(4);
        let place = PathBuf::from(fields.next()?.replace("\\040", " "));
        let options = fields.next()?.to_owned();
        let mut rest = rest.split(' ');
        let (kind, source) = (rest.next()?.to_owned(), rest.next()?.to_owned());
        // A file system that met an error is read-only as a whole, whatever its mounts say.
        let whole = rest.next().unwrap_or_default();
        let options =
            if whole.split(',').any(|it| it == "ro") { format!("ro,{options}") } else { options };
        folder.starts_with(&place).then_some(Mount { place, kind, source, options })
    });
    mounts.max_by_key(|mount| mount.place.as_os_str().len())
}

/// Writes and syncs 4 KiB, and takes them away again.
fn write(folder: &Path, tell: Tell<'_>) -> bool {
    let path = folder.join(format!(".fieldgate-doctor-{}", std::process::id()));
    let begun = Instant::now();
    let written = fs::File::create_new(&path).and_then(|mut file| {
        file.write_all(&[0x5A; 4096])?;
        file.sync_all()
    });
    let took = begun.elapsed();
    let _ = fs::remove_file(&path);
    match written {
        Ok(()) if took.as_millis() > SLOW_MS => {
            let said = format!("4 KiB took {} ms to be safe: this card is slow", took.as_millis());
            tell(Finding::odd("write", said));
            true
        }
        Ok(()) => {
            tell(Finding::good("write", "4 KiB written and synced").took(took));
            true
        }
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            tell(Finding::odd("write", "not tried: this user may not write there; try with sudo"));
            true
        }
        Err(error) => {
            let notice = firsthour::disk_refuses(folder, error.kind());
            tell(Finding::bad("write", "refused").told(notice));
            false
        }
    }
}

fn room(settings: &Settings, folder: &Path, tell: Tell<'_>) -> bool {
    let Ok(about) = rustix::fs::statvfs(folder) else { return true };
    let free = about.f_bavail.saturating_mul(about.f_frsize);
    let total = about.f_blocks.saturating_mul(about.f_frsize);
    let said = format!("{} free of {}", ByteSize(free), ByteSize(total));
    if free < settings.free_min {
        let notice = firsthour::disk_full(folder, &said, settings.free_min);
        tell(Finding::bad("room", said).told(notice));
        return false;
    }
    let taken = fs::metadata(&settings.path).map_or(0, |file| file.len());
    let wanted = settings.bytes_max.saturating_sub(taken);
    if free.saturating_sub(settings.free_min) < wanted {
        let said = format!("{said}: less than max = {} would take", ByteSize(settings.bytes_max));
        tell(Finding::odd("room", said));
    } else {
        tell(Finding::good("room", said));
    }
    if about.f_files > 0 && about.f_favail == 0 {
        let notice = firsthour::disk_full(folder, "no inodes are left", settings.free_min);
        tell(Finding::bad("inodes", "none left").told(notice));
        return false;
    }
    true
}

/// What eMMC parts say about their own life (JEDEC JESD84-B51, section 7.4: tenths of it that are
/// used up, by type of memory).
fn worn(folder: &Path, tell: Tell<'_>) {
    let Some(mount) =
        mount_of(folder, &fs::read_to_string("/proc/self/mountinfo").unwrap_or_default())
    else {
        return;
    };
    let disk = mount.source.strip_prefix("/dev/").unwrap_or_default();
    let disk = disk.split_once('p').map_or(disk, |(disk, _)| disk);
    let Ok(life) = fs::read_to_string(format!("/sys/block/{disk}/device/life_time")) else {
        return;
    };
    let tenths = life
        .split_whitespace()
        .filter_map(|part| u8::from_str_radix(part.trim_start_matches("0x"), 16).ok())
        .max()
        .unwrap_or(0);
    let said = format!(
        "the part says that {} to {} % of its life are used",
        tenths.saturating_sub(1) * 10,
        tenths * 10
    );
    tell(match tenths {
        0 => return,
        9.. => Finding::odd("wear", format!("{said}: replace it soon")),
        _ => Finding::good("wear", said),
    });
}

fn buffer(settings: &Settings, tell: Tell<'_>) -> bool {
    let found = match store::inspect(&settings.path) {
        Ok(found) => found,
        Err(OpenError::Missing { .. }) => {
            tell(Finding::good("buffer", "not there yet: the gateway makes it at its first start"));
            return true;
        }
        Err(error) => {
            tell(Finding::bad("buffer", "cannot be read").said_whole(error.to_string()));
            return false;
        }
    };
    let waiting: u64 = Shelf::ALL.iter().map(|shelf| found.shelf(*shelf).batches).sum();
    let damaged: u64 = Shelf::ALL.iter().map(|shelf| found.shelf(*shelf).damaged).sum();
    let dropped: u64 = Shelf::ALL.iter().map(|shelf| found.shelf(*shelf).dropped).sum();
    let said = format!(
        "{} on disk, {} waiting, {} dropped, {} damaged",
        ByteSize(found.disk_bytes),
        counted(waiting, "batch"),
        counted(dropped, "reading"),
        counted(damaged, "batch"),
    );
    tell(match damaged {
        0 => Finding::good("buffer", said),
        _ => Finding::odd("buffer", format!("{said}: fieldgate buffer check")),
    });
    if let Ok(usage) = store::usage(&settings.path) {
        let outlook = Outlook::new(usage, Some(settings.bytes_max)).text();
        for line in outlook.lines() {
            let (what, said) = line.split_once(' ').unwrap_or(("disk", line));
            tell(Finding::good(what, said.trim_start()));
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mount_of_a_folder_is_the_deepest_and_a_read_only_one_is_seen() {
        let folder = tempfile::tempdir().unwrap();
        let inside = folder.path().canonicalize().unwrap();
        let info = format!(
            "1 0 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n\
             2 1 8:2 / {} rw,noatime - ext4 /dev/mmcblk0p2 ro,errors=remount-ro\n\
             3 1 0:5 / /nowhere rw - tmpfs tmpfs rw\n",
            inside.display()
        );
        let mount = mount_of(&inside, &info).unwrap();
        assert_eq!((&*mount.source, &*mount.options), ("/dev/mmcblk0p2", "ro,rw,noatime"));
        assert_eq!(mount_of(Path::new("/"), &info).unwrap().kind, "ext4");
    }
}
