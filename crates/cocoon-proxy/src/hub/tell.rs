//! What the hub tells peers of money and of models: after a request, and when they ask.

use std::sync::Arc;

use cocoon_ledger::{PayeeId, PayerId};
use cocoon_units::AdjustedTokens;
use cocoon_wire::message::{
    ClientAnswer, FinalInfo, PaymentStatus, ProxyToClient, ProxyToWorker, RequestPayment, SignedPayment, WorkerAnswer,
    WorkerType, WorkerTypeSummary,
};
use cocoon_wire::{RequestId, Version};
use tracing::warn;

use super::{Hub, Question};
use crate::books::Side;
use crate::core::{ClientId, Settlement, WorkerId};

impl Hub {
    /// Tells both ends what a request came to, where they do not know it yet.
    ///
    /// Peers of the original profile are told after each request, as the original does. Extended ones have the amount in
    /// the last message of the answer, which the core keeps back until it is known; a client that was told another one,
    /// since the books refused the charge, gets it now.
    pub(super) fn tell_settled(&mut self, settlement: Settlement) {
        if let Some(overcharge) = settlement.clamped {
            let (reported, reserved) = (overcharge.reported.get(), overcharge.reserved.get());
            warn!(reported, reserved, "a worker claimed more than was reserved; blame: worker");
        }
        let Some(stream) = self.requests.get(&settlement.key).map(|held| Arc::clone(&held.stream)) else { return };
        let charged = settlement.charged;
        // A full outbox ends with its connection; a payment told late is told by the next one.
        if let Some(leg) = stream.leg().filter(|leg| leg.version != Version::Extended) {
            let payment = self.request_payment(Side::Worker, settlement.payee.into(), leg.request_id, charged);
            let message = ProxyToWorker::Payment { payment, request_client_owner: String::new() };
            let _ = leg.outbox.send(message.encode(leg.version));
        }
        let Some(link) = self.clients.get(&settlement.client).map(Arc::clone) else { return };
        let request_id = stream.request_id();
        if link.version != Version::Extended {
            let payment = self.request_payment(Side::Client, settlement.payer.into(), request_id, charged);
            let _ = link.outbox.send(ProxyToClient::Payment(payment).encode(link.version));
        } else if stream.billed() != charged {
            let info = FinalInfo { tokens: settlement.tokens, proof: settlement.proof, ..FinalInfo::default() };
            let _ = link.outbox.send(ProxyToClient::Settled { request_id, info }.encode(link.version));
        }
    }

    fn request_payment(
        &mut self,
        side: Side,
        account: AccountId,
        request_id: RequestId,
        request_tokens: AdjustedTokens,
    ) -> RequestPayment {
        let PaymentStatus { signed_payment, db_tokens, max_tokens } = self.status_of(side, account);
        RequestPayment { request_id, signed_payment, db_tokens, max_tokens, request_tokens }
    }

    pub(super) fn answer_client(&mut self, client: ClientId, query_id: i64, question: Question) {
        let Some(link) = self.clients.get(&client).map(Arc::clone) else { return };
        let answer = match question {
            Question::Settled(ids, evidence) => {
                if !self.settled.ask(client, query_id, ids, evidence) {
                    let _ = link.outbox.refuse(query_id, 429, "you ask for more than you wait for");
                }
                return;
            }
            Question::WorkerTypesV2 => ClientAnswer::WorkerTypesV2(self.core.worker_types()),
            Question::WorkerTypes => {
                ClientAnswer::WorkerTypes(self.core.worker_types().iter().filter_map(summary).collect())
            }
            Question::PaymentStatus => {
                let payer = self.core.client_account(client).map(|(payer, _)| payer);
                ClientAnswer::PaymentStatus(
                    payer.map_or_else(nothing, |payer| self.status_of(Side::Client, payer.into())),
                )
            }
            Question::Refund => match self.refund(client) {
                Ok(answer) => answer,
                Err((code, message)) => {
                    let _ = link.outbox.refuse(query_id, code, message);
                    return;
                }
            },
        };
        if link.outbox.answer(query_id, answer.encode()).is_err() {
            // It asks and does not read, or it is gone already.
            link.outbox.close();
        }
    }

    pub(super) fn answer_worker(&mut self, worker: WorkerId, query_id: i64) {
        let payee = self.core.worker_account(worker);
        let status = payee.map_or_else(nothing, |payee| self.status_of(Side::Worker, payee.into()));
        let Some(link) = self.workers.get(&worker) else { return };
        if link.outbox.answer(query_id, WorkerAnswer::PaymentStatus(status).encode()).is_err() {
            link.outbox.close();
        }
    }
}

/// The handle of an account of either side.
#[derive(Clone, Copy, Debug)]
pub(super) enum AccountId {
    Payer(PayerId),
    Payee(PayeeId),
}

impl From<PayerId> for AccountId {
    fn from(payer: PayerId) -> Self {
        Self::Payer(payer)
    }
}

impl From<PayeeId> for AccountId {
    fn from(payee: PayeeId) -> Self {
        Self::Payee(payee)
    }
}

fn nothing() -> PaymentStatus {
    let none = AdjustedTokens::ZERO;
    PaymentStatus { signed_payment: SignedPayment::Empty, db_tokens: none, max_tokens: none }
}

/// The older form: one row a model.
fn summary(model: &WorkerType) -> Option<WorkerTypeSummary> {
    let mut coefficients: Vec<_> = model.workers.iter().map(|worker| worker.coefficient).collect();
    coefficients.sort_unstable();
    Some(WorkerTypeSummary {
        name: model.name.clone(),
        active_workers: u32::try_from(coefficients.len()).unwrap_or(u32::MAX),
        coefficient_min: *coefficients.first()?,
        coefficient_bucket50: *coefficients.get(coefficients.len() / 2)?,
        coefficient_max: *coefficients.last()?,
    })
}
