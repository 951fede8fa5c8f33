//! Messages between a worker and a proxy.

use bytes::Bytes;
use cocoon_units::{AdjustedTokens, Coefficient};

use super::answer::{Answer, worker_leg};
use super::convert::{
    address, bounded, bounded_bytes, coefficient, coefficient_out, count, count_out, payment_status, proxy_params,
    proxy_params_out, required, signed_payment, signed_payment_out, timeout_from_ms, timeout_from_seconds,
    timeout_to_ms, timeout_to_seconds, tokens, tokens_out, versions,
};
use super::{PaymentStatus, ProxyParams, ReceiptAsk, RequestPayment, SignedPayment};
use crate::bare::Bare;
use crate::limits::{ACCOUNT_TAG_MAX, MODEL_NAME_MAX, OPAQUE_MAX};
use crate::reader::Reader;
use crate::version::VersionRange;
use crate::{DecodeError, Encoded, RequestId, Sealed, Version, tl};

/// One-way messages, proxy to worker.
#[derive(Clone, Debug, PartialEq)]
pub enum ProxyToWorker {
    /// Run a request.
    Run(WorkerRun),
    /// Stop a request; what was produced is paid. Extended only.
    Cancel {
        /// Which request.
        request_id: RequestId,
    },
    /// Room for that many more bytes of answer bodies. Extended only.
    Credit {
        /// Which request.
        request_id: RequestId,
        /// How many more bytes.
        bytes: u32,
    },
    /// What one request came to.
    Payment {
        /// The amounts.
        payment: RequestPayment,
        /// The client's wallet in the original; our proxies send it empty.
        request_client_owner: String,
    },
}

/// One request on its way to a worker.
#[derive(Clone, Debug, PartialEq)]
pub struct WorkerRun {
    /// Fresh for this hop.
    pub request_id: RequestId,
    /// A boxed `http.request`.
    pub query: Sealed,
    /// The latest signed payment.
    pub signed_payment: SignedPayment,
    /// The price that was agreed.
    pub coefficient: Coefficient,
    /// Time left.
    pub timeout_ms: u64,
    /// Whether the worker may add a debug text to the final information.
    pub enable_debug: bool,
    /// Most tokens that may be produced over all choices; the worker enforces it. Extended only.
    pub token_limit: Option<u32>,
    /// Bytes of answer bodies that may be sent at once; none means unlimited. Extended only.
    pub answer_credit: Option<u32>,
    /// Asks for a receipt. Extended only.
    pub receipt: Option<ReceiptAsk>,
    /// The proxy's seal on whose request this is, to be kept with the receipt. Extended only.
    pub account_tag: Option<Bytes>,
}

/// One-way messages, worker to proxy.
#[derive(Clone, Debug, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "nearly every message is a part of an answer")]
pub enum WorkerMessage {
    /// A part of an answer.
    Answer(Answer),
    /// The worker takes no more requests, or takes them again.
    EnabledDisabled {
        /// Whether it takes none.
        disabled: bool,
    },
    /// The worker's price changed.
    NewCoefficient(Coefficient),
    /// How busy the worker is. Extended only.
    Load(LoadReport),
}

/// How busy a worker is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LoadReport {
    /// Requests in the engine.
    pub active: u32,
    /// Requests that wait for a slot.
    pub queued: u32,
    /// Requests the engine can run at once.
    pub slots: u32,
    /// Completion tokens a second over the last while, all requests together.
    pub tokens_per_s: u32,
}

/// Queries, worker to proxy.
#[derive(Clone, Debug, PartialEq)]
pub enum WorkerQuery {
    /// The first: who the worker is and what it serves.
    Connect(WorkerParams),
    /// What the worker knows of its balance.
    CompareBalance {
        /// Tokens it has seen committed on chain.
        tokens_committed_to_blockchain: AdjustedTokens,
        /// Tokens it was told are in the proxy's database.
        tokens_committed_to_db: AdjustedTokens,
        /// The most it was ever told.
        max_tokens: AdjustedTokens,
    },
    /// Hands over what the proxy lost.
    ExtendedCompareBalance {
        /// Tokens it was told are in the proxy's database.
        tokens_committed_to_db: AdjustedTokens,
        /// The handover; opaque at this layer.
        other: Bytes,
    },
    /// The handshake is over.
    HandshakeComplete {
        /// Whether the worker starts disabled.
        is_disabled: bool,
    },
    /// Ask what has been paid.
    UpdatePaymentStatus,
}

