//! When a derived point is sent, and of what.

use super::*;
use fieldgate_rule::testing::{Bed, Plan, documented, holds, plans, recordings};

fn power(feed: &str) -> Bed {
    Bed::new(feed).with("expr", "[m/u] * [m/i]").with("point", "p").with("unit", "W")
}

#[test]
fn inputs_of_one_poll_give_one_value() {
    let bed = power("m/u = 230@0s 231@1s\n m/i = 2@0s 3@1s");
    assert_eq!(bed.lines::<Derived>(), ["m/p = 460@0s", "m/p = 693@1s"]);
    assert_eq!(bed.run::<Derived>().emitted[0].unit.as_deref(), Some("W"));
}

#[test]
fn inputs_of_different_times_count_with_their_newest() {
    let bed = power("m/u = 230@0s 100@10s\n m/i = 2@5s");
    assert_eq!(bed.lines::<Derived>(), ["m/p = 460@5s", "m/p = 200@10s"]);
}

#[test]
fn an_input_without_value_gives_none_and_an_old_one_gives_nothing() {
    let bed = power("m/u = 230@0s none:offline@1s 230@10m\n m/i = 2@0s 2@1s");
    assert_eq!(bed.lines::<Derived>(), ["m/p = 460@0s", "m/p = none:offline@1s"]);
}

#[test]
fn what_cannot_be_computed_is_no_value() {
    let bed = Bed::new("m/a = 1@0s\nm/b = 0@0s").with("expr", "a / b").with("point", "q");
    assert_eq!(bed.lines::<Derived>(), ["m/q = none:out-of-range@0s"]);
}

#[test]
fn a_name_that_two_devices_have_is_refused() {
    let plan = Plan { sizes: [1].into(), restarts: [false].into() };
    let bed = Bed::new("m/a = 1@0s\nn/a = 0@0s").with("expr", "a + 1").with("point", "q");
    let said = bed.run_as::<Derived>(&plan).unwrap_err();
    assert_eq!(said.message, "both m/a and n/a are called a; write [device/point]");
}

#[test]
fn its_page_tells_of_every_parameter() {
    documented::<Derived>(include_str!("../../../docs/rules/derived.md"));
}

proptest::proptest! {
    #[test]
    fn the_three_properties_hold(bed in recordings(), plan in plans()) {
        let (a, b) = ("[meter-a/p]", "[meter-b/p]");
        let bed = bed.with("expr", format!("if({a} > 10, {a} + {b}, 1 / {b})").as_str());
        holds::<Derived>(&bed.with("point", "c"), &plan)?;
    }
}
