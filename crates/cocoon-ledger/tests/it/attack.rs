//! What a host, a worker or a client tries, by name.

use bytes::Bytes;
use cocoon_ledger::{
    Commit, Journal, JournalError, Ledger, LostRefusal, PayeeId, PayerId, RolledBack, Spent, Standing,
};
use redb::{Database, ReadableDatabase as _, ReadableTable as _, TableDefinition};

use crate::disk::Disk;
use crate::{KEY, credit, id, open, open_with, spent, spent_in, tokens, write};

const HEADER: TableDefinition<'_, (), &[u8]> = TableDefinition::new("header");
const SNAPSHOT: TableDefinition<'_, u32, &[u8]> = TableDefinition::new("snapshot");
const BATCHES: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("batches");

/// A proxy that settles for one client and one worker.
struct Proxy {
    disk: Disk,
    journal: Journal,
    ledger: Ledger,
    payer: PayerId,
    payee: PayeeId,
}

impl Proxy {
    fn on(disk: Disk) -> Self {
        let (journal, mut ledger) = open(&disk);
        let payer = ledger.open_payer("client", credit(0, 1_000)).unwrap();
        let payee = ledger.open_payee("worker").unwrap();
        Self { disk, journal, ledger, payer, payee }
    }

    fn settle(&mut self, number: u64, amount: u64) {
        let reservation = self.ledger.reserve(self.payer, tokens(amount)).unwrap();
        let spent = spent_in(self.ledger.run(), number, self.ledger.seq());
        let _ = self.ledger.settle(reservation, self.payee, tokens(amount), Some(spent));
        write(&mut self.journal, &mut self.ledger);
    }

    /// What is now on chain.
    fn commit(&mut self) -> Commit {
        self.ledger.begin_commit().unwrap();
        write(&mut self.journal, &mut self.ledger);
        let commit = self.ledger.commit_to_send().unwrap();
        self.ledger.committed(commit.number);
        write(&mut self.journal, &mut self.ledger);
        commit
    }

    fn stop(self) -> Disk {
        let Self { disk, journal, .. } = self;
        drop(journal);
        disk
    }
}

/// Three settlements, each in a batch of its own.
fn three_batches() -> Disk {
    let mut proxy = Proxy::on(Disk::default());
    for number in 0..3 {
        proxy.settle(number, 10);
    }
    proxy.stop()
}

/// The host opens the file with the same database, and changes it.
fn edit(disk: &Disk, change: impl FnOnce(&redb::WriteTransaction)) -> Disk {
    let disk = Disk::with(disk.copy());
    let database = Database::builder().create_with_backend(disk.clone()).unwrap();
    let transaction = database.begin_write().unwrap();
    change(&transaction);
    transaction.commit().unwrap();
    drop(database);
    disk
}

fn batches(disk: &Disk) -> Vec<(u64, Vec<u8>)> {
    let database = Database::builder().create_with_backend(Disk::with(disk.copy())).unwrap();
    let table = database.begin_read().unwrap().open_table(BATCHES).unwrap();
    table.iter().unwrap().map(|row| row.unwrap()).map(|(seq, bytes)| (seq.value(), bytes.value().to_vec())).collect()
}

fn refused(disk: &Disk) -> JournalError {
    open_with(disk, &KEY).expect_err("a journal that was changed is not opened")
}

fn put_batch(seq: u64, sealed: &[u8]) -> impl FnOnce(&redb::WriteTransaction) {
    move |transaction| drop(transaction.open_table(BATCHES).unwrap().insert(seq, sealed).unwrap())
}

#[test]
fn rolled_back_database() {
    let mut proxy = Proxy::on(Disk::default());
    proxy.settle(1, 10);
    let first = proxy.commit();
    let older = proxy.disk.copy();
    proxy.settle(2, 10);
    let second = proxy.commit();

    let (_journal, ledger) = open(&Disk::with(older));
    ledger.check_chain(Some(first)).unwrap();
    assert_eq!(ledger.check_chain(Some(second)), Err(RolledBack::Older { on_chain: 2, ours: 1 }));

    let (_journal, ledger) = open(&Disk::default());
    let error = ledger.check_chain(Some(second)).unwrap_err();
    assert_eq!(error, RolledBack::Older { on_chain: 2, ours: 0 });
    assert!(error.to_string().contains("Put the newest database back"), "{error}");
}

