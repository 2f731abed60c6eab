//! Rules compiled by the program itself, in a process of its own; and what is kept of it on disk.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use fieldgate::rules::wit::{Context, Quality, Reading, Value};
use fieldgate::rules::{Code, Engine, Instance, Limits, Program, Refused, Rule, Settings};
use fieldgate::state::Kept;

use super::fuzz::targets::kit;

fn program() -> PathBuf {
    PathBuf::from(env!("CARGO_BIN_EXE_fieldgate"))
}

/// Runs a filter for readings above 20; returns what it passes on of 19 and 21.
fn passes(program: &Arc<Program>) -> usize {
    let settings =
        Settings { name: Arc::from("kit"), params: Vec::new(), limits: Limits::default() };
    let mut rule = Instance::open(program, &settings, &[series()], Kept::default()).unwrap();
    let context = Context { batch: 1, now: 1, watermark: 0, clock_synced: true, fresh: false };
    let reading = |number| Reading {
        series: 0,
        at: 1,
        quality: Quality::empty(),
        value: Value::Number(number),
    };
    rule.process(&context, &[reading(19.0), reading(21.0)]).unwrap().emitted.len()
}

fn series() -> fieldgate::rules::wit::Series {
    let (device, point) = ("device".to_owned(), "point".to_owned());
    fieldgate::rules::wit::Series { id: 0, device, point, unit: None, labels: Vec::new() }
}

#[test]
fn a_rule_compiled_apart_runs_natively_and_interpreted() {
    for code in [Code::Auto, Code::Pulley] {
        let engine = Engine::new(code).unwrap().compiling_apart(program());
        let program = Program::load(&engine, &kit::filter(20.0).build()).unwrap();
        assert_eq!(passes(&program), 1);
    }
}

/// What the compiler refuses, and how, is the same apart as here.
#[test]
fn what_cannot_be_compiled_is_refused_by_the_other_process_in_the_same_words() {
    let broken = {
        let guest = kit::filter(20.0).build();
        // A component whose core module adds a number to nothing.
        let bad = wat::parse_str("(module (func (result i32) i32.add))").unwrap();
        let mut file = kit::with_section(guest, "padding", b"");
        file.push(1);
        kit::leb(&mut file, bad.len());
        file.extend(bad);
        file
    };
    let refuse = |engine: Engine| -> Refused { Program::load(&engine, &broken).err().unwrap() };
    let here = refuse(Engine::new(Code::Auto).unwrap());
    let apart = refuse(Engine::new(Code::Auto).unwrap().compiling_apart(program()));
    assert_eq!(here.code, "compile.invalid");
    assert_eq!(apart.code, here.code);
    assert!(apart.message.contains("type mismatch"), "{apart:?}");
    assert_eq!(apart.message, here.message, "said once, and not of the process");
}

#[test]
fn a_compiler_that_is_not_there_is_said_so() {
    let engine = Engine::new(Code::Auto).unwrap().compiling_apart(PathBuf::from("/nowhere"));
    let refused = Program::load(&engine, &kit::filter(20.0).build()).err().unwrap();
    assert_eq!(refused.code, "compile.process");
    assert!(refused.message.contains("could not be started"), "{refused:?}");
    // One that answers with something else than code is not believed, and the file is not blamed for
    // one that ends otherwise than it should.
    let folder = tempfile::tempdir().unwrap();
    let refuse = |script: &str| {
        let path = folder.path().join("compiler");
        // By another process: a file that this one holds open while a test beside it starts a child
        // could not be run.
        let write = "printf '#!/bin/sh\\n%s\\n' \"$1\" > \"$0\" && chmod 700 \"$0\"";
        let written = Command::new("sh").args(["-c", write]).arg(&path).arg(script).status();
        assert!(written.unwrap().success());
        let engine = Engine::new(Code::Auto).unwrap().compiling_apart(path);
        Program::load(&engine, &kit::filter(20.0).build()).err().unwrap()
    };
    let cases = [
        ("echo something else", "compile.invalid", "is not a valid component"),
        ("exit 0", "compile.process", "ended with status 0 and no code"),
        ("echo cannot allocate memory >&2; exit 127", "compile.process", "cannot allocate memory"),
        ("exit 70", "compile.process", "ended with status 70"),
        ("echo is not a valid component: no >&2; exit 1", "compile.invalid", "component: no"),
    ];
    for (script, code, words) in cases {
        let refused = refuse(script);
        assert_eq!(refused.code, code, "{script}: {refused:?}");
        assert!(refused.message.contains(words), "{script}: {refused:?}");
    }
}

