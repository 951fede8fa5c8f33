//! Messages between a client and a proxy.

use bytes::Bytes;
use cocoon_units::{AdjustedTokens, Coefficient};

use super::answer::{Answer, FinalInfo, Proof, client_final_info, client_final_info_out, client_leg};
use super::convert::{
    address, bounded, bounded_bytes, coefficient, coefficient_out, count, count_out, payment_status, proxy_params,
    proxy_params_out, required, signed_payment, signed_payment_out, timeout_from_ms, timeout_from_seconds,
    timeout_to_ms, timeout_to_seconds, tokens, tokens_out, versions,
};
use super::{PaymentStatus, ProxyParams, ReceiptAsk, RequestPayment, SignedPayment};
use crate::bare::Bare;
use crate::limits::{
    EVIDENCE_MAX, FAILURE_MESSAGE_MAX, MODEL_NAME_MAX, OPAQUE_MAX, RECEIPT_MAX, SECRET_MAX, SETTLED_MAX,
};
use crate::reader::Reader;
use crate::version::VersionRange;
use crate::{DecodeError, Encoded, RequestId, Sealed, Version, tl};

/// One-way messages, client to proxy.
#[derive(Clone, Debug, PartialEq)]
pub enum ClientMessage {
    /// Run a request.
    Run(ClientRun),
    /// Stop a request; what was produced is billed, no more. Extended only.
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
}

/// One request on its way to a proxy.
#[derive(Clone, Debug, PartialEq)]
pub struct ClientRun {
    /// Fresh for this hop.
    pub request_id: RequestId,
    /// The name before `@`.
    pub model: String,
    /// A boxed `http.request`.
    pub query: Sealed,
    /// The dearest worker that may serve it.
    pub max_coefficient: Coefficient,
    /// Most tokens of the answer.
    pub max_tokens: u32,
    /// Time left.
    pub timeout_ms: u64,
    /// The oldest root configuration that the client accepts.
    pub min_config_version: i32,
    /// Whether roles may add debug texts to the final information.
    pub enable_debug: bool,
    /// Bytes of answer bodies that may be sent at once; none means unlimited. Extended only.
    pub answer_credit: Option<u32>,
    /// Asks for a receipt. Extended only.
    pub receipt: Option<ReceiptAsk>,
}

/// Queries, client to proxy.
#[derive(Clone, Debug, PartialEq)]
pub enum ClientQuery {
    /// The first: who the client is.
    Connect {
        /// The client's parameters.
        params: ClientParams,
        /// The oldest root configuration that the client accepts.
        min_config_version: i32,
    },
    /// Authorization by a secret whose hash is in the client's contract.
    AuthorizeShort {
        /// The secret.
        secret: Sealed,
    },
    /// Authorization by a message on chain.
    AuthorizeLong,
    /// Ask for the stake back.
    RequestRefund,
    /// Ask what has been paid.
    UpdatePaymentStatus,
    /// Ask which models are served, summed up.
    GetWorkerTypes,
    /// Ask which models are served, worker by worker.
    GetWorkerTypesV2,
    /// Ask what became of requests whose end was not heard, at most [`SETTLED_MAX`] by their receipts' ids. Extended only.
    GetSettledRequests {
        /// Which.
        ids: Vec<[u8; 32]>,
    },
    /// Ask for what was verified of a worker. Extended only.
    GetEvidence {
        /// SHA-256 of the document.
        sha256: [u8; 32],
    },
}

/// What a client says about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientParams {
    /// The wallet that pays.
    pub owner_address: String,
    /// Test mode; must match on both sides.
    pub is_test: bool,
    /// The versions it speaks; none means 0.
    pub versions: Option<VersionRange>,
}