/// What a worker says about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkerParams {
    /// The wallet that is paid.
    pub owner_address: String,
    /// `name` or `name@commit:verity_hash`.
    pub model: String,
    /// Its price.
    pub coefficient: Coefficient,
    /// Test mode; must match on both sides.
    pub is_test: bool,
    /// How many proxies it serves.
    pub proxy_count: u32,
    /// Requests it can run at once, over all proxies.
    pub max_active_requests: u32,
    /// The versions it speaks; none means 0.
    pub versions: Option<VersionRange>,
}

/// The proxy's side of a balance comparison.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CompareBalance {
    /// The latest signed payment.
    pub signed_payment: SignedPayment,
    /// Tokens in the proxy's database.
    pub tokens_committed_to_db: AdjustedTokens,
    /// The most the proxy ever told.
    pub max_tokens: AdjustedTokens,
    /// 0: serve; 1: hand over what the proxy lost.
    pub error_code: i32,
}

/// Answers to [`WorkerQuery`]; the asker checks that the kind fits the question.
#[derive(Clone, Debug, PartialEq)]
pub enum WorkerAnswer {
    /// To `Connect`.
    Connected {
        /// The proxy's parameters, with the chosen version.
        params: ProxyParams,
        /// The worker's contract with this proxy.
        worker_sc_address: String,
    },
    /// To `CompareBalance`.
    CompareBalance(CompareBalance),
    /// To `ExtendedCompareBalance`.
    ExtendedCompareBalance {
        /// 0: accepted.
        error_code: i32,
    },
    /// To `HandshakeComplete`.
    HandshakeCompleted,
    /// To `UpdatePaymentStatus`.
    PaymentStatus(PaymentStatus),
}

impl ProxyToWorker {
    /// Reads a message that a proxy sent.
    ///
    /// # Errors
    ///
    /// When the bytes are not exactly one such message of that version; the proxy is to blame.
    pub fn decode(version: Version, data: Bytes) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(data);
        match (version, reader.u32()?) {
            (Version::V0, tl::ProxyRunQuery::ID) => Ok(Self::Run(WorkerRun::from_v0(reader)?)),
            (Version::V1 | Version::V2, tl::ProxyRunQueryEx::ID) => Ok(Self::Run(WorkerRun::from_ex(reader)?)),
            (Version::Extended, tl::ProxyRunQueryX::ID) => Ok(Self::Run(WorkerRun::from_extended(reader)?)),
            (Version::Extended, tl::ProxyCancelQuery::ID) => {
                let cancel = tl::ProxyCancelQuery::read_last(reader)?;
                Ok(Self::Cancel { request_id: cancel.request_id.into() })
            }
            (Version::Extended, tl::ProxyAnswerCredit::ID) => {
                let credit = tl::ProxyAnswerCredit::read_last(reader)?;
                let bytes = count(credit.bytes, "bytes")?;
                Ok(Self::Credit { request_id: credit.request_id.into(), bytes })
            }
            (_, tl::ProxyWorkerRequestPayment::ID) => read_payment(reader),
            (_, other) => Err(DecodeError::UnknownConstructor(other)),
        }
    }

    /// Writes the message; credit and cancellation exist only in [`Version::Extended`], and are
    /// empty (to be skipped) elsewhere.
    #[must_use]
    pub fn encode(&self, version: Version) -> Encoded {
        match (self, version) {
            (Self::Run(run), Version::V0) => run.to_v0().encode(),
            (Self::Run(run), Version::V1 | Version::V2) => run.to_ex().encode(),
            (Self::Run(run), Version::Extended) => run.to_extended().encode(),
            (Self::Cancel { request_id }, Version::Extended) => {
                tl::ProxyCancelQuery { request_id: *request_id.as_bytes() }.encode()
            }
            (Self::Credit { request_id, bytes }, Version::Extended) => {
                tl::ProxyAnswerCredit { request_id: *request_id.as_bytes(), bytes: count_out(*bytes) }.encode()
            }
            (Self::Cancel { .. } | Self::Credit { .. }, Version::V0 | Version::V1 | Version::V2) => Encoded::default(),
            (Self::Payment { payment, request_client_owner }, _) => tl::ProxyWorkerRequestPayment {
                request_id: *payment.request_id.as_bytes(),
                signed_payment: signed_payment_out(&payment.signed_payment),
                db_tokens: tokens_out(payment.db_tokens),
                max_tokens: tokens_out(payment.max_tokens),
                request_tokens: tokens_out(payment.request_tokens),
                request_client_owner: request_client_owner.clone(),
            }
            .encode(),
        }
    }
}