/// A function with more in it than the compiler has memory for: the process ends, not the gateway.
#[test]
fn a_file_that_wants_all_memory_of_the_compiler_is_refused() {
    let many = "(i32.store (i32.const 512) (i32.add (i32.load (i32.const 512)) (i32.const 1)))";
    let guest = kit::Guest::processing(&format!("{} {}", many.repeat(60_000), kit::OK));
    let engine = Engine::new(Code::Auto).unwrap().compiling_apart(program());
    let file = guest.build();
    assert!(file.len() < 2_000_000, "{}", file.len());
    match Program::load(&engine, &file) {
        Err(refused) => {
            let code = refused.code;
            assert!(
                ["compile.memory", "compile.time", "compile.invalid"].contains(&code),
                "{refused:?}"
            );
        }
        Ok(_) => panic!("it was compiled within the limits: make it larger"),
    }
    assert_eq!(passes(&Program::load(&engine, &kit::filter(20.0).build()).unwrap()), 1);
}

#[test]
fn the_hidden_command_says_what_is_wrong_and_ends_with_1() {
    let mut child = Command::new(program())
        .args(["rule-compile", "native"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(b"(component)").unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(output.stdout.is_empty());
    assert!(String::from_utf8(output.stderr).unwrap().contains("is not a valid component"));
}

fn kept_in(folder: &Path) -> Vec<PathBuf> {
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = files.filter(|path| !path.ends_with("key")).collect();
    files.sort();
    files
}

/// An engine that could not compile if it had to.
fn unable(folder: &Path) -> Engine {
    let engine = Engine::new(Code::Auto).unwrap().compiling_apart(PathBuf::from("/nowhere"));
    engine.keeping(folder).unwrap()
}

#[test]
fn what_was_compiled_is_kept_for_this_engine_and_this_file_only() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().join("code");
    let (file, other) = (kit::filter(20.0).build(), kit::filter(30.0).build());
    let engine = Engine::new(Code::Auto).unwrap().keeping(&folder).unwrap();
    assert_eq!(passes(&Program::load(&engine, &file).unwrap()), 1);
    assert_eq!(fs::metadata(&folder).unwrap().permissions().mode() & 0o777, 0o700);
    for path in [&folder.join("key"), &kept_in(&folder)[0]] {
        assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o600);
    }
    assert_eq!(passes(&Program::load(&unable(&folder), &file).unwrap()), 1);
    assert!(Program::load(&unable(&folder), &other).is_err());
    // The interpreter's code is another file beside it.
    let pulley = Engine::new(Code::Pulley).unwrap().keeping(&folder).unwrap();
    assert_eq!(passes(&Program::load(&pulley, &file).unwrap()), 1);
    assert_eq!(kept_in(&folder).len(), if engine.code() == Code::Pulley { 1 } else { 2 });
}

