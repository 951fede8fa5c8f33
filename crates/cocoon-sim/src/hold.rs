//! Many streamed answers open at once: each one's events are counted and timed, to see that none is lost or starved.
//!
//! 1. Streams are opened at an even rate, each on a connection of its own, in front of a paced engine that stamps its
//!    events (see [`FakeConfig::stamp`](crate::FakeConfig)). Opened evenly, they are in every phase of the pace.
//! 2. When each has had its first event, the caller is told: that is when the servers' memory is looked at.
//! 3. Every stream is read to its end. Some may be told not to read: they ask for a flood of large events, take the
//!    first, and leave when the others are through.
//!
//! It judges nothing: the report says how many events each stream had, how late they came and how far apart.

use std::cell::{Cell, RefCell};
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use serde::Serialize;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::task::LocalSet;

use crate::fake::FLOOD_WORD;
use crate::limits::UNREAD_SOCKET_BYTES;
use crate::load::{chat_request, quantile, read_chunk, read_head, stamps, unix_micros};

/// Most tokens that a stream asks for: above the events of any pace, so that the engine's count is what ends it.
const STREAM_TOKENS: u32 = 256;

/// The same of one that is not read: four kilobytes each, more than any buffer on the way holds.
const FLOOD_TOKENS: u32 = 4096;

/// What to hold open.
#[derive(Debug, Clone)]
pub struct HoldConfig {
    /// The server.
    pub addr: SocketAddr,
    /// `model` of the requests.
    pub model: String,
    /// Streams that are read.
    pub streams: usize,
    /// Further ones that are not.
    pub unread: usize,
    /// Streams opened a second.
    pub per_second: f64,
    /// Stamped events that each stream has to have.
    pub events: u64,
    /// Characters of the prompt.
    pub prompt_len: usize,
}

/// That all streams are open, told as soon as they are.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Opened {
    /// Streams that had an event and have not ended, at this moment.
    pub open: usize,
    /// From the first request, in seconds.
    pub seconds: f64,
}

/// What came of them.
#[derive(Debug, Clone, Default, Serialize)]
pub struct HoldReport {
    /// Streams that answered 200, ended properly and had every event.
    pub completed: usize,
    /// Those that did not.
    pub failed: usize,
    /// Of these, the ones that did begin; the rest were refused.
    pub cut_short: usize,
    /// Streams that were open at the same time, at most; those that are not read are not counted.
    pub open_max: usize,
    /// Streams that asked for a flood, had its beginning, and were still open when they were left unread for long enough.
    pub unread_held: usize,
    /// From the first request to the last answer, in seconds.
    pub seconds: f64,
    /// Stamped events seen.
    pub events: u64,
    /// The fewest of one stream that began.
    pub events_min: u64,
    /// Median delay of a stamped event, in microseconds.
    pub event_p50_us: f64,
    /// 99th percentile of the same.
    pub event_p99_us: f64,
    /// The largest.
    pub event_max_us: f64,
    /// Over the streams, the median of each one's longest time between two events, in milliseconds.
    pub gap_p50_ms: f64,
    /// The longest of any stream.
    pub gap_max_ms: f64,
}

/// Opens the streams, tells when all are open, and reads them to their ends.
///
/// # Errors
/// When no connection can be made at all; whatever fails after that is counted.
pub async fn hold(config: &HoldConfig, opened: impl FnOnce(Opened) + 'static) -> io::Result<HoldReport> {
    let crowd = Rc::new(Crowd::new(config, opened));
    let start = crowd.start;
    let tasks = LocalSet::new();
    let outcomes = tasks.run_until(open_all(config, &crowd)).await?;
    Ok(Outcome::report(outcomes, &crowd, start.elapsed()))
}

/// Who is told when all are open.
type OnOpen = Box<dyn FnOnce(Opened)>;

/// What all streams share; they run on one thread.
struct Crowd {
    start: Instant,
    open: Cell<usize>,
    open_max: Cell<usize>,
    begun: Cell<usize>,
    expected: usize,
    on_open: RefCell<Option<OnOpen>>,
    delays_us: RefCell<Vec<f64>>,
}

impl Crowd {
    fn new(config: &HoldConfig, opened: impl FnOnce(Opened) + 'static) -> Self {
        Self {
            start: Instant::now(),
            open: Cell::new(0),
            open_max: Cell::new(0),
            begun: Cell::new(0),
            expected: config.streams,
            on_open: RefCell::new(Some(Box::new(opened))),
            delays_us: RefCell::new(Vec::new()),
        }
    }

    /// A stream had its first event.
    fn entered(&self) {
        self.open.set(self.open.get() + 1);
        self.open_max.set(self.open_max.get().max(self.open.get()));
        self.counted();
    }

    /// One more has begun, or will not: when that is known of all, the caller is told.
    fn counted(&self) {
        self.begun.set(self.begun.get() + 1);
        if self.begun.get() == self.expected
            && let Some(tell) = self.on_open.borrow_mut().take()
        {
            tell(Opened { open: self.open.get(), seconds: self.start.elapsed().as_secs_f64() });
        }
    }

    fn left(&self) {
        self.open.set(self.open.get() - 1);
    }
}