impl WorkerMessage {
    /// Reads a message that a worker sent.
    ///
    /// # Errors
    ///
    /// When the bytes are not exactly one such message of that version; the worker is to blame.
    pub fn decode(version: Version, data: Bytes) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(data);
        match (version, reader.u32()?) {
            (_, tl::WorkerEnabledDisabled::ID) => match tl::WorkerEnabledDisabled::read_last(reader)?.disabled {
                0 => Ok(Self::EnabledDisabled { disabled: false }),
                1 => Ok(Self::EnabledDisabled { disabled: true }),
                _ => Err(DecodeError::OutOfRange("disabled")),
            },
            (_, tl::WorkerNewCoefficient::ID) => {
                let new = tl::WorkerNewCoefficient::read_last(reader)?;
                coefficient(new.new_coefficient).map(Self::NewCoefficient)
            }
            (Version::Extended, tl::WorkerLoadReport::ID) => {
                LoadReport::from_tl(&tl::WorkerLoadReport::read_last(reader)?).map(Self::Load)
            }
            (_, id) => worker_leg::decode(version, id, reader).map(Self::Answer),
        }
    }

    /// Writes the message; load reports exist only in [`Version::Extended`], and are empty (to be
    /// skipped) elsewhere.
    #[must_use]
    pub fn encode(&self, version: Version) -> Encoded {
        match (self, version) {
            (Self::Answer(answer), _) => worker_leg::encode(answer, version),
            (Self::EnabledDisabled { disabled }, _) => {
                tl::WorkerEnabledDisabled { disabled: i32::from(*disabled) }.encode()
            }
            (Self::NewCoefficient(new), _) => {
                tl::WorkerNewCoefficient { new_coefficient: coefficient_out(*new) }.encode()
            }
            (Self::Load(report), Version::Extended) => report.to_tl().encode(),
            (Self::Load(_), Version::V0 | Version::V1 | Version::V2) => Encoded::default(),
        }
    }
}

