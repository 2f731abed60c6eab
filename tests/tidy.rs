//! The house rules that can be executed: what STYLE asks of every file and what ARCHITECTURE says of
//! the floors. Plain text work on purpose; where it guesses, it guesses in favour of the rule.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

const LINES_MAX: usize = 500;
/// rustfmt holds code at 100; the last word of a comment may stand a little over.
const COLUMNS_MAX: usize = 104;

/// Rooms by floor; a room may use its own floor's earlier doors only where [`DOORS`] says so.
const FLOORS: [(&str, u8); 24] = [
    ("limits", 0),
    ("ranges", 0),
    ("reading", 0),
    ("batch", 0),
    ("clock", 0),
    ("backoff", 0),
    ("secret", 0),
    ("error", 0),
    ("events", 0),
    ("state", 0),
    ("mqtt", 0),
    ("sources", 1),
    ("rules", 1),
    ("api", 1),
    ("store", 1),
    ("uplink", 1),
    ("receive", 1),
    ("config", 2),
    ("pipeline", 2),
    ("gateway", 3),
    ("demo", 3),
    ("cli", 4),
    ("main", 4),
    ("bin", 4),
];

/// Sideways doors: who may know whom on the same floor.
const DOORS: [(&str, &str); 4] =
    [("uplink", "store"), ("api", "store"), ("config", "pipeline"), ("demo", "gateway")];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn rust_files(folder: &str) -> Vec<(PathBuf, String)> {
    let mut files = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                let text = std::fs::read_to_string(&path).unwrap();
                files.push((path.strip_prefix(root()).unwrap().to_owned(), text));
            }
        }
    }
    assert!(!files.is_empty(), "no files in {folder}");
    files
}

/// The part of a file that is not tests.
fn without_tests(text: &str) -> &str {
    text.find("#[cfg(test)]\nmod tests {").map_or(text, |at| &text[..at])
}

fn is_test_file(path: &Path) -> bool {
    path.file_stem().is_some_and(|stem| stem == "tests" || stem == "script")
        || path.components().any(|part| part.as_os_str() == "tests")
}

fn room(path: &Path) -> String {
    let inside = path.strip_prefix("src").unwrap();
    let first = inside.components().next().unwrap().as_os_str().to_string_lossy().into_owned();
    first.trim_end_matches(".rs").to_owned()
}

fn floor(room: &str) -> Option<u8> {
    FLOORS.iter().find(|(name, _)| *name == room).map(|(_, floor)| *floor)
}

#[test]
fn every_file_says_what_it_is_for() {
    for folder in ["src", "tests", "benches"] {
        for (path, text) in rust_files(folder) {
            assert!(text.starts_with("//! "), "{} has no first paragraph", path.display());
        }
    }
}

#[test]
fn no_file_eats_its_neighbours() {
    for (path, text) in rust_files("src") {
        let lines = without_tests(&text).lines().count();
        assert!(
            lines <= LINES_MAX || is_test_file(&path),
            "{} has {lines} lines without its tests; {LINES_MAX} is the limit",
            path.display()
        );
    }
}

#[test]
fn lines_fit_the_page() {
    for folder in ["src", "tests", "benches"] {
        for (path, text) in rust_files(folder) {
            for (n, line) in text.lines().enumerate() {
                let long = line.chars().count() > COLUMNS_MAX;
                // A string that must stand on one line is the only excuse.
                let excused = line.contains('"') || line.trim_start().starts_with("//! http");
                assert!(!long || excused, "{}:{} is too long", path.display(), n + 1);
            }
        }
    }
}

#[test]
fn arrows_between_rooms_point_down() {
    for (path, text) in rust_files("src") {
        let from = room(&path);
        if from == "lib" {
            continue;
        }
        let here = floor(&from).unwrap_or_else(|| panic!("{from} stands on no floor"));
        for line in without_tests(&text).lines() {
            for part in line.split("crate::").skip(1) {
                let to: String =
                    part.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
                let Some(there) = floor(&to) else { continue };
                let door = DOORS.contains(&(from.as_str(), to.as_str()));
                let within_ground = here == 0 && there == 0;
                assert!(
                    there < here || from == to || door || within_ground,
                    "{} (floor {here}) uses {to} (floor {there}): {line}",
                    path.display()
                );
            }
        }
    }
}

#[test]
fn the_river_is_drawn_in_the_crate_tour() {
    let tour = std::fs::read_to_string(root().join("src/lib.rs")).unwrap();
    for (room, _) in FLOORS.iter().filter(|(room, _)| !["main", "bin"].contains(room)) {
        assert!(tour.contains(&format!("`{room}`")), "lib.rs does not introduce {room}");
        assert!(tour.contains(&format!("pub mod {room};")), "lib.rs does not hold {room}");
    }
}

