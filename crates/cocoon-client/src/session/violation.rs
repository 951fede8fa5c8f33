//! How a proxy can break the protocol towards its client. Each of these closes the connection.

use cocoon_wire::DecodeError;

/// The rule that was broken; the proxy is to blame.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Violation {
    /// Not a message of the negotiated version.
    #[error("the proxy sent a malformed message: {0}")]
    Malformed(#[from] DecodeError),
    /// A message that this client does not know.
    #[error("the proxy sent a message of an unknown kind")]
    UnknownMessage,
    /// A request that was never made, or whose answer has ended.
    #[error("the proxy answered a request that is not in flight")]
    UnknownRequest,
    /// A part of an answer that has not begun.
    #[error("the proxy sent a part before its answer")]
    PartBeforeAnswer,
    /// Two heads for one answer.
    #[error("the proxy began an answer twice")]
    SecondHead,
    /// More bytes than were granted.
    #[error("the proxy sent more of an answer than it had credit for")]
    CreditOverrun,
    /// Proxies ask nothing of clients.
    #[error("the proxy sent a query")]
    Query,
    /// An answer of another kind than the question.
    #[error("the proxy answered {question} with something else")]
    WrongAnswer {
        /// The question's constructor.
        question: &'static str,
    },
    /// A version that was not offered.
    #[error("the proxy chose the protocol version {0}, which was not offered")]
    VersionNotOffered(i32),
}
