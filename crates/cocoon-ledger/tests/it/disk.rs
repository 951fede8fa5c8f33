//! A disk in memory that loses power at a chosen step.
//!
//! Every write, resize and sync is a step. What was written since the last sync may survive a crash in any part: each
//! write wholly, not at all, or as any run of its bytes.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard};

use redb::StorageBackend;

use crate::Random;

/// A handle; clones share the disk.
#[derive(Clone, Debug, Default)]
pub(crate) struct Disk(Arc<Mutex<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    /// What a read sees.
    image: Vec<u8>,
    /// What certainly survives.
    synced: Vec<u8>,
    unsynced: Vec<Change>,
    steps: u64,
    /// The step at which the power goes.
    dies_at: Option<u64>,
    is_dead: bool,
}

#[derive(Clone, Debug)]
enum Change {
    Write { offset: usize, bytes: Vec<u8> },
    Resize(usize),
}

/// What survives of what was not synced.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Survives {
    Everything,
    Nothing,
    /// Any subset, torn anywhere.
    Some(u64),
}

impl Disk {
    pub(crate) fn with(image: Vec<u8>) -> Self {
        Self(Arc::new(Mutex::new(Inner { synced: image.clone(), image, ..Inner::default() })))
    }

    pub(crate) fn dies_at(self, step: u64) -> Self {
        self.inner().dies_at = Some(step);
        self
    }

    pub(crate) fn steps(&self) -> u64 {
        self.inner().steps
    }

    pub(crate) fn is_dead(&self) -> bool {
        self.inner().is_dead
    }

    /// What the disk holds now, as a copy that its owner makes while it runs.
    pub(crate) fn copy(&self) -> Vec<u8> {
        self.inner().image.clone()
    }

    /// The disk when the power is back.
    pub(crate) fn after_crash(&self, survives: Survives) -> Self {
        let inner = self.inner();
        let mut image = inner.synced.clone();
        let mut random = Random(if let Survives::Some(seed) = survives { seed } else { 0 });
        for change in &inner.unsynced {
            match survives {
                Survives::Everything => change.apply(&mut image),
                Survives::Nothing => {}
                Survives::Some(_) => change.apply_torn(&mut image, &mut random),
            }
        }
        Self::with(image)
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().expect("no test panics while it holds the disk")
    }
}

impl Inner {
    /// Counts a step. When the power goes in it, `torn` is what was under way.
    fn step(&mut self, torn: Option<Change>) -> io::Result<()> {
        self.alive()?;
        self.steps += 1;
        if self.dies_at == Some(self.steps) {
            self.is_dead = true;
            self.unsynced.extend(torn);
            return self.alive();
        }
        Ok(())
    }

    fn alive(&self) -> io::Result<()> {
        if self.is_dead { Err(io::Error::other("no power")) } else { Ok(()) }
    }

    fn change(&mut self, change: Change) -> io::Result<()> {
        self.step(Some(change.clone()))?;
        change.apply(&mut self.image);
        self.unsynced.push(change);
        Ok(())
    }
}

impl Change {
    fn apply(&self, image: &mut Vec<u8>) {
        match self {
            Self::Resize(length) => image.resize(*length, 0),
            Self::Write { offset, bytes } => write(image, *offset, bytes),
        }
    }

    fn apply_torn(&self, image: &mut Vec<u8>, random: &mut Random) {
        match (random.below(4), self) {
            (0, _) => {}
            (1, _) | (_, Self::Resize(_)) => self.apply(image),
            (_, Self::Write { offset, bytes }) => {
                let (one, other) = (random.index(bytes.len() + 1), random.index(bytes.len() + 1));
                write(image, offset + one.min(other), &bytes[one.min(other)..one.max(other)]);
            }
        }
    }
}

fn write(image: &mut Vec<u8>, offset: usize, bytes: &[u8]) {
    // A resize before it may have been lost.
    image.resize(image.len().max(offset + bytes.len()), 0);
    image[offset..offset + bytes.len()].copy_from_slice(bytes);
}

fn place(offset: u64) -> usize {
    usize::try_from(offset).expect("a small file")
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        let inner = self.inner();
        inner.alive()?;
        Ok(inner.image.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let inner = self.inner();
        inner.alive()?;
        let from = inner.image.get(place(offset)..).and_then(|rest| rest.get(..out.len()));
        out.copy_from_slice(from.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.inner().change(Change::Resize(place(len)))
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut inner = self.inner();
        inner.step(None)?;
        let Inner { synced, unsynced, .. } = &mut *inner;
        unsynced.drain(..).for_each(|change| change.apply(synced));
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.inner().change(Change::Write { offset: place(offset), bytes: data.to_vec() })
    }
}
