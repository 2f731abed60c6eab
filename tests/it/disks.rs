//! Disks that are not fit for work at the daemon's first start (read-only, full, not mounted yet), and
//! file systems that a kernel makes read-only under the running daemon: everything that was read
//! meanwhile arrives once the disk is well, within [`HEALED_WITHIN`], without a restart.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::peers::Peer;
use crate::river::{Inbox, Received, World, consecutive, receive, subscribe};
use crate::store::{Small, may_mount};

/// What heals by itself is healed after this long (README, promises).
const HEALED_WITHIN: Duration = Duration::from_secs(30);

/// A daemon whose disk is not fit for work, and who reads what it sends.
struct Sick {
    world: World,
    inbox: Inbox,
    received: Received,
    daemon: Peer,
}

impl Sick {
    /// Starts the daemon on a buffer at `path`.
    async fn start(path: &Path) -> Self {
        let world = World::new("50ms");
        world.move_buffer(path);
        let inbox = subscribe(world.broker.port).await;
        let daemon = world.start();
        Self { world, inbox, received: Received::default(), daemon }
    }

    /// Waits until the disk was found unfit, and for some polls more.
    async fn until_told(&mut self, words: &str) {
        while !self.world.log().contains("FG-B01") {
            assert!(!self.daemon.has_ended(), "it ended: {}", self.world.log());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert!(self.world.log().contains(words), "{}", self.world.log());
        // This would wait for ever if polls did not go on.
        self.world.pass(40).await;
    }

    /// The disk is well since a moment: everything arrives, and the same process goes on.
    async fn heals(mut self) {
        let (healed, so_far) = (Instant::now(), i64::from(self.world.polls()));
        receive(&mut self.inbox, &mut self.received, |r| r.polls().last() > Some(&so_far)).await;
        assert!(healed.elapsed() < HEALED_WITHIN, "healed after {:?}", healed.elapsed());
        let polls = self.received.polls();
        assert_eq!(polls[0], 0, "what was read before the disk was there is missing");
        assert!(consecutive(&polls), "lost or doubled: {polls:?}");
        assert!(self.received.sequences_are_complete());
        assert!(!self.daemon.has_ended());
        assert!(self.world.log().contains("takes readings again"), "{}", self.world.log());
    }
}

fn run(program: &str, arguments: &[&str]) -> Output {
    let done = Command::new(program).args(arguments).output();
    done.unwrap_or_else(|e| panic!("{program} cannot be started ({e}); tests/run installs it"))
}

fn must(program: &str, arguments: &[&str]) {
    let done = run(program, arguments);
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(done.status.success(), "{program} {arguments:?}: {said}");
}

#[tokio::test]
async fn a_disk_that_is_read_only_at_the_first_start_and_heals_costs_no_reading() {
    if !may_mount() {
        eprintln!("not root: nothing can be mounted");
        return;
    }
    let small = Small::mount();
    small.remount("ro");
    let mut sick = Sick::start(&small.path().join("buffer/buffer.db")).await;
    sick.until_told("the file system is read-only").await;
    small.remount("rw");
    sick.heals().await;
}

#[tokio::test]
async fn a_disk_of_64_kib_that_is_full_at_the_first_start_and_gets_room_costs_no_reading() {
    if !may_mount() {
        eprintln!("not root: nothing can be mounted");
        return;
    }
    let small = Small::mount();
    small.remount("size=64k");
    let ballast = small.path().join("ballast");
    assert!(std::fs::write(ballast, vec![0; 1 << 17]).is_err(), "it is not full");
    let mut sick = Sick::start(&small.path().join("buffer.db")).await;
    sick.until_told("the disk is full").await;
    small.remount("size=2m");
    sick.heals().await;
}

#[tokio::test]
async fn a_disk_that_is_mounted_after_the_first_start_gets_every_reading_since() {
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("disk");
    std::os::unix::fs::symlink(&target, folder.path().join("data")).unwrap();
    let mut sick = Sick::start(&folder.path().join("data/buffer.db")).await;
    sick.until_told("its folder does not exist and cannot be made").await;
    std::fs::create_dir(&target).unwrap();
    sick.heals().await;
}

#[test]
fn a_place_that_only_a_person_can_change_ends_the_start_with_78() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    std::fs::write(here.join("file"), "").unwrap();
    let config = here.join("fieldgate.toml");
    let ends = |path: &str, command: &mut Command| {
        let text = format!(
            "[gateway]\nname = \"g\"\n[buffer]\npath = \"{path}\"\n\
             [source.push]\nvia = \"coap listen 127.0.0.1:0\"\n"
        );
        std::fs::write(&config, text).unwrap();
        let done = command.args(["run", "--config"]).arg(&config).output().unwrap();
        let said = String::from_utf8_lossy(&done.stderr).into_owned();
        assert_eq!(done.status.code(), Some(78), "{said}");
        assert!(said.contains("FG-B09") && !said.contains("os error"), "{said}");
        said
    };
    let program = || Command::new(env!("CARGO_BIN_EXE_fieldgate"));
    assert!(ends("file/buffer.db", &mut program()).contains("one of the folders"));
    assert!(ends(".", &mut program()).contains("it is a folder"));
    if !may_mount() {
        return;
    }
    std::fs::set_permissions(here, Permissions::from_mode(0o755)).unwrap();
    std::fs::create_dir(here.join("others")).unwrap();
    std::fs::set_permissions(here.join("others"), Permissions::from_mode(0o700)).unwrap();
    // Where the program was built may be closed to other users.
    let copy = here.join("fieldgate");
    std::fs::copy(env!("CARGO_BIN_EXE_fieldgate"), &copy).unwrap();
    let said = ends("others/buffer.db", Command::new(&copy).uid(65_534).gid(65_534));
    assert!(said.contains("this user may not write there"), "{said}");
}