impl WorkerQuery {
    /// Reads a query that a worker sent; the same in all versions.
    ///
    /// # Errors
    ///
    /// When the bytes are not exactly one such query; the worker is to blame.
    pub fn decode(data: Bytes) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(data);
        match reader.u32()? {
            tl::WorkerConnectToProxy::ID => {
                let connect = tl::WorkerConnectToProxy::read_last(reader)?;
                WorkerParams::from_tl(connect.params).map(Self::Connect)
            }
            tl::WorkerCompareBalanceWithProxy::ID => {
                let compare = tl::WorkerCompareBalanceWithProxy::read_last(reader)?;
                let committed = compare.tokens_committed_to_blockchain;
                Ok(Self::CompareBalance {
                    tokens_committed_to_blockchain: tokens(committed, "blockchain_tokens")?,
                    tokens_committed_to_db: tokens(compare.tokens_committed_to_db, "db_tokens")?,
                    max_tokens: tokens(compare.max_tokens, "max_tokens")?,
                })
            }
            tl::WorkerExtendedCompareBalanceWithProxy::ID => {
                let compare = tl::WorkerExtendedCompareBalanceWithProxy::read_last(reader)?;
                Ok(Self::ExtendedCompareBalance {
                    tokens_committed_to_db: tokens(compare.tokens_committed_to_db, "db_tokens")?,
                    other: bounded_bytes(compare.other, "other", OPAQUE_MAX)?,
                })
            }
            tl::WorkerProxyHandshakeComplete::ID => {
                let complete = tl::WorkerProxyHandshakeComplete::read_last(reader)?;
                Ok(Self::HandshakeComplete { is_disabled: complete.is_disabled })
            }
            tl::WorkerUpdatePaymentStatus::ID => {
                tl::WorkerUpdatePaymentStatus::read_last(reader).map(|_| Self::UpdatePaymentStatus)
            }
            other => Err(DecodeError::UnknownConstructor(other)),
        }
    }

    /// Writes the query.
    #[must_use]
    pub fn encode(&self) -> Encoded {
        match self {
            Self::Connect(params) => tl::WorkerConnectToProxy { params: params.to_tl() }.encode(),
            Self::CompareBalance { tokens_committed_to_blockchain, tokens_committed_to_db, max_tokens } => {
                tl::WorkerCompareBalanceWithProxy {
                    tokens_committed_to_blockchain: tokens_out(*tokens_committed_to_blockchain),
                    tokens_committed_to_db: tokens_out(*tokens_committed_to_db),
                    max_tokens: tokens_out(*max_tokens),
                }
                .encode()
            }
            Self::ExtendedCompareBalance { tokens_committed_to_db, other } => {
                tl::WorkerExtendedCompareBalanceWithProxy {
                    tokens_committed_to_db: tokens_out(*tokens_committed_to_db),
                    other: other.clone(),
                }
                .encode()
            }
            Self::HandshakeComplete { is_disabled } => {
                tl::WorkerProxyHandshakeComplete { is_disabled: *is_disabled }.encode()
            }
            Self::UpdatePaymentStatus => tl::WorkerUpdatePaymentStatus.encode(),
        }
    }
}

impl WorkerAnswer {
    /// Reads a proxy's answer; the same in all versions.
    ///
    /// # Errors
    ///
    /// When the bytes are not exactly one such answer; the proxy is to blame.
    pub fn decode(data: Bytes) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(data);
        match reader.u32()? {
            tl::WorkerConnectedToProxy::ID => {
                let connected = tl::WorkerConnectedToProxy::read_last(reader)?;
                Ok(Self::Connected {
                    params: proxy_params(connected.params)?,
                    worker_sc_address: address(connected.worker_sc_address)?,
                })
            }
            tl::WorkerCompareBalanceWithProxyResult::ID => {
                let result = tl::WorkerCompareBalanceWithProxyResult::read_last(reader)?;
                Ok(Self::CompareBalance(CompareBalance {
                    signed_payment: signed_payment(result.signed_payment)?,
                    tokens_committed_to_db: tokens(result.tokens_committed_to_db, "db_tokens")?,
                    max_tokens: tokens(result.max_tokens, "max_tokens")?,
                    error_code: result.error_code,
                }))
            }
            tl::WorkerExtendedCompareBalanceWithProxyResult::ID => {
                let result = tl::WorkerExtendedCompareBalanceWithProxyResult::read_last(reader)?;
                Ok(Self::ExtendedCompareBalance { error_code: result.error_code })
            }
            tl::WorkerProxyHandshakeCompleted::ID => {
                tl::WorkerProxyHandshakeCompleted::read_last(reader).map(|_| Self::HandshakeCompleted)
            }
            tl::WorkerPaymentStatus::ID => {
                let status = tl::WorkerPaymentStatus::read_last(reader)?;
                payment_status(status.signed_payment, status.db_tokens, status.max_tokens).map(Self::PaymentStatus)
            }
            other => Err(DecodeError::UnknownConstructor(other)),
        }
    }

    /// Writes the answer.
    #[must_use]
    pub fn encode(&self) -> Encoded {
        match self {
            Self::Connected { params, worker_sc_address } => tl::WorkerConnectedToProxy {
                params: proxy_params_out(params),
                worker_sc_address: worker_sc_address.clone(),
            }
            .encode(),
            Self::CompareBalance(balance) => tl::WorkerCompareBalanceWithProxyResult {
                signed_payment: signed_payment_out(&balance.signed_payment),
                tokens_committed_to_db: tokens_out(balance.tokens_committed_to_db),
                max_tokens: tokens_out(balance.max_tokens),
                error_code: balance.error_code,
            }
            .encode(),
            Self::ExtendedCompareBalance { error_code } => {
                tl::WorkerExtendedCompareBalanceWithProxyResult { error_code: *error_code }.encode()
            }
            Self::HandshakeCompleted => tl::WorkerProxyHandshakeCompleted.encode(),
            Self::PaymentStatus(status) => tl::WorkerPaymentStatus {
                signed_payment: signed_payment_out(&status.signed_payment),
                db_tokens: tokens_out(status.db_tokens),
                max_tokens: tokens_out(status.max_tokens),
            }
            .encode(),
        }
    }
}

