//! `rule build`: from a folder of sources, or a module that another tool made, to the file that is
//! pushed.

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::json;

use super::{Language, compile, component, describe, ends, say};
use crate::error::{Exit, Fatal};
use crate::events::Notice;
use crate::events::author as told;
use crate::limits;
use crate::rules::{Manifest, manifest};

/// Compiles a rule and makes the file that is pushed
#[derive(Debug, Args)]
#[command(
    after_help = "Needs nothing but the language's own compiler; the component is made in this
program. What the rule says about itself comes from its SDK and from rule.toml.

  fieldgate rule build                    the rule in this folder
  fieldgate rule build pumps/spike-filter
  fieldgate rule build --module my.wasm   a core module or component made by another tool,
                                          described by rule.toml"
)]
pub(in crate::cli) struct Build {
    /// The rule's folder
    #[arg(default_value = ".", value_name = "DIR")]
    folder: PathBuf,
    /// Take this WebAssembly instead of compiling
    #[arg(long, value_name = "FILE")]
    module: Option<PathBuf>,
    /// File to write; default: NAME.wasm in the folder
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Print what was made as JSON
    #[arg(long)]
    json: bool,
}

/// A rule that was built.
#[derive(Debug)]
pub(super) struct Built {
    /// Where it was written.
    pub path: PathBuf,
    /// Its bytes.
    pub file: Vec<u8>,
    /// What it says about itself.
    pub manifest: Manifest,
}

impl Build {
    pub(super) fn run(self) -> Result<Exit, Fatal> {
        let built = build(&self.folder, self.module.as_deref(), self.output.as_deref())
            .map_err(|notice| ends(Exit::Problem, &notice))?;
        let Built { path, file, manifest } = &built;
        let digest = ring::digest::digest(&ring::digest::SHA256, file);
        let digest: String = digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        if self.json {
            let made = json!({
                "file": path, "bytes": file.len(), "sha256": digest, "manifest": manifest.to_json(),
            });
            say(&made.to_string());
        } else {
            say(&format!(
                "{} {}  {} bytes  {}\n  uses:   {}\n  sha256: {digest}\n  Next:   fieldgate rule \
                 test {}",
                manifest.name,
                manifest.version,
                file.len(),
                path.display(),
                manifest.capabilities.join(", "),
                self.folder.display(),
            ));
        }
        Ok(Exit::Done)
    }
}

/// Builds the rule of a folder and writes its file.
pub(super) fn build(
    folder: &Path,
    module: Option<&Path>,
    output: Option<&Path>,
) -> Result<Built, Notice> {
    let core = match module {
        Some(module) => std::fs::read(module).map_err(|e| told::cannot_read(module, e.kind()))?,
        None => {
            let language = Language::of(folder).ok_or_else(|| told::no_rule_here(folder))?;
            compile::compile(folder, language)?
        }
    };
    let made = component::make(&core)?;
    let manifest = describe::describe(folder, &made)?;
    let json = manifest.to_json().to_string();
    let file = manifest::write(&made.component, json.as_bytes())
        .map_err(|bad| told::bad_manifest("the whole of it", &bad.why))?;
    if file.len() > limits::RULE_FILE_BYTES_MAX {
        return Err(told::too_large(file.len(), limits::RULE_FILE_BYTES_MAX));
    }
    let path =
        output.map_or_else(|| folder.join(format!("{}.wasm", manifest.name)), Path::to_owned);
    // Written beside and renamed: a gateway that watches the folder never sees half of it.
    let part = path.with_extension("wasm.part");
    std::fs::write(&part, &file)
        .and_then(|()| std::fs::rename(&part, &path))
        .map_err(|e| told::cannot_write(&path, e.kind()))?;
    Ok(Built { path, file, manifest })
}
