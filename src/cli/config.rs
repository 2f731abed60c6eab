//! `fieldgate config`: `show`, `schema`, and the door to `migrate`.

use std::io::Write;
use std::path::Path;

use crate::config::{Options, Origin, Setting, load, schema};
use crate::error::Exit;

/// What to show.
#[derive(Debug, clap::Subcommand)]
pub enum Config {
    /// Prints every value in force, defaults filled in
    Show(ShowArgs),
    /// Prints the JSON Schema of the configuration
    Schema,
    /// Brings the files to the version of the format that this program writes; keeps comments, and a
    /// backup beside each
    Migrate,
}

impl Config {
    /// Prints to `out`; the exit code says whether the configuration can be used.
    pub fn run(&self, path: &Path, out: &mut dyn Write) -> Exit {
        match self {
            Self::Show(args) => show(path, args, out),
            Self::Schema => schema(out),
            Self::Migrate => super::migrate::run(path, out),
        }
    }
}

/// What `config show` is told beside the path.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct ShowArgs {
    /// Say of each value where it comes from
    #[arg(long)]
    pub origin: bool,
    /// Print JSON instead of TOML
    #[arg(long)]
    pub json: bool,
}

/// Prints every value in force, defaults filled in, as a configuration that loads to the same.
/// Secrets are shown as what they are there: references.
///
/// Returns [`Exit::Problem`] and the faults when the configuration cannot be used.
pub fn show(path: &Path, args: &ShowArgs, out: &mut dyn Write) -> Exit {
    let (text, exit) = match load(path, Options { keep_settings: true }) {
        Ok(config) if args.json => (as_json(&config.settings, args.origin), Exit::Done),
        Ok(config) => {
            let text = as_toml(&config.settings, args.origin);
            // What is on trial in the daemon is not what stands on disk, which is shown here.
            let trial = if args.origin { super::apply::trial(path) } else { None };
            let lead = trial.map_or_else(String::new, |number| {
                format!("# the daemon tries version {number}; this is what stands on disk\n")
            });
            (lead + &text, Exit::Done)
        }
        Err(faults) => (faults.to_string(), Exit::Problem),
    };
    // Whoever closed the pipe does not want to know more.
    let _ = writeln!(out, "{}", text.trim_end());
    exit
}

/// Prints the JSON Schema of the configuration.
pub fn schema(out: &mut dyn Write) -> Exit {
    let _ = writeln!(out, "{:#}", schema::schema());
    Exit::Done
}

fn as_toml(settings: &[Setting], with_origin: bool) -> String {
    let mut text = String::from("version = 1\n");
    let mut table = "";
    for setting in in_tables(settings) {
        if *setting.table != *table {
            table = &setting.table;
            text += &format!("\n[{table}]\n");
        }
        let line = format!("{} = {}", setting.key, setting.toml);
        if with_origin {
            text += &format!("{line:<60}  # {}\n", origin(&setting.origin));
        } else {
            text += &format!("{line}\n");
        }
    }
    text
}

/// Values without a table's name first, tables in the order of their first value.
fn in_tables(settings: &[Setting]) -> Vec<&Setting> {
    let mut order = std::collections::HashMap::new();
    for (n, setting) in settings.iter().enumerate() {
        order.entry(&*setting.table).or_insert(n);
    }
    let mut sorted: Vec<_> = settings.iter().collect();
    sorted.sort_by_key(|setting| order.get(&*setting.table));
    sorted
}

fn as_json(settings: &[Setting], with_origin: bool) -> String {
    let list = in_tables(settings).into_iter().map(|setting| {
        let mut value = serde_json::json!({
            "table": &*setting.table,
            "key": setting.key,
            "value": setting.json,
        });
        if let (true, Some(object)) = (with_origin, value.as_object_mut()) {
            object.insert("origin".to_owned(), origin(&setting.origin).into());
        }
        value
    });
    format!("{:#}", serde_json::Value::Array(list.collect()))
}

fn origin(origin: &Origin) -> &str {
    match origin {
        Origin::Written(place) | Origin::Template(place) => place,
        Origin::Default => "default",
    }
}
