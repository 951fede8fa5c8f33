//! The disk: how long one sync takes, and a file that counts what the journal asks of it.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use redb::StorageBackend;
use redb::backends::FileBackend;

use super::{Failure, Sync, percentile};

const PAGE: [u8; 4096] = [0x5A; 4096];
const SYNCS: u64 = 300;

/// Writes one page and makes it durable, again and again.
pub(super) fn sync(folder: &Path) -> io::Result<Sync> {
    use std::os::unix::fs::FileExt as _;
    let path = folder.join("sync");
    let file = create(&path)?;
    file.set_len(4096 * 64)?;
    file.sync_all()?;
    let mut micros = Vec::new();
    for round in 0..SYNCS {
        let started = Instant::now();
        file.write_all_at(&PAGE, 4096 * (round % 64))?;
        file.sync_data()?;
        micros.push(started.elapsed().as_secs_f64() * 1e6);
    }
    std::fs::remove_file(path)?;
    micros.sort_by(f64::total_cmp);
    Ok(Sync { p50_us: percentile(&micros, 50), p99_us: percentile(&micros, 99) })
}

pub(super) fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(true).open(path)
}

/// A file, and what was asked of it.
#[derive(Debug)]
pub(super) struct Counted {
    file: FileBackend,
    counts: Arc<Counts>,
}

#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) syncs: AtomicU64,
    pub(super) sync_nanos: AtomicU64,
    pub(super) written_bytes: AtomicU64,
}

impl Counted {
    pub(super) fn new(file: File) -> Result<(Self, Arc<Counts>), Failure> {
        let counts = Arc::new(Counts::default());
        Ok((Self { file: FileBackend::new(file)?, counts: Arc::clone(&counts) }, counts))
    }
}

impl StorageBackend for Counted {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.file.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        let started = Instant::now();
        self.file.sync_data()?;
        let nanos = u64::try_from(started.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.counts.sync_nanos.fetch_add(nanos, Ordering::Relaxed);
        self.counts.syncs.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.counts.written_bytes.fetch_add(data.len() as u64, Ordering::Relaxed);
        self.file.write(offset, data)
    }

    fn close(&self) -> io::Result<()> {
        self.file.close()
    }
}
