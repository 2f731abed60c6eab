//! The author's loop with the real tools: `rule new`, `build`, `test`, `check` and `bench` for each
//! language, as a person types them. Compilers are Debian's or rustup's; `tests/run` installs them.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value as Json;

fn fieldgate(folder: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fieldgate"));
    // Compiled parts of the SDK are shared by all rules of a run, and none of ours is touched.
    command.env("CARGO_TARGET_DIR", concat!(env!("CARGO_MANIFEST_DIR"), "/target/authors"));
    command.current_dir(folder).args(arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Runs a command that must succeed and returns what it printed.
fn done(folder: &Path, arguments: &[&str]) -> String {
    let ended = fieldgate(folder, arguments);
    let (out, errors) = (text(&ended.stdout), text(&ended.stderr));
    assert!(ended.status.success(), "{arguments:?}:\n{out}\n{errors}");
    out
}

/// Runs a command that must end with 1 and returns all it said.
fn problem(folder: &Path, arguments: &[&str]) -> String {
    let ended = fieldgate(folder, arguments);
    let all = text(&ended.stdout) + &text(&ended.stderr);
    assert_eq!(ended.status.code(), Some(1), "{arguments:?}:\n{all}");
    all
}

/// Goes the whole way in one language; returns the folder and the file.
fn whole_way(language: &str) -> (tempfile::TempDir, PathBuf) {
    let desk = tempfile::tempdir().unwrap();
    done(desk.path(), &["rule", "new", "my-rule", "--lang", language]);
    let folder = desk.path().join("my-rule");

    let built: Json = serde_json::from_str(&done(&folder, &["rule", "build", "--json"])).unwrap();
    assert_eq!(built["manifest"]["name"], "my-rule");
    assert_eq!(built["manifest"]["tests"].as_str().unwrap().len(), 64);
    let parameters = built["manifest"]["parameters"].as_array().unwrap();
    let names: Vec<_> = parameters.iter().map(|parameter| &parameter["name"]).collect();
    assert_eq!(names, ["band", "heartbeat"]);
    let file = folder.join("my-rule.wasm");
    assert_eq!(std::fs::metadata(&file).unwrap().len(), built["bytes"].as_u64().unwrap());

    // The file alone is enough for what follows: its cases stand beside it.
    let name = file.to_str().unwrap();
    let ran: Json =
        serde_json::from_str(&done(&folder, &["rule", "test", name, "--json"])).unwrap();
    let ran = ran.as_array().unwrap();
    assert_eq!(ran.len(), 4);
    assert!(ran.iter().all(|case| case["ok"] == true), "{ran:?}");

    let checked = done(&folder, &["rule", "check", name, "--rounds", "4"]);
    assert!(
        checked.contains("4 cases and 4 rounds") && checked.contains("same output"),
        "{checked}"
    );

    let measured = done(&folder, &["rule", "bench", name, "--seconds", "0.05", "--json"]);
    let measured: Json = serde_json::from_str(&measured).unwrap();
    let fuel =
        |machine: &str| measured["machines"][machine]["fuel_a_reading_max"].as_f64().unwrap();
    assert!(fuel("pulley") > 1.0 && measured["suggested_fuel"].as_u64().unwrap() > 1);
    (desk, file)
}

#[test]
fn a_rule_in_rust_goes_the_whole_way() {
    let (desk, file) = whole_way("rust");
    let folder = desk.path().join("my-rule");
    let name = file.to_str().unwrap();

    // A case that expects something else fails with the difference in words.
    let cases = folder.join("tests/wrong.toml");
    std::fs::write(
        &cases,
        "[wrong]\nwith = { band = 0.5 }\nfeed = \"a/b = 1@0s 2@10s\"\nexpect = \"a/b = 1@0s 3@10s\"\n",
    )
    .unwrap();
    let said = problem(&folder, &["rule", "test", name, "--only", "wrong"]);
    for word in ["FG-W48", "expected a/b = 3@10s, came a/b = 2@10s (off by 1)", "1 case, 1 failed"]
    {
        assert!(said.contains(word), "{word} is missing:\n{said}");
    }

    // So do one that cannot be understood, and one with a parameter that is none.
    std::fs::write(
        &cases,
        "[odd]\nwith = { bnad = 1 }\nfeed = \"a/b = 1@9\"\nexpect = \"nothing\"\n",
    )
    .unwrap();
    let said = problem(&folder, &["rule", "test", name]);
    for word in ["FG-W47", "wrong.toml:3", "no unit", "did you mean \"band\"?", "6 cases, 2 failed"]
    {
        assert!(said.contains(word), "{word} is missing:\n{said}");
    }
    std::fs::remove_file(&cases).unwrap();

    // What the compiler says is passed on, and the file that was there stays.
    let before = std::fs::read(&file).unwrap();
    std::fs::write(folder.join("src/lib.rs"), "#![no_std]\nfn broken( {}\n").unwrap();
    let said = problem(&folder, &["rule", "build"]);
    assert!(said.contains("FG-W42") && said.contains("error"), "{said}");
    assert_eq!(std::fs::read(&file).unwrap(), before);
}

#[test]
fn a_rule_in_c_goes_the_whole_way_and_one_that_forgets_is_found() {
    let (desk, _) = whole_way("c");
    let folder = desk.path().join("my-rule");
    // Without reading its state it begins anew after each restart.
    let path = folder.join("src/rule.c");
    let source = std::fs::read_to_string(&path).unwrap();
    let forgetful = source.replace("== sizeof s->last;", "< 0 && false;");
    assert_ne!(forgetful, source);
    std::fs::write(&path, forgetful).unwrap();
    let said = problem(&folder, &["rule", "check"]);
    assert!(said.contains("FG-W49") && said.contains("started anew"), "{said}");
    // Its cases, which never restart it, still pass.
    done(&folder, &["rule", "test"]);
}

#[test]
fn tests_in_a_configuration_run_without_a_gateway() {
    let desk = tempfile::tempdir().unwrap();
    done(desk.path(), &["rule", "new", "band", "--lang", "c"]);
    done(desk.path(), &["rule", "build", "band"]);
    let check = |tests: &str| {
        let text = format!(
            "[gateway]\nname = \"gw\"\n[device.plc]\nvia = \"modbus tcp 192.0.2.1 id 1\"\n\
             points.a = {{ at = \"holding 1\" }}\n[uplink.cloud]\nurl = \"mqtt://b.example\"\n\
             [rule.quiet]\nfile = \"band/band.wasm\"\non = \"plc/*\"\nwith = {{ band = 2 }}\n{tests}"
        );
        std::fs::write(desk.path().join("f.toml"), text).unwrap();
        fieldgate(desk.path(), &["check", "--tests", "--config", "f.toml"])
    };
    let right = "[test.it]\nrule = \"quiet\"\nfeed = \"plc/a = 1@0s 2@1s 4@2s\"\n\
                 expect = \"plc/a = 1@0s 4@2s\"\n";
    let ended = check(right);
    let said = text(&ended.stdout) + &text(&ended.stderr);
    assert!(ended.status.success() && said.contains("ok      test.it"), "{said}");

    let wrong = right.replace("4@2s\"\n", "5@2s\"\n");
    let ended = check(&wrong.replacen("5@2s", "4@2s", 1));
    let said = text(&ended.stdout);
    assert_eq!(ended.status.code(), Some(1), "{said}");
    assert!(said.contains("FG-W48") && said.contains("came plc/a = 4@2s (off by 1)"), "{said}");

    let recording = "t,plc/a\n0,1\n1,2\n2,4\n";
    std::fs::write(desk.path().join("day.csv"), recording).unwrap();
    std::fs::write(desk.path().join("day.expected"), "plc/a = 1@0s\nplc/a = 4@2s\n").unwrap();
    let day =
        "[test.day]\nrule = \"quiet\"\nrecording = \"day.csv\"\nexpected = \"day.expected\"\n";
    let ended = check(day);
    let said = text(&ended.stdout) + &text(&ended.stderr);
    assert!(ended.status.success() && said.contains("ok      test.day"), "{said}");
    std::fs::write(desk.path().join("day.csv"), recording.replace("2,4", "soon,4")).unwrap();
    let said = text(&check(&day.replace("day.expected", "no.expected")).stdout);
    for word in ["f.toml:14", "line 4: \"soon\" is no time", "f.toml:15", "no.expected", "2 faults"]
    {
        assert!(said.contains(word), "{word} is missing:\n{said}");
    }

    let ended =
        check("[test.it]\nrule = \"quite\"\nfeed = \"plc/a = 1@0\"\nexpect = \"nothing\"\n");
    assert!(text(&ended.stdout).contains("did you mean \"quiet\"?"));
    let odd =
        right.replace("1@0s 2@1s", "1@9 2@10s").replace("rule =", "with = { bnad = 1 }\nrule =");
    let said = text(&check(&odd).stdout);
    for word in ["f.toml:13:10", "did you mean \"band\"?", "no unit", "2 faults"] {
        assert!(said.contains(word), "{word} is missing:\n{said}");
    }
}

#[test]
fn a_recording_shows_what_a_rule_makes_of_it_and_what_that_costs() {
    let desk = tempfile::tempdir().unwrap();
    let rule = concat!(env!("CARGO_MANIFEST_DIR"), "/target/rules/deadband.wasm");
    let rows: String = (0..600).map(|s| format!("{s},{}\n", f64::from(s % 60) / 10.0)).collect();
    std::fs::write(desk.path().join("pump.csv"), format!("t,pump/flow\n{rows}")).unwrap();
    let fed = ["rule", "test", rule, "--recording", "pump.csv", "--with", "band = 1.0"];
    let said = done(desk.path(), &fed);
    assert!(said.contains("600 readings of 1 series in, 60 out"), "{said}");
    assert!(said.contains("fuel a reading  (on native and pulley)"), "{said}");
    let said = done(desk.path(), &[&fed[..], &["--show"]].concat());
    assert!(said.starts_with("pump/flow = 0@0s\npump/flow = 1.1@11s\n"), "{said}");
    let said = problem(desk.path(), &[&fed[..6], &["bnad = 1"]].concat());
    assert!(said.contains("did you mean \"band\"?"), "{said}");
    let said = problem(desk.path(), &["rule", "test", rule, "--recording", "no.csv"]);
    assert!(said.contains("FG-W47") && said.contains("no.csv: it is not there"), "{said}");

    let bench = ["rule", "bench", rule, "--recording", "pump.csv", "--seconds", "0.05", "--json"];
    let measured: Json = serde_json::from_str(&done(desk.path(), &bench)).unwrap();
    let pulley = &measured["machines"]["pulley"];
    // A saw of six, at the default band of 0.1: each reading but the equal ones.
    assert!(
        pulley["emitted"].as_u64().unwrap() > 0 && pulley["fuel_a_reading"].as_f64() > Some(1.0)
    );
}

#[test]
fn a_rule_in_assemblyscript_goes_the_whole_way() {
    whole_way("assemblyscript");
}

/// A rule from WebAssembly in text, described by a `rule.toml`.
fn from_text(wat: &str) -> (tempfile::TempDir, Output) {
    let folder = tempfile::tempdir().unwrap();
    let module = folder.path().join("m.wasm");
    std::fs::write(&module, wat::parse_str(wat).unwrap()).unwrap();
    let about = "name = \"odd\"\nversion = \"1.0.0\"\n";
    std::fs::write(folder.path().join("rule.toml"), about).unwrap();
    let ended = fieldgate(folder.path(), &["rule", "build", "--module", "m.wasm"]);
    (folder, ended)
}

#[test]
fn modules_that_are_no_rule_are_refused_in_words() {
    let cases = [
        (
            "(module (import \"wasi_snapshot_preview1\" \"fd_write\" (func (param i32))))",
            "wasm32-unknown-unknown",
        ),
        (
            "(module (import \"env\" \"now\" (func (result f64))))",
            "\"env\", which is not in the contract",
        ),
        (
            "(module (import \"fieldgate:rule/clock@1.0.0\" \"now\" (func (result i64))))",
            "clock@1.0.0\", which is not in the contract",
        ),
        ("(module (memory (export \"memory\") 1))", "does not fit the contract"),
        (
            "(component (import \"wasi:clocks/wall-clock@0.2.0\" (instance)))",
            "wasi:clocks/wall-clock@0.2.0, and rules have no system interface",
        ),
    ];
    for (wat, word) in cases {
        let (_folder, ended) = from_text(wat);
        let said = text(&ended.stderr);
        assert_eq!(ended.status.code(), Some(1), "{wat}\n{said}");
        assert!(said.contains("FG-W43") && said.contains(word), "{wat}\n{said}");
    }
}

#[test]
fn a_wrong_start_is_told_with_the_next_step() {
    let desk = tempfile::tempdir().unwrap();
    let ended = fieldgate(desk.path(), &["rule", "new", "My_Rule"]);
    assert_eq!(ended.status.code(), Some(2));
    assert!(text(&ended.stderr).contains("lower-case"));
    assert_eq!(
        fieldgate(desk.path(), &["rule", "new", "a", "--lang", "cobol"]).status.code(),
        Some(2)
    );

    std::fs::create_dir(desk.path().join("taken")).unwrap();
    std::fs::write(desk.path().join("taken/file"), "").unwrap();
    assert!(problem(desk.path(), &["rule", "new", "taken"]).contains("nothing was written"));

    assert!(problem(desk.path(), &["rule", "build"]).contains("fieldgate rule new NAME"));
    assert!(problem(desk.path(), &["rule", "check", "no.wasm"]).contains("is not there"));
    std::fs::write(desk.path().join("no.wasm"), "\0asm but not for long").unwrap();
    assert!(problem(desk.path(), &["rule", "check", "no.wasm"]).contains("FG-W46"));
}

#[test]
fn a_missing_compiler_is_told_with_the_package_that_brings_it() {
    for (language, word) in [
        ("rust", "rustup target add wasm32-unknown-unknown"),
        ("c", "apt-get install clang lld"),
        ("assemblyscript", "apt-get install nodejs npm"),
    ] {
        let desk = tempfile::tempdir().unwrap();
        done(desk.path(), &["rule", "new", "r", "--lang", language]);
        let bare = desk.path().join("bin");
        std::fs::create_dir(&bare).unwrap();
        let ended = Command::new(env!("CARGO_BIN_EXE_fieldgate"))
            .current_dir(desk.path().join("r"))
            .env("PATH", &bare)
            .args(["rule", "build"])
            .output()
            .unwrap();
        let said = text(&ended.stderr);
        // Where Debian's own compiler stands in its fixed place, it is found without a path.
        let debian = language == "rust" && Path::new("/usr/lib/rustlib/src/rust/library").exists();
        assert_eq!(ended.status.code(), Some(1), "{language}: {said}");
        assert!(said.contains("FG-W41"), "{language}: {said}");
        assert!(said.contains(word) || debian, "{language}: {said}");
    }
}
