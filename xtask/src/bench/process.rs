//! A server under measurement: started, asked for its CPU time, ended by its own process id.

use std::io::{BufRead as _, BufReader};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

/// How long a server may take to start listening.
const READY: Duration = Duration::from_secs(60);

/// A running server; it is ended when dropped.
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
    name: &'static str,
    /// The processes that count, by their names, where they are not the program itself.
    measured: Vec<(&'static str, u32)>,
}

impl Server {
    /// Starts a program; its log goes to `log`.
    pub(crate) fn start(name: &'static str, command: &mut Command, log: &Path) -> Result<Self> {
        let log = std::fs::File::create(log)?;
        command.stdin(Stdio::null()).stderr(log.try_clone()?);
        match name {
            ENGINE => {}
            // It runs until its standard input is closed, and then ends its own processes.
            PAID | WORKERS => drop(command.stdin(Stdio::piped()).stdout(Stdio::piped())),
            _ => drop(command.stdout(log)),
        }
        let child = command.spawn().with_context(|| format!("cannot start {name}"))?;
        Ok(Self { child, name, measured: Vec::new() })
    }

    /// The first line that the program writes to standard output.
    pub(crate) fn first_line(&mut self) -> Result<String> {
        let out = self.child.stdout.take().context("standard output is not piped")?;
        let mut line = String::new();
        BufReader::new(out).read_line(&mut line)?;
        Ok(line.trim().to_owned())
    }

    /// Counts the CPU time and memory of these processes instead of its own.
    pub(crate) fn measures(&mut self, processes: Vec<(&'static str, u32)>) {
        self.measured = processes;
    }

    /// Waits until something listens at `addr`.
    pub(crate) fn wait_listening(&mut self, addr: SocketAddr) -> Result<()> {
        let name = self.name;
        self.wait_until(|| TcpStream::connect(addr).is_ok(), &format!("{name} to listen at {addr}"))
    }

    /// Waits until a condition holds, unless the program ends first.
    pub(crate) fn wait_until(&mut self, mut condition: impl FnMut() -> bool, what: &str) -> Result<()> {
        let deadline = Instant::now() + READY;
        while !condition() {
            if let Some(status) = self.child.try_wait()? {
                bail!("{} ended ({status}) while waiting for {what}", self.name);
            }
            if Instant::now() > deadline {
                bail!("waited {} s for {what}", READY.as_secs());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// User and system time of the process and all its threads so far, in seconds.
    ///
    /// From `/proc/PID/schedstat`-like precision where the kernel gives it: the sum over threads of
    /// nanoseconds on a CPU; `/proc/PID/stat` counts whole ticks of 10 ms.
    pub(crate) fn cpu_seconds(&self) -> Result<f64> {
        self.processes().into_iter().map(|(_, process)| self.cpu_seconds_of(process)).sum()
    }

    /// What each of its processes holds in memory, in bytes.
    pub(crate) fn resident_bytes(&self) -> Result<Vec<(&'static str, u64)>> {
        let resident = |(name, process): (&'static str, u32)| {
            let status = std::fs::read_to_string(format!("/proc/{process}/status"))?;
            let line =
                status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("a process without memory")?;
            let kib: u64 = line.trim().trim_end_matches("kB").trim().parse()?;
            Ok((name, kib << 10))
        };
        self.processes().into_iter().map(resident).collect()
    }

    fn processes(&self) -> Vec<(&'static str, u32)> {
        if self.measured.is_empty() { vec![(self.name, self.child.id())] } else { self.measured.clone() }
    }

    fn cpu_seconds_of(&self, process: u32) -> Result<f64> {
        let mut nanoseconds = 0.0;
        let tasks =
            std::fs::read_dir(format!("/proc/{process}/task")).with_context(|| format!("{} is gone", self.name))?;
        for task in tasks {
            // A thread may end between the listing and the reading.
            let Ok(text) = std::fs::read_to_string(task?.path().join("schedstat")) else { continue };
            let on_cpu: f64 = text.split(' ').next().unwrap_or_default().parse().context("cannot read schedstat")?;
            nanoseconds += on_cpu;
        }
        Ok(nanoseconds / 1e9)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.child.stdin.take().is_none() {
            let _ = self.child.kill();
        }
        let _ = self.child.wait();
    }
}

/// A server whose first line is read.
pub(crate) const ENGINE: &str = "engine";
/// Another, which has processes of its own.
pub(crate) const PAID: &str = "paid network";
/// Another, which keeps many connections.
pub(crate) const WORKERS: &str = "workers";

/// A port that was free a moment ago.
pub(crate) fn free_addr() -> Result<SocketAddr> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}
