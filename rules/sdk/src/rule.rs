//! The trait that most rules implement: one series at a time, each with its own state.

use crate::{Declare, Error, Out, Params, Reading, Series, State, Timestamp};

/// A rule over each of its series by itself. `#[rule(state = ..)]` before the `impl` block fills in
/// the types and exports it.
pub trait Rule: Params {
    /// What it remembers of a series between readings.
    type State: State + Default;

    /// What it wrote down about a series when it was told of it: usually its outputs. Lives as long
    /// as the instance.
    type Outputs;

    /// Checks what single parameters cannot say, and prepares what every reading needs.
    ///
    /// # Errors
    /// When the rule cannot run with these parameters; the sentence is shown to the operator.
    fn prepare(&mut self) -> Result<(), Error> {
        Ok(())
    }

    /// Declares what the rule will emit for this series besides the series itself.
    ///
    /// # Errors
    /// When the host refuses an output, which it says in words.
    fn outputs(&self, series: &Series, declare: &mut Declare) -> Result<Self::Outputs, Error>;

    /// Takes one reading that is not late. Readings of one series come in the order of arrival, so
    /// one may be older than the one before it.
    fn reading(&self, r: Reading, state: &mut Self::State, out: &mut Out<Self::Outputs>);

    /// Takes one reading that is late: older than the watermark, so timers that it might have
    /// changed have gone off. It has no state, so that the output does not hang on how far the
    /// timers were. Says nothing about it, unless written otherwise.
    fn late(&self, r: Reading, out: &mut Out<Self::Outputs>) {
        let _ = (r, out);
    }

    /// The time has come that [`Out::wake`] or [`Out::wake_settled`] asked for.
    fn wake(&self, at: Timestamp, state: &mut Self::State, out: &mut Out<Self::Outputs>) {
        let _ = (at, state, out);
    }

    /// Reads the state of an earlier version; `None` when it cannot.
    fn migrate(&self, from: u32, bytes: &[u8]) -> Option<Self::State> {
        let _ = (from, bytes);
        None
    }
}
