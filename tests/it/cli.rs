//! The command line as a person meets it: each command run as a process.

use std::io::Write;
use std::process::{Command, Output, Stdio};

use serde_json::Value as Json;

fn fieldgate(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_fieldgate")).args(arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn vector(name: &str) -> String {
    format!("{}/docs/uplink/vectors/{name}", env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn help_names_every_command_and_the_exit_codes() {
    let help = text(&fieldgate(&["--help"]).stdout);
    for word in ["run", "check", "once", "config", "decode", "buffer", "ports", "demo", "78", "70"]
    {
        assert!(help.contains(word), "{word} is not in the help:\n{help}");
    }
    for command in ["run", "check", "once", "config", "decode", "buffer", "ports", "demo"] {
        assert!(fieldgate(&[command, "--help"]).status.success(), "{command} --help fails");
    }
    for command in ["setup", "scan", "read", "status", "doctor", "support"] {
        assert!(help.contains(command), "{command} is not in the help:\n{help}");
        assert!(fieldgate(&[command, "--help"]).status.success(), "{command} --help fails");
    }
}

#[test]
fn completions_and_man_pages_name_every_command() {
    for (shell, mark) in
        [("bash", "_fieldgate"), ("zsh", "#compdef fieldgate"), ("fish", "complete")]
    {
        let ended = fieldgate(&["completions", shell]);
        let script = text(&ended.stdout);
        assert!(ended.status.success() && script.contains(mark), "{shell}:\n{script}");
        assert!(script.contains("buffer") && script.contains("explain"), "{shell}:\n{script}");
        assert!(!script.contains("rule-compile"), "{shell} offers a hidden command:\n{script}");
    }
    let folder = tempfile::tempdir().unwrap();
    assert!(fieldgate(&["man", folder.path().to_str().unwrap()]).status.success());
    let page = std::fs::read_to_string(folder.path().join("fieldgate.1")).unwrap();
    for command in ["run", "check", "once", "config", "decode", "buffer", "ports", "demo"] {
        assert!(page.contains(&format!("fieldgate\\-{command}(1)")), "{command}:\n{page}");
        assert!(folder.path().join(format!("fieldgate-{command}.1")).exists(), "{command}");
    }
    assert!(!page.contains("fieldgate\\-man"), "the hidden command is shown");
}

#[test]
fn wrong_usage_ends_with_2() {
    assert_eq!(fieldgate(&["decod"]).status.code(), Some(2));
    assert_eq!(fieldgate(&["demo", "--outage", "soon"]).status.code(), Some(2));
}

#[test]
fn explain_knows_every_code_and_says_when_it_does_not() {
    let list = text(&fieldgate(&["explain"]).stdout);
    assert!(list.lines().count() > 30, "{list}");
    for line in list.lines() {
        let id = line.split_whitespace().next().unwrap();
        let told = fieldgate(&["explain", &id.to_lowercase()]);
        assert!(told.status.success());
        assert!(text(&told.stdout).starts_with(line), "{id}");
    }
    assert!(text(&fieldgate(&["explain", "m3"]).stdout).starts_with("FG-M03 "));
    let unknown = fieldgate(&["explain", "FG-X99"]);
    assert_eq!(unknown.status.code(), Some(1));
    assert!(text(&unknown.stderr).contains("FG-X99"));
}

#[test]
fn decode_reads_a_file_and_a_pipe_alike() {
    let file = fieldgate(&["decode", &vector("01-grid.msgpack")]);
    assert!(file.status.success());
    let mut child = Command::new(env!("CARGO_BIN_EXE_fieldgate"))
        .args(["decode", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let payload = std::fs::read(vector("01-grid.msgpack")).unwrap();
    child.stdin.take().unwrap().write_all(&payload).unwrap();
    let pipe = child.wait_with_output().unwrap();
    assert_eq!(file.stdout, pipe.stdout);
    let first: Json = serde_json::from_str(text(&file.stdout).lines().next().unwrap()).unwrap();
    assert_eq!(first["key"], "gw-0042/1789990000/data/4711");
}

#[test]
fn decode_counts_unknown_frames_on_standard_error() {
    let ended = fieldgate(&["decode", &vector("05-unknown-frame.msgpack")]);
    assert!(ended.status.success());
    assert!(text(&ended.stderr).contains("1 frames of an unknown kind"));
    assert_eq!(text(&ended.stdout).lines().count(), 15);
}

#[test]
fn decode_of_garbage_is_a_problem_in_words() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("x");
    std::fs::write(&file, b"this is no batch at all").unwrap();
    let ended = fieldgate(&["decode", file.to_str().unwrap()]);
    assert_eq!(ended.status.code(), Some(1));
    assert!(text(&ended.stderr).contains("FG-D01"));
    let ended = fieldgate(&["decode", "/no/such/file"]);
    assert_eq!(ended.status.code(), Some(3));
    assert!(!text(&ended.stderr).contains("os error"), "{}", text(&ended.stderr));
}

#[test]
fn the_demo_shows_readings_of_every_source() {
    let ended = fieldgate(&["demo", "--for", "7s", "--json"]);
    let (out, err) = (text(&ended.stdout), text(&ended.stderr));
    assert!(ended.status.success(), "{err}");
    let mut devices = std::collections::BTreeSet::new();
    for line in out.lines() {
        let reading: Json = serde_json::from_str(line).unwrap();
        if !reading["value"].is_null() {
            devices.insert(reading["device"].as_str().unwrap().to_owned());
        }
    }
    let expected = ["chiller", "door-north", "meter-1", "office", "scale", "tank-1"];
    assert_eq!(devices.into_iter().collect::<Vec<_>>(), expected, "{err}");
    assert!(err.contains("0 missing"), "{err}");
}

#[test]
fn the_demo_lives_through_an_outage_without_a_loss() {
    let ended = fieldgate(&["demo", "--for", "8s", "--outage", "4s"]);
    let out = text(&ended.stdout);
    assert!(ended.status.success(), "{out}{}", text(&ended.stderr));
    for sentence in ["broker is taken away", "the buffer holds", "broker is back", "drained"] {
        assert!(out.contains(sentence), "no \"{sentence}\" in\n{out}");
    }
    assert!(out.contains("0 missing"), "{out}");
}

#[test]
fn once_prints_what_it_could_read_and_says_what_it_could_not() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("fieldgate.toml");
    std::fs::write(
        &config,
        "[gateway]\nname = \"gw\"\n[device.gone]\nvia = \"modbus tcp 127.0.0.1:1 id 1\"\n\
         points.a = { at = \"holding 0\", as = \"u16\" }\n[uplink.x]\nurl = \"mqtt://127.0.0.1:1\"\n",
    )
    .unwrap();
    let ended = fieldgate(&["once", "--timeout", "5s", "--config", config.to_str().unwrap()]);
    assert_eq!(ended.status.code(), Some(3), "{}", text(&ended.stderr));
    assert!(text(&ended.stdout).contains("gone/a"), "{}", text(&ended.stdout));
}

#[test]
fn an_export_that_fails_leaves_no_file_and_a_damaged_buffer_names_what_mends_it() {
    let folder = tempfile::tempdir().unwrap();
    let (buffer, to) = (folder.path().join("buffer.db"), folder.path().join("out"));
    let (buffer_arg, to_arg) = (buffer.to_str().unwrap(), to.to_str().unwrap());
    std::fs::write(&buffer, "neither a database nor anything else that anybody knows ".repeat(99))
        .unwrap();
    let export = |more: &[&str]| {
        let mut args = vec!["buffer", "export", "--buffer", buffer_arg, to_arg];
        args.extend(more);
        let ended = fieldgate(&args);
        assert!(!to.exists(), "an empty file is in the way of the next try");
        (ended.status.code(), String::from_utf8(ended.stderr).unwrap())
    };
    let (code, text) = export(&[]);
    assert!(code == Some(3) && text.contains("moves it aside"), "{code:?} {text}");
    let (code, text) = export(&["--damaged", "7"]);
    assert!(code == Some(3) && text.contains("another number"), "{code:?} {text}");
    let ended = fieldgate(&["buffer", "check", buffer_arg]);
    let text = String::from_utf8(ended.stdout).unwrap();
    assert!(ended.status.code() == Some(1) && text.contains("moves it aside"), "{text}");
}

#[test]
fn buffer_status_of_nothing_is_unreachable_in_words() {
    let ended = fieldgate(&["buffer", "status", "/no/such/buffer.db"]);
    assert_eq!(ended.status.code(), Some(3));
    let said = text(&ended.stderr);
    assert!(said.contains("FG-B") && !said.contains("os error"), "{said}");
}

#[test]
fn once_names_the_points_that_said_nothing_and_a_faulty_file_is_a_problem() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("fieldgate.toml");
    std::fs::write(
        &config,
        "[port.p]\npath = \"/dev/serial/by-id/none\"\n[device.scale]\nvia = \"serial p\"\n\
         match = '(?<w>.*)'\npoints.w = {}\n[source.push]\nvia = \"coap listen 127.0.0.1:0\"\n",
    )
    .unwrap();
    let path = config.to_str().unwrap();
    let ended = fieldgate(&["once", "--timeout", "1s", "--config", path]);
    let all = text(&ended.stdout) + &text(&ended.stderr);
    assert!(all.contains("scale/w"), "{all}");
    assert_eq!(ended.status.code(), Some(3), "{all}");
    std::fs::write(&config, "[gatway]").unwrap();
    for command in [&["once"][..], &["buffer", "status"]] {
        let ended = fieldgate(&[command, &["--config", path]].concat());
        assert_eq!(ended.status.code(), Some(1), "{command:?}: {}", text(&ended.stderr));
    }
}

#[test]
fn a_demo_that_cannot_have_its_folder_says_so_in_words() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "").unwrap();
    for place in [file.to_str().unwrap(), "/proc/none"] {
        let ended = fieldgate(&["demo", "--for", "1s", "--folder", place]);
        let said = text(&ended.stderr);
        assert_eq!(ended.status.code(), Some(3), "{said}");
        assert!(said.contains("FG-G03") && said.contains("folder"), "{said}");
        assert!(!said.contains("os error"), "{said}");
    }
}

