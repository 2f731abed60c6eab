//! Finding the tools of a language on this machine, and saying how to get what is not there.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::events::Notice;
use crate::events::author as told;

/// The target that rules are compiled for: no system interface at all.
pub(super) const TARGET: &str = "wasm32-unknown-unknown";

/// Where Debian's rust-web-src puts the standard library.
const DEBIAN_LIBRARY: &str = "/usr/lib/rustlib/src/rust/library";

/// How Rust is compiled here.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Rust {
    /// `cargo`, whose compiler has the target.
    Target,
    /// Debian's compiler, which builds `core` and `alloc` along, with this linker.
    Debian(PathBuf),
}

/// Finds a Rust compiler for [`TARGET`].
pub(super) fn rust(folder: &Path) -> Result<Rust, Notice> {
    let mut rustc = Command::new("rustc");
    clean(&mut rustc).current_dir(folder).args(["--print", "target-libdir", "--target", TARGET]);
    if let Some(libraries) = first_line(&mut rustc)
        && Path::new(&libraries).is_dir()
        && on_path("cargo").is_some()
    {
        return Ok(Rust::Target);
    }
    let debian = ["/usr/bin/rustc", "/usr/bin/cargo", DEBIAN_LIBRARY];
    if debian.iter().all(|path| Path::new(path).exists()) {
        return wasm_linker().map(Rust::Debian).ok_or_else(told::no_wasm_linker);
    }
    Err(told::no_rust_target())
}

/// What compiles and links C.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum C {
    /// clang and a linker beside it.
    Clang(PathBuf, PathBuf),
    /// `zig cc`, which has both: the program and what stands before `cc`.
    Zig(PathBuf, Vec<&'static str>),
}

/// Finds a C compiler for WebAssembly.
pub(super) fn c() -> Result<C, Notice> {
    let versions =
        ["clang", "clang-21", "clang-19", "clang-17", "clang-16", "clang-15", "clang-14"];
    let clang = versions.iter().find_map(|name| on_path(name)).filter(|clang| {
        // Apple's clang has no WebAssembly.
        let targets = Command::new(clang).arg("--print-targets").output();
        targets.is_ok_and(|out| String::from_utf8_lossy(&out.stdout).contains("wasm32"))
    });
    match (clang, wasm_linker()) {
        (Some(clang), Some(linker)) => Ok(C::Clang(clang, linker)),
        (clang, _) => {
            if let Some(zig) = on_path("zig") {
                return Ok(C::Zig(zig, Vec::new()));
            }
            let mut python = Command::new("python3");
            if first_line(python.args(["-m", "ziglang", "version"])).is_some() {
                return Ok(C::Zig(PathBuf::from("python3"), vec!["-m", "ziglang"]));
            }
            Err(if clang.is_some() { told::no_wasm_linker() } else { told::no_c_compiler() })
        }
    }
}

/// Finds AssemblyScript's compiler: the folder's own, or one on the path.
pub(super) fn asc(folder: &Path) -> Option<PathBuf> {
    let own = folder.join("node_modules/.bin/asc");
    if own.exists() { std::path::absolute(own).ok() } else { on_path("asc") }
}

/// Finds a linker for WebAssembly: LLVM's, or the one that comes with Rust.
fn wasm_linker() -> Option<PathBuf> {
    let names = ["wasm-ld", "wasm-ld-21", "wasm-ld-19", "wasm-ld-16", "wasm-ld-14", "rust-lld"];
    names.iter().find_map(|name| on_path(name)).or_else(|| {
        let mut rustc = Command::new("rustc");
        let sysroot = first_line(clean(&mut rustc).args(["--print", "sysroot"]))?;
        let targets = Path::new(&sysroot).join("lib/rustlib").read_dir().ok()?;
        targets
            .flatten()
            .map(|target| target.path().join("bin/rust-lld"))
            .find(|linker| linker.is_file())
    })
}

/// Finds a program as a shell would.
pub(super) fn on_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(name)).find(|program| program.is_file())
}

/// Takes away what an outer cargo would tell an inner one; `build` may run within a test of an
/// author's own.
pub(super) fn clean(command: &mut Command) -> &mut Command {
    for name in ["CARGO", "RUSTC", "RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "CARGO_BUILD_TARGET"] {
        command.env_remove(name);
    }
    command
}

fn first_line(command: &mut Command) -> Option<String> {
    let out = command.stderr(Stdio::null()).stdin(Stdio::null()).output().ok()?;
    let text = String::from_utf8(out.stdout).ok()?;
    let line = text.lines().next()?.trim().to_owned();
    (out.status.success() && !line.is_empty()).then_some(line)
}
