//! Receipts that cannot be judged at once: those whose worker's evidence is not here yet, and those that are weighed in a
//! way that the root has not told us of.
//!
//! A bounded queue, and a task that takes a few at a time. The app has its answer long before; what waits is the hold,
//! which counts in full meanwhile. What cannot be judged in the end, since the session is lost, the queue is full, or the
//! proxy does not give the evidence, leaves its hold open: the proxy is asked again what the request came to, and judged by
//! the same rule (`settled`).

use std::{
    future::pending,
    sync::{Arc, PoisonError, Weak},
};

use bytes::Bytes;
use cocoon_receipt::Receipt;
use cocoon_wire::message::{ClientAnswer, ClientQuery};
use futures_util::{StreamExt as _, stream};
use sha2::{Digest, Sha256};
use tokio::{
    sync::mpsc::error::TrySendError,
    task::spawn_blocking,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    End, Receipts,
    check::check,
    evidence::{Judged, judge},
    fault::Fault,
    store::read_evidence,
};
use crate::{
    limits,
    session::link::{Link, NoAnswer},
};

/// A receipt that cannot be judged at once.
pub(super) struct Job {
    pub(super) end: End,
    pub(super) wait: Wait,
}

/// What for.
pub(super) enum Wait {
    /// It says the right things; the evidence for its key is to be fetched.
    Evidence { receipt: Box<Receipt>, sha256: [u8; 32] },
    /// It is weighed in another way than we know; the root may say so soon.
    Root(Fault),
}

impl Receipts {
    /// Fetches the evidence that receipts wait for, until it is stopped.
    pub(crate) async fn run(self: Arc<Self>, stop: CancellationToken) {
        let queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(queue) = queue else { return };
        let jobs = stream::unfold(queue, async |mut queue| queue.recv().await.map(|job| (job, queue)));
        // What is not checked when it stops leaves its hold open.
        let fetching = jobs.for_each_concurrent(limits::RECEIPTS_CHECKED_AT_ONCE, |job| self.work(job));
        tokio::select! {
            () = stop.cancelled() => {}
            () = fetching => {}
        }
    }

    /// Leaves a receipt for later; when there are too many, its hold stays open.
    pub(super) fn put_off(&self, job: Job) {
        if let Err(refused) = self.jobs.try_send(job) {
            let (TrySendError::Full(job) | TrySendError::Closed(job)) = refused;
            self.leave_open(job.end);
        }
    }

    async fn work(&self, Job { end, wait }: Job) {
        match wait {
            Wait::Evidence { receipt, sha256 } => self.fetch_and_judge(end, *receipt, sha256).await,
            Wait::Root(fault) => match self.check_again(&end, fault).await {
                // Its evidence may have to wait, too, in a turn of its own.
                Ok(receipt) => self.vouch(end, receipt),
                Err(fault) => self.conclude(end, Err(fault)),
            },
        }
    }

    /// Waits for the root to say what the receipt says.
    async fn check_again(&self, end: &End, fault: Fault) -> Result<Receipt, Fault> {
        let (Some(root), Some(signed)) = (self.root.get(), &end.signed) else { return Err(fault) };
        let mut root = root.clone();
        let agreed = async {
            loop {
                match check(signed, &end.asked, &end.heard, self.multipliers(), &self.roots) {
                    Err(fault) if fault.may_be_news() => {}
                    outcome => return outcome,
                }
                if root.changed().await.is_err() {
                    pending::<()>().await;
                }
            }
        };
        timeout(limits::RECEIPT_NEWS_WAIT, agreed).await.unwrap_or(Err(fault))
    }

    async fn fetch_and_judge(&self, end: End, receipt: Receipt, evidence: [u8; 32]) {
        match self.judged(evidence, &end.link).await {
            Ok(judged) => self.conclude_by(end, receipt, &judged),
            // Honest proxies forget documents, too; they would be refused for good.
            Err(None | Some(Fault::EvidenceWithheld)) => self.leave_open(end),
            Err(Some(fault)) => self.conclude(end, Err(fault)),
        }
    }

    /// The document of this hash, fetched and judged unless that was done before. No fault where nobody could be asked.
    pub(super) async fn judged(&self, sha256: [u8; 32], link: &Weak<Link>) -> Result<Arc<Judged>, Option<Fault>> {
        let policy = self.policy();
        // Of many receipts with the same new evidence, the first ones all come here.
        if let Some(judged) = self.evidence.find(&sha256, policy.as_deref()) {
            return Ok(judged);
        }
        let text = self.fetch(&sha256, link).await.map_err(|why| match why {
            NoAnswer::Peer => Some(Fault::EvidenceWithheld),
            NoAnswer::Unasked => None,
        })?;
        if <[u8; 32]>::from(Sha256::digest(&text)) != sha256 {
            // It is not kept under that name: another proxy may have the true one.
            return Err(Some(Fault::EvidenceUnreadable("its hash is another one".to_owned())));
        }
        let judging = spawn_blocking(move || judge(sha256, text, policy.as_deref()));
        let judged = judging.await.map(Arc::new).map_err(|_| None)?;
        self.evidence.keep(Arc::clone(&judged));
        Ok(judged)
    }

    /// The document, from memory, from the disk or from the proxy.
    async fn fetch(&self, sha256: &[u8; 32], link: &Weak<Link>) -> Result<Bytes, NoAnswer> {
        if let Some(text) = self.evidence.text(sha256) {
            return Ok(text);
        }
        if let Some(text) = self.kept_evidence(sha256).await {
            return Ok(text);
        }
        let query = ClientQuery::GetEvidence { sha256: *sha256 };
        let mut why = NoAnswer::Unasked;
        for pause in limits::EVIDENCE_TRIES {
            // The session is not held longer than the question takes.
            let Some(asked) = link.upgrade() else { return Err(NoAnswer::Unasked) };
            match asked.question(&query).await {
                Ok(ClientAnswer::Evidence(text)) => return Ok(text),
                Ok(_) => return Err(NoAnswer::Peer),
                Err(silence) => why = silence,
            }
            drop(asked);
            sleep(pause).await;
        }
        Err(why)
    }

    async fn kept_evidence(&self, sha256: &[u8; 32]) -> Option<Bytes> {
        let path = self.lock().document_path(sha256)?;
        let text = spawn_blocking(move || read_evidence(&path)).await.ok().flatten()?;
        // A disk that damaged it is no reason to blame anybody.
        (<[u8; 32]>::from(Sha256::digest(&text)) == *sha256).then_some(text)
    }
}
