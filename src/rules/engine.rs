//! The machine that rules run on: wasmtime with everything off that a rule has no use for, and the
//! clock behind the deadlines. One for the whole gateway; instances of different rules share nothing
//! but compiled code and this clock.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};

use wasmtime::{Config, WasmFeatures};

use super::cache::Cache;
use super::compile::{self, Compiler};
use super::program::Program;
use crate::events::{self, Events};
use crate::limits;

/// What rules are compiled to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Code {
    /// Native code where memory may become executable, else Pulley.
    #[default]
    Auto,
    /// Code of this processor.
    Native,
    /// Code of wasmtime's interpreter: runs where nothing may be made executable, and on 32-bit ARM.
    /// Four to five times slower, twenty times in tight loops.
    Pulley,
}

/// Where rules run; cheap to clone.
#[derive(Debug, Clone)]
pub struct Engine {
    machine: wasmtime::Engine,
    clock: Arc<Clock>,
    compiler: Compiler,
    cache: Option<Arc<Cache>>,
    /// What is loaded, by the digest of its file. Its rules hold it; with the last of them it goes.
    loaded: Arc<Mutex<HashMap<String, Weak<Program>>>>,
}

impl Engine {
    /// Makes the machine.
    ///
    /// # Errors
    /// When [`Code::Native`] is asked for and there is none, in words.
    pub fn new(code: Code) -> Result<Self, String> {
        let machine = match code {
            Code::Native => native()?,
            Code::Pulley => pulley()?,
            Code::Auto => match native() {
                Ok(machine) => machine,
                Err(why) => {
                    tracing::debug!("rules run in the interpreter: {why}");
                    pulley()?
                }
            },
        };
        let clock = Arc::new(Clock::new(machine.clone()));
        Ok(Self {
            machine,
            clock,
            compiler: Compiler::default(),
            cache: None,
            loaded: Arc::default(),
        })
    }

    /// The gateway's own engine: native code where there may be some, compiled by another process of
    /// this program and kept in `folder`. What cannot be had is told of and done without.
    ///
    /// # Errors
    /// When there is no machine at all, in words.
    pub fn of_gateway(folder: &Path, events: &Events) -> Result<Self, String> {
        let engine = Self::new(Code::Auto)?;
        let engine = match compile::this_program() {
            Some(program) => engine.compiling_apart(program),
            None => engine,
        };
        match engine.clone().keeping(folder) {
            Ok(keeping) => Ok(keeping),
            Err(why) => {
                events.raise(events::rules::not_kept(&why));
                Ok(engine)
            }
        }
    }

    /// Lets rules be compiled by a child process of `program`, with limits of its own, instead of by
    /// this one.
    #[must_use]
    pub fn compiling_apart(self, program: PathBuf) -> Self {
        Self { compiler: Compiler::Apart(program), ..self }
    }

    /// Keeps what is compiled in `folder`, which is made if need be and closed to other users.
    ///
    /// # Errors
    /// In words, when there can be no such folder; rules then are compiled at each start.
    pub fn keeping(self, folder: &Path) -> Result<Self, String> {
        Ok(Self { cache: Some(Arc::new(Cache::open(folder)?)), ..self })
    }

    /// What rules are compiled to: [`Code::Native`] or [`Code::Pulley`].
    #[must_use]
    pub fn code(&self) -> Code {
        if self.machine.is_pulley() { Code::Pulley } else { Code::Native }
    }

    /// The machine itself.
    pub(super) fn machine(&self) -> &wasmtime::Engine {
        &self.machine
    }

    pub(super) fn compiler(&self) -> &Compiler {
        &self.compiler
    }

    pub(super) fn cache(&self) -> Option<&Cache> {
        self.cache.as_deref()
    }

    /// Returns what another rule of the same file has loaded: its code, a quarter of a megabyte, and
    /// the image of its memory are the same for all.
    pub(super) fn loaded(&self, digest: &str) -> Option<Arc<Program>> {
        self.lock_loaded().get(digest).and_then(Weak::upgrade)
    }

    /// Remembers what was loaded, for as long as somebody holds it.
    pub(super) fn remember(&self, program: &Arc<Program>) {
        let mut loaded = self.lock_loaded();
        loaded.retain(|_, program| program.strong_count() > 0);
        loaded.insert(program.digest().to_owned(), Arc::downgrade(program));
    }

    fn lock_loaded(&self) -> MutexGuard<'_, HashMap<String, Weak<Program>>> {
        self.loaded.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets the clock tick until what is returned is dropped.
    pub(super) fn running(&self) -> Running<'_> {
        self.clock.enter()
    }
}

