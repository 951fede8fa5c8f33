//! Clients that ask what became of requests whose end they did not hear.
//!
//! An answer says which of them cost something so far. So it waits until none of them runs any more, and after a crash until
//! workers had a while to hand over what it lost ([`recovery`](super::recovery)). A worker may come later than that: then
//! the demand grows, and the client asks again for what it was told to be free.
//!
//! The ledger keeps the newest receipts only. What is charged is told all the same, without the receipt, and the client
//! takes our word for it in its own time.

use std::collections::VecDeque;

use cocoon_wire::message::{ClientAnswer, SettledRequest};

use super::Hub;
use crate::core::ClientId;
use crate::evidence::Evidence;
use crate::limits::{SETTLED_QUESTIONS_MAX, SETTLED_QUESTIONS_OF_CLIENT_MAX};

/// Questions that wait.
#[derive(Debug, Default)]
pub(super) struct SettledQuestions {
    waiting: VecDeque<Asked>,
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
    /// Takes a question; `false` where too many wait.
    pub(super) fn ask(&mut self, client: ClientId, query_id: i64, ids: Vec<[u8; 32]>, evidence: Evidence) -> bool {
        let of_client = self.waiting.iter().filter(|asked| asked.client == client).count();
        if self.waiting.len() >= SETTLED_QUESTIONS_MAX || of_client >= SETTLED_QUESTIONS_OF_CLIENT_MAX {
            return false;
        }
        self.waiting.push_back(Asked { client, query_id, ids, evidence, waits_for: None });
        true
    }
}

impl Hub {
    /// Answers every question that can be answered now.
    pub(super) fn answer_settled(&mut self) {
        if self.settled.waiting.is_empty() {
            return;
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
            Some(WaitsFor::Recovery) => self.is_recovering(),
        }
    }

    /// None while one of them may still come to something.
    fn settled_of(&self, asked: &mut Asked) -> Option<ClientAnswer> {
        let (payer, _) = self.core.client_account(asked.client)?;
        let mut requests = Vec::new();
        let mut is_any_unknown = false;
        for id in &asked.ids {
            if self.core.has_receipt(id) {
                asked.waits_for = Some(WaitsFor::Request(*id));
                return None;
            }
            // What another payer's request cost is nobody else's business.
            match self.core.ledger().spent_by(payer, id) {
                Some(spent) if spent.tokens.get() == 0 => {}
                Some(spent) => {
                    let receipt = (!spent.receipt.is_empty()).then_some(spent.receipt);
                    // A receipt begins with its key.
                    let key = receipt.as_deref().and_then(<[u8]>::first_chunk);
                    let evidence = key.and_then(|key| asked.evidence.name_of(key));
                    requests.push(SettledRequest { id: *id, tokens: spent.tokens, receipt, evidence });
                }
                None => is_any_unknown = true,
            }
        }
        if is_any_unknown && self.is_recovering() {
            asked.waits_for = Some(WaitsFor::Recovery);
            return None;
        }
        Some(ClientAnswer::SettledRequests(requests))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flood_of_questions_is_bounded() {
        let mut questions = SettledQuestions::default();
        let of = |client, questions: &mut SettledQuestions| {
            (0..10).filter(|id| questions.ask(ClientId(client), *id, Vec::new(), Evidence::default())).count()
        };
        assert_eq!(of(1, &mut questions), SETTLED_QUESTIONS_OF_CLIENT_MAX);
        assert_eq!(of(2, &mut questions), SETTLED_QUESTIONS_OF_CLIENT_MAX, "one client's flood is not another's");
    }
}
