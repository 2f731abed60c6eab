//! Rules for tests, benches and fuzzers: a core module in text, made a component as `rule build` does
//! it. A test writes the body of one function; what it does not write does nothing, correctly.

use std::fmt::Write as _;

use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

/// The contract, as guests are built against it.
pub const WIT: &str = include_str!("../../../rules/wit/rule.wit");

/// A rule in parts, each the body of a function in WebAssembly text.
#[derive(Debug, Clone)]
pub struct Guest {
    /// Anything of the module: globals, data, functions.
    pub top: String,
    /// `(param $series i32) (param $n i32) (result i32)`
    pub open: String,
    /// `(param $from i32) (result i32)`
    pub migrate: String,
    /// `(param $series i32) (param $n i32) (result i32)`
    pub added: String,
    /// `(param $id i64) (param $now i64) (param $watermark i64) (param $synced i32)
    /// (param $fresh i32) (param $batch i32) (param $n i32) (result i32)`
    pub process: String,
    /// As `process`, with `$fired`.
    pub timer: String,
    /// `(param i32 i32 i32 i32) (result i32)`; `""` for one that moves a pointer and begins anew
    /// with each call of the host.
    pub realloc: String,
    /// Pages of memory at the start.
    pub pages: u32,
    /// How the module's texts are encoded.
    pub encoding: StringEncoding,
    /// The manifest; `None` leaves the section out.
    pub manifest: Option<String>,
}

/// Bytes of a reading in the rule's memory.
pub const READING: u32 = 40;

/// `return` with success.
pub const OK: &str = "(i32.const 16)";

impl Default for Guest {
    fn default() -> Self {
        let ok = || OK.to_owned();
        Self {
            top: String::new(),
            open: ok(),
            migrate: ok(),
            added: ok(),
            process: ok(),
            timer: ok(),
            realloc: String::new(),
            pages: 4,
            encoding: StringEncoding::UTF8,
            manifest: Some(MANIFEST.to_owned()),
        }
    }
}

/// The manifest of a rule that wants nothing.
pub const MANIFEST: &str = r#"{"name":"kit","version":"1.0.0","licence":"Apache-2.0","author":"tests",
"contract":"fieldgate:rule@1.0.0","parameters":[],"outputs":[],"state_version":0,
"capabilities":["params","output","state","timers","log"],"limits":{}}"#;

/// The imports, as a core module sees them.
const IMPORTS: &str = r#"
(import "fieldgate:rule/params@1.0.0" "get" (func $param (param i32 i32 i32)))
(import "fieldgate:rule/output@1.0.0" "declare"
  (func $declare (param i32 i32 i32 i32 i32 i32 i32 i32 i32)))
(import "fieldgate:rule/output@1.0.0" "emit" (func $emit (param i32 i32)))
(import "fieldgate:rule/state@1.0.0" "get" (func $get (param i32 i32 i32)))
(import "fieldgate:rule/state@1.0.0" "set" (func $set (param i32 i32 i32 i32)))
(import "fieldgate:rule/state@1.0.0" "delete" (func $delete (param i32 i32)))
(import "fieldgate:rule/state@1.0.0" "scan" (func $scan (param i32 i32 i32 i32 i32 i32 i32)))
(import "fieldgate:rule/timers@1.0.0" "set" (func $timer (param i32 i32 i64)))
(import "fieldgate:rule/timers@1.0.0" "cancel" (func $cancel (param i32 i32)))
(import "fieldgate:rule/log@1.0.0" "write" (func $log (param i32 i32 i32)))
"#;

impl Guest {
    /// A rule that does this with a batch.
    pub fn processing(body: &str) -> Self {
        Self { process: body.to_owned(), ..Self::default() }
    }

    /// Adds globals, data and functions.
    pub fn with(mut self, top: &str) -> Self {
        self.top.push_str(top);
        self
    }

