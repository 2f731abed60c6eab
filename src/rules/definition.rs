//! A rule as the configuration has it, and who makes one run.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use toml::de::DeTable;

use super::folder::digest;
use super::manifest::{CAPABILITIES, Manifest, Output};
use super::pattern::Pattern;
use super::trial::Bounds;
use super::wit::{Param, Series};
use super::{Asked, Engine, Failure, Instance, Limits, OnFailure, Program, Rule, Settings};
use crate::events::Events;
use crate::reading::Stream;
use crate::state::{Declared, Kept};

/// A rule as the configuration has it.
#[derive(Debug, Clone)]
pub struct Definition {
    /// Name, parameters and limits.
    pub settings: Settings,
    /// Its file.
    pub file: PathBuf,
    /// What the file held when it was read; shared by the rules made from it.
    pub code: Arc<[u8]>,
    /// SHA-256 of that, hexadecimal.
    pub digest: Arc<str>,
    /// The version its author gave it.
    pub version: Arc<str>,
    /// The interfaces of the contract that it asks for.
    pub asks: Arc<[String]>,
    /// What it takes.
    pub on: Vec<Pattern>,
    /// Readings that it is known to make under names of its own.
    pub makes: Vec<Pattern>,
    /// Whether the readings it takes also go on.
    pub keep: bool,
    /// Whether what it makes goes on.
    pub mode: Mode,
    /// What becomes of its readings while it cannot run.
    pub on_failure: OnFailure,
    /// How long readings may be on their way before they are late.
    pub lateness: Duration,
    /// What its table says that is measured against the file.
    pub written: Written,
    /// What ends the trial of another version of it.
    pub trial: Bounds,
    /// The rule that it is on trial beside.
    pub beside: Option<Arc<str>>,
}

/// What an operator wrote for a rule that has to fit its file, kept for another version of it.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Written {
    /// `with`, as an inline table.
    pub with: Arc<str>,
    /// `limit`.
    pub limit: Asked,
    /// `grant`; `None` grants everything.
    pub grant: Option<Arc<[&'static str]>>,
    /// The tests that name it.
    pub tests: Arc<[Proof]>,
}

impl Written {
    /// Returns the interfaces of the contract that a rule may ask for here.
    #[must_use]
    pub fn granted(&self) -> &[&'static str] {
        self.grant.as_deref().unwrap_or(&CAPABILITIES)
    }

    /// Looks whether a file asks for no more than that.
    ///
    /// # Errors
    /// What it asks for beyond it; completes "the file ..".
    pub fn admit(&self, manifest: &Manifest) -> Result<(), String> {
        let granted = self.granted();
        let asked = manifest.capabilities.iter().map(String::as_str);
        let more: Vec<_> = asked.filter(|asked| !granted.contains(asked)).collect();
        if more.is_empty() {
            return Ok(());
        }
        let granted = if granted.is_empty() { "nothing".to_owned() } else { granted.join(", ") };
        Err(format!("asks for {}, and grant gives it {granted}", more.join(", ")))
    }
}

/// A `[test.NAME]` table of a rule, as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proof {
    /// The name of the table.
    pub name: Arc<str>,
    /// Where files that it names begin.
    pub folder: PathBuf,
    /// The table, as an inline table.
    pub table: Arc<str>,
}

/// Whether what a rule makes goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// It does.
    #[default]
    Live,
    /// It does not: the rule sees the same readings, and they go on as if it were not there.
    Shadow,
}

impl Definition {
    /// Returns its name.
    #[must_use]
    pub fn name(&self) -> &Arc<str> {
        &self.settings.name
    }

