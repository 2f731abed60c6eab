//! What the author's commands say (`rule new`, `build`, `test`, `check`, `bench`), and what tests of
//! rules in a configuration say. Codes FG-W40 and up.

use std::io::ErrorKind;
use std::path::Path;

use super::{Code, Notice};

/// This room's codes.
pub const CODES: &[&Code] = &[
    &NO_RULE,
    &NO_TOOL,
    &COMPILER_FAILED,
    &UNFIT,
    &MANIFEST,
    &FILES,
    &REFUSED,
    &BAD_CASE,
    &CASE_FAILED,
    &PROPERTY,
    &NO_CASES,
];

/// FG-W40.
pub static NO_RULE: Code = Code {
    id: "FG-W40",
    title: "no rule in this folder",
    about: "A rule is recognised by its files: Cargo.toml for Rust, a folder assembly for \
            AssemblyScript, C files in src. The folder has none of them, or rule new was asked to \
            write where something lies already, or for a name that no rule can have. Nothing was \
            changed.",
};
/// FG-W41.
pub static NO_TOOL: Code = Code {
    id: "FG-W41",
    title: "a compiler is missing",
    about: "Rules are compiled by their language's own tools, which are not part of fieldgate, for \
            WebAssembly without any system interface. A tool was not found on the path, or it cannot \
            compile for that target. The message names the package or command that brings it.",
};
/// FG-W42.
pub static COMPILER_FAILED: Code = Code {
    id: "FG-W42",
    title: "the compiler refused the rule",
    about: "The language's own compiler ended with an error; what it said stands above, unchanged. \
            Nothing was written, and a file that was built before is still there.",
};
/// FG-W43.
pub static UNFIT: Code = Code {
    id: "FG-W43",
    title: "a module does not fit the contract",
    about: "What was compiled is WebAssembly, but not a rule: it asks for something that gateways do \
            not give to rules (WASI most often: files, clocks, random numbers), or lacks a function of \
            the contract or has it with other types, or is larger than a gateway takes. A rule has \
            parameters, output, state, timers and a log, and nothing else.",
};
/// FG-W44.
pub static MANIFEST: Code = Code {
    id: "FG-W44",
    title: "what a rule says about itself does not do",
    about: "Every rule's file carries its name, version, licence, parameters and outputs, so that a \
            gateway can check a configuration before it runs anything. They come from the SDK and from \
            rule.toml beside the sources; one of them is missing or breaks a bound.",
};
/// FG-W45.
pub static FILES: Code = Code {
    id: "FG-W45",
    title: "a file of the rule cannot be read or written",
    about: "A command for rules needs a file or folder that is not there, is a folder instead of a \
            file, is full, or belongs to another user. The message names it.",
};
/// FG-W46.
pub static REFUSED: Code = Code {
    id: "FG-W46",
    title: "a file is refused as a rule",
    about: "The file was read and is no rule that a gateway would run: no component, another contract, \
            imports beyond the contract, no manifest, or code that does not compile or does not start. \
            A gateway refuses it with the same words, so it is worth mending before it is pushed.",
};
/// FG-W47.
pub static BAD_CASE: Code = Code {
    id: "FG-W47",
    title: "a test of a rule cannot be understood",
    about: "A case has no feed, or its feed or expectation breaks the grammar, or gives parameters \
            that the rule does not have. docs/rules-testing.md has the grammar with examples.",
};
/// FG-W48.
pub static CASE_FAILED: Code = Code {
    id: "FG-W48",
    title: "a test of a rule failed",
    about: "The rule ran on what the test feeds it, and something else came than the test expects, or \
            the rule failed, or native code and the interpreter gave different results. The message \
            shows the first difference and what came. Tests run on the same host and with the same \
            notion of time as a gateway, so what fails here fails there.",
};
/// FG-W49.
pub static PROPERTY: Code = Code {
    id: "FG-W49",
    title: "a rule depends on what it must not depend on",
    about: "A rule must give the same output however its input is cut into batches, when it is started \
            again between any two batches with what it kept, and when it is run twice. This one does \
            not: it keeps something in memory that belongs into its state, or counts batches. On a \
            gateway it would give other results after a restart or under load.",
};
/// FG-W50.
pub static NO_CASES: Code = Code {
    id: "FG-W50",
    title: "a rule has no tests",
    about: "rule test found no tests/*.toml beside the rule. A file that is pushed to gateways nobody \
            visits should have been tried on readings with a known answer; one case is four lines.",
};