    /// The core module in text. Memory: 0 to 1023 zeros, of which 16 is a result that says all is
    /// well; 1024 to 4095 for data of the test; from 4096 on what the host passes.
    pub fn text(&self) -> String {
        let Self { top, open, migrate, added, process, timer, realloc, pages, .. } = self;
        let context = "(param $id i64) (param $now i64) (param $watermark i64) \
                       (param $synced i32) (param $fresh i32)";
        let realloc = match realloc.as_str() {
            "" => REALLOC,
            body => body,
        };
        let mut text = format!("(module {IMPORTS} (memory (export \"memory\") {pages})\n{top}\n");
        for (name, params, body) in [
            ("open", "(param $series i32) (param $n i32)".to_owned(), open),
            ("migrate", "(param $from i32)".to_owned(), migrate),
            ("series-added", "(param $series i32) (param $n i32)".to_owned(), added),
            ("process", format!("{context} (param $batch i32) (param $n i32)"), process),
            ("on-timer", format!("{context} (param $fired i32) (param $n i32)"), timer),
        ] {
            let count = params.matches("(param").count();
            let given: String = (0..count).map(|n| format!("(local.get {n})")).collect();
            // What the host passed is free again once the call has ended.
            let _ = writeln!(
                text,
                "(func ${name} {params} (result i32) {body})\n\
                 (func (export \"fieldgate:rule/guest@1.0.0#{name}\") {params} (result i32)\n\
                 (call ${name} {given}) (global.set $next (i32.const 4096)))",
            );
        }
        let _ = write!(
            text,
            "(global $next (mut i32) (i32.const 4096))\n\
             (func $realloc (export \"cabi_realloc\") (param i32 i32 i32 i32) (result i32) {realloc}))",
        );
        text
    }

    /// The component.
    pub fn build(&self) -> Vec<u8> {
        let module = wat::parse_str(self.text()).unwrap_or_else(|bad| panic!("{bad}"));
        let component = componentise(module, self.encoding).unwrap_or_else(|bad| panic!("{bad}"));
        match &self.manifest {
            Some(manifest) => with_section(component, "fieldgate:rule", manifest.as_bytes()),
            None => component,
        }
    }
}

/// Makes a core module a component of the contract's world.
pub fn componentise(mut module: Vec<u8>, encoding: StringEncoding) -> Result<Vec<u8>, String> {
    let mut resolve = Resolve::default();
    let package = resolve.push_str("rule.wit", WIT).unwrap();
    let world = resolve.select_world(&[package], Some("rule")).unwrap();
    embed_component_metadata(&mut module, &resolve, world, encoding).unwrap();
    ComponentEncoder::default()
        .module(&module)
        .map(|encoder| encoder.validate(true))
        .and_then(|mut encoder| encoder.encode())
        .map_err(|bad| format!("{bad:?}"))
}

/// Hands out aligned memory from where the last call of it ended.
const REALLOC: &str = "(local $at i32)
  (local.set $at (i32.and (i32.add (global.get $next) (i32.const 7)) (i32.const -8)))
  (global.set $next (i32.add (local.get $at) (local.get 3)))
  (block $fits
    (br_if $fits (i32.le_u (global.get $next) (i32.mul (memory.size) (i32.const 65536))))
    (br_if $fits (i32.ne (i32.const -1)
      (memory.grow (i32.add (i32.const 1) (i32.div_u (local.get 3) (i32.const 65536))))))
    (unreachable))
  (local.get $at)";

/// Adds a custom section at the end.
pub fn with_section(mut file: Vec<u8>, name: &str, data: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    leb(&mut body, name.len());
    body.extend_from_slice(name.as_bytes());
    body.extend_from_slice(data);
    file.push(0);
    leb(&mut file, body.len());
    file.extend(body);
    file
}

/// Writes an unsigned number of LEB128.
pub fn leb(to: &mut Vec<u8>, mut number: usize) {
    while number >= 0x80 {
        to.push(u8::try_from(number & 0x7f).unwrap() | 0x80);
        number >>= 7;
    }
    to.push(u8::try_from(number).unwrap());
}

/// Passes on every number above `limit`.
pub fn filter(limit: f64) -> Guest {
    Guest::processing(&format!(
        "(local $from i32) (local $to i32) (local $end i32)
         (local.set $from (local.get $batch))
         (local.set $to (local.get $batch))
         (local.set $end (i32.add (local.get $batch) (i32.mul (local.get $n) (i32.const {READING}))))
         (block $done (loop $more
           (br_if $done (i32.ge_u (local.get $from) (local.get $end)))
           (if (i32.and (i32.eqz (i32.load8_u offset=24 (local.get $from)))
                        (f64.gt (f64.load offset=32 (local.get $from)) (f64.const {limit})))
             (then (memory.copy (local.get $to) (local.get $from) (i32.const {READING}))
                   (local.set $to (i32.add (local.get $to) (i32.const {READING})))))
           (local.set $from (i32.add (local.get $from) (i32.const {READING})))
           (br $more)))
         (call $emit (local.get $batch)
           (i32.div_u (i32.sub (local.get $to) (local.get $batch)) (i32.const {READING})))
         {OK}"
    ))
}
