//! Threads, descriptors, and the signal to stop.

use anyhow::{Context as _, Result, bail};
use tokio::runtime::{Builder, Runtime};
use tokio_util::sync::CancellationToken;

use crate::{limits, terminal};

/// A runtime with this many threads. One means that everything runs on the calling thread: fewer wake-ups, and for a
/// role that mostly moves bytes, less processor time per request.
pub(crate) fn build(threads: usize) -> Result<Runtime> {
    check(threads)?;
    raise_descriptors();
    let mut builder = match threads {
        1 => Builder::new_current_thread(),
        more => {
            let mut builder = Builder::new_multi_thread();
            builder.worker_threads(more);
            builder
        }
    };
    builder.enable_all().build().context("cannot start the async runtime")
}

/// Lets this process open as many sockets as it ever may: systems allow 1024 at first, for programs that use `select`,
/// and an open stream takes one at a client and one at a worker.
#[cfg(unix)]
fn raise_descriptors() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current == maximum {
        return;
    }
    // Some systems refuse what they say is allowed. Then it stays as it is, and listeners wait where sockets run out.
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
        tracing::debug!(%error, ?current, "cannot raise the limit of open files");
    }
}

#[cfg(not(unix))]
fn raise_descriptors() {}

/// Refuses a number of threads that is none, or a typing mistake.
pub(crate) fn check(threads: usize) -> Result<()> {
    if !(1..=limits::THREADS_MAX).contains(&threads) {
        bail!("`threads` is {threads}: it must lie between 1 and {}", limits::THREADS_MAX);
    }
    Ok(())
}

/// Completes at the first Ctrl-C or SIGTERM and cancels the token; a second one ends the process at once.
pub(crate) async fn stop_on_signal(stop: CancellationToken) {
    signal().await;
    terminal::note("stopping: running answers may finish; press Ctrl-C again to stop at once");
    stop.cancel();
    signal().await;
    std::process::exit(130);
}

#[cfg(unix)]
async fn signal() {
    use tokio::signal::unix::{SignalKind, signal};

    let Ok(mut terminate) = signal(SignalKind::terminate()) else {
        return interrupt().await;
    };
    tokio::select! {
        () = interrupt() => {}
        _ = terminate.recv() => {}
    }
}

#[cfg(not(unix))]
async fn signal() {
    interrupt().await;
}

/// Ctrl-C. If it cannot be listened to, the default action of the signal still ends the process.
async fn interrupt() {
    if tokio::signal::ctrl_c().await.is_err() {
        std::future::pending::<()>().await;
    }
}
