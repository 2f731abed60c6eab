//! The Rust SDK as it was when this program was built: `rule new` writes it beside the rule, so that
//! a laptop without a network connection to us, and a rule that is built again in five years, have
//! the one that fits. `build.rs` lists the files.

// `FILES`: path below `rules/`, and text.
include!(concat!(env!("OUT_DIR"), "/sdk.rs"));

#[cfg(test)]
mod tests {
    use super::FILES;

    #[test]
    fn the_sdk_is_a_workspace_of_its_crates_alone() {
        let text = |path: &str| FILES.iter().find(|(name, _)| *name == path).map(|(_, text)| *text);
        let workspace = text("Cargo.toml").unwrap();
        assert!(workspace.contains("members = [\"sdk\", \"macros\"]"), "{workspace}");
        assert!(text("sdk/src/lib.rs").is_some() && text("macros/src/lib.rs").is_some());
        let bytes: usize = FILES.iter().map(|(_, text)| text.len()).sum();
        assert!(bytes < 300_000, "{bytes} bytes in every gateway's program");
    }
}
