//! Files that are no rules, or were: none is accepted, each is refused in words and before the
//! compiler has to look at it where that can be seen.

use super::kit::{Guest, MANIFEST, filter, with_section};
use super::running::{context, open, readings, series, settings};
use crate::limits;
use crate::rules::{Code, Engine, Instance, Program, Rule};
use crate::state::Kept;

fn refused(engine: &Engine, name: &str, file: &[u8]) -> crate::rules::Refused {
    let refused = Program::load(engine, file).err();
    let refused = refused.unwrap_or_else(|| panic!("{name} was accepted"));
    assert!(!refused.message.is_empty() && refused.message.len() < 1500, "{name}: {refused:?}");
    assert!(!refused.message.ends_with('.'), "{name}: {refused:?}");
    refused
}

fn component(text: &str) -> Vec<u8> {
    let file = wat::parse_str(text).unwrap_or_else(|bad| panic!("{bad}"));
    with_section(file, "fieldgate:rule", MANIFEST.as_bytes())
}

#[test]
fn what_is_no_component_is_told_what_it_is() {
    let engine = Engine::new(Code::Auto).unwrap();
    let good = filter(1.0).build();
    let machine = engine.machine();
    let cwasm = machine.precompile_component(&good).unwrap();
    let module = wat::parse_str("(module)").unwrap();
    let mut renamed = good.clone();
    renamed[4] = 0x0e;
    let mut long = good.clone();
    long = with_section(long, "padding", &vec![0; limits::RULE_FILE_BYTES_MAX]);
    for (name, file, code) in [
        ("nothing", Vec::new(), "file.empty"),
        ("text", b"(component)".to_vec(), "file.text"),
        ("a letter", b"dear gateway, please run this".to_vec(), "file.kind"),
        ("a script", b"#!/bin/sh\nreboot\n".to_vec(), "file.kind"),
        ("zeros", vec![0; 4096], "file.kind"),
        ("a program of the system", b"\x7fELF\x02\x01\x01\0\0\0".to_vec(), "file.cwasm"),
        ("compiled code of this engine", cwasm, "file.cwasm"),
        ("compiled code of a module", machine.precompile_module(&module).unwrap(), "file.cwasm"),
        ("a core module", module, "file.module"),
        ("the first four bytes", b"\0asm".to_vec(), "file.version"),
        ("a component of another version", renamed, "file.version"),
        ("a component of 4 MiB and a bit", long, "file.size"),
        ("an empty component", component("(component)"), "contract.export"),
    ] {
        assert_eq!(refused(&engine, name, &file).code, code, "{name}");
    }
    let next = refused(&engine, "a core module", &wat::parse_str("(module)").unwrap()).next;
    assert!(next.contains("fieldgate rule build"), "{next}");
}

#[test]
fn imports_outside_the_contract_are_refused_by_name() {
    let engine = Engine::new(Code::Auto).unwrap();
    for import in [
        "wasi:cli/environment@0.2.0",
        "wasi:cli/exit@0.2.3",
        "wasi:cli/stdout@0.2.6",
        "wasi:clocks/monotonic-clock@0.2.0",
        "wasi:clocks/wall-clock@0.2.0",
        "wasi:filesystem/preopens@0.2.0",
        "wasi:filesystem/types@0.2.0",
        "wasi:http/outgoing-handler@0.2.0",
        "wasi:io/streams@0.2.0",
        "wasi:random/random@0.2.0",
        "wasi:sockets/tcp@0.2.0",
        "wasi:threads/spawn@0.1.0",
    ] {
        let file = component(&format!("(component (import \"{import}\" (instance)))"));
        let refused = refused(&engine, import, &file);
        assert_eq!(refused.code, "import.wasi");
        assert!(
            refused.message.contains(import) && refused.next.contains("wasm32-unknown-unknown")
        );
    }
    for import in [
        "fieldgate:rule/command@1.0.0",
        "fieldgate:rule/guest@1.0.0",
        "fieldgate:rule/clock@1.0.0",
        "fieldgate:rules/state@1.0.0",
        "fieldgate:rule-extra/state@1.0.0",
        "evil:fieldgate/state@1.0.0",
        "aio:graph/state-store@1.0.0",
        "env:env/abort@1.0.0",
    ] {
        let file = component(&format!("(component (import \"{import}\" (instance)))"));
        let refused = refused(&engine, import, &file);
        assert_eq!(refused.code, "import.unknown", "{refused:?}");
        assert!(refused.message.contains(import), "{refused:?}");
    }
    for (import, kind) in [
        ("now", "(func (result s64))"),
        ("memory-of-others", "(core module)"),
        ("state", "(instance)"),
        ("another", "(component)"),
    ] {
        let file = component(&format!("(component (import \"{import}\" {kind}))"));
        assert_eq!(refused(&engine, import, &file).code, "import.unknown");
    }
}