#[test]
fn a_copy_of_the_database_runs_as_well() {
    let mut proxy = Proxy::on(Disk::default());
    proxy.settle(1, 10);
    let mut copy = Proxy::on(Disk::with(proxy.disk.copy()));
    let on_chain = proxy.commit();
    assert_eq!(copy.ledger.check_chain(Some(on_chain)), Err(RolledBack::Older { on_chain: 1, ours: 0 }));
    copy.settle(2, 10);
    let own = copy.commit();
    assert_ne!(own.digest, on_chain.digest);
    assert_eq!(copy.ledger.check_chain(Some(on_chain)), Err(RolledBack::Forked { number: 1 }));
    assert_eq!(copy.ledger.check_chain(None), Err(RolledBack::OtherChain { ours: 1 }));
    proxy.ledger.check_chain(Some(on_chain)).unwrap();
}

#[test]
fn a_commit_that_was_begun_but_never_written_is_on_chain() {
    let mut proxy = Proxy::on(Disk::default());
    proxy.settle(1, 10);
    proxy.ledger.begin_commit();
    let forged = Commit { number: 1, digest: [0; 32] };
    assert_eq!(proxy.ledger.check_chain(Some(forged)), Err(RolledBack::Older { on_chain: 1, ours: 0 }));
    proxy.ledger.committed(1);
    assert_eq!(proxy.ledger.payer(proxy.payer).marks.committed, tokens(0));
}

#[test]
fn host_edits_the_journal_and_recomputes_hashes() {
    let disk = three_batches();
    let all = batches(&disk);
    let [(_, _), (first, one), (second, two)] = &all[all.len() - 3..] else { panic!("too few batches") };
    // Heads are computed from what is there, so the host has nothing to recompute: every change is noticed at its place.
    let check = |changed: &Disk, at: u64| {
        let error = refused(changed);
        assert!(matches!(error, JournalError::Changed { seq } if seq == at), "{error:?}");
    };
    for byte in [0, 31, 32, one.len() / 2, one.len() - 1] {
        let mut changed = one.clone();
        changed[byte] ^= 1;
        check(&edit(&disk, put_batch(*first, &changed)), *first);
    }
    check(&edit(&disk, put_batch(*first, &one[..one.len() - 1])), *first);
    check(&edit(&disk, put_batch(*first, &[])), *first);
    check(&edit(&disk, put_batch(*first, two)), *first);
    check(&edit(&disk, put_batch(*second, one)), *second);
    check(&edit(&disk, put_batch(*second + 1, two)), *second + 1);
    check(&edit(&disk, |transaction| drop(transaction.open_table(BATCHES).unwrap().remove(*first).unwrap())), *first);
    check(&edit(&disk, |transaction| drop(transaction.delete_table(BATCHES))), 0);
    check(&edit(&disk, |transaction| drop(transaction.delete_table(SNAPSHOT))), 0);
}

#[test]
fn host_takes_the_header_away() {
    let disk = three_batches();
    let gone = edit(&disk, |transaction| drop(transaction.delete_table(HEADER)));
    assert!(matches!(refused(&gone), JournalError::OtherKey));
    let empty = edit(&disk, |transaction| drop(transaction.open_table(HEADER).unwrap().insert((), &[0u8; 99][..])));
    assert!(matches!(refused(&empty), JournalError::OtherKey));
}

