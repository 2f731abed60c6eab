//! From a folder of sources to a core WebAssembly module, by the language's own compiler. What the
//! compiler says goes to the terminal as it is: its authors know better what is wrong.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::tools::{self, C, Rust, TARGET};
use super::{Language, c_files};
use crate::events::Notice;
use crate::events::author as told;

/// Compiles the rule in `folder` and returns the module.
pub(super) fn compile(folder: &Path, language: Language) -> Result<Vec<u8>, Notice> {
    let module = match language {
        Language::Rust => rust(folder)?,
        Language::C => c(folder)?,
        Language::AssemblyScript => assembly_script(folder)?,
    };
    std::fs::read(&module).map_err(|e| told::cannot_read(&module, e.kind()))
}

fn rust(folder: &Path) -> Result<PathBuf, Notice> {
    let mut cargo = match tools::rust(folder)? {
        Rust::Target => Command::new("cargo"),
        Rust::Debian(linker) => {
            let mut cargo = Command::new("/usr/bin/cargo");
            cargo.env_remove("RUSTUP_TOOLCHAIN");
            tools::clean(&mut cargo)
                .env("RUSTC", "/usr/bin/rustc")
                // Debian's compiler is a stable one; building the library along asks for this.
                .env("RUSTC_BOOTSTRAP", "1")
                .env("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER", linker)
                .arg("-Zbuild-std=core,alloc");
            cargo
        }
    };
    let debian = cargo.get_envs().any(|(name, _)| name == "RUSTC_BOOTSTRAP");
    if !debian {
        tools::clean(&mut cargo);
    }
    cargo
        .args([
            "build",
            "--release",
            "--target",
            TARGET,
            "--message-format=json-render-diagnostics",
        ])
        .current_dir(folder)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit());
    let out = cargo.output().map_err(|e| told::cannot_run("cargo", e.kind()))?;
    if !out.status.success() {
        return Err(told::compiler_failed("cargo"));
    }
    // The last module that was made is the rule's; before it come those of what it depends on.
    let made = String::from_utf8_lossy(&out.stdout);
    let mut modules = made.lines().filter_map(|line| {
        let line: serde_json::Value = serde_json::from_str(line).ok()?;
        let files = line.get("filenames")?.as_array()?;
        files
            .iter()
            .filter_map(|file| file.as_str())
            .find(|file| file.ends_with(".wasm"))
            .map(PathBuf::from)
    });
    modules.next_back().ok_or_else(told::no_cdylib)
}

fn c(folder: &Path) -> Result<PathBuf, Notice> {
    let build = folder.join("build");
    std::fs::create_dir_all(&build).map_err(|e| told::cannot_write(&build, e.kind()))?;
    let module = build.join("rule.wasm");
    let link = ["--no-entry", "--stack-first", "--gc-sections", "--strip-debug"];
    match tools::c()? {
        C::Zig(program, before) => {
            let mut zig = Command::new(program);
            zig.args(before).args(["cc", "--target=wasm32-freestanding", "-O2", "-nostdlib"]);
            zig.args([
                "-Wl,--no-entry",
                "-Wl,--stack-first",
                "-Wl,-z,stack-size=16384",
                "-s",
                "-o",
            ]);
            run("zig cc", zig.arg(&module).args(c_files(folder)))?;
        }
        C::Clang(clang, linker) => {
            let mut objects = Vec::new();
            for (n, source) in c_files(folder).iter().enumerate() {
                let object = build.join(format!("{n}.o"));
                let mut compile = Command::new(&clang);
                compile.args([
                    "--target=wasm32",
                    "-O2",
                    "-mbulk-memory",
                    "-nostdlib",
                    "-ffreestanding",
                ]);
                compile.args(["-Wall", "-c", "-o"]).arg(&object).arg(source);
                run("clang", &mut compile)?;
                objects.push(object);
            }
            let mut ld = Command::new(&linker);
            if linker.file_name().is_some_and(|name| name == "rust-lld") {
                ld.args(["-flavor", "wasm"]);
            }
            ld.args(link).args(["-z", "stack-size=16384", "-o"]).arg(&module).args(objects);
            run("wasm-ld", &mut ld)?;
        }
    }
    Ok(module)
}

fn assembly_script(folder: &Path) -> Result<PathBuf, Notice> {
    if tools::asc(folder).is_none() {
        let npm = tools::on_path("npm").ok_or_else(told::no_npm)?;
        let mut install = Command::new(npm);
        // npm speaks on standard output, where only our own words belong.
        install
            .args(["install", "--no-audit", "--no-fund", "--loglevel=error"])
            .current_dir(folder);
        run("npm install", install.stdout(Stdio::null()))?;
    }
    let asc = tools::asc(folder).ok_or_else(told::no_npm)?;
    let mut compile = Command::new(asc);
    compile.args(["assembly/index.ts", "-O2", "--runtime", "minimal"]);
    compile.args(["--use", "abort=assembly/index/fg_abort", "--outFile", "build/rule.wasm"]);
    run("asc", compile.current_dir(folder))?;
    Ok(folder.join("build/rule.wasm"))
}

fn run(name: &str, command: &mut Command) -> Result<(), Notice> {
    let ended = command.stdin(Stdio::null()).status();
    match ended {
        Ok(status) if status.success() => Ok(()),
        Ok(_) => Err(told::compiler_failed(name)),
        Err(e) => Err(told::cannot_run(name, e.kind())),
    }
}
