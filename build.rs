//! Lists the files of the rule SDK, which `fieldgate rule new` writes beside a new rule.
#![allow(clippy::expect_used, clippy::print_stdout)] // cargo reads what is printed, and shows a panic

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

fn main() {
    let rules =
        Path::new(&std::env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it")).join("rules");
    let mut files = Vec::new();
    for part in ["sdk", "macros"] {
        println!("cargo:rerun-if-changed={}", rules.join(part).display());
        collect(&rules.join(part), &mut files);
    }
    files.sort();
    let workspace = rules.join("Cargo.toml");
    println!("cargo:rerun-if-changed={}", workspace.display());
    println!("cargo:rerun-if-changed=build.rs");
    // The SDK without the shipped rules: the same workspace with two members.
    let text = std::fs::read_to_string(&workspace).expect("the workspace of the rules is readable");
    let text = match text
        .split_once("members = [")
        .and_then(|(before, rest)| rest.split_once(']').map(|(_, after)| (before, after)))
    {
        Some((before, after)) => format!("{before}members = [\"sdk\", \"macros\"]{after}"),
        None => panic!("the workspace of the rules lists its members"),
    };
    let mut list =
        format!("pub(super) const FILES: &[(&str, &str)] = &[\n(\"Cargo.toml\", {text:?}),\n");
    for file in files {
        let name = file.strip_prefix(&rules).expect("collected below it").display().to_string();
        let path = file.display().to_string();
        writeln!(list, "({name:?}, include_str!({path:?})),").expect("text grows");
    }
    list += "];\n";
    let out = PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo sets it"));
    std::fs::write(out.join("sdk.rs"), list).expect("the build folder is writable");
}

/// Sources and manifests; nothing that only tests or builds leave behind.
fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("the SDK's folder is readable").flatten() {
        let path = entry.path();
        let name = entry.file_name();
        if path.is_dir() {
            if name != "target" && name != "tests" && name != "benches" {
                collect(&path, files);
            }
        } else if name == "Cargo.toml"
            || path.extension().is_some_and(|extension| extension == "rs")
        {
            files.push(path);
        }
    }
}