#[test]
fn compiled_code_that_somebody_touched_is_never_loaded() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().join("code");
    let (file, other) = (kit::filter(20.0).build(), kit::filter(30.0).build());
    let engine = Engine::new(Code::Auto).unwrap().keeping(&folder).unwrap();
    Program::load(&engine, &file).unwrap();
    Program::load(&engine, &other).unwrap();
    let paths = kept_in(&folder);
    let contents: Vec<_> = paths.iter().map(|path| fs::read(path).unwrap()).collect();
    let loads = |file: &[u8]| Program::load(&unable(&folder), file).is_ok();
    assert!(loads(&file) && loads(&other));
    // Swapped: each has a right seal, of the other's name.
    fs::write(&paths[0], &contents[1]).unwrap();
    fs::write(&paths[1], &contents[0]).unwrap();
    assert!(!loads(&file) && !loads(&other));
    for (path, content) in paths.iter().zip(&contents) {
        fs::write(path, content).unwrap();
    }
    assert!(loads(&file) && loads(&other));
    let which = usize::from(!paths[0].to_string_lossy().contains(&*digest(&file)));
    let (path, content) = (&paths[which], &contents[which]);
    for at in [0, 31, 32, 100, content.len() / 2, content.len() - 1] {
        let mut turned = content.clone();
        turned[at] ^= 1;
        fs::write(path, &turned).unwrap();
        assert!(!loads(&file), "byte {at}");
    }
    for length in [0, 5, 32, 33, content.len() - 1] {
        fs::write(path, &content[..length]).unwrap();
        assert!(!loads(&file), "{length} bytes");
    }
    let longer = [content.as_slice(), b"x"].concat();
    fs::write(path, longer).unwrap();
    assert!(!loads(&file));
    // A link to what was sealed is no file of this folder.
    let aside = folder.join("aside");
    fs::write(&aside, content).unwrap();
    fs::remove_file(path).unwrap();
    std::os::unix::fs::symlink(&aside, path).unwrap();
    assert!(!loads(&file));
    fs::remove_file(path).unwrap();
    // The gateway makes it anew, and then it is there again.
    assert_eq!(passes(&Program::load(&engine, &file).unwrap()), 1);
    assert!(loads(&file));
    // A key that others could read is no secret: what was sealed with it is not believed.
    let key = folder.join("key");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    assert!(!loads(&file));
    assert_eq!(fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
    // A key of another installation does not fit.
    Program::load(&Engine::new(Code::Auto).unwrap().keeping(&folder).unwrap(), &file).unwrap();
    assert!(loads(&file));
    fs::write(&key, [7; 32]).unwrap();
    assert!(!loads(&file));
}

fn digest(file: &[u8]) -> String {
    let engine = Engine::new(Code::Auto).unwrap();
    Program::load(&engine, file).unwrap().digest().to_owned()
}

#[test]
fn a_folder_that_cannot_be_is_said_so_and_an_open_one_is_closed() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    let why = Engine::new(Code::Pulley).unwrap().keeping(&file).err().unwrap();
    assert!(why.contains("file"), "{why}");
    let open = folder.path().join("open");
    fs::create_dir(&open).unwrap();
    fs::set_permissions(&open, fs::Permissions::from_mode(0o777)).unwrap();
    let _ = Engine::new(Code::Pulley).unwrap().keeping(&open).unwrap();
    assert_eq!(fs::metadata(&open).unwrap().permissions().mode() & 0o777, 0o700);
}

/// Where memory may not become executable, as under systemd's `MemoryDenyWriteExecute=`: here by
/// prctl(PR_SET_MDWE), which is handed down to this test, run again.
#[test]
fn where_memory_may_not_become_executable_rules_run_in_the_interpreter() {
    const AGAIN: &str = "FIELDGATE_TEST_DENIED";
    if std::env::var_os(AGAIN).is_some() {
        assert!(Engine::new(Code::Native).unwrap_err().contains("may not become executable"));
        let engine = Engine::new(Code::Auto).unwrap();
        assert_eq!(engine.code(), Code::Pulley);
        let engine = engine.compiling_apart(program());
        assert_eq!(passes(&Program::load(&engine, &kit::filter(20.0).build()).unwrap()), 1);
        return;
    }
    let denied = "import ctypes, os, sys\n\
                  if ctypes.CDLL(None).prctl(65, 1, 0, 0, 0): sys.exit(1)\n\
                  os.execv(sys.argv[1], sys.argv[1:])";
    let name = "compile::where_memory_may_not_become_executable_rules_run_in_the_interpreter";
    let output = Command::new("python3")
        .args(["-c", denied])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture"])
        .env(AGAIN, "1")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let complained = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("1 passed"), "{said}{complained}");
}
