//! Texts read, compared and installed: power cuts at each step, others at the same, odd files.

use super::*;
use crate::config::{self, Options};

fn texts(all: &[(&str, &str)]) -> Texts {
    Texts(all.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect())
}

const OLD: &str = "[gateway]\nname = \"g\"\n[source.a]\nvia = \"coap listen 127.0.0.1:1\"\n";
const NEW: &str = "[gateway]\nname = \"g\"\n[source.b]\nvia = \"coap listen 127.0.0.1:2\"\n";
const MORE: &str = "[source.c]\nvia = \"coap listen 127.0.0.1:3\"\n";

fn old() -> Texts {
    texts(&[(MAIN, OLD), ("conf.d/gone.toml", MORE)])
}

fn new() -> Texts {
    let other = "[source.d]\nvia = \"coap listen 127.0.0.1:4\"\n";
    texts(&[(MAIN, NEW), ("conf.d/more.toml", MORE), ("conf.d/other.toml", other)])
}

/// Installs, and dies at the step of this number. Returns whether it came so far.
fn install_and_die(main: &Path, texts: &Texts, at: usize) -> bool {
    let mut steps = 0;
    let mut die = |_: &str| {
        steps += 1;
        if steps > at { Err(io::Error::other("the power is gone")) } else { Ok(()) }
    };
    Installation::new(main, &mut die).run(texts).is_err()
}

#[test]
fn a_power_cut_at_any_step_leaves_the_old_configuration_or_the_new_one_whole() {
    let mut outcomes = Vec::new();
    for at in 0.. {
        let folder = tempfile::tempdir().unwrap();
        let main = folder.path().join("fieldgate.toml");
        install(&main, &old()).unwrap();
        assert_eq!(Texts::read(&main).unwrap(), old());
        let died = install_and_die(&main, &new(), at);
        let left = Texts::read(&main).unwrap();
        assert!(left == old() || left == new(), "step {at} left a mixture: {left:?}");
        assert!(died || left == new());
        // What loads is what was read, and finishing changes nothing of it.
        let sources = |config: config::Config| config.sources.len();
        let before = sources(config::load(&main, Options::default()).unwrap());
        assert_eq!(before, left.0.len());
        finish(&main).unwrap();
        assert_eq!(Texts::read(&main).unwrap(), left);
        assert!(unfinished(&main).is_none());
        // And the next installation is not in its way.
        install(&main, &new()).unwrap();
        assert_eq!(Texts::read(&main).unwrap(), new());
        outcomes.push(left == new());
        if !died {
            break;
        }
    }
    assert!(outcomes.len() > 8, "too few steps: {outcomes:?}");
    assert!(!outcomes[0] && outcomes[outcomes.len() - 1]);
    assert!(outcomes.is_sorted(), "it went back and forth: {outcomes:?}");
}

#[test]
fn a_file_keeps_its_mode_and_a_link_what_it_points_to() {
    let folder = tempfile::tempdir().unwrap();
    let main = folder.path().join("fieldgate.toml");
    let real = folder.path().join("real.toml");
    fs::write(&real, OLD).unwrap();
    fs::set_permissions(&real, fs::Permissions::from_mode(0o640)).unwrap();
    std::os::unix::fs::symlink(&real, &main).unwrap();
    install(&main, &new()).unwrap();
    assert!(fs::symlink_metadata(&main).unwrap().is_symlink());
    assert_eq!(fs::read_to_string(&real).unwrap(), NEW);
    for path in [real, folder.path().join("conf.d/more.toml")] {
        assert_eq!(fs::metadata(path).unwrap().mode() & 0o777, 0o640);
    }
}

#[test]
fn a_journal_that_is_no_whole_one_is_not_believed() {
    let folder = tempfile::tempdir().unwrap();
    let main = folder.path().join("fieldgate.toml");
    install(&main, &old()).unwrap();
    for odd in
        ["", "{\"fieldgate.toml\": \"[gat", "{}", "{\"../x\": \"\", \"fieldgate.toml\": \"\"}"]
    {
        fs::write(folder.path().join(JOURNAL), odd).unwrap();
        assert_eq!(Texts::read(&main).unwrap(), old(), "{odd}");
    }
}