/// Answers to [`ClientQuery`]; the asker checks that the kind fits the question.
#[derive(Clone, Debug, PartialEq)]
pub enum ClientAnswer {
    /// To `Connect`.
    Connected {
        /// The proxy's parameters, with the chosen version.
        params: ProxyParams,
        /// The client's contract with this proxy.
        client_sc_address: String,
        /// How the client must prove itself.
        auth: AuthChallenge,
        /// The latest signed payment.
        signed_payment: SignedPayment,
    },
    /// To `AuthorizeShort` and `AuthorizeLong`.
    Authorized {
        /// The latest signed payment.
        signed_payment: SignedPayment,
        /// Tokens committed to the proxy's database.
        tokens_committed_to_db: AdjustedTokens,
        /// The most the proxy ever told.
        max_tokens: AdjustedTokens,
    },
    /// To `AuthorizeShort` and `AuthorizeLong`.
    AuthorizationFailed {
        /// A number of the proxy's choice.
        code: i32,
        /// A sentence of the proxy's choice.
        error: String,
    },
    /// To `RequestRefund`: a message for the client's contract.
    Refund {
        /// The signed message.
        data: Bytes,
    },
    /// To `RequestRefund`: not while requests run.
    RefundRejected {
        /// How many run.
        active_queries: u64,
    },
    /// To `UpdatePaymentStatus`.
    PaymentStatus(PaymentStatus),
    /// To `GetWorkerTypes`.
    WorkerTypes(Vec<WorkerTypeSummary>),
    /// To `GetWorkerTypesV2`.
    WorkerTypesV2(Vec<WorkerType>),
    /// To `GetSettledRequests`: those that cost something.
    SettledRequests(Vec<SettledRequest>),
    /// To `GetEvidence`: a document of `cocoon-attest`, in JSON.
    Evidence(Bytes),
}

/// What became of a request whose end the client did not hear.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SettledRequest {
    /// The receipt's id.
    pub id: [u8; 32],
    /// What was charged.
    pub tokens: AdjustedTokens,
    /// The worker's receipt, if there is one and it is still known.
    pub receipt: Option<Bytes>,
    /// SHA-256 of the document that vouches for the receipt's key, if the proxy has one.
    pub evidence: Option<[u8; 32]>,
}

/// How a client must prove that it owns its contract.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AuthChallenge {
    /// Send the secret behind this hash.
    Short {
        /// SHA-256 of the secret.
        secret_hash: [u8; 32],
        /// Names the registration on chain.
        nonce: i64,
    },
    /// Send a message on chain that carries this number.
    Long {
        /// The number.
        nonce: i64,
    },
}

/// A served model, summed up over its workers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkerTypeSummary {
    /// The model's name.
    pub name: String,
    /// How many workers serve it.
    pub active_workers: u32,
    /// The cheapest.
    pub coefficient_min: Coefficient,
    /// The median.
    pub coefficient_bucket50: Coefficient,
    /// The dearest.
    pub coefficient_max: Coefficient,
}

/// A served model and its workers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkerType {
    /// The model's name.
    pub name: String,
    /// Who serves it.
    pub workers: Vec<WorkerInstance>,
}

/// One worker of a model, without its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WorkerInstance {
    /// Its price.
    pub coefficient: Coefficient,
    /// Requests it runs now.
    pub active_requests: u32,
    /// Requests it can run at once.
    pub max_active_requests: u32,
}

/// One-way messages, proxy to client.
#[derive(Clone, Debug, PartialEq)]
pub enum ProxyToClient {
    /// A part of an answer.
    Answer(Answer),
    /// What one request came to.
    Payment(RequestPayment),
    /// What has been paid so far.
    PaymentStatus(PaymentStatus),
    /// What a request came to whose answer the client did not wait for. Extended only.
    Settled {
        /// Which request.
        request_id: RequestId,
        /// As its last message would have said.
        info: FinalInfo,
    },
}

impl ClientMessage {
    /// Reads a message that a client sent.
    ///
    /// # Errors
    ///
    /// When the bytes are not exactly one such message of that version; the client is to blame.
    pub fn decode(version: Version, data: Bytes) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(data);
        match (version, reader.u32()?) {
            (Version::V0, tl::ClientRunQuery::ID) => Ok(Self::Run(ClientRun::from_v0(reader)?)),
            (Version::V1 | Version::V2, tl::ClientRunQueryEx::ID) => Ok(Self::Run(ClientRun::from_ex(reader)?)),
            (Version::Extended, tl::ClientRunQueryX::ID) => Ok(Self::Run(ClientRun::from_extended(reader)?)),
            (Version::Extended, tl::ClientCancelQuery::ID) => {
                let cancel = tl::ClientCancelQuery::read_last(reader)?;
                Ok(Self::Cancel { request_id: cancel.request_id.into() })
            }
            (Version::Extended, tl::ClientAnswerCredit::ID) => {
                let credit = tl::ClientAnswerCredit::read_last(reader)?;
                let bytes = count(credit.bytes, "bytes")?;
                Ok(Self::Credit { request_id: credit.request_id.into(), bytes })
            }
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
                tl::ClientCancelQuery { request_id: *request_id.as_bytes() }.encode()
            }
            (Self::Credit { request_id, bytes }, Version::Extended) => {
                tl::ClientAnswerCredit { request_id: *request_id.as_bytes(), bytes: count_out(*bytes) }.encode()
            }
            (Self::Cancel { .. } | Self::Credit { .. }, Version::V0 | Version::V1 | Version::V2) => Encoded::default(),
        }
    }
}