    /// Returns whether a running rule of the other definition need not be touched.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        let what = |it: &Self| (it.keep, it.mode, it.on_failure, it.lateness);
        self.settings == other.settings
            && self.digest == other.digest
            && self.on == other.on
            && (&self.trial, &self.beside) == (&other.trial, &other.beside)
            && what(self) == what(other)
    }

    /// Returns the same rule made of another file, or of its own once that is to be trusted.
    ///
    /// # Errors
    /// What in its table does not fit the file, a sentence.
    pub fn made_of(&self, file: &[u8]) -> Result<Self, String> {
        let manifest = match Manifest::read(file) {
            Ok(Some(manifest)) => manifest,
            Ok(None) => return Err("it has no manifest".to_owned()),
            Err(bad) => return Err(format!("its manifest {}", bad.why)),
        };
        let refused = |why| format!("it {why} ([rule.{}])", self.name());
        self.written.admit(&manifest).map_err(refused)?;
        let with = match &*self.written.with {
            "" => String::new(),
            with => format!("with = {with}"),
        };
        let table = DeTable::parse(&with).map_err(|_| "with cannot be read again".to_owned())?;
        let table = table.get_ref().get("with").and_then(|value| value.get_ref().as_table());
        let params = manifest.params(table.unwrap_or(&DeTable::new())).map_err(|faults| {
            let told: Vec<_> = faults.into_iter().map(|fault| fault.found).collect();
            format!("with of rule {} does not fit it: {}", self.name(), told.join("; "))
        })?;
        Ok(Self {
            makes: makes(&manifest, &self.on, &params),
            settings: Settings {
                name: Arc::clone(self.name()),
                params,
                limits: Limits::settle(manifest.limits, self.written.limit),
            },
            code: file.into(),
            digest: digest(file).into(),
            version: manifest.version.to_string().into(),
            asks: manifest.capabilities.into(),
            ..self.clone()
        })
    }

    /// Returns whether others could take this output of it, and its file did not announce it.
    #[must_use]
    pub fn is_unannounced(&self, output: &Declared) -> bool {
        output.stream == Stream::Data
            && self.mode == Mode::Live
            && !self.makes.iter().any(|made| made.takes(&output.device, &output.point))
    }

    /// Returns whether it takes this point of a source.
    #[must_use]
    pub fn takes(&self, device: &str, point: &str) -> bool {
        self.on.iter().any(|on| on.takes(device, point))
    }

    /// Returns whether it takes this point when another rule makes it.
    #[must_use]
    pub fn takes_made(&self, device: &str, point: &str) -> bool {
        self.on.iter().any(|on| on.takes_made(device, point))
    }
}

/// Readings that a rule is to make under names of their own, for each pattern it takes.
#[must_use]
pub fn makes(manifest: &Manifest, on: &[Pattern], params: &[(String, Param)]) -> Vec<Pattern> {
    let own = |output: &&Output| {
        output.stream == Stream::Data && (output.device != "{device}" || output.point != "{point}")
    };
    let mut makes: Vec<Pattern> = Vec::new();
    for output in manifest.outputs.iter().filter(own) {
        for on in on {
            for (device, point) in output.names(on.device(), on.point(), params) {
                let made = Pattern::of(&device, &point);
                if !makes.contains(&made) {
                    makes.push(made);
                }
            }
        }
    }
    makes
}

/// Makes rules out of their files. Two kinds: [`Wasm`], and rules written in Rust for tests.
pub trait Loader: Send + Sync {
    /// Checks a file and compiles it; may take seconds.
    ///
    /// # Errors
    /// When it is no rule that can run here.
    fn load(&self, rule: &Definition) -> Result<Arc<dyn Loaded>, Failure>;
}

/// A rule's file, ready to run.
pub trait Loaded: Send + Sync {
    /// Begins a rule over `series` with what was kept of it; takes some microseconds.
    ///
    /// # Errors
    /// When the rule itself refuses.
    fn open(&self, settings: &Settings, series: &[Series], kept: Kept) -> Result<Opened, Failure>;
}

/// A rule that has begun.
pub struct Opened {
    /// The rule.
    pub rule: Box<dyn Rule>,
    /// What it has declared until now.
    pub declared: Vec<Declared>,
}

/// Makes rules of WASM; the machine is set up with the first.
pub struct Wasm {
    engine: OnceLock<Result<Engine, String>>,
    code: PathBuf,
    events: Events,
}

impl Wasm {
    /// Keeps what is compiled in the folder `code`.
    #[must_use]
    pub fn of_gateway(code: PathBuf, events: &Events) -> Self {
        Self { engine: OnceLock::new(), code, events: events.clone() }
    }
}

impl Loader for Wasm {
    fn load(&self, rule: &Definition) -> Result<Arc<dyn Loaded>, Failure> {
        let made = || Engine::of_gateway(&self.code, &self.events);
        let engine = self.engine.get_or_init(made).as_ref();
        let engine =
            engine.map_err(|why| Failure { code: "engine".to_owned(), message: why.clone() })?;
        let refused = |refused: super::Refused| Failure {
            code: refused.code.to_owned(),
            message: format!("its file {}. {}", refused.message, refused.next).trim().to_owned(),
        };
        let program = Program::load(engine, &rule.code).map_err(refused)?;
        Ok(Arc::new(Compiled(program)))
    }
}

struct Compiled(Arc<Program>);

impl Loaded for Compiled {
    fn open(&self, settings: &Settings, series: &[Series], kept: Kept) -> Result<Opened, Failure> {
        let instance = Instance::open(&self.0, settings, series, kept)?;
        let declared = instance.kept().declared.clone();
        Ok(Opened { rule: Box::new(instance), declared })
    }
}
