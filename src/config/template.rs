//! Templates: a device without its `via`, in a file of its own, one for each model. They are looked
//! up beside the configuration, then where the package puts them, then among those built in.

use std::path::{Path, PathBuf};

use crate::events::config as codes;
use crate::limits;

use super::fault::Fault;
use super::text::{Place, Text};
use super::value;

/// Where packages put templates.
const FOLDER: &str = "/usr/share/fieldgate/templates";

/// Templates that are always there.
const BUILT_IN: [(&str, &str); 3] = [
    ("eastron-sdm630", include_str!("../../packaging/templates/eastron-sdm630.toml")),
    ("simex-trs-02a", include_str!("../../packaging/templates/simex-trs-02a.toml")),
    ("sunspec-inverter", include_str!("../../packaging/templates/sunspec-inverter.toml")),
];

/// Finds and reads a template; the folder `gone` counts as empty.
///
/// # Errors
/// A fault at `place` when there is none of that name, or it cannot be read.
pub fn find(
    name: &str,
    (main_folder, gone): (&Path, Option<&Path>),
    bytes_max: usize,
    place: Place<'_>,
) -> Result<Text, Box<Fault>> {
    let file = format!("{name}.toml");
    let mut folders = folders(main_folder, place.text);
    folders.retain(|folder| Some(folder.as_path()) != gone);
    for folder in folders.iter().filter(|_| is_plain(name)) {
        let path = folder.join(&file);
        if path.is_file() {
            let mut text = Text::read(&path, bytes_max)?;
            text.template = Some(name.into());
            return Ok(text);
        }
    }
    if let Some((_, content)) = BUILT_IN.iter().find(|(known, _)| *known == name) {
        let title = format!("template {name}");
        let mut text = Text::new(&title, main_folder, (*content).to_owned());
        text.template = Some(name.into());
        return Ok(text);
    }
    let known = known(&folders);
    let fault = Fault::at(
        &codes::NOT_FOUND,
        place,
        format!("there is no template \"{}\"", name.escape_debug()),
        format!("templates here: {}", known.join(", ")),
    );
    Err(Box::new(match value::did_you_mean(name, known.iter().map(String::as_str)) {
        Some(near) => fault.hint(format!("did you mean \"{near}\"?")),
        None => {
            fault.hint(format!("templates/{} beside the configuration", value::legal_name(&file)))
        }
    }))
}

/// Returns every template that the configuration at `main` can name, with its content, by name.
pub fn all(main: &Path) -> Vec<(String, String)> {
    let nothing = Text::new("", main.parent().unwrap_or(Path::new(".")), String::new());
    let folders = folders(&nothing.folder, &nothing);
    let content = |name: &str| {
        let file = format!("{name}.toml");
        let folders = folders.iter().filter(|folder| folder.ends_with("templates"));
        let written = folders
            .filter_map(|folder| {
                Text::read(&folder.join(&file), limits::PROBED_TEMPLATE_BYTES_MAX).ok()
            })
            .next();
        let built_in = || BUILT_IN.iter().find(|(known, _)| *known == name).map(|it| it.1);
        written.map(|text| text.text).or_else(|| built_in().map(str::to_owned))
    };
    let names = known(&folders);
    names.into_iter().filter_map(|name| Some((name.clone(), content(&name)?))).collect()
}

/// Whether a template may have this name.
fn is_plain(name: &str) -> bool {
    value::name_trouble(name).is_none() && !name.starts_with('.')
}

fn folders(main_folder: &Path, text: &Text) -> Vec<PathBuf> {
    let mut folders = Vec::new();
    for folder in [main_folder, &text.folder] {
        folders.extend([folder.join("templates"), folder.to_owned()]);
    }
    folders.push(FOLDER.into());
    folders
}

/// Lists what could have been meant: the built-in ones and those in folders named for templates.
fn known(folders: &[PathBuf]) -> Vec<String> {
    let mut names: Vec<String> = BUILT_IN.iter().map(|(name, _)| (*name).to_owned()).collect();
    for folder in folders.iter().filter(|folder| folder.ends_with("templates")) {
        let Ok(entries) = std::fs::read_dir(folder) else { continue };
        names.extend(entries.take(1000).flatten().filter_map(|entry| {
            Some(entry.file_name().to_str()?.strip_suffix(".toml")?.to_owned())
        }));
    }
    // `find` takes no other names, so nobody is offered them.
    names.retain(|name| is_plain(name));
    names.sort();
    names.dedup();
    names
}
