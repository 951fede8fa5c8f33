//! Proof of work, both ways (wire.md, section 1, layer 1).
//!
//! A listener asks and checks. A dialer solves on a blocking thread, at most two at a time in the process, and stops
//! when nobody waits any more: the event loop and live connections never feel it. Of those two, one at most works on
//! more than an honest listener asks for, so that hostile ones do not keep us from the others.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use cocoon_wire::pow::{Answer, Challenge, solve_range};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::Semaphore;

use crate::limits::{
    POW_DIFFICULTY_BITS_UNDER_LOAD, WORK_BATCH, WORK_HARD_SOLVERS_MAX, WORK_INLINE_BITS_MAX, WORK_SOLVERS_MAX,
};

static SOLVERS: Semaphore = Semaphore::const_new(WORK_SOLVERS_MAX);
static HARD_SOLVERS: Semaphore = Semaphore::const_new(WORK_HARD_SOLVERS_MAX);

/// Listener: sends a challenge and waits for the answer; `None` when it is none. Whether it is right, the caller knows.
pub(crate) async fn demand<S>(stream: &mut S, challenge: &Challenge) -> io::Result<Option<Answer>>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    stream.write_all(&challenge.encode()).await?;
    let mut answer = [0; Answer::LEN];
    stream.read_exact(&mut answer).await?;
    Ok(Answer::decode(&answer).ok())
}

/// Dialer: reads the 24 bytes of a challenge, which may be anything.
pub(crate) async fn receive<S: AsyncRead + Unpin>(stream: &mut S) -> io::Result<[u8; Challenge::LEN]> {
    let mut challenge = [0; Challenge::LEN];
    stream.read_exact(&mut challenge).await?;
    Ok(challenge)
}

/// Dialer: finds an answer. Dropping the future stops the work. `None` when the runtime shuts down.
pub(crate) async fn solve(challenge: Challenge) -> Option<Answer> {
    let stop = Arc::new(AtomicBool::new(false));
    if challenge.difficulty_bits <= WORK_INLINE_BITS_MAX {
        return search(&challenge, &stop);
    }
    let is_hard = challenge.difficulty_bits > POW_DIFFICULTY_BITS_UNDER_LOAD;
    let hard_turn = if is_hard { Some(HARD_SOLVERS.acquire().await.ok()?) } else { None };
    let turn = SOLVERS.acquire().await.ok()?;
    let _stop_on_drop = StopOnDrop(Arc::clone(&stop));
    let work = move || {
        // The turn ends with the work, not with the caller's patience.
        let (_hard_turn, _turn) = (hard_turn, turn);
        search(&challenge, &stop)
    };
    tokio::task::spawn_blocking(work).await.ok().flatten()
}

fn search(challenge: &Challenge, stop: &AtomicBool) -> Option<Answer> {
    let mut from = 0_i64;
    while !stop.load(Ordering::Relaxed) {
        if let Some(nonce) = solve_range(challenge, from, WORK_BATCH) {
            return Some(Answer { nonce });
        }
        from = from.wrapping_add_unsigned(WORK_BATCH);
    }
    None
}

struct StopOnDrop(Arc<AtomicBool>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::future::{Future, poll_fn};
    use std::pin::pin;
    use std::task::Poll;
    use std::time::{Duration, Instant};

    use cocoon_wire::limits::POW_DIFFICULTY_BITS_MAX;
    use cocoon_wire::pow::verify;
    use tokio::task::JoinSet;

    use super::*;
    use crate::limits::WORK_QUICK_BITS_MAX;

    #[tokio::test]
    async fn solutions_are_right_in_place_and_on_a_thread() {
        for difficulty_bits in [0, WORK_INLINE_BITS_MAX, WORK_INLINE_BITS_MAX + 1, 14] {
            let challenge = Challenge { difficulty_bits, salt: [3; 16] };
            assert!(verify(&challenge, &solve(challenge).await.unwrap()));
        }
    }

    /// The hardest challenges there are, from as many hostile listeners as one likes.
    #[tokio::test]
    async fn listeners_that_ask_for_the_most_work_do_not_keep_others_from_being_solved() {
        let mut hostile = JoinSet::new();
        for salt in 0..4 {
            hostile.spawn(solve(Challenge { difficulty_bits: POW_DIFFICULTY_BITS_MAX, salt: [salt; 16] }));
        }
        tokio::task::yield_now().await;
        let honest = Challenge { difficulty_bits: WORK_QUICK_BITS_MAX, salt: [9; 16] };
        let solved = tokio::time::timeout(Duration::from_secs(5), solve(honest)).await;
        assert!(solved.is_ok_and(|answer| answer.is_some()), "it waits for the hostile ones");
    }

    #[test]
    fn dropped_search_stops() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let hard = Challenge { difficulty_bits: 28, salt: [1; 16] };
        runtime.block_on(async {
            let mut search = pin!(solve(hard));
            let begun = poll_fn(|cx| Poll::Ready(search.as_mut().poll(cx).is_pending())).await;
            assert!(begun);
        });
        let dropped = Instant::now();
        // Waits for the blocking thread, which would work for half a minute.
        drop(runtime);
        assert!(dropped.elapsed() < Duration::from_secs(5));
    }
}