#[test]
fn what_cannot_be_read_is_neither_waited_for_nor_taken_for_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let main = folder.path().join("fieldgate.toml");
    install(&main, &old()).unwrap();
    let link = folder.path().join("conf.d/link.toml");
    std::os::unix::fs::symlink("/nonexistent", &link).unwrap();
    assert_eq!(Texts::present(&main).unwrap_err().kind(), ErrorKind::NotFound);
    fs::remove_file(&link).unwrap();
    // As large as a disk, and no byte of it is read into memory.
    let large = folder.path().join("conf.d/large.toml");
    File::create(&large).unwrap().set_len(1 << 40).unwrap();
    assert_eq!(Texts::read(&main).unwrap_err().kind(), ErrorKind::FileTooLarge);
    fs::remove_file(&large).unwrap();
    // A device is a file that never ends; a template of that kind is in nobody's way.
    std::os::unix::fs::symlink("/dev/zero", &link).unwrap();
    assert_eq!(Texts::read(&main).unwrap_err().kind(), ErrorKind::InvalidInput);
    fs::remove_file(&link).unwrap();
    fs::create_dir(folder.path().join("templates")).unwrap();
    let odd = folder.path().join("templates/odd.toml");
    fs::write(&odd, b"# M\xFChle\n").unwrap();
    assert_eq!(Texts::read(&main).unwrap(), old());
    install(&main, &new()).unwrap();
    assert!(odd.exists());
    fs::remove_file(&main).unwrap();
    assert_eq!(Texts::present(&main).unwrap().0.len(), new().0.len() - 1);
}

#[test]
fn two_that_install_at_once_leave_the_one_or_the_other() {
    let folder = tempfile::tempdir().unwrap();
    let main = folder.path().join("fieldgate.toml");
    for _ in 0..20 {
        std::thread::scope(|scope| {
            for texts in [old(), new()] {
                let main = &main;
                scope.spawn(move || install(main, &texts).unwrap());
            }
        });
        let left = Texts::read(&main).unwrap();
        assert!(left == old() || left == new(), "{left:?}");
        assert!(unfinished(&main).is_none());
    }
}

#[test]
fn a_candidate_is_a_folder_or_files_that_find_their_place() {
    let folder = tempfile::tempdir().unwrap();
    let main = folder.path().join("live/fieldgate.toml");
    fs::create_dir(folder.path().join("live")).unwrap();
    install(&main, &old()).unwrap();
    let other = folder.path().join("other");
    fs::create_dir(&other).unwrap();
    install(&other.join("fieldgate.toml"), &new()).unwrap();
    let whole = Texts::candidate(&old(), &main, std::slice::from_ref(&other)).unwrap();
    assert_eq!(whole, new());
    let more = other.join("conf.d/more.toml");
    let one = Texts::candidate(&old(), &main, std::slice::from_ref(&more)).unwrap();
    assert_eq!(old().difference(&one), [("conf.d/more.toml".to_owned(), "added")]);
    let difference = old().difference(&whole);
    assert!(difference.contains(&("conf.d/gone.toml".to_owned(), "removed")), "{difference:?}");
    fs::write(other.join("note.txt"), "").unwrap();
    let odd = Texts::candidate(&old(), &main, &[other.join("note.txt")]).unwrap_err();
    assert_eq!(odd.kind(), ErrorKind::InvalidInput);
}

#[test]
fn a_candidate_keeps_the_templates_it_says_nothing_of_and_sees_none_that_would_go() {
    let (folder, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let main = folder.path().join("fieldgate.toml");
    let device = "[device.m]\nvia = \"modbus tcp 127.0.0.1 id 1\"\ntemplate = \"mine\"\n";
    let whole = format!("[gateway]\nname = \"g\"\n{device}");
    let template = "[points]\nx = { at = \"holding 1\", as = \"u16\" }\n";
    let present = texts(&[(MAIN, &whole), ("templates/mine.toml", template)]);
    install(&main, &present).unwrap();
    fs::write(other.path().join(MAIN), &whole).unwrap();
    let given = [other.path().to_owned()];
    assert_eq!(Texts::candidate(&present, &main, &given).unwrap(), present);
    // An empty folder says that there are to be none; then this device has no points.
    fs::create_dir(other.path().join("templates")).unwrap();
    let without = Texts::candidate(&present, &main, &given).unwrap();
    assert_eq!(without, texts(&[(MAIN, &whole)]));
    assert!(config::load_texts(&main, &present, Options::default()).is_ok());
    let faults = config::load_texts(&main, &without, Options::default()).unwrap_err();
    assert!(faults.to_string().contains("there is no template \"mine\""), "{faults}");
}
