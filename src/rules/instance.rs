//! A rule that runs: an instance of a program with the mirror of what is kept of it.
//!
//! The instance is disposable between any two calls, the mirror is not. After a trap, an error, a
//! limit or a panic of the host the instance is thrown away with whatever it holds, and so it is
//! when its memory (which never shrinks) is nearly full; the next call begins with a fresh one, whose
//! `open` runs again and whose first context says `fresh`. Starting one takes some 30 µs.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Instant;

use wasmtime::{Store, UpdateDeadline};

use super::failure::{self, Overdue};
use super::guest::{Done, Guest, Purpose};
use super::wit::{self, Context, Error, Fired, Reading, Series};
use super::{Failure, Outcome, Program, Rule, Settings};
use crate::limits;
use crate::state::{Change, Kept, Place};

/// A running WASM rule. What is kept of it is mirrored in memory, so that its `state.get` never waits
/// for a disk; a failed call leaves the mirror as it was, and the next call begins on a fresh instance.
pub struct Instance {
    program: Arc<Program>,
    series: Vec<Series>,
    seat: Seat,
    /// What preparing changed and no outcome has told of yet.
    prepared: Change,
    log: Vec<(wit::Level, String)>,
    /// The first call on this instance is still to come.
    fresh: bool,
}

/// An instance, or the place of one.
enum Seat {
    Taken(Box<Running>),
    Free(Box<Guest>),
    /// Only for the moment in which one becomes the other.
    Moving,
}

struct Running {
    store: Store<Guest>,
    rule: wit::Rule,
}

/// How a call into the rule went, as wasmtime sees it.
type Called<T> = wasmtime::Result<Result<T, Error>>;

impl Instance {
    /// Starts a rule over `series` (ids are places in the list) with what was `kept` of it.
    ///
    /// When the kept state is of another version than the rule writes, the rule's `migrate` runs. What
    /// `open` and `migrate` change is part of the first [`Outcome`].
    ///
    /// # Errors
    /// When the rule's `open` or `migrate` fails, with a code that begins with `open.`; nothing of
    /// what is kept was changed then.
    pub fn open(
        program: &Arc<Program>,
        settings: &Settings,
        series: &[Series],
        kept: Kept,
    ) -> Result<Self, Failure> {
        let mut instance = Self {
            program: Arc::clone(program),
            series: series.to_vec(),
            seat: Seat::Free(Box::new(Guest::new(settings, kept))),
            prepared: Change::default(),
            log: Vec::new(),
            fresh: true,
        };
        instance.seated()?;
        Ok(instance)
    }

    /// What is kept of it, with everything that successful calls changed.
    #[must_use]
    pub fn kept(&self) -> &Kept {
        match &self.seat {
            Seat::Taken(running) => &running.store.data().kept,
            Seat::Free(guest) => &guest.kept,
            Seat::Moving => unreachable!("no call is under way"),
        }
    }

    /// What it is an instance of.
    #[must_use]
    pub fn program(&self) -> &Arc<Program> {
        &self.program
    }

    /// Sees to it that there is an instance.
    fn seated(&mut self) -> Result<&mut Running, Failure> {
        if let Seat::Free(_) = self.seat {
            self.start()?;
        }
        match &mut self.seat {
            Seat::Taken(running) => Ok(running),
            _ => unreachable!("an instance was just started"),
        }
    }

    /// Starts an instance on the mirror: `open`, and `migrate` when the state is of another version.
    fn start(&mut self) -> Result<(), Failure> {
        let Seat::Free(guest) = std::mem::replace(&mut self.seat, Seat::Moving) else {
            unreachable!("only a free seat is taken")
        };
        let mut store = Store::new(self.program.engine().machine(), *guest);
        prepare(&mut store);
        match self.opened(&mut store) {
            Ok((rule, done)) => {
                self.seat = Seat::Taken(Box::new(Running { store, rule }));
                self.keep(done);
                self.fresh = true;
                Ok(())
            }
            Err(failure) => {
                self.seat = Seat::Free(Box::new(store.into_data()));
                Err(Failure { code: format!("open.{}", failure.code), ..failure })
            }
        }
    }