/// The name cannot be a rule's.
#[must_use]
pub fn no_name(name: &str) -> Notice {
    Notice::error(&NO_RULE, format!("\"{}\"", name.escape_debug()), "is no name for a rule")
        .seen("A name has lower-case letters, digits and dashes, begins with a letter, at most 64.")
        .try_next("fieldgate rule new spike-filter")
}

/// There is something where the rule should go.
#[must_use]
pub fn folder_taken(folder: &Path) -> Notice {
    let folder = folder.display().to_string();
    Notice::error(&NO_RULE, folder, "is there already, and not empty; nothing was written")
        .try_next("another name, or --path DIR")
}

/// The folder has nothing that could be built.
#[must_use]
pub fn no_rule_here(folder: &Path) -> Notice {
    let what = "has no rule to build: no Cargo.toml, no assembly/, no src/*.c";
    Notice::error(&NO_RULE, folder.display().to_string(), what)
        .likely("this is not the rule's folder")
        .likely("the rule is in another language: fieldgate rule build --module FILE.wasm")
        .try_next("fieldgate rule new NAME --lang rust")
}

/// No Rust compiler has the target.
#[must_use]
pub fn no_rust_target() -> Notice {
    Notice::error(&NO_TOOL, "Rust", "cannot compile for wasm32-unknown-unknown here")
        .seen("Looked for rustc's target, and for Debian's rustc-web with rust-web-src.")
        .try_next("rustup target add wasm32-unknown-unknown")
        .try_next("sudo apt-get install rustc-web rust-web-src cargo-web lld     (Debian)")
}

/// There is no linker for WebAssembly.
#[must_use]
pub fn no_wasm_linker() -> Notice {
    Notice::error(&NO_TOOL, "the linker", "for WebAssembly is missing (wasm-ld or rust-lld)")
        .try_next("sudo apt-get install lld")
}

/// There is no C compiler for WebAssembly.
#[must_use]
pub fn no_c_compiler() -> Notice {
    Notice::error(&NO_TOOL, "C", "cannot be compiled for WebAssembly here: no clang, no zig")
        .try_next("sudo apt-get install clang lld")
        .try_next("python3 -m pip install ziglang")
}

/// AssemblyScript's compiler cannot be fetched.
#[must_use]
pub fn no_npm() -> Notice {
    Notice::error(
        &NO_TOOL,
        "AssemblyScript",
        "cannot be compiled here: no asc, and no npm to fetch it",
    )
    .try_next("sudo apt-get install nodejs npm")
}

/// A tool could not be started.
#[must_use]
pub fn cannot_run(tool: &str, kind: ErrorKind) -> Notice {
    let why = match kind {
        ErrorKind::NotFound => "is not installed",
        ErrorKind::PermissionDenied => "may not be run by this user",
        _ => "could not be started",
    };
    Notice::error(&NO_TOOL, tool, why).try_next(format!("command -v {tool}"))
}

/// The compiler ended with an error.
#[must_use]
pub fn compiler_failed(tool: &str) -> Notice {
    Notice::error(&COMPILER_FAILED, tool, "ended with an error; what it said stands above")
}

/// Cargo made no module.
#[must_use]
pub fn no_cdylib() -> Notice {
    Notice::error(&COMPILER_FAILED, "cargo", "compiled the rule and made no .wasm of it")
        .likely("Cargo.toml lacks  [lib] crate-type = [\"cdylib\", \"rlib\"]")
}

/// The module is no rule; `why` completes "the module".
#[must_use]
pub fn unfit(why: &str) -> Notice {
    Notice::error(&UNFIT, "the module", why)
        .likely("a function of the contract is missing, or has other parameters")
        .try_next("compare its imports and exports with rule.wit, or begin with fieldgate rule new")
}

/// The module asks for WASI.
#[must_use]
pub fn asks_for_wasi(import: &str) -> Notice {
    let what = format!("asks for {}, and rules have no system interface", clip(import));
    Notice::error(&UNFIT, "the module", what)
        .likely("it was compiled for wasm32-wasip1 or wasm32-wasip2")
        .likely("a library in it wants files, a clock or random numbers")
        .try_next("compile it for wasm32-unknown-unknown")
}

