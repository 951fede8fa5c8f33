//! Bodies: reading a request's within its bounds, and the shapes of a response's.

use std::{
    collections::VecDeque,
    convert::Infallible,
    fmt,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use cocoon_wire::openai::BodyKind;
use http::{HeaderMap, header};
use http_body::{Body, Frame, SizeHint};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::stream::AnswerBody;
use crate::{config::LimitsConfig, error::RequestError, limits};

/// Reads a whole request body of the form that an endpoint takes: forms may be larger, for the files in them.
pub(super) async fn read_kind<B>(
    kind: BodyKind,
    body: B,
    headers: &HeaderMap,
    limits: &LimitsConfig,
    room: &Arc<Semaphore>,
) -> Result<(Bytes, OwnedSemaphorePermit), RequestError>
where
    B: Body<Data = Bytes>,
{
    let limit = match kind {
        BodyKind::None | BodyKind::Json => limits.body_bytes,
        BodyKind::Multipart => limits.upload_bytes,
    };
    read_up_to(limit, body, headers, limits, room).await
}

/// Reads a whole body of JSON.
pub(super) async fn read<B>(
    body: B,
    headers: &HeaderMap,
    limits: &LimitsConfig,
    room: &Arc<Semaphore>,
) -> Result<(Bytes, OwnedSemaphorePermit), RequestError>
where
    B: Body<Data = Bytes>,
{
    read_up_to(limits.body_bytes, body, headers, limits, room).await
}

/// Reads a whole request body; one that arrives in one piece is not copied. The permit is its share of the room for
/// all bodies, taken byte by byte as they come.
async fn read_up_to<B>(
    limit: usize,
    body: B,
    headers: &HeaderMap,
    limits: &LimitsConfig,
    room: &Arc<Semaphore>,
) -> Result<(Bytes, OwnedSemaphorePermit), RequestError>
where
    B: Body<Data = Bytes>,
{
    let announced = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
    if announced.is_some_and(|announced| announced > limit) {
        return Err(RequestError::BodyTooLarge { limit });
    }
    let collected = collect(body, announced.unwrap_or(0), limit, room);
    tokio::time::timeout(Duration::from_millis(limits.body_timeout_ms), collected)
        .await
        .map_err(|_| RequestError::BodyLate)?
}

async fn collect<B>(
    body: B,
    announced: usize,
    limit: usize,
    room: &Arc<Semaphore>,
) -> Result<(Bytes, OwnedSemaphorePermit), RequestError>
where
    B: Body<Data = Bytes>,
{
    let mut share = take(room, 0)?;
    let mut body = pin!(body);
    let mut first = Bytes::new();
    let mut rest = BytesMut::new();
    while let Some(frame) = std::future::poll_fn(|cx| body.as_mut().poll_frame(cx)).await {
        let Ok(data) = frame.map_err(|_| RequestError::BodyCut)?.into_data() else {
            continue; // Trailers: nothing of an app's headers travels on.
        };
        if first.len().saturating_add(rest.len()).saturating_add(data.len()) > limit {
            return Err(RequestError::BodyTooLarge { limit });
        }
        share.merge(take(room, data.len())?);
        if first.is_empty() && rest.is_empty() {
            first = data;
            continue;
        }
        if rest.is_empty() {
            rest.reserve(announced.min(limits::BODY_PREALLOCATION).max(first.len().saturating_add(data.len())));
            rest.extend_from_slice(&std::mem::take(&mut first));
        }
        rest.extend_from_slice(&data);
    }
    Ok((if rest.is_empty() { first } else { rest.freeze() }, share))
}

fn take(room: &Arc<Semaphore>, bytes: usize) -> Result<OwnedSemaphorePermit, RequestError> {
    let bytes = u32::try_from(bytes).map_err(|_| RequestError::Busy)?;
    Arc::clone(room).try_acquire_many_owned(bytes).map_err(|_| RequestError::Busy)
}

/// The body of a response.
#[derive(Debug)]
pub(crate) enum ResponseBody {
    /// All of it, in the pieces it came in.
    Whole(VecDeque<Bytes>),
    /// An answer that is still coming.
    Answer(Box<AnswerBody>),
}

/// Ends a response that cannot say in words that it is incomplete: the connection is cut, which an
/// app notices, since the length or the last chunk is missing.
#[derive(Debug)]
pub(crate) struct Incomplete;

impl fmt::Display for Incomplete {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the answer ended before it was complete")
    }
}

impl std::error::Error for Incomplete {}

impl From<Infallible> for Incomplete {
    fn from(never: Infallible) -> Self {
        match never {}
    }
}

impl ResponseBody {
    pub(crate) const fn empty() -> Self {
        Self::Whole(VecDeque::new())
    }

    pub(crate) fn full(bytes: Bytes) -> Self {
        Self::Whole(VecDeque::from([bytes]))
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = Incomplete;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Incomplete>>> {
        match self.get_mut() {
            Self::Whole(pieces) => Poll::Ready(pieces.pop_front().map(|piece| Ok(Frame::data(piece)))),
            Self::Answer(answer) => answer.poll_data(cx).map(|data| data.map(|data| data.map(Frame::data))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(pieces) => pieces.is_empty(),
            Self::Answer(answer) => answer.is_over(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(pieces) => SizeHint::with_exact(pieces.iter().map(|piece| piece.len() as u64).sum()),
            Self::Answer(_) => SizeHint::default(),
        }
    }
}