    /// Instantiates and opens; returns what that changed.
    fn opened(&self, store: &mut Store<Guest>) -> Result<(wit::Rule, Done), Failure> {
        let inputs = self.series.len();
        let guest = store.data_mut();
        guest.memory.forget();
        guest.series = u32::try_from(inputs).unwrap_or(u32::MAX);
        guest.begin(Purpose::Prepare, inputs, None);
        let engine = self.program.engine();
        let rule =
            guarded(engine, store, inputs, |store| self.program.pre().instantiate(store).map(Ok))?;
        let version = guarded(engine, store, inputs, |store| {
            rule.fieldgate_rule_guest().call_open(store, &self.series)
        })?;
        let kept = &store.data().kept;
        let (before, keys) = (kept.place.version, kept.state.len());
        if before != version && (kept.place.batch > 0 || keys > 0) {
            // Every key it has may have to be read and written.
            let inputs = inputs.saturating_add(keys);
            store.data_mut().go_on(inputs);
            guarded(engine, store, inputs, |store| {
                rule.fieldgate_rule_guest().call_migrate(store, before)
            })?;
        }
        let guest = store.data_mut();
        guest.kept.place.version = version;
        Ok((rule, guest.commit()))
    }

    /// Remembers what a preparing call changed until there is an outcome to tell it with.
    fn keep(&mut self, done: Done) {
        self.prepared.state.extend(done.change.state);
        self.prepared.timers.extend(done.change.timers);
        self.prepared.declared.extend(done.change.declared);
        self.log.extend(done.log);
        self.log.truncate(limits::RULE_LOG_BURST as usize);
    }

    /// Makes a call, on a fresh instance if need be, and throws the instance away when it fails.
    fn call<T>(
        &mut self,
        purpose: Purpose,
        inputs: usize,
        context: Option<&Context>,
        call: impl FnOnce(&wit::Rule, &mut Store<Guest>, Option<Context>) -> Called<T>,
    ) -> Result<(T, u64), Failure> {
        self.seated()?;
        let fresh = self.fresh;
        let engine = self.program.engine().clone();
        let Running { store, rule } = self.seated()?;
        store.data_mut().begin(purpose, inputs, context.map(|context| context.now));
        let context = context.map(|context| Context { fresh, ..*context });
        let result = guarded(&engine, store, inputs, |store| call(rule, store, context));
        let used = store.data().limits.fuel(inputs).saturating_sub(store.get_fuel().unwrap_or(0));
        match result {
            Ok(value) => {
                self.fresh = self.fresh && context.is_none();
                Ok((value, used))
            }
            Err(failure) => {
                self.vacate();
                Err(failure)
            }
        }
    }

    /// Throws the instance away; the mirror stays.
    fn vacate(&mut self) {
        if let Seat::Taken(running) = std::mem::replace(&mut self.seat, Seat::Moving) {
            self.seat = Seat::Free(Box::new(running.store.into_data()));
        }
    }

    /// Makes a call that works on readings or timers, and tells what it did.
    fn work(
        &mut self,
        context: &Context,
        inputs: usize,
        call: impl FnOnce(&wit::Rule, &mut Store<Guest>, Context) -> Called<()>,
        fired: &[Fired],
    ) -> Result<Outcome, Failure> {
        let began = Instant::now();
        let ((), fuel) =
            self.call(Purpose::Work, inputs, Some(context), |rule, store, context| {
                // A fired timer is gone unless the call sets it again.
                for timer in fired {
                    store.data_mut().forget_timer(&timer.name);
                }
                match context {
                    Some(context) => call(rule, store, context),
                    None => Ok(Ok(())),
                }
            })?;
        let Seat::Taken(running) = &mut self.seat else { unreachable!("the call went well") };
        let guest = running.store.data_mut();
        guest.kept.place.batch = context.batch;
        guest.kept.place.watermark = context.watermark;
        let place = guest.kept.place;
        let done = guest.commit();
        let full = guest.memory.nearly_full();
        let outcome = self.outcome(done, place);
        if full {
            self.vacate();
        }
        Ok(Outcome { fuel, took: began.elapsed(), ..outcome })
    }

