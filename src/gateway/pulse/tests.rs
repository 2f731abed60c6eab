//! Tasks that wake, sleep, listen and end, as the watcher sees them.

use std::future::pending;

use super::*;

fn watched(
    pace: Option<Duration>,
    task: impl Future<Output = ()> + 'static,
) -> (Watched, impl Future<Output = ()>) {
    let beat = Arc::<Beat>::default();
    let seen = (0, Instant::now());
    let name = "it".to_owned();
    (Watched { name, beat: Arc::clone(&beat), pace, seen, told: false }, beat.around(task))
}

async fn run_for(time: Duration, task: impl Future<Output = ()>) {
    let _ = timeout(time, async {
        task.await;
        pending::<()>().await;
    })
    .await;
}

const LONG: Duration = Duration::from_secs(7200);

#[tokio::test(start_paused = true)]
async fn a_poller_whose_timers_wake_it_makes_progress_whatever_comes_of_it() {
    let minute = Duration::from_secs(60);
    let (mut watched, task) = watched(Some(minute), async move {
        loop {
            sleep(minute).await;
        }
    });
    run_for(LONG, task).await;
    // Nobody looked for two hours; what counts is that it has woken since.
    assert!(!watched.is_stuck(Instant::now()));
}

#[tokio::test(start_paused = true)]
async fn a_poller_that_waits_for_what_never_comes_is_stuck_only_after_its_pace() {
    let minute = Duration::from_secs(60);
    let (mut watched, task) = watched(Some(minute), pending());
    run_for(Duration::from_millis(1), task).await;
    let now = Instant::now();
    assert!(!watched.is_stuck(now));
    assert!(!watched.is_stuck(now + minute + OVERDUE_AFTER));
    assert!(watched.is_stuck(now + minute + OVERDUE_AFTER + minute));
}

#[tokio::test(start_paused = true)]
async fn a_listener_may_be_silent_for_ever_but_not_end() {
    let (mut watched, task) = watched(None, sleep(LONG * 2));
    let mut task = pin!(task);
    run_for(LONG, &mut task).await;
    assert!(!watched.is_stuck(Instant::now()));
    task.await;
    assert!(watched.is_stuck(Instant::now()));
}