impl ClientQuery {
    /// Reads a query that a client sent; the same in all versions.
    ///
    /// # Errors
    ///
    /// When the bytes are not exactly one such query; the client is to blame.
    pub fn decode(data: Bytes) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(data);
        match reader.u32()? {
            tl::ClientConnectToProxy::ID => {
                let connect = tl::ClientConnectToProxy::read_last(reader)?;
                Ok(Self::Connect {
                    params: ClientParams::from_tl(connect.params)?,
                    min_config_version: connect.min_config_version,
                })
            }
            tl::ClientAuthorizeWithProxyShort::ID => {
                let authorize = tl::ClientAuthorizeWithProxyShort::read_last(reader)?;
                let secret = bounded_bytes(authorize.data, "data", SECRET_MAX)?;
                Ok(Self::AuthorizeShort { secret: secret.into() })
            }
            tl::ClientAuthorizeWithProxyLong::ID => {
                tl::ClientAuthorizeWithProxyLong::read_last(reader).map(|_| Self::AuthorizeLong)
            }
            tl::ClientRequestRefund::ID => tl::ClientRequestRefund::read_last(reader).map(|_| Self::RequestRefund),
            tl::ClientUpdatePaymentStatus::ID => {
                tl::ClientUpdatePaymentStatus::read_last(reader).map(|_| Self::UpdatePaymentStatus)
            }
            tl::ClientGetWorkerTypes::ID => tl::ClientGetWorkerTypes::read_last(reader).map(|_| Self::GetWorkerTypes),
            tl::ClientGetWorkerTypesV2::ID => {
                tl::ClientGetWorkerTypesV2::read_last(reader).map(|_| Self::GetWorkerTypesV2)
            }
            tl::ClientGetSettledRequests::ID => {
                let ids = tl::ClientGetSettledRequests::read_last(reader)?.ids;
                if ids.len() > SETTLED_MAX {
                    return Err(DecodeError::TooLong("ids"));
                }
                Ok(Self::GetSettledRequests { ids: ids.into_iter().map(|id| id.id).collect() })
            }
            tl::ClientGetEvidence::ID => {
                Ok(Self::GetEvidence { sha256: tl::ClientGetEvidence::read_last(reader)?.sha256 })
            }
            other => Err(DecodeError::UnknownConstructor(other)),
        }
    }

    /// Writes the query.
    #[must_use]
    pub fn encode(&self) -> Encoded {
        match self {
            Self::Connect { params, min_config_version } => {
                tl::ClientConnectToProxy { params: params.to_tl(), min_config_version: *min_config_version }.encode()
            }
            Self::AuthorizeShort { secret } => {
                tl::ClientAuthorizeWithProxyShort { data: secret.expose().clone() }.encode()
            }
            Self::AuthorizeLong => tl::ClientAuthorizeWithProxyLong.encode(),
            Self::RequestRefund => tl::ClientRequestRefund.encode(),
            Self::UpdatePaymentStatus => tl::ClientUpdatePaymentStatus.encode(),
            Self::GetWorkerTypes => tl::ClientGetWorkerTypes.encode(),
            Self::GetWorkerTypesV2 => tl::ClientGetWorkerTypesV2.encode(),
            Self::GetSettledRequests { ids } => {
                let ids = ids.iter().map(|id| tl::ReceiptId { id: *id }).collect();
                tl::ClientGetSettledRequests { ids }.encode()
            }
            Self::GetEvidence { sha256 } => tl::ClientGetEvidence { sha256: *sha256 }.encode(),
        }
    }
}