    /// Puts what was prepared before what was done.
    fn outcome(&mut self, done: Done, place: Place) -> Outcome {
        let mut change = std::mem::take(&mut self.prepared);
        let mut log = std::mem::take(&mut self.log);
        change.rule = done.change.rule;
        change.state.extend(done.change.state);
        change.timers.extend(done.change.timers);
        change.declared.extend(done.change.declared);
        change.place = place;
        log.extend(done.log);
        Outcome { emitted: done.emitted, change, log, ..Outcome::default() }
    }
}

impl Rule for Instance {
    fn series_added(&mut self, series: &[Series]) -> Result<(), Failure> {
        if let Seat::Free(_) = self.seat {
            // The fresh instance learns of them in its `open`.
            self.series.extend_from_slice(series);
            return self.seated().map(drop);
        }
        self.series.extend_from_slice(series);
        let known = u32::try_from(self.series.len()).unwrap_or(u32::MAX);
        self.call(Purpose::Prepare, series.len(), None, |rule, store, _| {
            store.data_mut().series = known;
            rule.fieldgate_rule_guest().call_series_added(store, series)
        })?;
        if let Seat::Taken(running) = &mut self.seat {
            let done = running.store.data_mut().commit();
            self.keep(done);
        }
        Ok(())
    }

    fn process(&mut self, context: &Context, batch: &[Reading]) -> Result<Outcome, Failure> {
        let call = |rule: &wit::Rule, store: &mut Store<Guest>, context| {
            rule.fieldgate_rule_guest().call_process(store, context, batch)
        };
        self.work(context, batch.len(), call, &[])
    }

    fn on_timer(&mut self, context: &Context, fired: &[Fired]) -> Result<Outcome, Failure> {
        let call = |rule: &wit::Rule, store: &mut Store<Guest>, context| {
            rule.fieldgate_rule_guest().call_on_timer(store, context, fired)
        };
        self.work(context, fired.len(), call, fired)
    }

    fn forget(&mut self, timers: &[Fired]) {
        let guest = match &mut self.seat {
            Seat::Taken(running) => running.store.data_mut(),
            Seat::Free(guest) => guest,
            Seat::Moving => unreachable!("no call is under way"),
        };
        for timer in timers {
            guest.kept.timers.remove(timer.name.as_str());
        }
    }
}

/// Binds a store's limits to what it holds.
fn prepare(store: &mut Store<Guest>) {
    store.limiter(|guest| &mut guest.memory);
    store.set_hostcall_fuel(limits::RULE_HOSTCALL_BYTES_MAX);
    store.set_max_component_handles(limits::RULE_HANDLES_MAX);
    store.epoch_deadline_callback(|caller| {
        if caller.data().overdue() {
            return Err(Overdue.into());
        }
        Ok(UpdateDeadline::Continue(1))
    });
}

/// Runs a call with fresh fuel under the clock, and turns whatever comes of it into words.
fn guarded<T>(
    engine: &super::Engine,
    store: &mut Store<Guest>,
    inputs: usize,
    call: impl FnOnce(&mut Store<Guest>) -> Called<T>,
) -> Result<T, Failure> {
    let fuel = store.data().limits.fuel(inputs);
    if store.set_fuel(fuel).is_err() {
        unreachable!("the engine counts fuel");
    }
    store.set_epoch_deadline(1);
    let running = engine.running();
    // Whatever a panic leaves behind is thrown away with the instance.
    let called = catch_unwind(AssertUnwindSafe(|| call(store)));
    drop(running);
    match called {
        Ok(Ok(Ok(value))) => Ok(value),
        Ok(Ok(Err(error))) => Err(failure::of_rule(&error)),
        Ok(Err(error)) => Err(failure::of_error(&error, store.data())),
        Err(panic) => Err(failure::of_panic(&*panic)),
    }
}