/// The module asks for something else that rules do not have.
#[must_use]
pub fn asks_for_more(import: &str) -> Notice {
    let what = format!("asks for \"{}\", which is not in the contract", clip(import));
    Notice::error(&UNFIT, "the module", what)
        .seen("A rule can import params, output, state, timers and log of fieldgate:rule.")
        .likely("a library in it expects JavaScript or another host around it")
        .try_next("find what brings it in:  wasm-objdump -x, or cargo tree")
}

/// The component is larger than a gateway takes.
#[must_use]
pub fn too_large(bytes: usize, bytes_max: usize) -> Notice {
    let what = format!("has {bytes} bytes, and a gateway takes {bytes_max}");
    Notice::error(&UNFIT, "the component", what)
        .likely("it was compiled without optimisation or with debug information")
        .try_next("opt-level = \"s\", lto = \"fat\", strip = true")
}

/// The manifest does not do; `why` completes "the manifest".
#[must_use]
pub fn bad_manifest(from: &str, why: &str) -> Notice {
    Notice::error(&MANIFEST, "the manifest", why).seen(format!("It comes from {from}."))
}

/// There is no description at all.
#[must_use]
pub fn no_rule_toml(folder: &Path) -> Notice {
    let path = folder.join("rule.toml").display().to_string();
    Notice::error(&MANIFEST, path, "is missing, and the module does not describe itself either")
        .try_next("fieldgate rule new NAME --lang c     writes one to begin with")
}

/// A file or folder cannot be read.
#[must_use]
pub fn cannot_read(path: &Path, kind: ErrorKind) -> Notice {
    let why = match kind {
        ErrorKind::NotFound => "is not there",
        ErrorKind::PermissionDenied => "may not be read by this user",
        ErrorKind::IsADirectory => "is a folder",
        ErrorKind::InvalidData => "is no UTF-8 text",
        _ => "cannot be read",
    };
    Notice::error(&FILES, path.display().to_string(), why)
        .try_next(format!("ls -l {}", path.display()))
}

/// A file or folder cannot be written.
#[must_use]
pub fn cannot_write(path: &Path, kind: ErrorKind) -> Notice {
    let why = match kind {
        ErrorKind::PermissionDenied => "may not be written by this user",
        ErrorKind::StorageFull => "cannot be written: the disk is full",
        ErrorKind::ReadOnlyFilesystem => "cannot be written: the file system is read-only",
        ErrorKind::NotADirectory | ErrorKind::AlreadyExists => {
            "cannot be written: a file stands where a folder should be"
        }
        _ => "cannot be written",
    };
    Notice::error(&FILES, path.display().to_string(), why)
}

/// The file is refused; `why` completes "the file".
#[must_use]
pub fn refused(path: &Path, why: &str, next: &str) -> Notice {
    let notice = Notice::error(&REFUSED, path.display().to_string(), why);
    if next.is_empty() { notice } else { notice.try_next(next) }
}

/// A case cannot be understood; `what` completes its name.
#[must_use]
pub fn bad_case(subject: &str, what: &str, hint: &str) -> Notice {
    let notice = Notice::error(&BAD_CASE, subject, what);
    if hint.is_empty() { notice } else { notice.try_next(hint) }
}

/// A case failed; `difference` says how, `came` what came instead.
#[must_use]
pub fn case_failed(subject: &str, difference: &str, came: &[String]) -> Notice {
    let mut notice = Notice::error(&CASE_FAILED, subject, format!("failed: {difference}"));
    if !came.is_empty() {
        notice = notice.seen("What came:");
    }
    for line in came {
        notice = notice.seen(format!("  {line}"));
    }
    notice
}

/// A property does not hold.
#[must_use]
pub fn property(subject: &str, which: &str, difference: &str) -> Notice {
    Notice::error(&PROPERTY, subject, format!("gives other output {which}: {difference}"))
        .likely("something is kept in memory that belongs into the state")
        .likely("the rule counts batches, or does something once per batch")
        .try_next("read and write what must survive through state, keyed by series")
}

/// There is no case.
#[must_use]
pub fn no_cases(folder: &Path) -> Notice {
    let folder = folder.join("tests").display().to_string();
    Notice::error(&NO_CASES, folder, "has no .toml with cases")
        .try_next("[it_works]  feed = \"d/p = 1@0s 2@10s\"  expect = \"d/p = 1@0s 2@10s\"")
}

fn clip(text: &str) -> String {
    text.chars().take(60).flat_map(char::escape_debug).collect()
}