impl ClientAnswer {
    /// Reads a proxy's answer; the same in all versions.
    ///
    /// # Errors
    ///
    /// When the bytes are not exactly one such answer; the proxy is to blame.
    pub fn decode(data: Bytes) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(data);
        match reader.u32()? {
            tl::ClientConnectedToProxy::ID => Self::connected(reader),
            tl::ClientAuthorizationWithProxySuccess::ID => Self::authorized(reader),
            tl::ClientAuthorizationWithProxyFailed::ID => {
                let failed = tl::ClientAuthorizationWithProxyFailed::read_last(reader)?;
                let error = bounded(failed.error, "error", FAILURE_MESSAGE_MAX)?;
                Ok(Self::AuthorizationFailed { code: failed.error_code, error })
            }
            tl::ClientRefund::ID => {
                let data = tl::ClientRefund::read_last(reader)?.data;
                Ok(Self::Refund { data: bounded_bytes(data, "data", OPAQUE_MAX)? })
            }
            tl::ClientRefundRejected::ID => {
                let rejected = tl::ClientRefundRejected::read_last(reader)?;
                let active_queries =
                    u64::try_from(rejected.active_queries).map_err(|_| DecodeError::OutOfRange("active_queries"))?;
                Ok(Self::RefundRejected { active_queries })
            }
            tl::ClientPaymentStatus::ID => Ok(Self::PaymentStatus(read_payment_status(reader)?)),
            tl::ClientWorkerTypes::ID => {
                let types = tl::ClientWorkerTypes::read_last(reader)?.types;
                let types = types.into_iter().map(WorkerTypeSummary::from_tl);
                Ok(Self::WorkerTypes(types.collect::<Result<_, _>>()?))
            }
            tl::ClientWorkerTypesV2::ID => {
                let types = tl::ClientWorkerTypesV2::read_last(reader)?.types;
                let types = types.into_iter().map(WorkerType::from_tl);
                Ok(Self::WorkerTypesV2(types.collect::<Result<_, _>>()?))
            }
            tl::ClientSettledRequests::ID => {
                let requests = tl::ClientSettledRequests::read_last(reader)?.requests;
                // Nobody asks for more at once.
                if requests.len() > SETTLED_MAX {
                    return Err(DecodeError::TooLong("requests"));
                }
                let requests = requests.into_iter().map(SettledRequest::from_tl);
                Ok(Self::SettledRequests(requests.collect::<Result<_, _>>()?))
            }
            tl::ClientEvidence::ID => {
                let document = tl::ClientEvidence::read_last(reader)?.document;
                Ok(Self::Evidence(bounded_bytes(document, "document", EVIDENCE_MAX)?))
            }
            other => Err(DecodeError::UnknownConstructor(other)),
        }
    }

    /// Writes the answer.
    #[must_use]
    pub fn encode(&self) -> Encoded {
        match self {
            Self::Connected { params, client_sc_address, auth, signed_payment } => tl::ClientConnectedToProxy {
                params: proxy_params_out(params),
                client_sc_address: client_sc_address.clone(),
                auth: auth.to_tl(),
                signed_payment: signed_payment_out(signed_payment),
            }
            .encode(),
            Self::Authorized { signed_payment, tokens_committed_to_db, max_tokens } => {
                tl::ClientAuthorizationWithProxySuccess {
                    signed_payment: signed_payment_out(signed_payment),
                    tokens_committed_to_db: tokens_out(*tokens_committed_to_db),
                    max_tokens: tokens_out(*max_tokens),
                }
                .encode()
            }
            Self::AuthorizationFailed { code, error } => {
                tl::ClientAuthorizationWithProxyFailed { error_code: *code, error: error.clone() }.encode()
            }
            Self::Refund { data } => tl::ClientRefund { data: data.clone() }.encode(),
            Self::RefundRejected { active_queries } => {
                tl::ClientRefundRejected { active_queries: i64::try_from(*active_queries).unwrap_or(i64::MAX) }.encode()
            }
            Self::PaymentStatus(status) => payment_status_out(status).encode(),
            Self::WorkerTypes(types) => {
                tl::ClientWorkerTypes { types: types.iter().map(WorkerTypeSummary::to_tl).collect() }.encode()
            }
            Self::WorkerTypesV2(types) => {
                tl::ClientWorkerTypesV2 { types: types.iter().map(WorkerType::to_tl).collect() }.encode()
            }
            Self::SettledRequests(requests) => {
                let requests = requests.iter().map(SettledRequest::to_tl).collect();
                tl::ClientSettledRequests { requests }.encode()
            }
            Self::Evidence(document) => tl::ClientEvidence { document: document.clone() }.encode(),
        }
    }
}