async fn open_all(config: &HoldConfig, crowd: &Rc<Crowd>) -> io::Result<Vec<Outcome>> {
    let request =
        Rc::new(chat_request(config.addr, &config.model, &"x".repeat(config.prompt_len), STREAM_TOKENS, true));
    let flood = Rc::new(chat_request(config.addr, &config.model, FLOOD_WORD, FLOOD_TOKENS, true));
    // Without a server there is nothing to hold.
    drop(TcpStream::connect(config.addr).await?);
    let (release, released) = watch::channel(false);
    let mut floods = Vec::with_capacity(config.unread);
    let mut streams = Vec::with_capacity(config.streams);
    for number in 0..config.streams {
        // Evenly among the others.
        if floods.len() * config.streams < number * config.unread {
            floods.push(tokio::task::spawn_local(unread(config.addr, Rc::clone(&flood), released.clone())));
        }
        #[expect(clippy::cast_precision_loss, reason = "streams are far fewer than 2^53")]
        let due = Duration::from_secs_f64(number as f64 / config.per_second);
        tokio::time::sleep_until((crowd.start + due).into()).await;
        streams.push(tokio::task::spawn_local(read(config.addr, Rc::clone(&request), config.events, Rc::clone(crowd))));
    }
    let mut outcomes = Vec::with_capacity(streams.len() + floods.len());
    for stream in streams {
        outcomes.push(stream.await.unwrap_or_default());
    }
    let _ = release.send(true);
    for stream in floods {
        outcomes.push(stream.await.unwrap_or_default());
    }
    Ok(outcomes)
}

/// One stream's end.
#[derive(Debug, Default)]
struct Outcome {
    is_complete: bool,
    is_unread: bool,
    events: u64,
    gap_max: Duration,
}

impl Outcome {
    fn report(outcomes: Vec<Self>, crowd: &Crowd, elapsed: Duration) -> HoldReport {
        let (unread, read): (Vec<_>, Vec<_>) = outcomes.into_iter().partition(|outcome| outcome.is_unread);
        let mut delays = crowd.delays_us.borrow_mut();
        let mut gaps_ms: Vec<_> = read.iter().map(|outcome| outcome.gap_max.as_secs_f64() * 1e3).collect();
        let completed = read.iter().filter(|outcome| outcome.is_complete).count();
        let begun = read.iter().filter(|outcome| outcome.events > 0);
        HoldReport {
            completed,
            failed: read.len() - completed,
            cut_short: begun.clone().filter(|outcome| !outcome.is_complete).count(),
            open_max: crowd.open_max.get(),
            unread_held: unread.iter().filter(|outcome| outcome.is_complete).count(),
            seconds: elapsed.as_secs_f64(),
            events: read.iter().map(|outcome| outcome.events).sum(),
            events_min: begun.map(|outcome| outcome.events).min().unwrap_or(0),
            event_p50_us: quantile(&mut delays, 50),
            event_p99_us: quantile(&mut delays, 99),
            event_max_us: quantile(&mut delays, 100),
            gap_p50_ms: quantile(&mut gaps_ms, 50),
            gap_max_ms: quantile(&mut gaps_ms, 100),
        }
    }
}

/// Opens one stream and reads it to its end.
async fn read(addr: SocketAddr, request: Rc<Vec<u8>>, expected: u64, crowd: Rc<Crowd>) -> Outcome {
    let mut timing = Timing { events: 0, last: None, gap_max: Duration::ZERO, crowd: Rc::clone(&crowd) };
    let ended = read_events(addr, &request, &mut timing).await;
    match timing.events {
        0 => crowd.counted(),
        _ => crowd.left(),
    }
    let is_complete = ended.unwrap_or(false) && timing.events == expected;
    Outcome { is_complete, is_unread: false, events: timing.events, gap_max: timing.gap_max }
}

/// When the events of one stream came.
struct Timing {
    events: u64,
    last: Option<Instant>,
    gap_max: Duration,
    crowd: Rc<Crowd>,
}

impl Timing {
    fn event(&mut self, delay_us: f64) {
        let now = Instant::now();
        if let Some(last) = self.last.replace(now) {
            self.gap_max = self.gap_max.max(now - last);
        }
        self.crowd.delays_us.borrow_mut().push(delay_us);
        self.events += 1;
        if self.events == 1 {
            self.crowd.entered();
        }
    }
}

/// Whether the answer was a 200 that ended properly.
async fn read_events(addr: SocketAddr, request: &[u8], timing: &mut Timing) -> io::Result<bool> {
    let mut stream = TcpStream::connect(addr).await?;
    stream.write_all(request).await?;
    let mut buffer = BytesMut::new();
    let head = read_head(&mut stream, &mut buffer).await?;
    if !head.starts_with(b"HTTP/1.1 200") {
        return Ok(false);
    }
    while let Some(chunk) = read_chunk(&mut stream, &mut buffer).await? {
        let arrived = unix_micros();
        for stamp in stamps(&chunk) {
            timing.event(arrived - stamp);
        }
    }
    Ok(true)
}

/// Asks for a flood, takes its beginning, and no more.
async fn unread(addr: SocketAddr, request: Rc<Vec<u8>>, mut released: watch::Receiver<bool>) -> Outcome {
    let begin = async {
        // Systems would take megabytes on its behalf, and bringing them here is work that has nothing to do with waiting.
        let socket = TcpSocket::new_v4()?;
        socket.set_recv_buffer_size(UNREAD_SOCKET_BYTES)?;
        let mut stream = socket.connect(addr).await?;
        stream.write_all(&request).await?;
        let head = read_head(&mut stream, &mut BytesMut::new()).await?;
        Ok::<_, io::Error>((stream, head.starts_with(b"HTTP/1.1 200")))
    };
    let begun = begin.await;
    let _ = released.wait_for(|is_over| *is_over).await;
    Outcome { is_complete: begun.is_ok_and(|(_, is_good)| is_good), is_unread: true, ..Outcome::default() }
}
