//! A disk that fails: errors put into single writes and syncs of the store by strace, a disk that
//! fails under the running daemon and heals, and a file system of one mebibyte that fills.
//!
//! After a sync that failed the kernel takes pages for written that are not (it marks them clean and
//! forgets). So it is not enough that the store recovers: from the record of every call the files are
//! rebuilt as a power cut after the recovery would leave them, and read again.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use fieldgate::reading::{Points, Stream};
use fieldgate::store::Shelf;

use crate::peers::Peer;
use crate::power::{self, Call, Unsynced};
use crate::river::{Received, World, consecutive, receive, subscribe};
use crate::store::{Small, group, may_mount, runtime, try_open};

/// Names the database for the process that meets the errors.
const WRITER: &str = "FIELDGATE_TEST_FAILING_WRITER";
const COMMITS: i64 = 9;
/// What heals by itself is healed after this long (README, promises).
const HEALED_WITHIN: Duration = Duration::from_secs(30);

/// Not a test of its own: the process whose calls fail. It goes on until everything is committed,
/// and says what was promised.
#[test]
fn a_writer_among_errors() {
    let Ok(path) = std::env::var(WRITER) else { return };
    let points = Arc::new(Points::default());
    let (store, thread) = (0..20)
        .find_map(|_| try_open(&PathBuf::from(&path), &points).ok())
        .expect("one error at a time does not keep it closed");
    runtime().block_on(async {
        for commit in 1..=COMMITS {
            store.append(group(&points, 2 * commit - 1));
            store.append(group(&points, 2 * commit));
            while store.flush(commit % 3 == 0).await.is_err() {}
            println!("committed {}", 2 * commit);
            if commit == 6 {
                let oldest = loop {
                    if let Ok(mut batches) = store.next(Stream::Data, 0, 1).await {
                        break batches.remove(0);
                    }
                };
                println!("freeing 6");
                store.acknowledge(Shelf::Data, oldest.seq());
            }
        }
        let shown = store.status();
        assert_eq!(shown.stream(Stream::Data).dropped, 0);
    });
    assert_eq!(thread.close(), 0);
}

/// Runs the writer with one kind of error at the n-th call. Returns whether there was such a call.
fn run_with(error: &str, calls: &str, n: usize) -> bool {
    let folder = tempfile::tempdir_in("/dev/shm").unwrap();
    let what = format!("{error} at {calls} number {n}");
    let inject = format!("inject={calls}:error={error}:when={n}");
    let done = power::traced(folder.path(), &["-e", &inject])
        .args(["--exact", "faults::a_writer_among_errors", "--nocapture"])
        .env(WRITER, folder.path().join("buffer.db"))
        .output()
        .unwrap();
    assert!(done.status.success(), "{what}: {}", String::from_utf8_lossy(&done.stderr));
    let log = std::fs::read_to_string(folder.path().join("strace")).unwrap();
    let (record, met) = (power::read_record(folder.path()), log.contains("(INJECTED)"));
    let mut world = power::World::default();
    for (at, call) in record.iter().enumerate() {
        world.take(call);
        if matches!(call, Call::Committed(_)) && (met || at + 1 == record.len()) {
            let cut = tempfile::tempdir_in("/dev/shm").unwrap();
            world.rebuild(folder.path(), cut.path(), Unsynced::Gone);
            power::verify(&world, cut.path(), &format!("{what}, cut after call {at}"));
        }
    }
    assert_eq!(world.committed, 2 * COMMITS, "{what}");
    power::verify(&world, folder.path(), &what);
    met
}

/// Goal: whichever write or sync fails, nothing that was reported as committed is lost or doubled,
/// not even by a power cut right after the recovery. Method: at the n-th call, for every n there is, a
/// failing disk and then a full one.
#[test]
fn an_error_at_any_write_or_sync_costs_nothing_that_was_committed() {
    let (writes, syncs) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let every = |count: &AtomicUsize, calls: &str| {
        let run = |n| ["EIO", "ENOSPC"].iter().all(|error| run_with(error, calls, n));
        while run(count.fetch_add(1, Ordering::Relaxed) + 1) {}
    };
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(2, std::num::NonZero::get) {
            scope.spawn(|| {
                every(&syncs, "fsync,fdatasync");
                every(&writes, "pwrite64,ftruncate");
            });
        }
    });
    let (writes, syncs) = (writes.into_inner(), syncs.into_inner());
    println!("errors at {writes} writes and {syncs} syncs");
    assert!(writes > 20 && syncs > 8, "{writes} writes, {syncs} syncs");
}