impl ProxyToClient {
    /// Reads a message that a proxy sent.
    ///
    /// # Errors
    ///
    /// When the bytes are not exactly one such message of that version; the proxy is to blame.
    pub fn decode(version: Version, data: Bytes) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(data);
        match reader.u32()? {
            tl::ProxyClientRequestPayment::ID => {
                let payment = tl::ProxyClientRequestPayment::read_last(reader)?;
                Ok(Self::Payment(RequestPayment {
                    request_id: payment.request_id.into(),
                    signed_payment: signed_payment(payment.signed_payment)?,
                    db_tokens: tokens(payment.db_tokens, "db_tokens")?,
                    max_tokens: tokens(payment.max_tokens, "max_tokens")?,
                    request_tokens: tokens(payment.request_tokens, "request_tokens")?,
                }))
            }
            tl::ClientPaymentStatus::ID => Ok(Self::PaymentStatus(read_payment_status(reader)?)),
            tl::ClientQuerySettled::ID if version == Version::Extended => {
                let settled = tl::ClientQuerySettled::read_last(reader)?;
                let proof = Proof::from_tl(settled.receipt, settled.evidence)?;
                let info = FinalInfo { proof, ..client_final_info(settled.final_info)? };
                Ok(Self::Settled { request_id: settled.request_id.into(), info })
            }
            id => client_leg::decode(version, id, reader).map(Self::Answer),
        }
    }

    /// Writes the message.
    #[must_use]
    pub fn encode(&self, version: Version) -> Encoded {
        match self {
            Self::Answer(answer) => client_leg::encode(answer, version),
            Self::Payment(payment) => tl::ProxyClientRequestPayment {
                request_id: *payment.request_id.as_bytes(),
                signed_payment: signed_payment_out(&payment.signed_payment),
                db_tokens: tokens_out(payment.db_tokens),
                max_tokens: tokens_out(payment.max_tokens),
                request_tokens: tokens_out(payment.request_tokens),
            }
            .encode(),
            Self::PaymentStatus(status) => payment_status_out(status).encode(),
            Self::Settled { request_id, info } => {
                let (receipt, evidence) = Proof::to_tl(info.proof.as_ref());
                let final_info = client_final_info_out(info, version);
                tl::ClientQuerySettled { request_id: *request_id.as_bytes(), final_info, receipt, evidence }.encode()
            }
        }
    }
}

// The original's first form: no debug flag.
impl ClientRun {
    fn from_v0(reader: Reader) -> Result<Self, DecodeError> {
        let run = tl::ClientRunQuery::read_last(reader)?;
        Ok(Self {
            request_id: run.request_id.into(),
            model: bounded(run.model_name, "model_name", MODEL_NAME_MAX)?,
            query: run.query.into(),
            max_coefficient: coefficient(run.max_coefficient)?,
            max_tokens: count(run.max_tokens, "max_tokens")?,
            timeout_ms: timeout_from_seconds(run.timeout)?,
            min_config_version: run.min_config_version,
            enable_debug: false,
            answer_credit: None,
            receipt: None,
        })
    }

    fn to_v0(&self) -> tl::ClientRunQuery {
        tl::ClientRunQuery {
            model_name: self.model.clone(),
            query: self.query.expose().clone(),
            max_coefficient: coefficient_out(self.max_coefficient),
            max_tokens: count_out(self.max_tokens),
            timeout: timeout_to_seconds(self.timeout_ms),
            request_id: *self.request_id.as_bytes(),
            min_config_version: self.min_config_version,
        }
    }
}

// The original's `…Ex` form.
impl ClientRun {
    fn from_ex(reader: Reader) -> Result<Self, DecodeError> {
        let run = tl::ClientRunQueryEx::read_last(reader)?;
        Ok(Self {
            request_id: run.request_id.into(),
            model: bounded(run.model_name, "model_name", MODEL_NAME_MAX)?,
            query: run.query.into(),
            max_coefficient: coefficient(run.max_coefficient)?,
            max_tokens: count(run.max_tokens, "max_tokens")?,
            timeout_ms: timeout_from_seconds(run.timeout)?,
            min_config_version: run.min_config_version,
            enable_debug: run.enable_debug.unwrap_or(false),
            answer_credit: None,
            receipt: None,
        })
    }

