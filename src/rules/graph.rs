//! Which rule feeds which: a rule is fed by another's declared outputs when its patterns take them.
//! Rules that are connected form a chain and share a thread; within a chain each rule stands behind
//! those that feed it. A circle is refused by name.
//!
//! What a rule emits under the name of its own input feeds nobody: else any two rules over the same
//! points would feed each other. Nor do events; they are for people.

use std::collections::VecDeque;
use std::sync::Arc;

use super::pattern::Pattern;

/// A rule as the graph sees it.
#[derive(Debug, Clone)]
pub struct Knot {
    /// The rule's name.
    pub name: Arc<str>,
    /// What it takes.
    pub on: Vec<Pattern>,
    /// Readings that it makes: declared, or to be expected from what its file says.
    pub makes: Vec<Pattern>,
}

/// Rules that feed one another, by their places among the knots.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Graph {
    /// Each chain in the order in which its rules run; chains in the order of their first rule.
    pub chains: Vec<Vec<usize>>,
    /// Which rule feeds which.
    pub edges: Vec<(usize, usize)>,
}

/// Rules that feed one another in a circle: the places of one round, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Circle(pub Vec<usize>);

impl Graph {
    /// Orders the rules.
    ///
    /// # Errors
    /// When some feed one another in a circle.
    pub fn of(knots: &[Knot]) -> Result<Self, Circle> {
        let mut edges = Vec::new();
        for (from, knot) in knots.iter().enumerate() {
            for (to, other) in knots.iter().enumerate() {
                let fed =
                    || other.on.iter().any(|on| knot.makes.iter().any(|made| on.may_take(made)));
                if from != to && fed() {
                    edges.push((from, to));
                }
            }
        }
        let order = order(knots.len(), &edges)?;
        let mut chain_of: Vec<usize> = (0..knots.len()).collect();
        // Few rules: pass over the edges until nothing changes.
        let mut changed = true;
        while changed {
            changed = false;
            for (a, b) in &edges {
                let low = chain_of[*a].min(chain_of[*b]);
                changed |= chain_of[*a] != low || chain_of[*b] != low;
                (chain_of[*a], chain_of[*b]) = (low, low);
            }
        }
        let mut chains = Vec::new();
        for first in 0..knots.len() {
            let of = order.iter().copied().filter(|knot| chain_of[*knot] == first);
            let chain: Vec<usize> = of.collect();
            if !chain.is_empty() {
                chains.push(chain);
            }
        }
        Ok(Self { chains, edges })
    }

    /// Returns how many rules feed each of these.
    #[must_use]
    pub fn fed_by(&self, places: &[usize]) -> Vec<usize> {
        let count = |place: &usize| self.edges.iter().filter(|(_, to)| to == place).count();
        places.iter().map(count).collect()
    }
}

/// Puts each rule behind those that feed it, else as they stand in the configuration.
fn order(count: usize, edges: &[(usize, usize)]) -> Result<Vec<usize>, Circle> {
    let mut waits: Vec<usize> =
        (0..count).map(|knot| edges.iter().filter(|(_, to)| *to == knot).count()).collect();
    let mut ready: VecDeque<usize> = (0..count).filter(|knot| waits[*knot] == 0).collect();
    let mut order = Vec::new();
    while let Some(knot) = ready.pop_front() {
        order.push(knot);
        for (_, to) in edges.iter().filter(|(from, _)| *from == knot) {
            waits[*to] -= 1;
            if waits[*to] == 0 {
                ready.push_back(*to);
            }
        }
    }
    if order.len() == count {
        return Ok(order);
    }
    // Everything left is fed by something left: walking back from any of it ends in a round.
    let left: Vec<usize> = (0..count).filter(|knot| !order.contains(knot)).collect();
    let mut walked = vec![left[0]];
    loop {
        let last = walked[walked.len() - 1];
        let feeds = |(from, to): &&(usize, usize)| *to == last && left.contains(from);
        let Some((from, _)) = edges.iter().find(feeds) else { return Err(Circle(walked)) };
        if let Some(at) = walked.iter().position(|knot| knot == from) {
            let mut round = walked.split_off(at);
            round.reverse();
            return Err(Circle(round));
        }
        walked.push(*from);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn knot(name: &str, on: &str, makes: &[&str]) -> Knot {
        let pattern = |text: &&str| Pattern::parse(text).unwrap();
        let makes = makes.iter().map(pattern).collect();
        Knot { name: name.into(), on: vec![pattern(&on)], makes }
    }

    #[test]
    fn rules_that_feed_one_another_form_a_chain_in_order() {
        let knots = [
            knot("alarm", "*/mean", &[]),
            knot("alone", "b/*", &[]),
            knot("mean", "a/*", &["a/mean"]),
            knot("sum", "c/x", &["c/mean"]),
        ];
        let graph = Graph::of(&knots).unwrap();
        assert_eq!(graph.chains, [vec![2, 3, 0], vec![1]]);
        assert_eq!(graph.edges, [(2, 0), (3, 0)]);
    }

    #[test]
    fn a_rule_does_not_feed_itself() {
        let graph = Graph::of(&[knot("mean", "*/*mean", &["*/*_mean"])]).unwrap();
        assert!(graph.edges.is_empty());
    }

    #[test]
    fn rules_over_all_points_of_a_device_do_not_feed_each_other() {
        let knots = [knot("a", "m/*", &["m/*.mean"]), knot("b", "m/*", &["m/*.max"])];
        assert_eq!(Graph::of(&knots).unwrap().chains, [vec![0], vec![1]]);
        let knots = [knot("a", "m/*", &["m/*.mean"]), knot("b", "m/*.mean", &["m/*.max"])];
        assert_eq!(Graph::of(&knots).unwrap().chains, [vec![0, 1]]);
    }

    #[test]
    fn a_circle_is_named_in_order_and_what_it_feeds_is_not_part_of_it() {
        let knots = [
            knot("tail", "z/z", &[]),
            knot("one", "a/a", &["b/b"]),
            knot("two", "b/b", &["c/c"]),
            knot("three", "c/c", &["a/a", "z/z"]),
        ];
        let Circle(mut round) = Graph::of(&knots).unwrap_err();
        let first = round.iter().position(|knot| *knot == 1).unwrap();
        round.rotate_left(first);
        assert_eq!(round, [1, 2, 3]);
    }
}
