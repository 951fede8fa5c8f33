//! Clients that ask what became of requests whose end they did not hear.
//!
//! An answer says which of them cost something, and that the others never will. So it waits until none of them runs any
//! more, and after a start until workers had a while to hand over what a crash lost. What was told to be free is then
//! remembered, and a worker that comes with it later is not paid for it.
//!
//! The ledger keeps the newest receipts only. What is charged is told all the same, without the receipt, and the client
//! takes our word for it in its own time.

use std::collections::{BTreeSet, VecDeque};

use cocoon_wire::message::{ClientAnswer, SettledRequest};
use tokio::time::Instant;

use super::Hub;
use crate::core::ClientId;
use crate::evidence::Evidence;
use crate::limits::{DENIED_MAX, RECOVERY_GRACE, SETTLED_QUESTIONS_MAX, SETTLED_QUESTIONS_OF_CLIENT_MAX};

/// Questions that wait, and answers that bind.
#[derive(Debug)]
pub(super) struct SettledQuestions {
    waiting: VecDeque<Asked>,
    /// Until when workers are given time to come back.
    recovering_until: Option<Instant>,
    denied: BTreeSet<[u8; 32]>,
    denied_order: VecDeque<[u8; 32]>,
}

#[derive(Debug)]
struct Asked {
    client: ClientId,
    query_id: i64,
    ids: Vec<[u8; 32]>,
    /// Where documents that vouch for receipt keys are found.
    evidence: Evidence,
    /// What was found running, or missing, when it was looked at last: until that changes nothing else is looked at, so that
    /// a flood of questions costs a look each and not one for each of their ids.
    waits_for: Option<WaitsFor>,
}

#[derive(Clone, Copy, Debug)]
enum WaitsFor {
    Request([u8; 32]),
    Recovery,
}

impl SettledQuestions {
    /// Books that outlive a crash may have lost what workers know.
    pub(super) fn new(now: Instant, keeps_books: bool) -> Self {
        Self {
            waiting: VecDeque::new(),
            recovering_until: keeps_books.then(|| now + RECOVERY_GRACE),
            denied: BTreeSet::new(),
            denied_order: VecDeque::new(),
        }
    }

    /// Takes a question; `false` where too many wait.
    pub(super) fn ask(&mut self, client: ClientId, query_id: i64, ids: Vec<[u8; 32]>, evidence: Evidence) -> bool {
        let of_client = self.waiting.iter().filter(|asked| asked.client == client).count();
        if self.waiting.len() >= SETTLED_QUESTIONS_MAX || of_client >= SETTLED_QUESTIONS_OF_CLIENT_MAX {
            return false;
        }
        self.waiting.push_back(Asked { client, query_id, ids, evidence, waits_for: None });
        true
    }

    /// When waiting questions can be answered at the latest, as far as the start is concerned.
    pub(super) fn until(&self) -> Option<Instant> {
        self.recovering_until.filter(|_| !self.waiting.is_empty())
    }

    /// Whether a client was told that this cost nothing.
    pub(super) fn was_denied(&self, id: &[u8; 32]) -> bool {
        self.denied.contains(id)
    }

    fn deny(&mut self, id: [u8; 32]) {
        if self.denied.insert(id) {
            self.denied_order.push_back(id);
        }
        if self.denied_order.len() > DENIED_MAX
            && let Some(oldest) = self.denied_order.pop_front()
        {
            self.denied.remove(&oldest);
        }
    }
}

impl Hub {
    /// Answers every question that can be answered now.
    pub(super) fn answer_settled(&mut self) {
        if self.settled.waiting.is_empty() {
            return;
        }
        if self.settled.recovering_until.is_some_and(|until| until <= Instant::now()) {
            self.settled.recovering_until = None;
        }
        for mut asked in std::mem::take(&mut self.settled.waiting) {
            if !self.clients.contains_key(&asked.client) {
                continue;
            }
            if self.still_waits(asked.waits_for) {
                self.settled.waiting.push_back(asked);
                continue;
            }
            match self.settled_of(&mut asked) {
                Some(answer) => self.tell_asked(&asked, &answer),
                None => self.settled.waiting.push_back(asked),
            }
        }
    }

    fn tell_asked(&self, asked: &Asked, answer: &ClientAnswer) {
        if let Some(link) = self.clients.get(&asked.client)
            && link.outbox.answer(asked.query_id, answer.encode()).is_err()
        {
            // It asks and does not read, or it is gone already.
            link.outbox.close();
        }
    }

    fn still_waits(&self, waits_for: Option<WaitsFor>) -> bool {
        match waits_for {
            None => false,
            Some(WaitsFor::Request(id)) => self.core.has_receipt(&id),
            Some(WaitsFor::Recovery) => self.settled.recovering_until.is_some(),
        }
    }

    /// None while one of them may still come to something.
    fn settled_of(&mut self, asked: &mut Asked) -> Option<ClientAnswer> {
        let (payer, _) = self.core.client_account(asked.client)?;
        let mut requests = Vec::new();
        let mut unknown = Vec::new();
        for id in &asked.ids {
            if self.core.has_receipt(id) {
                asked.waits_for = Some(WaitsFor::Request(*id));
                return None;
            }
            match self.core.ledger().spent(id) {
                // What another payer's request cost is nobody else's business.
                Some(spent) if spent.payer != payer || spent.tokens.get() == 0 => {}
                Some(spent) => {
                    let receipt = (!spent.receipt.is_empty()).then_some(spent.receipt);
                    // A receipt begins with its key.
                    let key = receipt.as_deref().and_then(<[u8]>::first_chunk);
                    let evidence = key.and_then(|key| asked.evidence.name_of(key));
                    requests.push(SettledRequest { id: *id, tokens: spent.tokens, receipt, evidence });
                }
                None => unknown.push(*id),
            }
        }
        if !unknown.is_empty() && self.settled.recovering_until.is_some() {
            asked.waits_for = Some(WaitsFor::Recovery);
            return None;
        }
        unknown.into_iter().for_each(|id| self.settled.deny(id));
        Some(ClientAnswer::SettledRequests(requests))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flood_of_questions_is_bounded() {
        let mut questions = SettledQuestions::new(Instant::now(), false);
        let of = |client, questions: &mut SettledQuestions| {
            (0..10).filter(|id| questions.ask(ClientId(client), *id, Vec::new(), Evidence::default())).count()
        };
        assert_eq!(of(1, &mut questions), SETTLED_QUESTIONS_OF_CLIENT_MAX);
        assert_eq!(of(2, &mut questions), SETTLED_QUESTIONS_OF_CLIENT_MAX, "one client's flood is not another's");
    }

    #[test]
    fn what_was_denied_is_remembered_within_bounds() {
        let mut questions = SettledQuestions::new(Instant::now(), true);
        for number in 0..=DENIED_MAX {
            let mut id = [0; 32];
            id[..8].copy_from_slice(&number.to_le_bytes());
            questions.deny(id);
        }
        assert!(!questions.was_denied(&[0; 32]), "the oldest is forgotten");
        assert_eq!((questions.denied.len(), questions.denied_order.len()), (DENIED_MAX, DENIED_MAX));
    }
}