/// Native code, tried: the smallest module is compiled and made executable, which is what systemd's
/// `MemoryDenyWriteExecute=` and hardened kernels refuse.
fn native() -> Result<wasmtime::Engine, String> {
    let machine = wasmtime::Engine::new(&settings())
        .map_err(|error| format!("this build has no native code for rules: {error}"))?;
    if machine.is_pulley() {
        return Err("wasmtime has no native code for this processor".to_owned());
    }
    match wasmtime::Module::from_binary(&machine, SMALLEST) {
        Ok(_) => Ok(machine),
        Err(_) => Err("memory may not become executable here".to_owned()),
    }
}

/// `(module (func))`: a module with code in it.
const SMALLEST: &[u8] = b"\0asm\x01\0\0\0\x01\x04\x01\x60\0\0\x03\x02\x01\0\x0a\x04\x01\x02\0\x0b";

fn pulley() -> Result<wasmtime::Engine, String> {
    let target = if cfg!(target_pointer_width = "64") { "pulley64" } else { "pulley32" };
    let mut config = settings();
    config
        .target(target)
        .and_then(|config| wasmtime::Engine::new(config))
        .map_err(|error| format!("wasmtime's interpreter cannot be set up: {error}"))
}

/// What both kinds of code have in common; each line is a decision of ARCHITECTURE.md, 32.
fn settings() -> Config {
    let mut config = Config::new();
    config
        .wasm_features(
            WasmFeatures::MEMORY64
                | WasmFeatures::THREADS
                | WasmFeatures::MULTI_MEMORY
                | WasmFeatures::RELAXED_SIMD
                | WasmFeatures::TAIL_CALL
                | WasmFeatures::FUNCTION_REFERENCES
                | WasmFeatures::GC
                | WasmFeatures::WIDE_ARITHMETIC
                | WasmFeatures::EXCEPTIONS
                | WasmFeatures::CUSTOM_PAGE_SIZES
                | WasmFeatures::STACK_SWITCHING,
            false,
        )
        .wasm_component_model(true)
        .concurrency_support(false)
        .consume_fuel(true)
        .epoch_interruption(true)
        .cranelift_nan_canonicalization(true)
        .memory_reservation(0)
        .memory_guard_size(0)
        .memory_reservation_for_growth(1024 * 1024)
        .guard_before_linear_memory(false)
        .max_wasm_stack(limits::RULE_STACK_BYTES_MAX);
    config
}

/// Moves the machine's epoch while any rule runs. Its thread is started by the first call, sleeps
/// without waking while none runs, and ends with the engine.
#[derive(Debug)]
struct Clock(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    machine: wasmtime::Engine,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// Calls under way.
    running: usize,
    /// The thread was started.
    started: bool,
    /// It waits for a call to begin.
    asleep: bool,
    /// The engine is gone.
    ended: bool,
}

/// A call under way.
#[derive(Debug)]
pub(super) struct Running<'a>(&'a Clock);

impl Clock {
    fn new(machine: wasmtime::Engine) -> Self {
        let (state, changed) = (Mutex::default(), Condvar::new());
        Self(Arc::new(Shared { machine, state, changed }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn enter(&self) -> Running<'_> {
        let mut state = self.state();
        state.running += 1;
        if !state.started {
            let shared = Arc::clone(&self.0);
            let spawned = std::thread::Builder::new()
                .name("rule-clock".to_owned())
                .stack_size(limits::RULE_CLOCK_STACK_BYTES)
                .spawn(move || shared.tick());
            // Without it fuel still ends every call; the next one tries again.
            state.started = spawned.is_ok();
        } else if state.asleep {
            state.asleep = false;
            self.0.changed.notify_one();
        }
        Running(self)
    }
}

impl Shared {
    fn tick(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let mut idle = 0;
        while !state.ended {
            // A call that follows soon finds the clock running, and need not wake it.
            idle = if state.running > 0 { 0 } else { idle + 1 };
            state.asleep = idle > limits::RULE_IDLE_TICKS_MAX;
            state = if state.asleep {
                self.changed.wait(state).unwrap_or_else(PoisonError::into_inner)
            } else {
                let waited = self.changed.wait_timeout(state, limits::RULE_TICK);
                waited.unwrap_or_else(PoisonError::into_inner).0
            };
            self.machine.increment_epoch();
        }
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.state().running -= 1;
    }
}

impl Drop for Clock {
    fn drop(&mut self) {
        self.state().ended = true;
        self.0.changed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn native_code_and_the_interpreter_are_what_they_say() {
        assert_eq!(Engine::new(Code::Pulley).unwrap().code(), Code::Pulley);
        let auto = Engine::new(Code::Auto).unwrap();
        match Engine::new(Code::Native) {
            Ok(native) => assert_eq!((native.code(), auto.code()), (Code::Native, Code::Native)),
            Err(why) => assert!(!why.is_empty() && auto.code() == Code::Pulley),
        }
    }
}