#[test]
fn a_batch_of_a_parallel_life_is_inserted() {
    let disk = three_batches();
    let mut proxy = Proxy::on(Disk::with(disk.copy()));
    proxy.settle(7, 1);
    let ours = batches(&proxy.stop());
    let mut proxy = Proxy::on(Disk::with(disk.copy()));
    proxy.settle(8, 500);
    proxy.settle(9, 1);
    let theirs = proxy.stop();
    let (seq, sealed) = ours.last().unwrap();
    // It opens at its place, as what it is: an older file. What went on from the other batch does not.
    let error = refused(&edit(&theirs, put_batch(*seq, sealed)));
    assert!(matches!(error, JournalError::Changed { seq: at } if at == seq + 1), "{error:?}");
}

#[test]
fn a_journal_from_another_machine() {
    let disk = three_batches();
    let error = open_with(&disk, &[8; 32]).unwrap_err();
    assert!(matches!(error, JournalError::OtherKey), "{error:?}");
    assert!(error.to_string().contains("start it with an empty folder"), "{error}");
    // The right one still opens it.
    let proxy = Proxy::on(disk);
    assert_eq!(proxy.ledger.payer(proxy.payer).marks.known, tokens(30));
}

#[test]
fn older_snapshot() {
    let mut proxy = Proxy::on(Disk::default());
    proxy.journal = proxy.journal.compact_at(0);
    let (empty, _) = snapshot_of(&proxy.disk.copy());
    let mut older = None;
    for number in 0.. {
        proxy.settle(number, 10);
        let (header, snapshot) = snapshot_of(&proxy.disk.copy());
        match &older {
            None if header != empty => older = Some((header, snapshot)),
            Some((first, _)) if header != *first => break,
            None | Some(_) => {}
        }
    }
    proxy.settle(1_000, 10);
    let (header, snapshot) = older.unwrap();
    let disk = proxy.stop();
    let restored = |with_header: bool| {
        edit(&disk, |transaction| {
            transaction.open_table(SNAPSHOT).unwrap().insert(0, snapshot.as_slice()).unwrap();
            if with_header {
                transaction.open_table(HEADER).unwrap().insert((), header.as_slice()).unwrap();
            }
        })
    };
    assert!(matches!(refused(&restored(false)), JournalError::Changed { .. }));
    assert!(matches!(refused(&restored(true)), JournalError::Changed { .. }));
}

fn snapshot_of(image: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let database = Database::builder().create_with_backend(Disk::with(image.to_vec())).unwrap();
    let transaction = database.begin_read().unwrap();
    let header = transaction.open_table(HEADER).unwrap().get(()).unwrap().unwrap().value().to_vec();
    let snapshot = transaction.open_table(SNAPSHOT).unwrap().get(0).unwrap().unwrap().value().to_vec();
    (header, snapshot)
}

#[test]
fn reused_receipt_id() {
    let mut proxy = Proxy::on(Disk::default());
    proxy.settle(1, 10);
    let ledger = &mut proxy.ledger;
    let run = ledger.run();
    let spent = |number, opened_at| spent_in(run, number, opened_at);
    let before = ledger.payee(proxy.payee).known;
    let reservation = ledger.reserve(proxy.payer, tokens(10)).unwrap();
    let settled = ledger.settle(reservation, proxy.payee, tokens(10), Some(spent(1, 99)));
    assert_eq!((settled.charged, settled.is_repeat), (tokens(0), true));
    assert_eq!(ledger.settle_lost(proxy.payer, proxy.payee, tokens(10), spent(1, 99)), Err(LostRefusal::AlreadySpent));
    // Given up with a worker: void, however good its receipt is.
    let reservation = ledger.reserve(proxy.payer, tokens(10)).unwrap();
    ledger.release(reservation, Some((id(2), ledger.seq())));
    assert_eq!(ledger.settle_lost(proxy.payer, proxy.payee, tokens(10), spent(2, 99)), Err(LostRefusal::AlreadySpent));
    // Handed over while it still runs here: the reservation is given back, and nothing is charged twice.
    let reservation = ledger.reserve(proxy.payer, tokens(10)).unwrap();
    let settled = ledger.settle_lost(proxy.payer, proxy.payee, tokens(10), spent(3, 99)).unwrap();
    assert_eq!(settled.charged, tokens(10));
    assert!(ledger.settle(reservation, proxy.payee, tokens(10), Some(spent(3, 99))).is_repeat);
    assert_eq!(ledger.payee(proxy.payee).known.get(), before.get() + 10);
    ledger.assert_conserved();
}

