//! `check --tests`: the configuration's `[test.x]`, run on the host that the daemon has.

use std::collections::HashMap;
use std::sync::Arc;

use serde_json::json;

use crate::config::Config;
use crate::events::Notice;
use crate::events::author as told;
use crate::rules::cases::hold;
use crate::rules::{Code, Engine, Instance, Program, Rule, Settings};

/// How one test went.
pub struct Ran {
    /// `test.freeze`
    pub name: String,
    /// Why it failed, if it did.
    pub trouble: Option<Notice>,
}

impl Ran {
    /// Returns it as `check --json` prints it.
    pub fn to_json(&self) -> serde_json::Value {
        json!({
            "test": self.name,
            "ok": self.trouble.is_none(),
            "trouble": self.trouble.as_ref().map(Notice::to_string),
        })
    }
}

/// Runs all tests, in the order of the files.
pub fn run(config: &Config) -> Vec<Ran> {
    let engine = Engine::new(Code::Auto);
    let mut programs: HashMap<usize, Result<Arc<Program>, String>> = HashMap::new();
    let mut all = Vec::new();
    for test in &config.tests {
        let name = format!("test.{}", test.name);
        let definition = &config.rules[test.rule];
        let program = programs.entry(test.rule).or_insert_with(|| match &engine {
            Ok(engine) => Program::load(engine, &definition.code)
                .map_err(|refused| format!("{} {}", definition.file.display(), refused.message)),
            Err(words) => Err(words.clone()),
        });
        let trouble = match program {
            Err(words) => Some(told::case_failed(&name, words, &[])),
            Ok(program) => {
                let program = Arc::clone(program);
                let settings =
                    Settings { params: test.case.params.clone(), ..definition.settings.clone() };
                let open = |series: &[_], kept| {
                    let instance = Instance::open(&program, &settings, series, kept)?;
                    Ok(Box::new(instance) as Box<dyn Rule>)
                };
                let fell = hold(&test.case, &open).err();
                fell.map(|fell| told::case_failed(&name, &fell.difference, &fell.came))
            }
        };
        all.push(Ran { name, trouble });
    }
    all
}