#[test]
fn nothing_is_left_to_do_or_switched_off() {
    let words = ["TODO", "FIXME", "XXX", "todo!(", "unimplemented!(", "#[ignore"];
    for folder in ["src", "tests", "benches"] {
        for (path, text) in rust_files(folder) {
            if path.ends_with("tidy.rs") {
                continue;
            }
            for word in words {
                assert!(!text.contains(word), "{} contains {word}", path.display());
            }
        }
    }
}

/// Entered the tree before the rooms that use them, so that everything is compiled once.
const AWAITED: [&str; 11] = [
    "wasmparser",
    "wasm_encoder",
    "wit_component",
    "minisign_verify",
    "minisign",
    "axum",
    "hyper",
    "hyper_util",
    "http_body_util",
    "wat",
    "wasm_smith",
];

#[test]
fn every_dependency_is_used() {
    let manifest = std::fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let code = |folders: &[&str]| -> String {
        folders.iter().flat_map(|folder| rust_files(folder)).map(|(_, text)| text).collect()
    };
    let (ours, all) = (code(&["src"]), code(&["src", "tests", "benches"]));
    for (table, code) in [("[dependencies]", &ours), ("[dev-dependencies]", &all)] {
        let lines = manifest.split(table).nth(1).unwrap().split("\n[").next().unwrap();
        for line in lines.lines().filter(|line| line.contains('=') && !line.starts_with('#')) {
            let name = line.split_whitespace().next().unwrap().replace('-', "_");
            let used =
                [format!("{name}::"), format!("use {name}")].iter().any(|u| code.contains(u));
            assert!(used || AWAITED.contains(&name.as_str()), "nothing in {table} uses {name}");
        }
    }
}

#[test]
fn no_bare_system_error_reaches_a_person() {
    for (path, text) in rust_files("src") {
        for (n, line) in without_tests(&text).lines().enumerate() {
            // An `io::Error` or its like is bound as `e` here; our own errors are named in full.
            let shown = line.contains("{e}") || line.contains("{e:?}");
            let logged = line.contains("debug!");
            let ours = path.ends_with("mqtt/tls.rs") || path.ends_with("demo/watch.rs");
            assert!(!shown || logged || ours, "{}:{} shows an error bare", path.display(), n + 1);
        }
    }
}

#[test]
fn every_dependency_has_its_reason() {
    let manifest = std::fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let dependencies = manifest.split("[dependencies]").nth(1).unwrap();
    let dependencies = dependencies.split("\n[").next().unwrap();
    for paragraph in dependencies.trim().split("\n\n") {
        let mut explained = false;
        for line in paragraph.lines() {
            explained |= line.contains('#');
            let named = line.contains('=');
            assert!(!named || explained, "no reason stands beside or above: {line}");
        }
    }
}

#[test]
fn every_code_and_every_exit_is_in_the_readme_or_the_list_of_codes() {
    let readme = std::fs::read_to_string(root().join("README.md")).unwrap();
    for exit in ["0", "1", "2", "3", "70", "78"] {
        assert!(readme.contains(&format!("| {exit} |")), "README does not explain exit {exit}");
    }
    let mut seen: BTreeMap<&str, &str> = BTreeMap::new();
    for code in fieldgate::events::catalogue() {
        assert!(seen.insert(code.id, code.title).is_none(), "{} stands twice", code.id);
    }
    for (path, text) in rust_files("src") {
        for part in text.split("FG-").skip(1) {
            let number: String = part.chars().take(3).collect();
            let mut letters = number.chars();
            let is_code = letters.next().is_some_and(|c| c.is_ascii_uppercase())
                && letters.all(|c| c.is_ascii_digit())
                && number.len() == 3;
            let id = format!("FG-{number}");
            let known = seen.contains_key(id.as_str()) || number.starts_with('T');
            assert!(!is_code || known, "{}: {id} is in no catalogue", path.display());
        }
    }
}

#[test]
fn every_limit_is_used_and_explained() {
    let parts =
        ["", "/api", "/firsthour", "/push", "/receive", "/rules", "/store", "/trial", "/uplink"];
    let limits = parts
        .map(|part| format!("src/limits{part}.rs"))
        .map(|path| std::fs::read_to_string(root().join(path)).unwrap())
        .concat();
    let all: String = rust_files("src")
        .into_iter()
        .filter(|(path, _)| !path.starts_with("src/limits") && !path.ends_with("limits.rs"))
        .map(|(_, text)| text)
        .collect();
    let mut before = "";
    for line in limits.lines() {
        if let Some(rest) = line.strip_prefix("pub const ") {
            let name = rest.split(':').next().unwrap();
            assert!(before.starts_with("///"), "limits.rs does not explain {name}");
            let inside = limits.matches(name).count() > 1;
            assert!(all.contains(name) || inside, "nobody uses limits::{name}");
        }
        before = line;
    }
}

#[test]
fn the_two_commands_of_the_promise_stand_in_the_readme() {
    let readme = std::fs::read_to_string(root().join("README.md")).unwrap();
    for command in ["cargo run --release -- demo", "tests/run"] {
        assert!(readme.contains(command), "README does not show {command}");
    }
}