/// A worker has served a small request, and the crash lost it: the disk of before, and what the worker has.
fn lost_in_a_crash() -> (Disk, Spent) {
    let mut proxy = Proxy::on(Disk::default());
    write(&mut proxy.journal, &mut proxy.ledger);
    let before = proxy.disk.copy();
    let lost = spent_in(proxy.ledger.run(), 1, proxy.ledger.seq());
    proxy.settle(1, 10);
    (Disk::with(before), lost)
}

impl Proxy {
    fn hand_over(&mut self, amount: u64, lost: &Spent) -> Result<u64, LostRefusal> {
        let settled = self.ledger.settle_lost(self.payer, self.payee, tokens(amount), lost.clone());
        settled.map(|settled| settled.charged.get())
    }

    /// Serves a request under the id that was lost.
    fn reuse(&mut self, amount: u64, while_it_runs: impl FnOnce(&mut Self)) -> (u64, Spent) {
        let reservation = self.ledger.reserve(self.payer, tokens(amount)).unwrap();
        let reused = spent_in(self.ledger.run(), 1, self.ledger.seq());
        while_it_runs(self);
        let settled = self.ledger.settle(reservation, self.payee, tokens(amount), Some(reused.clone()));
        (settled.charged.get(), reused)
    }

    fn earned(&self) -> u64 {
        self.ledger.assert_conserved();
        self.ledger.payee(self.payee).known.get()
    }
}

#[test]
fn a_lost_id_buys_a_large_answer_for_nothing() {
    let (disk, lost) = lost_in_a_crash();
    let after = |disk: &Disk| Proxy::on(Disk::with(disk.copy()));
    // The lost receipt comes back while the large answer runs, after it, or before.
    let mut during = after(&disk);
    let (charged, _) = during.reuse(400, |proxy| assert_eq!(proxy.hand_over(10, &lost), Ok(10)));
    assert_eq!((charged, during.earned()), (400, 410));
    let mut later = after(&disk);
    assert_eq!((later.reuse(400, |_| ()).0, later.hand_over(10, &lost), later.earned()), (400, Ok(10), 410));
    let mut sooner = after(&disk);
    assert_eq!((sooner.hand_over(10, &lost), sooner.reuse(400, |_| ()).0, sooner.earned()), (Ok(10), 400, 410));
    for proxy in [&mut during, &mut later, &mut sooner] {
        assert_eq!(proxy.hand_over(10, &lost), Err(LostRefusal::AlreadySpent));
        assert_eq!(proxy.reuse(400, |_| ()).0, 0, "the same run has it once");
    }
}

/// Somebody else uses the id of a request that a crash lost: its client still hears what it cost.
#[test]
fn a_lost_id_is_used_by_another_client() {
    let (disk, lost) = lost_in_a_crash();
    let mut proxy = Proxy::on(disk);
    let other = proxy.ledger.open_payer("other", credit(0, 1_000)).unwrap();
    let reservation = proxy.ledger.reserve(other, tokens(5)).unwrap();
    let spent = spent_in(proxy.ledger.run(), 1, proxy.ledger.seq());
    let _ = proxy.ledger.settle(reservation, proxy.payee, tokens(5), Some(spent));
    assert_eq!(proxy.ledger.spent_by(proxy.payer, &lost.id), None);
    assert_eq!(proxy.hand_over(10, &lost), Ok(10));
    let cost = |payer| proxy.ledger.spent_by(payer, &lost.id).map(|request| request.tokens.get());
    assert_eq!((cost(proxy.payer), cost(other)), (Some(10), Some(5)));
}

