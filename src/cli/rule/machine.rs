//! A rule's file on the machines that gateways have: native code, and the interpreter that stands in
//! where memory may not become executable.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{Language, build};
use crate::events::Notice;
use crate::events::author as told;
use crate::rules::wit::{Param, Series};
use crate::rules::{
    Asked, Code, Engine, Failure, Instance, Limits, Manifest, Program, Refused, Rule, Settings,
};
use crate::state::Kept;

/// A rule's file and what it says.
#[derive(Debug)]
pub(super) struct Subject {
    /// Where it stands.
    pub path: PathBuf,
    /// Its bytes.
    pub file: Vec<u8>,
    /// What it says about itself.
    pub manifest: Manifest,
    /// Where its cases are: the folder that holds `tests`.
    pub folder: PathBuf,
}

/// The rule, compiled for one machine.
pub(super) struct Machine {
    /// `native` or `pulley`.
    pub name: &'static str,
    program: Arc<Program>,
}

impl Subject {
    /// Takes a file as it is, or builds the rule of a folder.
    pub fn of(path: &Path) -> Result<Self, Notice> {
        if path.is_dir() {
            if Language::of(path).is_none() {
                return Err(told::no_rule_here(path));
            }
            let built = build::build(path, None, None)?;
            let build::Built { path: made, file, manifest } = built;
            return Ok(Self { path: made, file, manifest, folder: path.to_owned() });
        }
        let file = std::fs::read(path).map_err(|e| told::cannot_read(path, e.kind()))?;
        let manifest = match Manifest::read(&file) {
            Ok(Some(manifest)) => manifest,
            Ok(None) => {
                let next = "fieldgate rule build --module FILE";
                return Err(told::refused(path, "says nothing about itself (no manifest)", next));
            }
            Err(bad) => return Err(told::refused(path, &format!("its manifest {bad}"), "")),
        };
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        let folder = folder.unwrap_or(Path::new(".")).to_owned();
        Ok(Self { path: path.to_owned(), file, manifest, folder })
    }

    /// Compiles it for every machine that this one can be.
    pub fn machines(&self) -> Result<Vec<Machine>, Notice> {
        let mut machines = Vec::new();
        for (name, code) in [("native", Code::Native), ("pulley", Code::Pulley)] {
            // No native code here is no fault of the rule's.
            let Ok(engine) = Engine::new(code) else { continue };
            let program = Program::load(&engine, &self.file).map_err(|refused| {
                let Refused { message, next, .. } = refused;
                told::refused(&self.path, &message, &next)
            })?;
            machines.push(Machine { name, program });
        }
        Ok(machines)
    }
}

impl Machine {
    /// Starts an instance within `limits`.
    pub fn open(
        &self,
        manifest: &Manifest,
        params: &[(String, Param)],
        limits: Limits,
        series: &[Series],
        kept: Kept,
    ) -> Result<Box<dyn Rule>, Failure> {
        let name = manifest.name.as_str().into();
        let settings = Settings { name, params: params.to_vec(), limits };
        let instance = Instance::open(&self.program, &settings, series, kept)?;
        Ok(Box::new(instance))
    }
}

/// The limits that hold on a gateway whose operator says nothing.
pub(super) fn usual(manifest: &Manifest) -> Limits {
    Limits::settle(manifest.limits, Asked::default())
}
