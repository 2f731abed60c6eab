//! A rule's file, checked and compiled: what instances are made of.
//!
//! Everything that can be seen without compiling is seen first ([`super::inspect`]): most files that
//! are no rule are told so in words after microseconds. The compiler, a large program over a
//! stranger's bytes, runs in a process of its own ([`super::compile`]).

use std::sync::Arc;

use wasmtime::component::Component;
use wasmtime::component::types::ComponentItem;

use super::calls;
use super::guest::Guest;
use super::wit::{Context, Error, Fired, Reading, RulePre, Series};
use super::{Engine, Manifest, compile, inspect};

/// A compiled rule; shared by all its instances.
pub struct Program {
    engine: Engine,
    pre: RulePre<Guest>,
    digest: String,
    manifest: Manifest,
}

/// Why a file is no rule that can run here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// A dotted word for machines: `file.size`, `file.cwasm`, `import.wasi`, `contract.version`,
    /// `manifest.none`, `compile.time`.
    pub code: &'static str,
    /// What was seen, a clause that completes "the file".
    pub message: String,
    /// What to do about it, a sentence; empty when nothing is known to help.
    pub next: String,
}

impl Refused {
    pub(super) fn new(
        code: &'static str,
        message: impl Into<String>,
        next: impl Into<String>,
    ) -> Self {
        Self { code, message: message.into(), next: next.into() }
    }
}

impl Program {
    /// Checks a rule's file and compiles it, or takes what was compiled of it before. Rules of the same
    /// file share one.
    ///
    /// Takes from a millisecond (kept from before) to many seconds (an interpreter of another language,
    /// on a small board), and blocks the calling thread for that long.
    ///
    /// # Errors
    /// When the file is anything but a rule of a contract version that this gateway speaks.
    pub fn load(engine: &Engine, file: &[u8]) -> Result<Arc<Self>, Refused> {
        let digest = digest(file);
        if let Some(program) = engine.loaded(&digest) {
            return Ok(program);
        }
        let used = inspect::inspect(file)?;
        let manifest = manifest(file)?;
        inspect::asked_for(&used, &manifest.capabilities)?;
        let component = compile::component(engine, &digest, file)?;
        shape(engine, &component)?;
        let linker = calls::linker(engine.machine()).map_err(|error| unlinked(&error))?;
        let pre = linker
            .instantiate_pre(&component)
            .and_then(RulePre::new)
            .map_err(|error| unlinked(&error))?;
        let program = Arc::new(Self { engine: engine.clone(), pre, digest, manifest });
        engine.remember(&program);
        Ok(program)
    }

    /// SHA-256 of the file, in lower-case hexadecimal digits.
    #[must_use]
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// What the rule says about itself.
    #[must_use]
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The engine it was compiled for.
    #[must_use]
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    pub(super) fn pre(&self) -> &RulePre<Guest> {
        &self.pre
    }
}

fn manifest(file: &[u8]) -> Result<Manifest, Refused> {
    const NEXT: &str =
        "Build it with `fieldgate rule build`, which writes the manifest from rule.toml.";
    match Manifest::read(file) {
        Ok(Some(manifest)) => Ok(manifest),
        Ok(None) => Err(Refused::new("manifest.none", "has no manifest", NEXT)),
        Err(bad) => {
            let what = format!("has a manifest that is none: it {}", bad.why);
            Err(Refused::new("manifest.invalid", what, NEXT))
        }
    }
}

/// Checks that the functions of the guest are those of the contract. Wasmtime looks when an instance is
/// made, which is when a rule starts; a file that never can is better refused when it arrives.
fn shape(engine: &Engine, component: &Component) -> Result<(), Refused> {
    let ty = component.component_type();
    let machine = engine.machine();
    let guest = ty.exports(machine).find(|(name, _)| inspect::is_guest(name));
    let Some(ComponentItem::ComponentInstance(guest)) = guest.map(|(_, item)| item.ty) else {
        return Err(misshapen("its `guest` is no interface"));
    };
    let types = ty.instance_type();
    let function = |name: &str| match guest.get_export(machine, name).map(|item| item.ty) {
        Some(ComponentItem::ComponentFunc(function)) => Ok(function),
        _ => Err(misshapen(&format!("its `guest` has no function `{name}`"))),
    };
    type Nothing = (Result<(), Error>,);
    type Told<'a> = (&'a [Series],);
    let checks = [
        ("open", function("open")?.typecheck::<Told<'_>, (Result<u32, Error>,)>(&types)),
        ("migrate", function("migrate")?.typecheck::<(u32,), Nothing>(&types)),
        ("series-added", function("series-added")?.typecheck::<Told<'_>, Nothing>(&types)),
        ("process", function("process")?.typecheck::<(Context, &[Reading]), Nothing>(&types)),
        ("on-timer", function("on-timer")?.typecheck::<(Context, &[Fired]), Nothing>(&types)),
    ];
    for (name, check) in checks {
        check.map_err(|error| misshapen(&format!("`{name}`: {}", error.root_cause())))?;
    }
    Ok(())
}

/// SHA-256 in hexadecimal digits.
fn digest(file: &[u8]) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, file);
    digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The names are right and what stands behind them is not.
fn unlinked(error: &wasmtime::Error) -> Refused {
    misshapen(&format!("{error:#}"))
}

fn misshapen(why: &str) -> Refused {
    let why = super::log::shortened(why);
    Refused::new(
        "contract.shape",
        format!("does not have the functions of fieldgate:rule@1 as they are defined: {why}"),
        "Build it against this gateway's rule.wit, which `fieldgate rule new` writes.",
    )
}