#[test]
fn five_hundred_dust_contracts_that_leave() {
    let mut proxy = Proxy::on(Disk::default());
    let many = 5 * cocoon_ledger::limits::NOTES_MAX;
    for number in 0..many {
        let dust = proxy.ledger.open_payer(&number.to_string(), credit(0, 1)).unwrap();
        proxy.ledger.shut_payer(dust);
    }
    proxy.ledger.shut_payer(proxy.payer);
    proxy.commit();
    assert_eq!(proxy.ledger.payer(proxy.payer).standing, Standing::Left, "one commit covers all");
    // What they leave behind ends with their accounts.
    assert!(proxy.ledger.close_payer(proxy.payer));
    let again = proxy.ledger.open_payer("client", credit(0, 1)).unwrap();
    assert_eq!(proxy.ledger.payer(again).standing, Standing::Open);
}

#[test]
fn a_busy_ledger_lets_clients_leave() {
    let mut proxy = Proxy::on(Disk::default());
    proxy.ledger.shut_payer(proxy.payer);
    proxy.commit();
    let other = proxy.ledger.open_payer("other", credit(0, 1_000)).unwrap();
    let reservation = proxy.ledger.reserve(other, tokens(5)).unwrap();
    let _ = proxy.ledger.settle(reservation, proxy.payee, tokens(5), None);
    assert!(proxy.ledger.unwritten() > 0);
    assert_eq!(proxy.ledger.payer(proxy.payer).standing, Standing::Left);
}

#[test]
fn a_lost_id_is_given_up_before_its_receipt_comes_back() {
    let (disk, lost) = lost_in_a_crash();
    let mut proxy = Proxy::on(disk);
    let reservation = proxy.ledger.reserve(proxy.payer, tokens(500)).unwrap();
    let opened_at = proxy.ledger.seq();
    proxy.ledger.release(reservation, Some((lost.id, opened_at)));
    assert_eq!(proxy.hand_over(500, &spent_in(proxy.ledger.run(), 1, opened_at)), Err(LostRefusal::AlreadySpent));
    assert_eq!((proxy.hand_over(10, &lost), proxy.earned()), (Ok(10), 10));
}

/// Whatever of the two the second crash leaves, each is paid once.
#[test]
fn a_lost_id_is_used_again_and_the_proxy_crashes_again() {
    let (disk, lost) = lost_in_a_crash();
    for written in 0..8 {
        let mut proxy = Proxy::on(Disk::with(disk.copy()));
        let is_written = |step: u32| written & (1 << step) != 0;
        let write_if = |proxy: &mut Proxy, step| {
            if is_written(step) {
                write(&mut proxy.journal, &mut proxy.ledger);
            }
        };
        let (_, reused) = proxy.reuse(500, |_| ());
        write_if(&mut proxy, 0);
        proxy.hand_over(10, &lost).unwrap();
        write_if(&mut proxy, 1);
        let mut proxy = Proxy::on(Disk::with(proxy.disk.copy()));
        let _ = (proxy.hand_over(10, &lost), proxy.hand_over(500, &reused));
        write_if(&mut proxy, 2);
        let mut proxy = Proxy::on(Disk::with(proxy.disk.copy()));
        let _ = (proxy.hand_over(500, &reused), proxy.hand_over(10, &lost));
        assert_eq!(proxy.earned(), 510, "{written:b}");
    }
}