    fn to_ex(&self) -> tl::ClientRunQueryEx {
        tl::ClientRunQueryEx {
            model_name: self.model.clone(),
            query: self.query.expose().clone(),
            max_coefficient: coefficient_out(self.max_coefficient),
            max_tokens: count_out(self.max_tokens),
            timeout: timeout_to_seconds(self.timeout_ms),
            request_id: *self.request_id.as_bytes(),
            min_config_version: self.min_config_version,
            enable_debug: Some(self.enable_debug),
        }
    }
}

// The extended form: budget in milliseconds, credit, body last.
impl ClientRun {
    fn from_extended(reader: Reader) -> Result<Self, DecodeError> {
        let run = tl::ClientRunQueryX::read_last(reader)?;
        Ok(Self {
            request_id: run.request_id.into(),
            model: bounded(run.model_name, "model_name", MODEL_NAME_MAX)?,
            query: run.query.into(),
            max_coefficient: coefficient(run.max_coefficient)?,
            max_tokens: count(run.max_tokens, "max_tokens")?,
            timeout_ms: timeout_from_ms(run.timeout_ms)?,
            min_config_version: run.min_config_version,
            enable_debug: run.enable_debug.unwrap_or(false),
            answer_credit: run.answer_credit.map(|n| count(n, "answer_credit")).transpose()?,
            receipt: run.receipt.as_ref().map(ReceiptAsk::from_tl),
        })
    }

    fn to_extended(&self) -> tl::ClientRunQueryX {
        tl::ClientRunQueryX {
            request_id: *self.request_id.as_bytes(),
            model_name: self.model.clone(),
            max_coefficient: coefficient_out(self.max_coefficient),
            max_tokens: count_out(self.max_tokens),
            timeout_ms: timeout_to_ms(self.timeout_ms),
            min_config_version: self.min_config_version,
            enable_debug: Some(self.enable_debug),
            answer_credit: self.answer_credit.map(count_out),
            receipt: self.receipt.map(ReceiptAsk::to_tl),
            query: self.query.expose().clone(),
        }
    }
}

impl SettledRequest {
    fn from_tl(request: tl::ClientSettledRequest) -> Result<Self, DecodeError> {
        let receipt = bounded_bytes(request.receipt, "receipt", RECEIPT_MAX)?;
        Ok(Self {
            id: request.id,
            tokens: tokens(request.tokens, "tokens")?,
            receipt: (!receipt.is_empty()).then_some(receipt),
            evidence: Some(request.evidence).filter(|hash| *hash != [0; 32]),
        })
    }

    fn to_tl(&self) -> tl::ClientSettledRequest {
        let receipt = self.receipt.clone().unwrap_or_default();
        let evidence = self.evidence.unwrap_or_default();
        tl::ClientSettledRequest { id: self.id, tokens: tokens_out(self.tokens), receipt, evidence }
    }
}

impl ClientParams {
    fn from_tl(params: tl::ClientParams) -> Result<Self, DecodeError> {
        Ok(Self {
            owner_address: address(params.client_owner_address)?,
            is_test: required(params.is_test, "is_test")?,
            versions: versions(params.min_proto_version, params.max_proto_version)?,
        })
    }

    fn to_tl(&self) -> tl::ClientParams {
        tl::ClientParams {
            client_owner_address: self.owner_address.clone(),
            is_test: Some(self.is_test),
            min_proto_version: self.versions.map(|versions| versions.min),
            max_proto_version: self.versions.map(|versions| versions.max),
        }
    }
}

impl ClientAnswer {
    fn connected(reader: Reader) -> Result<Self, DecodeError> {
        let connected = tl::ClientConnectedToProxy::read_last(reader)?;
        Ok(Self::Connected {
            params: proxy_params(connected.params)?,
            client_sc_address: address(connected.client_sc_address)?,
            auth: AuthChallenge::from_tl(&connected.auth),
            signed_payment: signed_payment(connected.signed_payment)?,
        })
    }

