//! SHA-256 of files.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::path::Path;

use anyhow::{Context as _, Result};
use sha2::{Digest as _, Sha256};

use crate::limits;

/// SHA-256 of a file as lower-case hexadecimal.
pub(crate) fn sha256(path: &Path) -> Result<String> {
    sha256_bytes(path).map(hex::encode)
}

/// SHA-256 of a file.
pub(crate) fn sha256_bytes(path: &Path) -> Result<[u8; 32]> {
    let context = || format!("cannot read {}", path.display());
    let mut file = File::open(path).with_context(context)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; limits::COPY_BUFFER_BYTES];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => hash.write_all(buffer.get(..read).unwrap_or_default())?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error).with_context(context),
        }
    }
    Ok(hash.finalize().into())
}