/// A disk that is set back to before the client left has no commit that covers it, and with that commit on chain it does
/// not open again.
#[test]
fn a_refund_survives_a_rollback() {
    let mut proxy = Proxy::on(Disk::default());
    proxy.settle(1, 10);
    let first = proxy.commit();
    let before = proxy.disk.copy();
    let standing = |proxy: &Proxy| proxy.ledger.payer(proxy.payer).standing;
    assert_eq!(standing(&proxy), Standing::Open);
    proxy.ledger.shut_payer(proxy.payer);
    write(&mut proxy.journal, &mut proxy.ledger);
    assert_eq!(standing(&proxy), Standing::Leaving, "a disk can be set back");
    assert!(proxy.ledger.reserve(proxy.payer, tokens(1)).is_err());
    assert_eq!(standing(&Proxy::on(Disk::with(proxy.disk.copy()))), Standing::Leaving);
    let second = proxy.commit();
    assert_eq!(standing(&proxy), Standing::Left);
    assert_eq!(standing(&Proxy::on(Disk::with(proxy.disk.copy()))), Standing::Left);
    let older = Proxy::on(Disk::with(before));
    assert_eq!(older.ledger.check_chain(Some(first)), Ok(()));
    assert_eq!(older.ledger.check_chain(Some(second)), Err(RolledBack::Older { on_chain: 2, ours: 1 }));
}

#[test]
fn a_commit_under_way_does_not_cover_a_client_that_leaves() {
    let mut proxy = Proxy::on(Disk::default());
    proxy.settle(1, 10);
    proxy.ledger.begin_commit().unwrap();
    proxy.ledger.shut_payer(proxy.payer);
    proxy.ledger.shut_payer(proxy.payer);
    write(&mut proxy.journal, &mut proxy.ledger);
    proxy.ledger.committed(1);
    assert_eq!(proxy.ledger.payer(proxy.payer).standing, Standing::Leaving);
    proxy.commit();
    assert_eq!(proxy.ledger.payer(proxy.payer).standing, Standing::Left);
    assert_eq!(proxy.ledger.begin_commit(), None, "nothing else is new");
}

#[test]
fn a_client_leaves_before_its_lost_receipts_come_back() {
    let (disk, lost) = lost_in_a_crash();
    let mut proxy = Proxy::on(disk);
    proxy.ledger.shut_payer(proxy.payer);
    assert_eq!(proxy.hand_over(10, &lost), Ok(10), "nothing was signed yet");
    proxy.commit();
    assert_eq!(proxy.hand_over(10, &Spent { id: id(2), ..lost }), Err(LostRefusal::AccountClosed));
}

#[test]
fn a_receipt_is_handed_over_after_its_id_was_forgotten() {
    let mut ledger = Ledger::new();
    let payer = ledger.open_payer("client", credit(0, u64::MAX)).unwrap();
    let payee = ledger.open_payee("worker").unwrap();
    for number in 0..=cocoon_ledger::limits::SPENT_MAX as u64 {
        let reservation = ledger.reserve(payer, tokens(1)).unwrap();
        let spent = Spent { receipt: Bytes::new(), ..spent(number, 10 + number) };
        let _ = ledger.settle(reservation, payee, tokens(1), Some(spent));
    }
    assert_eq!(ledger.spent(&id(0)), None);
    let refused = ledger.settle_lost(payer, payee, tokens(1), spent(0, 10));
    assert_eq!(refused, Err(LostRefusal::TooOld { opened_at: 10, forgotten: 10 }));
    assert_eq!(ledger.settle_lost(payer, payee, tokens(1), spent(1, 11)), Err(LostRefusal::AlreadySpent));
}

#[test]
fn two_clients_racing_one_balance() {
    let mut ledger = Ledger::new();
    // Two sessions of one contract have one account.
    let one = ledger.open_payer("client", credit(0, 100)).unwrap();
    let other = ledger.open_payer("client", credit(0, 100)).unwrap();
    let payee = ledger.open_payee("worker").unwrap();
    let first = ledger.reserve(one, tokens(60)).unwrap();
    assert!(ledger.reserve(other, tokens(60)).is_err());
    let second = ledger.reserve(other, tokens(40)).unwrap();
    for reservation in [first, second] {
        let _ = ledger.settle(reservation, payee, tokens(u64::MAX), None);
    }
    assert_eq!((one, ledger.payee(payee).known), (other, tokens(100)));
    // What the chain has charged is no new credit.
    ledger.set_credit(one, credit(100, 0));
    assert!(ledger.reserve(one, tokens(1)).is_err());
    ledger.assert_conserved();
}