    fn authorized(reader: Reader) -> Result<Self, DecodeError> {
        let success = tl::ClientAuthorizationWithProxySuccess::read_last(reader)?;
        Ok(Self::Authorized {
            signed_payment: signed_payment(success.signed_payment)?,
            tokens_committed_to_db: tokens(success.tokens_committed_to_db, "db_tokens")?,
            max_tokens: tokens(success.max_tokens, "max_tokens")?,
        })
    }
}

impl AuthChallenge {
    const fn from_tl(auth: &tl::BoxedClientProxyConnectionAuth) -> Self {
        use tl::BoxedClientProxyConnectionAuth as Boxed;
        match auth {
            Boxed::ClientProxyConnectionAuthShort(short) => {
                Self::Short { secret_hash: short.secret_hash, nonce: short.nonce }
            }
            Boxed::ClientProxyConnectionAuthLong(long) => Self::Long { nonce: long.nonce },
        }
    }

    fn to_tl(&self) -> tl::BoxedClientProxyConnectionAuth {
        use tl::BoxedClientProxyConnectionAuth as Boxed;
        match *self {
            Self::Short { secret_hash, nonce } => {
                Boxed::ClientProxyConnectionAuthShort(tl::ClientProxyConnectionAuthShort { secret_hash, nonce })
            }
            Self::Long { nonce } => Boxed::ClientProxyConnectionAuthLong(tl::ClientProxyConnectionAuthLong { nonce }),
        }
    }
}

impl WorkerTypeSummary {
    fn from_tl(summary: tl::ClientWorkerType) -> Result<Self, DecodeError> {
        Ok(Self {
            name: bounded(summary.name, "name", MODEL_NAME_MAX)?,
            active_workers: count(summary.active_workers, "active_workers")?,
            coefficient_min: coefficient(summary.coefficient_min)?,
            coefficient_bucket50: coefficient(summary.coefficient_bucket50)?,
            coefficient_max: coefficient(summary.coefficient_max)?,
        })
    }

    fn to_tl(&self) -> tl::ClientWorkerType {
        tl::ClientWorkerType {
            name: self.name.clone(),
            active_workers: count_out(self.active_workers),
            coefficient_min: coefficient_out(self.coefficient_min),
            coefficient_bucket50: coefficient_out(self.coefficient_bucket50),
            coefficient_max: coefficient_out(self.coefficient_max),
        }
    }
}

impl WorkerType {
    fn from_tl(kind: tl::ClientWorkerTypeV2) -> Result<Self, DecodeError> {
        Ok(Self {
            name: bounded(kind.name, "name", MODEL_NAME_MAX)?,
            workers: kind.workers.iter().map(WorkerInstance::from_tl).collect::<Result<_, _>>()?,
        })
    }

    fn to_tl(&self) -> tl::ClientWorkerTypeV2 {
        tl::ClientWorkerTypeV2 {
            name: self.name.clone(),
            workers: self.workers.iter().map(|instance| instance.to_tl()).collect(),
        }
    }
}

impl WorkerInstance {
    fn from_tl(instance: &tl::ClientWorkerInstanceV2) -> Result<Self, DecodeError> {
        Ok(Self {
            coefficient: coefficient(instance.coefficient)?,
            active_requests: count(instance.active_requests, "active_requests")?,
            max_active_requests: count(instance.max_active_requests, "max_active_requests")?,
        })
    }

    fn to_tl(self) -> tl::ClientWorkerInstanceV2 {
        tl::ClientWorkerInstanceV2 {
            coefficient: coefficient_out(self.coefficient),
            active_requests: count_out(self.active_requests),
            max_active_requests: count_out(self.max_active_requests),
        }
    }
}

fn read_payment_status(reader: Reader) -> Result<PaymentStatus, DecodeError> {
    let status = tl::ClientPaymentStatus::read_last(reader)?;
    payment_status(status.signed_payment, status.db_tokens, status.max_tokens)
}

fn payment_status_out(status: &PaymentStatus) -> tl::ClientPaymentStatus {
    tl::ClientPaymentStatus {
        signed_payment: signed_payment_out(&status.signed_payment),
        db_tokens: tokens_out(status.db_tokens),
        max_tokens: tokens_out(status.max_tokens),
    }
}