/// An ext4 file system in a file, that becomes read-only at its first error.
struct Ext4 {
    folder: TempDir,
    image: PathBuf,
}

impl Ext4 {
    /// Makes and mounts one; `None` where this machine cannot.
    fn mount(features: &str) -> Option<Self> {
        let able = may_mount()
            && Path::new("/dev/loop-control").exists()
            && Path::new("/sys/fs/ext4/features").exists();
        if !able {
            println!("no root, loop devices or ext4: nothing can be mounted");
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        let image = folder.path().join("image");
        std::fs::File::create(&image).unwrap().set_len(16 << 20).unwrap();
        std::fs::create_dir(folder.path().join("disk")).unwrap();
        must("mkfs.ext4", &["-q", "-F", "-O", features, image.to_str().unwrap()]);
        let disk = Self { folder, image };
        disk.mount_again();
        Some(disk)
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("disk")
    }

    fn mount_again(&self) {
        let (image, to) = (self.image.to_str().unwrap(), self.path());
        let options = "loop,errors=remount-ro";
        must("mount", &["-t", "ext4", "-o", options, image, to.to_str().unwrap()]);
    }

    /// Its loop device.
    fn device(&self) -> String {
        let mounts = std::fs::read_to_string("/proc/mounts").unwrap();
        let path = self.path();
        let line = mounts.lines().find(|line| line.split(' ').nth(1) == path.to_str()).unwrap();
        line.split(' ').next().unwrap().to_owned()
    }

    /// Lets the kernel find an error in it, which it answers by making it read-only, whoever has
    /// files open for writing.
    fn fail(&self) {
        let device = self.device();
        let name = device.rsplit('/').next().unwrap();
        let trigger = format!("/sys/fs/ext4/{name}/trigger_fs_error");
        std::fs::write(trigger, "a test").unwrap();
        assert!(std::fs::write(self.path().join("probe"), "").is_err(), "it is not read-only");
    }

    /// What an administrator does: unmounts it under the daemon, checks it and mounts it again.
    /// After an error a kernel of today takes it for writing in no other way.
    fn unmount_check_mount(&self) {
        let path = self.path();
        must("umount", &[path.to_str().unwrap()]);
        let done = run("e2fsck", &["-p", self.image.to_str().unwrap()]);
        let code = done.status.code();
        assert!(code.is_some_and(|code| code < 4), "{}", String::from_utf8_lossy(&done.stdout));
        self.mount_again();
    }
}

impl Drop for Ext4 {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.path()).status();
    }
}

/// Goal: a real read-only remount under the running daemon heals. Method: an error in the file
/// system, which is how disks become read-only in the field; a plain remount is refused while files
/// are open for writing.
async fn becomes_read_only_and_is_repaired(features: &str) {
    let Some(disk) = Ext4::mount(features) else { return };
    let mut sick = Sick::start(&disk.path().join("buffer.db")).await;
    receive(&mut sick.inbox, &mut sick.received, |r| r.polls().len() >= 10).await;
    disk.fail();
    sick.until_told("cannot be written").await;
    disk.unmount_check_mount();
    sick.heals().await;
}

#[tokio::test]
async fn a_disk_that_the_kernel_made_read_only_is_repaired_and_mounted_under_the_daemon() {
    becomes_read_only_and_is_repaired("has_journal").await;
}

#[tokio::test]
async fn the_same_of_a_disk_without_a_journal() {
    becomes_read_only_and_is_repaired("^has_journal").await;
}
