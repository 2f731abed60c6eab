//! Compiling a rule: in a process of its own with limits on time and memory, or, where the program is
//! not at hand, here. What comes of it is kept on disk ([`super::cache`]).
//!
//! The compiler is the largest piece of code that a pushed file meets, and a file can be made to keep
//! it busy for hours or to fill the memory. So the gateway runs its own program once more, as
//! `fieldgate rule-compile KIND`: the file on its standard input, the code on its standard output, and
//! when it fails, a line on standard error that says why. It ends with 1 when the file is at fault;
//! however else it ends, the process is, and the file is not blamed for that.

use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::time::Duration;

use wasmtime::component::Component;

use super::log::shortened;
use super::{Code, Engine, Refused};
use crate::limits;

/// Who compiles.
#[derive(Debug, Clone, Default)]
pub(super) enum Compiler {
    /// This process, for tests and for commands of the author on his own file.
    #[default]
    Here,
    /// A child process of this program.
    Apart(PathBuf),
}

/// The name of the hidden command.
pub const COMMAND: &str = "rule-compile";

/// Whether this process is one that has the hidden command.
static HAS_COMMAND: AtomicBool = AtomicBool::new(false);

/// Says that this process is the program that has the hidden command; tests, whose library is in
/// another program, do not.
pub fn has_command() {
    HAS_COMMAND.store(true, Ordering::Relaxed);
}

/// This program, if it has the command. The link stays what it is when a package replaces the file
/// behind it.
pub(super) fn this_program() -> Option<PathBuf> {
    HAS_COMMAND.load(Ordering::Relaxed).then(|| PathBuf::from("/proc/self/exe"))
}

/// Takes what was compiled of a file before, or compiles it.
pub(super) fn component(engine: &Engine, digest: &str, file: &[u8]) -> Result<Component, Refused> {
    let kept = engine.cache().and_then(|cache| cache.get(digest, engine));
    if let Some(component) = kept {
        return Ok(component);
    }
    let code = match engine.compiler() {
        Compiler::Here => compiled(engine, file)?,
        Compiler::Apart(program) => apart(program, engine.code(), file)?,
    };
    let component = load(engine, &code)?;
    if let Some(cache) = engine.cache() {
        cache.put(digest, engine, &code);
    }
    Ok(component)
}

/// Compiles in this process.
fn compiled(engine: &Engine, file: &[u8]) -> Result<Vec<u8>, Refused> {
    let compile = || engine.machine().precompile_component(file);
    match std::panic::catch_unwind(std::panic::AssertUnwindSafe(compile)) {
        Ok(Ok(code)) => Ok(code),
        // What the system refuses (a mapping, say) is no fault of the file.
        Ok(Err(error)) if error.downcast_ref::<io::Error>().is_some() => {
            Err(broken("was refused by the system what it needs, most likely memory"))
        }
        Ok(Err(error)) => Err(invalid(&shortened(&format!("{error:#}")))),
        Err(_) => Err(invalid("the compiler broke over it")),
    }
}

/// Takes compiled code that this program made itself.
pub(super) fn load(engine: &Engine, code: &[u8]) -> Result<Component, Refused> {
    #[expect(unsafe_code, reason = "compiled code is trusted code, wherever it comes from")]
    // SAFETY: `code` was made by this program: in this process, by its own child through a pipe that
    // nobody else holds, or read from the cache, whose seal was checked with this installation's key.
    let component = unsafe { Component::deserialize(engine.machine(), code) };
    component.map_err(|error| invalid(&shortened(&format!("{error:#}"))))
}

fn invalid(why: &str) -> Refused {
    let what = format!("is not a valid component: {why}");
    Refused::new("compile.invalid", what, "Build it again, with a compiler of this year.")
}

/// Compiles in a child process.
fn apart(program: &PathBuf, code: Code, file: &[u8]) -> Result<Vec<u8>, Refused> {
    let kind = if code == Code::Pulley { "pulley" } else { "native" };
    let child = Command::new(program)
        .args([COMMAND, kind])
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = child.map_err(|error| unstarted(error.kind()))?;
    let answer = std::thread::scope(|scope| talk(scope, &mut child, file));
    let ended = child.wait().map_err(|error| unstarted(error.kind()))?;
    match answer {
        Some((code, _)) if ended.success() && !code.is_empty() => Ok(code),
        Some((_, said)) => Err(failed(ended, &said)),
        None => Err(too_slow(limits::RULE_COMPILE_WAIT_MAX)),
    }
}

/// Gives the file to the child and takes what it writes; `None`, and the child's end, when it takes
/// too long.
fn talk<'scope, 'env: 'scope>(
    scope: &'scope std::thread::Scope<'scope, 'env>,
    child: &mut Child,
    file: &'env [u8],
) -> Option<(Vec<u8>, String)> {
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let (send, receive) = sync_channel(1);
    scope.spawn(move || {
        // It reads all before it writes anything, or ends early and says why.
        let _ = stdin.map(|mut stdin| stdin.write_all(file));
        let code = stdout.map(|out| bounded(out, limits::RULE_CODE_BYTES_MAX)).unwrap_or_default();
        let said = stderr.map(|err| bounded(err, limits::RULE_LOG_LINE_BYTES_MAX));
        let said = String::from_utf8_lossy(&said.unwrap_or_default()).into_owned();
        let _ = send.send((code, said));
    });
    match receive.recv_timeout(limits::RULE_COMPILE_WAIT_MAX) {
        Ok(answer) => Some(answer),
        Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
            let _ = child.kill();
            None
        }
    }
}