#[test]
fn tokens_that_the_chain_charged_and_nobody_knows_are_no_credit() {
    let mut ledger = Ledger::new();
    let payer = ledger.open_payer("client", credit(50, 10)).unwrap();
    assert!(ledger.reserve(payer, tokens(11)).is_err());
    let reservation = ledger.reserve(payer, tokens(10)).unwrap();
    ledger.release(reservation, None);
}

#[test]
fn a_client_withdraws_while_its_requests_run() {
    let mut ledger = Ledger::new();
    let payer = ledger.open_payer("client", credit(0, 100)).unwrap();
    let payee = ledger.open_payee("worker").unwrap();
    let reservation = ledger.reserve(payer, tokens(80)).unwrap();
    ledger.set_credit(payer, credit(0, 10));
    assert!(ledger.reserve(payer, tokens(1)).is_err());
    let lost = ledger.settle_lost(payer, payee, tokens(5), spent(1, 1)).unwrap();
    assert_eq!(lost.charged, tokens(0));
    assert_eq!(ledger.settle(reservation, payee, tokens(80), None).charged, tokens(80));
    ledger.assert_conserved();
}

#[test]
fn overflowing_counts() {
    let mut ledger = Ledger::new();
    let payee = ledger.open_payee("worker").unwrap();
    let max = u64::MAX;
    for (name, credit) in [("one", credit(0, max)), ("two", credit(max, max)), ("three", credit(0, max))] {
        let payer = ledger.open_payer(name, credit).unwrap();
        if let Ok(reservation) = ledger.reserve(payer, tokens(max)) {
            let settled = ledger.settle(reservation, payee, tokens(max), None);
            // Earnings that do not fit 64 bits are charged to nobody.
            assert_eq!(settled.charged, if name == "one" { tokens(max) } else { tokens(0) });
        }
        let _ = ledger.settle_lost(payer, payee, tokens(max), spent(max - ledger.seq(), max));
        ledger.assert_conserved();
    }
    assert_eq!(ledger.payee(payee).known, tokens(max));
}

#[test]
fn a_flood_of_names_and_notes() {
    use cocoon_ledger::limits::{ACCOUNTS_MAX, NAME_BYTES_MAX, NOTE_BYTES_MAX, NOTES_MAX};
    let mut ledger = Ledger::new();
    for index in 0..ACCOUNTS_MAX {
        ledger.open_payee(&index.to_string()).unwrap();
    }
    assert!(ledger.open_payee("one more").is_err());
    let known = ledger.open_payee("7").unwrap();
    ledger.close_payee(known);
    assert!(ledger.open_payee("one more").is_ok());
    assert!(ledger.open_payer(&"x".repeat(NAME_BYTES_MAX + 1), credit(0, 1)).is_err());
    for index in 0..NOTES_MAX {
        ledger.set_note(&index.to_string(), Some(Bytes::new())).unwrap();
    }
    assert!(ledger.set_note("one more", Some(Bytes::new())).is_err());
    assert!(ledger.set_note("7", Some(Bytes::from(vec![0; NOTE_BYTES_MAX + 1]))).is_err());
    ledger.set_note("7", None).unwrap();
    assert!(ledger.set_note("one more", Some(Bytes::new())).is_ok());
}

#[test]
fn a_stalled_disk_refuses_new_requests() {
    let mut ledger = open(&Disk::default()).1;
    let payer = ledger.open_payer("client", credit(0, u64::MAX)).unwrap();
    let payee = ledger.open_payee("worker").unwrap();
    let mut settled = 0;
    while let Ok(reservation) = ledger.reserve(payer, tokens(1)) {
        let _ = ledger.settle(reservation, payee, tokens(1), None);
        settled += 1;
        assert!(settled <= cocoon_ledger::limits::UNWRITTEN_MAX);
    }
    assert_eq!(ledger.reserve(payer, tokens(1)).unwrap_err(), cocoon_ledger::Rejection::JournalBehind);
}
