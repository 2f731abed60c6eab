//! `rule new`: a folder with a small rule in it that builds and whose tests pass as it is.

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::json;

use super::{Language, ends, say};
use crate::error::{Exit, Fatal};
use crate::events::author as told;

/// Writes a folder with a working rule to begin from
#[derive(Debug, Args)]
#[command(after_help = "The rule sends a reading when it has moved by more than a band. It builds
and passes its tests as it is:
  fieldgate rule new spike-filter
  cd spike-filter && fieldgate rule build && fieldgate rule test

What is needed to build:
  rust            rustup target add wasm32-unknown-unknown
                  or on Debian: apt-get install rustc-web rust-web-src cargo-web lld
  c               apt-get install clang lld
  assemblyscript  apt-get install nodejs npm")]
pub(in crate::cli) struct New {
    /// Name of the rule: lower-case letters, digits and dashes
    name: String,
    /// What it is written in
    #[arg(long, value_enum, default_value = "rust")]
    lang: Language,
    /// Folder to write; default: NAME here
    #[arg(long, value_name = "DIR")]
    path: Option<PathBuf>,
    /// Print the names of the files as JSON
    #[arg(long)]
    json: bool,
}

/// A file to write: its path in the folder, and its text with `{{name}}` for the rule's name.
type Template = (&'static str, &'static str);

const CASES: Template = ("tests/deadband.toml", include_str!("templates/cases.toml"));
const ABOUT: Template = ("rule.toml", include_str!("templates/rule.toml"));
const README: Template = ("README.md", include_str!("templates/README.md"));
const WIT: Template = ("rule.wit", include_str!("../../../rules/wit/rule.wit"));

const RUST: &[Template] = &[
    ("Cargo.toml", include_str!("templates/rust/Cargo.toml")),
    ("src/lib.rs", include_str!("templates/rust/lib.rs")),
    (".gitignore", "target/\n*.wasm\n"),
    CASES,
    README,
];

const C: &[Template] = &[
    ("src/rule.c", include_str!("templates/c/rule.c")),
    ("src/fieldgate_rule.h", include_str!("templates/c/fieldgate_rule.h")),
    (".gitignore", "build/\n*.wasm\n"),
    ABOUT,
    WIT,
    CASES,
    README,
];

const ASSEMBLYSCRIPT: &[Template] = &[
    ("assembly/rule.ts", include_str!("templates/assemblyscript/rule.ts")),
    ("assembly/fieldgate.ts", include_str!("templates/assemblyscript/fieldgate.ts")),
    ("assembly/index.ts", include_str!("templates/assemblyscript/index.ts")),
    ("package.json", include_str!("templates/assemblyscript/package.json")),
    ("tsconfig.json", include_str!("templates/assemblyscript/tsconfig.json")),
    (".gitignore", "build/\nnode_modules/\n*.wasm\n"),
    ABOUT,
    WIT,
    CASES,
    README,
];

impl New {
    pub(super) fn run(self) -> Result<Exit, Fatal> {
        if !is_name(&self.name) {
            return Err(ends(Exit::Usage, &told::no_name(&self.name)));
        }
        let folder = self.path.clone().unwrap_or_else(|| PathBuf::from(&self.name));
        let taken = folder.read_dir().is_ok_and(|mut entries| entries.next().is_some());
        if taken || folder.is_file() {
            return Err(ends(Exit::Problem, &told::folder_taken(&folder)));
        }
        let (files, edit) = match self.lang {
            Language::Rust => {
                (RUST, "src/lib.rs is yours; fieldgate/ is the SDK it was written with.")
            }
            Language::C => (C, "src/rule.c and rule.toml are yours; the header is the contract."),
            Language::AssemblyScript => (
                ASSEMBLYSCRIPT,
                "assembly/rule.ts and rule.toml are yours; the rest is the contract.",
            ),
        };
        let sdk = if self.lang == Language::Rust { super::sdk::FILES } else { &[] };
        for (path, text) in files {
            let text = text.replace("{{name}}", &self.name).replace("{{edit}}", edit);
            write(&folder.join(path), &text)?;
        }
        for (path, text) in sdk {
            write(&folder.join("fieldgate").join(path), text)?;
        }
        if self.json {
            let names: Vec<_> = files.iter().map(|(path, _)| *path).collect();
            say(&json!({ "folder": folder, "files": names }).to_string());
        } else {
            say(&format!(
                "{}: a rule in {}, ready to build\n  Next:   cd {} && fieldgate rule build && \
                 fieldgate rule test",
                self.name,
                self.lang.word(),
                folder.display()
            ));
        }
        Ok(Exit::Done)
    }
}

impl Language {
    fn word(self) -> &'static str {
        match self {
            Self::Rust => "Rust",
            Self::C => "C",
            Self::AssemblyScript => "AssemblyScript",
        }
    }
}

fn is_name(name: &str) -> bool {
    name.len() <= crate::limits::MANIFEST_NAME_BYTES_MAX
        && name.starts_with(|c: char| c.is_ascii_lowercase())
        && !name.ends_with('-')
        && name.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-'))
}

fn write(path: &Path, text: &str) -> Result<(), Fatal> {
    let folder = path.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder)
        .and_then(|()| std::fs::write(path, text))
        .map_err(|e| ends(Exit::Unreachable, &told::cannot_write(path, e.kind())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_what_a_manifest_takes() {
        for good in ["a", "spike-filter", "co2"] {
            assert!(is_name(good), "{good}");
        }
        for bad in ["", "2co", "A", "a_b", "a-", "-a", "a/b", "../a", &"a".repeat(65)] {
            assert!(!is_name(bad), "{bad}");
        }
    }

    #[test]
    fn templates_have_no_hole_left() {
        for (path, text) in RUST.iter().chain(C).chain(ASSEMBLYSCRIPT) {
            let filled = text.replace("{{name}}", "x").replace("{{edit}}", "");
            assert!(!filled.contains("{{"), "{path}");
        }
    }
}