// The original's first form: no debug flag.
impl WorkerRun {
    fn from_v0(reader: Reader) -> Result<Self, DecodeError> {
        let run = tl::ProxyRunQuery::read_last(reader)?;
        Ok(Self {
            request_id: run.request_id.into(),
            query: run.query.into(),
            signed_payment: signed_payment(run.signed_payment)?,
            coefficient: long_coefficient(run.coefficient)?,
            timeout_ms: timeout_from_seconds(run.timeout)?,
            enable_debug: false,
            token_limit: None,
            answer_credit: None,
            receipt: None,
            account_tag: None,
        })
    }

    fn to_v0(&self) -> tl::ProxyRunQuery {
        tl::ProxyRunQuery {
            query: self.query.expose().clone(),
            signed_payment: signed_payment_out(&self.signed_payment),
            coefficient: i64::from(self.coefficient.thousandths()),
            timeout: timeout_to_seconds(self.timeout_ms),
            request_id: *self.request_id.as_bytes(),
        }
    }
}

// The original's `…Ex` form.
impl WorkerRun {
    fn from_ex(reader: Reader) -> Result<Self, DecodeError> {
        let run = tl::ProxyRunQueryEx::read_last(reader)?;
        Ok(Self {
            request_id: run.request_id.into(),
            query: run.query.into(),
            signed_payment: signed_payment(run.signed_payment)?,
            coefficient: long_coefficient(run.coefficient)?,
            timeout_ms: timeout_from_seconds(run.timeout)?,
            enable_debug: run.enable_debug.unwrap_or(false),
            token_limit: None,
            answer_credit: None,
            receipt: None,
            account_tag: None,
        })
    }

    fn to_ex(&self) -> tl::ProxyRunQueryEx {
        tl::ProxyRunQueryEx {
            query: self.query.expose().clone(),
            signed_payment: signed_payment_out(&self.signed_payment),
            coefficient: i64::from(self.coefficient.thousandths()),
            timeout: timeout_to_seconds(self.timeout_ms),
            request_id: *self.request_id.as_bytes(),
            enable_debug: Some(self.enable_debug),
        }
    }
}

// The extended form: budget in milliseconds, token limit, credit, body last.
impl WorkerRun {
    fn from_extended(reader: Reader) -> Result<Self, DecodeError> {
        let run = tl::ProxyRunQueryX::read_last(reader)?;
        Ok(Self {
            request_id: run.request_id.into(),
            query: run.query.into(),
            signed_payment: signed_payment(run.signed_payment)?,
            coefficient: coefficient(run.coefficient)?,
            timeout_ms: timeout_from_ms(run.timeout_ms)?,
            enable_debug: run.enable_debug.unwrap_or(false),
            token_limit: run.token_limit.map(|n| count(n, "token_limit")).transpose()?,
            answer_credit: run.answer_credit.map(|n| count(n, "answer_credit")).transpose()?,
            receipt: run.receipt.as_ref().map(ReceiptAsk::from_tl),
            account_tag: run.account_tag.map(|tag| bounded_bytes(tag, "account_tag", ACCOUNT_TAG_MAX)).transpose()?,
        })
    }

