//! A process of the network: started, killed without warning, started again with the same words.

use std::fmt;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use super::Failure;

/// Which process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Name {
    Devnet,
    /// By number, from zero.
    Proxy(usize),
    /// By number, from zero.
    Worker(usize),
    /// By number, from zero.
    Client(usize),
}

/// How many clients there are: the first asks for receipts, the second takes workers of any kind.
pub(super) const CLIENTS: usize = 2;

/// How many workers there are, each with an owner and a price of its own.
pub(super) const WORKERS: usize = 3;

/// How many proxies there may be, each with an owner of its own.
pub(super) const PROXIES: usize = 2;

impl Name {
    /// All that can be killed.
    pub(super) fn all(proxies: usize) -> Vec<Self> {
        let proxies = (0..proxies).map(Self::Proxy);
        let (workers, clients) = ((0..WORKERS).map(Self::Worker), (0..CLIENTS).map(Self::Client));
        [Self::Devnet].into_iter().chain(proxies).chain(workers).chain(clients).collect()
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Devnet => f.write_str("devnet"),
            Self::Proxy(number) => write!(f, "proxy-{number}"),
            Self::Worker(number) => write!(f, "worker-{number}"),
            Self::Client(number) => write!(f, "client-{number}"),
        }
    }
}

/// One process and how to start it.
#[derive(Debug)]
pub(super) struct Node {
    name: Name,
    binary: PathBuf,
    arguments: Vec<String>,
    log: File,
    child: Option<Child>,
}

impl Node {
    /// A process that is not started yet; what it says goes to a file in `folder`.
    pub(super) fn new(name: Name, binary: &Path, arguments: &[&str], folder: &Path) -> Result<Self, Failure> {
        let log = File::options().create(true).append(true).open(folder.join(format!("{name}.log")))?;
        let arguments = arguments.iter().map(|&word| word.to_owned()).collect();
        Ok(Self { name, binary: binary.to_owned(), arguments, log, child: None })
    }

    /// Starts it.
    pub(super) fn start(&mut self) -> Result<(), Failure> {
        let mut command = Command::new(&self.binary);
        command.args(&self.arguments).env("COCOON_LOG", "info,cocoon_ton=warn").env_remove("COCOON_DATA_DIR");
        command.stdin(Stdio::null()).stdout(self.log.try_clone()?).stderr(self.log.try_clone()?);
        self.child = Some(command.spawn().map_err(|error| format!("{} does not start: {error}", self.name))?);
        Ok(())
    }

    /// Its number, while it runs.
    pub(super) fn id(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// Kills it without warning; an error if it had ended by itself.
    pub(super) fn kill(&mut self) -> Result<(), Failure> {
        let Some(mut child) = self.child.take() else { return Ok(()) };
        let ended = child.try_wait()?;
        child.kill()?;
        child.wait()?;
        match ended {
            Some(status) => Err(format!("{} had ended by itself: {status}", self.name).into()),
            None => Ok(()),
        }
    }

    /// Lets it stand still, or go on: its sockets stay open, and nobody reads them.
    pub(super) fn set_still(&self, is_still: bool) -> Result<(), Failure> {
        let pid = self.id().ok_or_else(|| format!("{} does not run", self.name))?.to_string();
        let signal = if is_still { "-STOP" } else { "-CONT" };
        let status = Command::new("kill").args([signal, &pid]).status()?;
        if status.success() { Ok(()) } else { Err(format!("kill {signal} {}: {status}", self.name).into()) }
    }

    /// An error if it ended though nobody asked it to.
    pub(super) fn check(&mut self) -> Result<(), Failure> {
        match self.child.as_mut().map(Child::try_wait).transpose()?.flatten() {
            Some(status) => Err(format!("{} ended by itself: {status}", self.name).into()),
            None => Ok(()),
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