#[test]
fn other_versions_of_the_contract_are_refused() {
    let engine = Engine::new(Code::Auto).unwrap();
    for version in ["", "@0.9.0", "@0.0.1", "@2.0.0", "@2.0.0-rc.1", "@10.0.0", "@11.0.0"] {
        let imports = component(&format!(
            "(component (import \"fieldgate:rule/state{version}\" (instance)))"
        ));
        assert_eq!(refused(&engine, version, &imports).code, "contract.version", "{version}");
        let exports = component(&format!(
            "(component (instance $i) (export \"fieldgate:rule/guest{version}\" (instance $i)))"
        ));
        assert_eq!(refused(&engine, version, &exports).code, "contract.version", "{version}");
    }
}

#[test]
fn the_right_names_with_the_wrong_functions_are_refused() {
    let engine = Engine::new(Code::Auto).unwrap();
    let empty = "(instance $i) (export \"fieldgate:rule/guest@1.0.0\" (instance $i))";
    let exporting = |functions: &str| {
        format!(
            "(core module $m (func (export \"f\")) (func (export \"g\") (param i32)))
             (core instance $c (instantiate $m))
             (func $f (canon lift (core func $c \"f\")))
             (func $g (param \"n\" u32) (canon lift (core func $c \"g\")))
             (instance $i {functions}) (export \"fieldgate:rule/guest@1.0.0\" (instance $i))"
        )
    };
    let all = "(export \"open\" (func $f)) (export \"migrate\" (func $g))
               (export \"series-added\" (func $f)) (export \"process\" (func $f))
               (export \"on-timer\" (func $f))";
    let importing = |name: &str, functions: &str| {
        format!("(import \"fieldgate:rule/{name}@1.0.0\" (instance {functions})) {empty}")
    };
    for body in [
        empty.to_owned(),
        exporting("(export \"open\" (func $f))"),
        exporting(all),
        importing("params", "(export \"get\" (func (param \"name\" u32)))"),
        importing("params", "(export \"get\" (func (param \"name\" string) (result string)))"),
        importing("params", "(export \"set\" (func (param \"name\" string)))"),
        importing("state", "(export \"get\" (func))"),
        importing("state", "(export \"steal\" (func (result (list u8))))"),
        importing("state", "(export \"delete\" (func (param \"key\" (list u8))))"),
        importing("timers", "(export \"set\" (func (param \"name\" string) (param \"at\" u64)))"),
        importing("log", "(export \"write\" (func (param \"level\" u8) (param \"m\" string)))"),
        importing("output", "(export \"emit\" (func (param \"readings\" (list f64))))"),
        importing("output", "(export \"r\" (type (sub resource)))"),
        importing("types", "(export \"f\" (func))"),
    ] {
        let file = component(&format!("(component {body})"));
        assert_eq!(refused(&engine, &body, &file).code, "contract.shape", "{body}");
    }
}

#[test]
fn later_minor_versions_of_the_contract_are_taken_when_they_use_nothing_new() {
    let engine = Engine::new(Code::Auto).unwrap();
    let text = filter(20.0).build();
    // The version stands in the names of imports and exports, all of the same length.
    let (old, new) = (b"@1.0.0".as_slice(), b"@1.4.2".as_slice());
    let mut file = text.clone();
    let mut at = 0;
    while let Some(found) = memchr::memmem::find(&file[at..], old) {
        // The manifest's is the author's word, and stays.
        if !file[..at + found].ends_with(b"fieldgate:rule") {
            file[at + found..at + found + 6].copy_from_slice(new);
        }
        at += found + 6;
    }
    let program = Program::load(&engine, &file).unwrap_or_else(|why| panic!("{why:?}"));
    let mut rule = Instance::open(&program, &settings(), &series(1), Kept::default()).unwrap();
    assert_eq!(rule.process(&context(1), &readings(&[21.0])).unwrap().emitted.len(), 1);
}

#[test]
fn features_that_rules_do_not_have_are_refused() {
    let engine = Engine::new(Code::Auto).unwrap();
    for (name, module) in [
        ("64-bit memory", "(memory i64 1)"),
        ("two memories", "(memory 1) (memory 1)"),
        ("shared memory", "(memory 1 1 shared)"),
        ("atomics", "(memory 1) (func (drop (i32.atomic.load (i32.const 0))))"),
        (
            "relaxed SIMD",
            "(func (param v128 v128 v128) (result v128) (f32x4.relaxed_madd (local.get 0) (local.get 1) (local.get 2)))",
        ),
        ("tail calls", "(func $f (return_call $f))"),
        ("exceptions", "(tag $t) (func (throw $t))"),
        (
            "garbage collection",
            "(type $s (struct (field i32))) (func (drop (struct.new $s (i32.const 1))))",
        ),
        (
            "function references",
            "(type $f (func)) (func (param (ref $f)) (call_ref $f (local.get 0)))",
        ),
        (
            "wide arithmetic",
            "(func (param i64 i64 i64 i64) (result i64 i64) (i64.add128 (local.get 0) (local.get 1) (local.get 2) (local.get 3)))",
        ),
        ("pages of one byte", "(memory 1 (pagesize 1))"),
    ] {
        let body = format!(
            "(component (core module {module}) (instance $i)
               (export \"fieldgate:rule/guest@1.0.0\" (instance $i)))"
        );
        assert_eq!(refused(&engine, name, &component(&body)).code, "compile.invalid", "{name}");
    }
    for (name, body) in [
        ("asynchronous functions", "(core func $f (canon task.cancel))"),
        ("threads", "(core func $f (canon thread.available_parallelism))"),
        ("streams", "(type $s (stream u8))"),
        ("maps", "(type $m (map string u32))"),
    ] {
        let Ok(file) = wat::parse_str(format!(
            "(component {body} (instance $i) (export \"fieldgate:rule/guest@1.0.0\" (instance $i)))"
        )) else {
            continue;
        };
        let code = refused(&engine, name, &file).code;
        assert!(
            ["compile.invalid", "file.damaged", "manifest.none"].contains(&code),
            "{name}: {code}"
        );
    }
}

#[test]
fn nests_and_crowds_are_refused_before_anything_compiles_them() {
    let engine = Engine::new(Code::Auto).unwrap();
    let deep = (0..20).fold(String::new(), |inner, _| format!("(component {inner})"));
    let wide = format!("(component {})", "(core module)".repeat(limits::RULE_FILE_PARTS_MAX));
    for (name, text) in [("deep", deep), ("wide", wide)] {
        let file = wat::parse_str(text).unwrap();
        assert_eq!(refused(&engine, name, &file).code, "file.nested", "{name}");
    }
}

#[test]
fn a_file_cut_short_anywhere_is_refused() {
    let engine = Engine::new(Code::Auto).unwrap();
    let mut good = Guest { manifest: None, ..filter(1.0) };
    good.manifest = Some(MANIFEST.to_owned());
    let good = good.build();
    for step in 0..64 {
        let file = &good[..good.len() * step / 64];
        let refused = refused(&engine, &step.to_string(), file);
        assert!(
            refused.code.starts_with("file.")
                || refused.code.starts_with("contract.")
                || refused.code.starts_with("manifest."),
            "{step}: {refused:?}"
        );
    }
}

#[test]
fn a_file_with_a_bit_turned_is_refused_or_harmless() {
    let engine = Engine::new(Code::Auto).unwrap();
    let good = filter(20.0).build();
    let mut rule = open(&engine, &filter(20.0), Kept::default());
    let mut accepted = 0;
    for n in 0..120 {
        let mut file = good.clone();
        let at = good.len() * n / 120;
        file[at] ^= 1 << (n % 8);
        match Program::load(&engine, &file) {
            Ok(program) => {
                accepted += 1;
                let opened = Instance::open(&program, &settings(), &series(1), Kept::default());
                let _ = opened.map(|mut rule| rule.process(&context(1), &readings(&[1.0, 21.0])));
            }
            Err(refused) => assert!(!refused.message.is_empty()),
        }
        let outcome = rule.process(&context(1), &readings(&[19.0, 21.0])).unwrap();
        assert_eq!(outcome.emitted.len(), 1);
    }
    // Bits of names and of constants may be turned without breaking the form of the file; it is
    // signatures that tell that something was turned.
    assert!(accepted < 120, "nothing was refused");
}

#[test]
fn memory_and_tables_beyond_the_limit_are_refused_at_the_start() {
    let engine = Engine::new(Code::Auto).unwrap();
    for guest in [
        Guest { pages: 65, ..Guest::default() },
        Guest { pages: 65_536, ..Guest::default() },
        Guest::default().with("(table 20001 funcref)"),
        Guest::default().with("(table 10001 funcref) (table 10000 funcref)"),
    ] {
        let program = Program::load(&engine, &guest.build()).unwrap();
        let failure = Instance::open(&program, &settings(), &series(1), Kept::default());
        assert_eq!(failure.err().unwrap().code, "open.memory");
    }
}

#[test]
fn a_rule_without_a_manifest_that_can_be_read_is_refused() {
    let engine = Engine::new(Code::Auto).unwrap();
    let with = |manifest: Option<&str>| {
        Guest { manifest: manifest.map(str::to_owned), ..Guest::default() }.build()
    };
    assert_eq!(refused(&engine, "none", &with(None)).code, "manifest.none");
    for manifest in ["", "{", "[]", "null", "{}", "{\"name\":1}", "\u{0}", &"[".repeat(100_000)] {
        assert_eq!(refused(&engine, manifest, &with(Some(manifest))).code, "manifest.invalid");
    }
    let program = Program::load(&engine, &with(Some(MANIFEST))).unwrap();
    assert_eq!(program.manifest().name, "kit");
    assert_eq!(program.digest().len(), 64);
}

/// A right that a manifest does not ask for is not to be had by using it.
#[test]
fn a_file_that_uses_what_its_manifest_does_not_ask_for_is_refused_by_name() {
    let engine = Engine::new(Code::Auto).unwrap();
    let all = ["params", "output", "state", "timers", "log"];
    for which in 0..31_u32 {
        let asked = |n: usize| which & (1 << n) != 0;
        let asks: Vec<_> =
            (0..5).filter(|n| asked(*n)).map(|n| format!("\"{}\"", all[n])).collect();
        let whole = "[\"params\",\"output\",\"state\",\"timers\",\"log\"]";
        let manifest = MANIFEST.replace(whole, &format!("[{}]", asks.join(",")));
        let file = Guest { manifest: Some(manifest), ..Guest::default() }.build();
        let refused = refused(&engine, &asks.join(","), &file);
        assert_eq!(refused.code, "import.unasked");
        for (n, name) in all.iter().enumerate() {
            assert_eq!(refused.message.contains(name), !asked(n), "{name}: {refused:?}");
        }
    }
}

#[test]
fn rules_of_one_file_share_its_code_for_as_long_as_one_of_them_holds_it() {
    let engine = Engine::new(Code::Auto).unwrap();
    let file = Guest::default().build();
    let first = Program::load(&engine, &file).unwrap();
    let second = Program::load(&engine.clone(), &file).unwrap();
    assert!(std::sync::Arc::ptr_eq(&first, &second));
    let other = Guest { pages: 2, ..Guest::default() }.build();
    let other = Program::load(&engine, &other).unwrap();
    assert!(!std::sync::Arc::ptr_eq(&first, &other));
    let another_machine = Program::load(&Engine::new(Code::Pulley).unwrap(), &file).unwrap();
    assert!(!std::sync::Arc::ptr_eq(&first, &another_machine));
    let gone = std::sync::Arc::downgrade(&first);
    drop((first, second));
    assert!(gone.upgrade().is_none(), "the engine holds what no rule uses");
    assert_eq!(Program::load(&engine, &file).unwrap().digest().len(), 64);
}
