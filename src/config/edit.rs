//! Small changes to a file that a person may have written: one value is replaced or one table added,
//! and every other byte stays as it is, comments and order included. A change that would not read back
//! as meant is refused.

use toml::de::{DeTable, DeValue};
use toml::{Table, Value};

/// Sets `key` of the table `[path]` to `value`, written as TOML. A table that is not there is added at
/// the end, a key right behind its table's header.
///
/// # Errors
/// When the file is no TOML, or is laid out in a way that does not take the change; completes "the
/// file".
pub fn set(text: &str, path: &[&str], key: &str, value: &str) -> Result<String, &'static str> {
    let root = DeTable::parse(text).map_err(|_| "is no TOML")?;
    let changed = match place(root.get_ref(), path, key) {
        Found::Value(span) => format!("{}{value}{}", &text[..span.start], &text[span.end..]),
        Found::Table => {
            let at = behind_header(text, path).ok_or("does not have that table under a header")?;
            let line = format!("{} = {value}{}", super::outline::key(key), end_of_line(text));
            format!("{}{line}{}", &text[..at], &text[at..])
        }
        Found::Nothing => {
            let end = end_of_line(text);
            let header = header(path);
            append(text, &format!("{header}{end}{} = {value}{end}", super::outline::key(key)))
        }
    };
    let wanted = format!("k = {value}").parse::<Table>().map_err(|_| "would get no TOML")?;
    let table = changed.parse::<Table>().map_err(|_| "would not be TOML any more")?;
    let mut at = Some(&table);
    for name in path {
        at = at.and_then(|table| table.get(*name)).and_then(Value::as_table);
    }
    let read = at.and_then(|table| table.get(key));
    if read == wanted.get("k") { Ok(changed) } else { Err("does not take the change") }
}

/// Adds `table`, whole lines of TOML, at the end, with an empty line before it.
#[must_use]
pub fn append(text: &str, table: &str) -> String {
    let end = end_of_line(text);
    let gap = match text {
        "" => "",
        _ if text.ends_with("\n\n") || text.ends_with("\r\n\r\n") => "",
        _ if text.ends_with('\n') => end,
        _ => return append(&format!("{text}{end}"), table),
    };
    format!("{text}{gap}{table}")
}

/// Writes `version = 1` where the file has no version: behind the comment that it begins with, before
/// everything else. `None` when it has one.
///
/// # Errors
/// When the file is no TOML; completes "the file".
pub fn with_version(text: &str, version: u32) -> Result<Option<String>, &'static str> {
    let table = text.parse::<Table>().map_err(|_| "is no TOML")?;
    if table.contains_key("version") {
        return Ok(None);
    }
    let mut at = if text.starts_with('\u{FEFF}') { '\u{FEFF}'.len_utf8() } else { 0 };
    let mut start = at;
    for line in text[at..].split_inclusive('\n') {
        start += line.len();
        match line.trim() {
            comment if comment.starts_with('#') => at = start,
            "" => {}
            _ => break,
        }
    }
    let end = end_of_line(text);
    let comment_ends = text[..at].ends_with('\n') || at == 0 || text[..at].ends_with('\u{FEFF}');
    let lead = if comment_ends { "" } else { end };
    let gap =
        if text[at..].trim().is_empty() || text[at..].starts_with(['\n', '\r']) { "" } else { end };
    let changed = format!("{}{lead}version = {version}{end}{gap}{}", &text[..at], &text[at..]);
    let read = changed.parse::<Table>().map_err(|_| "would not be TOML any more")?;
    let without: Table = read
        .iter()
        .filter(|(key, _)| *key != "version")
        .map(|(k, v)| (k.clone(), v.clone()))
        .collect();
    let is_same =
        without == table && read.get("version").and_then(Value::as_integer) == Some(version.into());
    if is_same { Ok(Some(changed)) } else { Err("does not take the change") }
}

enum Found {
    Value(std::ops::Range<usize>),
    Table,
    Nothing,
}