fn bounded(from: impl Read, most: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    // What is cut off is not loaded: wasmtime checks what it reads.
    let _ = from.take(most as u64).read_to_end(&mut bytes);
    bytes
}

fn unstarted(kind: io::ErrorKind) -> Refused {
    let why = match kind {
        io::ErrorKind::OutOfMemory => "there is no memory for it",
        io::ErrorKind::WouldBlock => "there are too many processes",
        io::ErrorKind::PermissionDenied => "it may not be started",
        _ => "it does not start",
    };
    broken(&format!("could not be started: {why}"))
}

/// The process is at fault, not the file.
fn broken(what: &str) -> Refused {
    let what = format!("was not compiled, because the compiler's process {what}");
    Refused::new("compile.process", what, "Look at TasksMax= and MemoryMax= of the unit.")
}

fn too_slow(time: Duration) -> Refused {
    let what = format!("takes longer than {} s to compile", time.as_secs());
    Refused::new("compile.time", what, "Build it in release mode, and with less in it.")
}

fn failed(ended: std::process::ExitStatus, said: &str) -> Refused {
    use std::os::unix::process::ExitStatusExt as _;
    match ended.signal() {
        Some(libc::SIGXCPU | libc::SIGKILL) => too_slow(limits::RULE_COMPILE_TIME_MAX),
        Some(_) => {
            let mib = limits::RULE_COMPILE_BYTES_MAX / 1024 / 1024;
            let what = format!("could not be compiled within {mib} MiB of memory");
            Refused::new("compile.memory", what, "Build it in release mode, and with less in it.")
        }
        None if ended.code() == Some(AT_FAULT) => Refused::new(
            "compile.invalid",
            shortened(said.trim()),
            "Build it again, with a compiler of this year.",
        ),
        None => {
            let status = ended.code().unwrap_or_default();
            let said = shortened(said.lines().next_back().unwrap_or_default().trim());
            match said.as_str() {
                "" => broken(&format!("ended with status {status} and no code")),
                said => broken(&format!("ended with status {status} and said: {said}")),
            }
        }
    }
}

/// The child's exit status when the file cannot be compiled.
const AT_FAULT: i32 = 1;

/// Why the child has no code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// The file cannot be compiled; completes "the file ..".
    File(String),
    /// The process cannot do its work, a sentence without full stop.
    Process(String),
}

/// The child's side: reads a file, compiles it, writes the code.
///
/// # Errors
/// When the limits cannot be set or the pipes break, and when the file is no valid component.
pub fn child(kind: &str, input: impl Read, mut output: impl Write) -> Result<(), Fault> {
    let process = |why: &str| Fault::Process(why.to_owned());
    restrict().map_err(Fault::Process)?;
    let code = match kind {
        "native" => Code::Native,
        "pulley" => Code::Pulley,
        _ => {
            let why = format!("`{kind}` is no kind of code: native or pulley");
            return Err(Fault::Process(why));
        }
    };
    let engine = Engine::new(code).map_err(Fault::Process)?;
    let file = bounded(input, limits::RULE_FILE_BYTES_MAX + 1);
    let fault = |refused: Refused| match refused.code {
        "compile.invalid" => Fault::File(refused.message),
        _ => Fault::Process(refused.message),
    };
    let code = compiled(&engine, &file).map_err(fault)?;
    output.write_all(&code).map_err(|_| process("the gateway does not listen any more"))
}

/// Limits this process for the rest of its life: no more than a file deserves, and the first to go
/// when the board runs out of memory.
#[expect(unsafe_code, reason = "setrlimit has no safe wrapper here")]
fn restrict() -> Result<(), String> {
    // Where the file cannot be written, the kernel chooses by itself.
    let _ = std::fs::write("/proc/self/oom_score_adj", "1000");
    let seconds = limits::RULE_COMPILE_TIME_MAX.as_secs();
    let bounds = [
        (libc::RLIMIT_CPU, seconds),
        (libc::RLIMIT_AS, limits::RULE_COMPILE_BYTES_MAX),
        (libc::RLIMIT_CORE, 0),
        (libc::RLIMIT_FSIZE, 0),
    ];
    for (resource, bound) in bounds {
        let bound = bound as libc::rlim_t;
        let limit = libc::rlimit { rlim_cur: bound, rlim_max: bound };
        // SAFETY: setrlimit(2) reads one structure, which lives until it returns.
        if unsafe { libc::setrlimit(resource, &raw const limit) } != 0 {
            return Err("this process may not limit itself, so it does not compile".to_owned());
        }
    }
    Ok(())
}