/// Lets every write and sync of a running process fail until it is ended.
fn failing(daemon: &Peer, error: &str) -> Peer {
    let calls = "pwrite64,ftruncate,fsync,fdatasync";
    let mut strace = Peer::start(
        Command::new("strace")
            .args(["-f", "-qq", "-e", &format!("trace={calls}")])
            .args(["-e", &format!("inject={calls}:error={error}")])
            .args(["-o", "/dev/null", "-p", &daemon.id().to_string()])
            .stderr(Stdio::null()),
    );
    let status = format!("/proc/{}/status", daemon.id());
    let end = Instant::now() + Duration::from_secs(20);
    while std::fs::read_to_string(&status).unwrap().contains("TracerPid:\t0\n") {
        assert!(
            !strace.has_ended(),
            "strace may not trace the daemon: run as root, or allow ptrace"
        );
        assert!(Instant::now() < end, "strace does not attach");
        std::thread::sleep(Duration::from_millis(10));
    }
    strace
}

async fn until_polls(world: &World, more: u16) {
    let wanted = world.polls() + more;
    while world.polls() < wanted {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn a_disk_that_fails_and_heals(error: &str, words: &str) {
    let world = World::new("50ms");
    let mut inbox = subscribe(world.broker.port).await;
    let mut received = Received::default();
    let daemon = world.start();
    receive(&mut inbox, &mut received, |r| r.polls().len() >= 10).await;
    let strace = failing(&daemon, error);
    while !world.log().contains("FG-B01") {
        until_polls(&world, 1).await;
    }
    assert!(world.log().contains(words), "{}", world.log());
    // Polls go on meanwhile: this would wait for ever if they did not.
    until_polls(&world, 40).await;
    // Interrupted, strace lets go of what it traces; killed, it might take it along.
    crate::river::signal(&strace, "-INT");
    strace.ended();
    let (healed, so_far) = (Instant::now(), i64::from(world.polls()));
    receive(&mut inbox, &mut received, |r| r.polls().last() > Some(&so_far)).await;
    assert!(healed.elapsed() < HEALED_WITHIN, "healed after {:?}", healed.elapsed());
    let polls = received.polls();
    assert_eq!(polls[0], 0);
    assert!(consecutive(&polls), "lost or doubled: {polls:?}");
    assert!(received.sequences_are_complete());
    assert_eq!(world.log().matches("FG-B01").count(), 2, "told once, and once when over");
}

#[tokio::test]
async fn a_disk_with_errors_under_the_daemon_stops_no_poll_and_costs_no_reading() {
    a_disk_that_fails_and_heals("EIO", "the disk reports errors").await;
}

#[tokio::test]
async fn a_disk_that_becomes_read_only_and_heals_stops_no_poll_and_costs_no_reading() {
    a_disk_that_fails_and_heals("EROFS", "cannot be written").await;
}

#[tokio::test]
async fn a_file_system_of_one_mebibyte_that_fills_stops_no_poll_and_costs_no_reading() {
    if !may_mount() {
        eprintln!("not root: nothing can be mounted");
        return;
    }
    let small = Small::mount();
    let world = World::new("50ms");
    let path = small.0.path().join("buffer.db");
    world.move_buffer(&path);
    let mut inbox = subscribe(world.broker.port).await;
    let mut received = Received::default();
    let _daemon = world.start();
    receive(&mut inbox, &mut received, |r| r.polls().len() >= 10).await;
    let ballast = small.0.path().join("ballast");
    while !world.log().contains("FG-B01") {
        // What a checkpoint frees is taken too.
        fill(&ballast);
        until_polls(&world, 1).await;
    }
    assert!(world.log().contains("the disk is full"), "{}", world.log());
    until_polls(&world, 40).await;
    std::fs::remove_file(&ballast).unwrap();
    let (freed, so_far) = (Instant::now(), i64::from(world.polls()));
    receive(&mut inbox, &mut received, |r| r.polls().last() > Some(&so_far)).await;
    assert!(freed.elapsed() < HEALED_WITHIN, "healed after {:?}", freed.elapsed());
    let polls = received.polls();
    assert_eq!(polls[0], 0);
    assert!(consecutive(&polls), "lost or doubled: {polls:?}");
    assert!(received.sequences_are_complete());
}

fn fill(ballast: &Path) {
    use std::io::Write as _;
    let mut file = std::fs::File::options().create(true).append(true).open(ballast).unwrap();
    while file.write(&[0; 4096]).is_ok_and(|written| written > 0) {}
}