#[test]
fn a_log_level_that_is_none_is_told_and_the_usual_one_holds() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "").unwrap();
    let ended = Command::new(env!("CARGO_BIN_EXE_fieldgate"))
        .args(["demo", "--for", "1s", "--folder", file.to_str().unwrap()])
        .env("FIELDGATE_LOG", "verbose")
        .output()
        .unwrap();
    assert!(text(&ended.stderr).contains("FIELDGATE_LOG=verbose is no level"));
}

#[test]
fn check_looks_at_secrets_and_certificates_and_counts_requests() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("fieldgate.toml");
    let write = |auth: &str| {
        let text = format!(
            "[gateway]\nname = \"gw\"\n[device.d]\nvia = \"modbus tcp 127.0.0.1 id 1\"\n\
             points.a = {{ at = \"holding 1\", as = \"u16\" }}\n\
             points.b = {{ at = \"holding 2\", as = \"u16\" }}\n\
             points.c = {{ at = \"holding 900\", as = \"u16\" }}\n[uplink.u]\n{auth}\n"
        );
        std::fs::write(&config, text).unwrap();
        let ended = fieldgate(&["check", "--config", config.to_str().unwrap()]);
        assert!(ended.status.success(), "a file may come later, so it is no fault");
        text_of(&ended)
    };
    let said = write("url = \"mqtts://b\"\nca = \"none.pem\"");
    assert!(said.contains("FG-C57") && said.contains("none.pem does not exist"), "{said}");
    assert!(said.contains("3 points in 2 requests"), "{said}");
    std::fs::write(folder.path().join("ca.pem"), "no certificate").unwrap();
    let said = write("url = \"mqtts://b\"\nca = \"ca.pem\"");
    assert!(said.contains("ca.pem holds no certificate"), "{said}");
    let login =
        |place| format!("url = \"mqtt://b\"\nauth = {{ user = \"u\", password = {{ {place} }} }}");
    let said = write(&login("file = \"pw\""));
    assert!(said.contains("pw does not exist"), "{said}");
    // systemd hands credentials to the service alone; a shell has none and is not told off for it.
    let said = write(&login("credential = \"pw\""));
    assert!(!said.contains("FG-C57"), "{said}");
    std::fs::write(folder.path().join("pw"), "x").unwrap();
    let said = write(&login("file = \"pw\""));
    assert!(!said.contains("FG-C57"), "{said}");
}

fn text_of(ended: &Output) -> String {
    text(&ended.stdout)
}
