//! What every rule must hold: the same output for any split into batches, after a restart at any
//! batch boundary, and when run twice.

use alloc::collections::BTreeMap;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use alloc::{format, vec};

use proptest::collection::vec as many;
use proptest::prelude::*;

use super::{BEGIN, Bed, Fed, Run};
use crate::guest::Exported;
use crate::sys::Owned;
use crate::{NoData, Quality, Timestamp};

/// How a recording is cut into batches.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Readings of each batch, again from the first after the last.
    pub sizes: Vec<usize>,
    /// Whether the rule is restarted before each batch, likewise.
    pub restarts: Vec<bool>,
}

/// Any plan.
pub fn plans() -> impl Strategy<Value = Plan> {
    let (sizes, restarts) = (many(1_usize..12, 1..6), many(any::<bool>(), 1..7));
    (sizes, restarts).prop_map(|(sizes, restarts)| Plan { sizes, restarts })
}

/// Any recording: two series, mostly numbers that wander and now and then something else, mostly in
/// order and now and then late.
pub fn recordings() -> impl Strategy<Value = Bed> {
    let value = prop_oneof![
        20 => (-40_i32..400).prop_map(|n| Owned::Number(f64::from(n) / 8.0)),
        3 => (0_i64..70_000).prop_map(Owned::Integer),
        1 => any::<bool>().prop_map(Owned::Boolean),
        1 => "[a-z]{0,3}".prop_map(Owned::Text),
        1 => (0_usize..6).prop_map(|why| Owned::None(NoData::ALL[why])),
        1 => Just(Owned::Number(f64::NAN)),
    ];
    let step = prop_oneof![10 => 0_i64..4_000, 1 => -9_000_i64..0, 1 => 4_000_i64..100_000];
    let quality = prop_oneof![15 => Just(Quality::GOOD), 1 => Just(Quality::BAD)];
    many((0_u32..2, step, quality, value), 0..60).prop_map(|all| {
        let mut bed = Bed::new("");
        bed.add("meter-a", "p");
        bed.add("meter-b", "p");
        let mut clock = BEGIN.0;
        for (series, step_ms, quality, value) in all {
            let at = clock + step_ms * 1000;
            clock = clock.max(at);
            bed.readings.push(Fed { series, at: Timestamp(at), quality, value });
        }
        bed
    })
}

/// What came, by series: between series there is no order to keep, nor between what is late and what
/// a timer sent while it was under way.
fn by_series(run: &Run) -> BTreeMap<String, Vec<String>> {
    let mut all: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for came in &run.emitted {
        let late = if came.quality.has(Quality::LATE) { "late " } else { "" };
        let name = format!("{late}{:?} {}/{}", came.stream, came.device, came.point);
        all.entry(name).or_default().push(came.to_string());
    }
    all
}

/// Checks the three properties for one recording and one plan.
///
/// # Errors
/// The first difference.
pub fn holds<R: Exported>(bed: &Bed, plan: &Plan) -> Result<(), TestCaseError> {
    let run = |plan: &Plan| {
        let ran = bed.run_as::<R>(plan);
        ran.map_err(|error| TestCaseError::fail(format!("{}: {}", error.code, error.message)))
    };
    let whole = Plan { sizes: vec![usize::MAX], restarts: vec![false] };
    let split = Plan { restarts: vec![false], ..plan.clone() };
    let first = run(&whole)?;
    let again = run(&whole)?;
    prop_assert_eq!(by_series(&first), by_series(&again), "run twice");
    prop_assert_eq!(&first.state, &again.state, "state when run twice");
    let split_run = run(&split)?;
    prop_assert_eq!(by_series(&first), by_series(&split_run), "split into batches");
    let restarted = run(plan)?;
    prop_assert_eq!(by_series(&first), by_series(&restarted), "restarted between batches");
    prop_assert_eq!(&split_run.state, &restarted.state, "state when restarted");
    Ok(())
}