    fn to_extended(&self) -> tl::ProxyRunQueryX {
        tl::ProxyRunQueryX {
            request_id: *self.request_id.as_bytes(),
            signed_payment: signed_payment_out(&self.signed_payment),
            coefficient: coefficient_out(self.coefficient),
            timeout_ms: timeout_to_ms(self.timeout_ms),
            enable_debug: Some(self.enable_debug),
            token_limit: self.token_limit.map(count_out),
            answer_credit: self.answer_credit.map(count_out),
            receipt: self.receipt.map(ReceiptAsk::to_tl),
            account_tag: self.account_tag.clone(),
            query: self.query.expose().clone(),
        }
    }
}

impl WorkerParams {
    fn from_tl(params: tl::WorkerParams) -> Result<Self, DecodeError> {
        let proxy_count = required(params.proxy_cnt, "proxy_cnt")?;
        let max_active_requests = required(params.max_active_requests, "max_active_requests")?;
        Ok(Self {
            owner_address: address(params.worker_owner_address)?,
            model: bounded(params.model, "model", MODEL_NAME_MAX)?,
            coefficient: coefficient(params.coefficient)?,
            is_test: required(params.is_test, "is_test")?,
            proxy_count: count(proxy_count, "proxy_cnt")?,
            max_active_requests: count(max_active_requests, "max_active_requests")?,
            versions: versions(params.min_proto_version, params.max_proto_version)?,
        })
    }

    fn to_tl(&self) -> tl::WorkerParams {
        tl::WorkerParams {
            worker_owner_address: self.owner_address.clone(),
            model: self.model.clone(),
            coefficient: coefficient_out(self.coefficient),
            is_test: Some(self.is_test),
            proxy_cnt: Some(count_out(self.proxy_count)),
            max_active_requests: Some(count_out(self.max_active_requests)),
            min_proto_version: self.versions.map(|versions| versions.min),
            max_proto_version: self.versions.map(|versions| versions.max),
        }
    }
}

impl LoadReport {
    fn from_tl(report: &tl::WorkerLoadReport) -> Result<Self, DecodeError> {
        Ok(Self {
            active: count(report.active, "active")?,
            queued: count(report.queued, "queued")?,
            slots: count(report.slots, "slots")?,
            tokens_per_s: count(report.tokens_per_s, "tokens_per_s")?,
        })
    }

    fn to_tl(self) -> tl::WorkerLoadReport {
        tl::WorkerLoadReport {
            active: count_out(self.active),
            queued: count_out(self.queued),
            slots: count_out(self.slots),
            tokens_per_s: count_out(self.tokens_per_s),
        }
    }
}

fn read_payment(reader: Reader) -> Result<ProxyToWorker, DecodeError> {
    let payment = tl::ProxyWorkerRequestPayment::read_last(reader)?;
    Ok(ProxyToWorker::Payment {
        payment: RequestPayment {
            request_id: payment.request_id.into(),
            signed_payment: signed_payment(payment.signed_payment)?,
            db_tokens: tokens(payment.db_tokens, "db_tokens")?,
            max_tokens: tokens(payment.max_tokens, "max_tokens")?,
            request_tokens: tokens(payment.request_tokens, "request_tokens")?,
        },
        request_client_owner: address(payment.request_client_owner)?,
    })
}

/// The original's worker leg writes the coefficient in 64 bits.
fn long_coefficient(thousandths: i64) -> Result<Coefficient, DecodeError> {
    u32::try_from(thousandths).map(Coefficient::from_thousandths).map_err(|_| DecodeError::OutOfRange("coefficient"))
}
