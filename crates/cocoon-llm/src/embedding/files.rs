//! The files of an embedding model: bounded reads, and the tensors of `model.safetensors`.
//!
//! This is a trust boundary: the files were downloaded. A file is read only up to its bound; the header of the weights
//! is bounded before it is parsed. The `safetensors` crate then checks that the tensors fill the rest of the file
//! without gap or overlap and that each has the length its shape says, so no shape makes an allocation that the file's
//! length does not justify.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{ErrorKind, Read as _};
use std::path::Path;

use safetensors::{Dtype, SafeTensors};

use super::error::EmbedderLoadError;
use crate::limits::{EMBED_HEADER_BYTES_MAX, EMBED_WEIGHTS_BYTES_MAX};

/// The weights of a model in its folder.
pub(super) const WEIGHTS: &str = "model.safetensors";

/// Characters of a library's message that are repeated: it may quote names of a hostile file.
const QUOTED_CHARS_MAX: usize = 200;

/// The bytes of a file, if it is not longer than `max`.
pub(super) fn read(folder: &Path, file: &'static str, max: u64) -> Result<Vec<u8>, EmbedderLoadError> {
    let io = |source| EmbedderLoadError::Io { file, source };
    let opened = File::open(folder.join(file)).map_err(io)?;
    let mut bytes = Vec::new();
    opened.take(max.saturating_add(1)).read_to_end(&mut bytes).map_err(io)?;
    if bytes.len() as u64 > max {
        return Err(EmbedderLoadError::malformed(file, format!("it is longer than {max} bytes")));
    }
    Ok(bytes)
}

/// As [`read`]; nothing if there is no such file.
pub(super) fn read_if_there(folder: &Path, file: &'static str, max: u64) -> Result<Option<Vec<u8>>, EmbedderLoadError> {
    match read(folder, file, max) {
        Err(EmbedderLoadError::Io { source, .. }) if source.kind() == ErrorKind::NotFound => Ok(None),
        outcome => outcome.map(Some),
    }
}

/// The tensors of a model that nobody has asked for yet.
pub(super) struct Weights {
    tensors: BTreeMap<String, Stored>,
}

struct Stored {
    shape: Vec<usize>,
    values: Vec<f32>,
}

impl Weights {
    pub(super) fn read(folder: &Path) -> Result<Self, EmbedderLoadError> {
        let bytes = read(folder, WEIGHTS, EMBED_WEIGHTS_BYTES_MAX)?;
        let header_bytes = bytes.first_chunk().map_or(0, |len| u64::from_le_bytes(*len));
        if header_bytes > EMBED_HEADER_BYTES_MAX {
            return Err(malformed("its header is absurdly long"));
        }
        let file = SafeTensors::deserialize(&bytes)
            .map_err(|error| malformed(error.to_string().chars().take(QUOTED_CHARS_MAX).collect::<String>()))?;
        let mut tensors = BTreeMap::new();
        for (name, view) in file.iter().filter(|(name, _)| !is_unused(name)) {
            if view.dtype() != Dtype::F32 {
                return Err(EmbedderLoadError::Unsupported("a tensor is not of type F32".to_owned()));
            }
            let values: Vec<f32> = view.data().as_chunks().0.iter().map(|four| f32::from_le_bytes(*four)).collect();
            // One weight that is not a number would make every vector nonsense.
            if !values.iter().all(|value| value.is_finite()) {
                return Err(malformed("a weight is not finite"));
            }
            tensors.insert(name.to_owned(), Stored { shape: view.shape().to_vec(), values });
        }
        Ok(Self { tensors })
    }

    /// The tensor of that name, which must have that shape.
    pub(super) fn take(&mut self, name: &str, shape: &[usize]) -> Result<Vec<f32>, EmbedderLoadError> {
        let stored = self.tensors.remove(name).ok_or_else(|| malformed(format!("no tensor {name:?}")))?;
        if stored.shape != shape {
            return Err(malformed(format!("{name:?} is {:?}, not {shape:?}", stored.shape)));
        }
        Ok(stored.values)
    }

    /// Refuses what nobody asked for: a model with more in it computes something else.
    pub(super) fn refuse_rest(&self) -> Result<(), EmbedderLoadError> {
        match self.tensors.keys().next() {
            None => Ok(()),
            Some(name) => {
                let name: String = name.chars().take(QUOTED_CHARS_MAX).collect();
                Err(EmbedderLoadError::Unsupported(format!("a tensor {name:?}")))
            }
        }
    }
}

/// What BERT files hold that makes no difference to the mean over the tokens: the head of another task, and `0..512`.
fn is_unused(name: &str) -> bool {
    name.starts_with("pooler.") || name == "embeddings.position_ids"
}

fn malformed(problem: impl Into<String>) -> EmbedderLoadError {
    EmbedderLoadError::malformed(WEIGHTS, problem)
}