fn place(root: &DeTable<'_>, path: &[&str], key: &str) -> Found {
    let mut table = root;
    for name in path {
        let Some((_, value)) = table.get_key_value(*name) else { return Found::Nothing };
        let DeValue::Table(inner) = value.get_ref() else { return Found::Nothing };
        table = inner;
    }
    match table.get_key_value(key) {
        Some((_, value)) => Found::Value(value.span()),
        None => Found::Table,
    }
}

fn header(path: &[&str]) -> String {
    let path: Vec<_> = path.iter().map(|part| super::outline::key(part)).collect();
    format!("[{}]", path.join("."))
}

/// Returns the byte behind the line of the header `[path]`.
fn behind_header(text: &str, path: &[&str]) -> Option<usize> {
    let wanted = header(path);
    let mut end = 0;
    for line in text.split_inclusive('\n') {
        end += line.len();
        let bare: String = line.split('#').next()?.chars().filter(|c| !c.is_whitespace()).collect();
        if bare == wanted {
            return line.ends_with('\n').then_some(end);
        }
    }
    None
}

fn end_of_line(text: &str) -> &'static str {
    if text.contains("\r\n") { "\r\n" } else { "\n" }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "# mine\nversion = 1 # one\n\n[gateway] # who\nname   = \"old\"   # keep me\n\n\
                        [port.a]\npath = \"/dev/x\"";

    #[test]
    fn a_value_changes_and_every_other_byte_stays() {
        let changed = set(FILE, &["gateway"], "name", "\"new\"").unwrap();
        assert_eq!(changed, FILE.replace("\"old\"", "\"new\""));
        let added = set(FILE, &["gateway"], "site", "\"hall\"").unwrap();
        assert_eq!(added, FILE.replace("# who\n", "# who\nsite = \"hall\"\n"));
        let table = set(FILE, &["uplink", "cloud"], "url", "\"mqtt://h\"").unwrap();
        assert_eq!(table, format!("{FILE}\n\n[uplink.cloud]\nurl = \"mqtt://h\"\n"));
        assert_eq!(set("", &["gateway"], "name", "\"g\"").unwrap(), "[gateway]\nname = \"g\"\n");
        let windows = FILE.replace('\n', "\r\n");
        let changed = set(&windows, &["gateway"], "site", "\"hall\"").unwrap();
        assert_eq!(changed, windows.replace("# who\r\n", "# who\r\nsite = \"hall\"\r\n"));
    }

    #[test]
    fn what_cannot_be_changed_safely_is_refused() {
        assert_eq!(set("[a", &["a"], "k", "1"), Err("is no TOML"));
        assert!(set("gateway.name = \"g\"", &["gateway"], "site", "1").is_err());
        assert!(set("a = 1", &["a"], "k", "1").is_err());
        assert!(set("", &["a"], "k", "not toml").is_err());
        let tricky = "[b]\nt = '''\n[a]\n'''\n[a]\n";
        assert!(set(tricky, &["a"], "k", "1").is_err(), "the header stands in a text, too");
    }

    #[test]
    fn a_version_stands_behind_the_first_comment_and_nothing_else_moves() {
        let with = |text: &str| with_version(text, 1).unwrap();
        assert_eq!(with("[a]\nb = 1\n").unwrap(), "version = 1\n\n[a]\nb = 1\n");
        assert_eq!(with("# c\n\n[a]\n").unwrap(), "# c\nversion = 1\n\n[a]\n");
        assert_eq!(with("# c").unwrap(), "# c\nversion = 1\n");
        assert_eq!(with("").unwrap(), "version = 1\n");
        assert_eq!(with("a = 1 # x\n[b]\n").unwrap(), "version = 1\n\na = 1 # x\n[b]\n");
        assert_eq!(with("\u{FEFF}[a]\r\n").unwrap(), "\u{FEFF}version = 1\r\n\r\n[a]\r\n");
        assert_eq!(with("version = 1\n"), None);
        assert_eq!(with_version("[a", 1), Err("is no TOML"));
    }
}
