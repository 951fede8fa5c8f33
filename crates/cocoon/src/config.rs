//! Configuration files: TOML, one file per process, unknown keys refused by name.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use anyhow::{Context as _, Result, anyhow, bail};
use serde::de::DeserializeOwned;
use sha2::{Digest as _, Sha256};

use crate::limits;

/// A configuration, and the digest of the file that it was read from.
#[derive(Debug)]
pub(crate) struct Read<T> {
    /// What it says.
    pub(crate) file: T,
    /// SHA-256 of the file's bytes: what the evidence of a role names as its configuration.
    #[cfg_attr(
        not(any(feature = "proxy", feature = "worker")),
        expect(dead_code, reason = "a client shows no evidence")
    )]
    pub(crate) sha256: [u8; 32],
}

/// Reads a role's configuration. The error names the file, the line and the key.
pub(crate) fn read<T: DeserializeOwned>(path: &Path) -> Result<Read<T>> {
    let text = read_text(path, limits::CONFIG_BYTES_MAX)
        .with_context(|| format!("cannot read {}: print a sample with --print-default-config", path.display()))?;
    let file = parse(&text).with_context(|| format!("{} is not a valid configuration", path.display()))?;
    Ok(Read { file, sha256: Sha256::digest(&text).into() })
}

/// Reads a text file of at most so many bytes.
pub(crate) fn read_text(path: &Path, bytes_max: u64) -> Result<String> {
    let file = open(path)?;
    let mut text = String::new();
    file.take(bytes_max + 1).read_to_string(&mut text).with_context(|| format!("{} is not text", path.display()))?;
    if u64::try_from(text.len())? > bytes_max {
        bail!("{} is longer than {bytes_max} bytes", path.display());
    }
    Ok(text)
}

/// Opens a file, which a directory is not, though it can be opened.
pub(crate) fn open(path: &Path) -> Result<File> {
    let shown = path.display();
    let file = File::open(path).with_context(|| format!("cannot open {shown}"))?;
    if file.metadata().with_context(|| format!("cannot look at {shown}"))?.is_dir() {
        bail!("{shown} is a directory: name a file in it");
    }
    Ok(file)
}

/// Parses the text of a configuration.
pub(crate) fn parse<T: DeserializeOwned>(text: &str) -> Result<T> {
    toml::from_str(text).map_err(|error| anyhow!("{}", error.to_string().trim_end()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_called_one() {
        let folder = tempfile::tempdir().unwrap();
        let error = read_text(folder.path(), 10).unwrap_err().to_string();
        assert!(error.contains("is a directory"), "{error}");
    }
}

/// For the tests of the roles: that a sample leaves nothing out.
#[cfg(test)]
pub(crate) mod samples {
    use std::collections::BTreeSet;

    use serde::de::value::Error;
    use serde::de::{DeserializeOwned, Deserializer, Error as _, Visitor};
    use serde::forward_to_deserialize_any;

    /// Asserts that the table at `path` of a sample has exactly the keys of `T`; the optional ones in a comment.
    #[track_caller]
    pub(crate) fn shows_every_key<T: DeserializeOwned>(sample: &str, path: &[&str], optional: &[&str]) {
        let whole: toml::Table = toml::from_str(sample).unwrap();
        let table = path.iter().fold(&whole, |table, name| table[*name].as_table().unwrap());
        let commented = optional.iter().inspect(|key| {
            assert!(sample.contains(&format!("\n# {key} = ")), "`{key}` is not shown as a comment");
        });
        let shown: BTreeSet<&str> = table.keys().map(String::as_str).chain(commented.copied()).collect();
        assert_eq!(shown, keys_of::<T>(), "under [{}]", path.join("."));
    }

    /// The keys that a configuration's type asks for.
    pub(crate) fn keys_of<T: DeserializeOwned>() -> BTreeSet<&'static str> {
        let mut keys = BTreeSet::new();
        // It always fails: only the question was wanted.
        drop(T::deserialize(Question(&mut keys)));
        keys
    }

    /// Notes which keys are asked for, and answers nothing.
    struct Question<'a>(&'a mut BTreeSet<&'static str>);

    impl<'de> Deserializer<'de> for Question<'_> {
        type Error = Error;

        fn deserialize_struct<V: Visitor<'de>>(
            self,
            _: &'static str,
            keys: &'static [&'static str],
            _: V,
        ) -> Result<V::Value, Error> {
            self.0.extend(keys);
            Err(Error::custom("asked"))
        }

        fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Error> {
            Err(Error::custom("not a table"))
        }

        forward_to_deserialize_any! {
            bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
            newtype_struct seq tuple tuple_struct map enum identifier ignored_any
        }
    }
}
