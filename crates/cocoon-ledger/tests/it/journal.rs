//! What a journal gives back is what was written to it.

use bytes::Bytes;
use cocoon_ledger::{JournalError, Ledger, Marks};

use crate::disk::Disk;
use crate::{Random, credit, id, open, spent, tokens, write};

fn marks(known: u64, durable: u64, committed: u64) -> Marks {
    Marks { known: tokens(known), durable: tokens(durable), committed: tokens(committed) }
}

#[test]
fn tokens_become_durable_then_committed() {
    let disk = Disk::default();
    let (mut journal, mut ledger) = open(&disk);
    let payer = ledger.open_payer("client", credit(0, 100)).unwrap();
    let payee = ledger.open_payee("worker").unwrap();
    let reservation = ledger.reserve(payer, tokens(60)).unwrap();
    assert_eq!(ledger.settle(reservation, payee, tokens(50), Some(spent(1, ledger.seq()))).charged, tokens(50));
    assert_eq!(ledger.payer(payer).marks, marks(50, 0, 0));

    write(&mut journal, &mut ledger);
    assert_eq!(ledger.payer(payer).marks, marks(50, 50, 0));
    assert_eq!(ledger.payee(payee), marks(50, 50, 0));

    assert_eq!(ledger.begin_commit(), Some(1));
    assert_eq!((ledger.begin_commit(), ledger.commit_to_send()), (None, None));
    // What comes after the commit is not covered by it, even if it is written with it.
    let reservation = ledger.reserve(payer, tokens(7)).unwrap();
    let _ = ledger.settle(reservation, payee, tokens(7), None);
    write(&mut journal, &mut ledger);
    let commit = ledger.commit_to_send().unwrap();
    ledger.check_chain(None).unwrap();
    ledger.check_chain(Some(commit)).unwrap();
    ledger.committed(commit.number);
    ledger.committed(commit.number);
    assert_eq!(ledger.payer(payer).marks, marks(57, 57, 50));
    assert_eq!(ledger.payee(payee), marks(57, 57, 50));
    assert_eq!(ledger.commit_to_send(), None);
    write(&mut journal, &mut ledger);
    ledger.assert_conserved();

    drop(journal);
    let (_journal, ledger) = open(&disk);
    let payer = ledger.find_payer("client").unwrap();
    assert_eq!(ledger.payer(payer).marks, marks(57, 57, 50));
    assert_eq!(ledger.spent(&id(1)).map(|request| request.tokens), Some(tokens(50)));
    assert_eq!(ledger.spent(&id(1)).map(|request| request.receipt), Some(Bytes::from("receipt 1")));
    ledger.check_chain(Some(commit)).unwrap();
}

#[test]
fn a_commit_without_news_is_not_begun() {
    let (mut journal, mut ledger) = open(&Disk::default());
    let payer = ledger.open_payer("client", credit(0, 100)).unwrap();
    let payee = ledger.open_payee("worker").unwrap();
    ledger.set_note("cursor", Some(Bytes::from("1"))).unwrap();
    assert_eq!(ledger.begin_commit(), None);
    let reservation = ledger.reserve(payer, tokens(1)).unwrap();
    let _ = ledger.settle(reservation, payee, tokens(1), None);
    assert_eq!(ledger.begin_commit(), Some(1));
    write(&mut journal, &mut ledger);
    ledger.committed(1);
    ledger.set_note("cursor", Some(Bytes::from("2"))).unwrap();
    assert_eq!(ledger.begin_commit(), None);
    assert_eq!(Ledger::new().begin_commit(), None);
}

#[test]
fn a_commit_that_a_crash_interrupts_stays_the_same() {
    let disk = Disk::default();
    let (mut journal, mut ledger) = open(&disk);
    let payer = ledger.open_payer("client", credit(0, 100)).unwrap();
    let payee = ledger.open_payee("worker").unwrap();
    let reservation = ledger.reserve(payer, tokens(9)).unwrap();
    let _ = ledger.settle(reservation, payee, tokens(9), None);
    ledger.begin_commit();
    write(&mut journal, &mut ledger);
    let sent = ledger.commit_to_send();
    assert!(sent.is_some());
    drop(journal);
    let (_journal, mut ledger) = open(&disk);
    assert_eq!(ledger.commit_to_send(), sent);
    ledger.check_chain(sent).unwrap();
    ledger.committed(1);
    assert_eq!(ledger.payer(payer).marks, marks(9, 9, 9));
}

#[test]
fn notes_and_closed_accounts_are_as_they_were() {
    let disk = Disk::default();
    let (mut journal, mut ledger) = open(&disk);
    let payer = ledger.open_payer("client", credit(3, 100)).unwrap();
    let payee = ledger.open_payee("worker").unwrap();
    let reservation = ledger.reserve(payer, tokens(9)).unwrap();
    assert!(!ledger.close_payer(payer), "a reservation is open");
    let _ = ledger.settle(reservation, payee, tokens(9), None);
    ledger.set_note("a", Some(Bytes::from("1"))).unwrap();
    ledger.set_note("b", Some(Bytes::from("2"))).unwrap();
    ledger.set_note("a", None).unwrap();
    assert!(ledger.close_payer(payer));
    ledger.close_payee(payee);
    assert!(ledger.open_payer("client", credit(0, 5)).is_ok_and(|new| new != payer));
    write(&mut journal, &mut ledger);
    drop(journal);
    let (_journal, ledger) = open(&disk);
    assert_eq!((ledger.note("a"), ledger.note("b")), (None, Some(&Bytes::from("2"))));
    assert_eq!((ledger.name_of_payer(payer), ledger.find_payee("worker")), (None, None));
    assert_eq!(ledger.payers().map(|(_, name)| name).collect::<Vec<_>>(), ["client"]);
    ledger.assert_conserved();
}

#[test]
fn several_batches_may_be_under_way() {
    let disk = Disk::default();
    let (mut journal, mut ledger) = open(&disk);
    let payer = ledger.open_payer("client", credit(0, 100)).unwrap();
    let payee = ledger.open_payee("worker").unwrap();
    let settle = |ledger: &mut Ledger, amount| {
        let reservation = ledger.reserve(payer, tokens(amount)).unwrap();
        let _ = ledger.settle(reservation, payee, tokens(amount), None);
        ledger.take_batch().unwrap()
    };
    let batches = [settle(&mut ledger, 1), settle(&mut ledger, 2), settle(&mut ledger, 4)];
    assert_eq!(batches.iter().map(cocoon_ledger::Batch::entries).collect::<Vec<_>>(), [3, 1, 1]);
    let mut durable = Vec::new();
    for batch in batches {
        ledger.written(journal.append(batch).unwrap());
        durable.push(ledger.payer(payer).marks.durable.get());
    }
    assert_eq!((durable, ledger.unwritten()), (vec![1, 3, 7], 0));
}

#[test]
fn a_failed_write_poisons_the_journal() {
    let disk = Disk::default();
    let (mut journal, mut ledger) = open(&disk);
    ledger.set_note("a", Some(Bytes::new())).unwrap();
    write(&mut journal, &mut ledger);
    let disk = disk.clone().dies_at(disk.steps() + 1);
    for key in ["b", "c"] {
        ledger.set_note(key, Some(Bytes::new())).unwrap();
        let failed = journal.append(ledger.take_batch().unwrap()).unwrap_err();
        assert_eq!(matches!(failed, JournalError::Poisoned), key == "c", "{failed}");
    }
    assert!(disk.is_dead());
}

#[test]
fn a_batch_out_of_order_is_not_written() {
    let (mut journal, mut ledger) = open(&Disk::default());
    ledger.set_note("a", Some(Bytes::new())).unwrap();
    let _lost = ledger.take_batch();
    ledger.set_note("b", Some(Bytes::new())).unwrap();
    let failed = journal.append(ledger.take_batch().unwrap()).unwrap_err();
    assert!(matches!(failed, JournalError::Internal { seq: 1 }), "{failed}");
}

#[test]
fn the_file_stays_small_and_says_the_same() {
    let disk = Disk::default();
    let (journal, mut ledger) = open(&disk);
    let mut journal = journal.compact_at(64 << 10);
    let payer = ledger.open_payer("client", credit(0, u64::MAX)).unwrap();
    let payee = ledger.open_payee("worker").unwrap();
    let mut random = Random(1);
    let mut sum = 0;
    for round in 0..400u32 {
        let cursor = round.to_le_bytes().repeat(4 << 10);
        ledger.set_note("cursor", Some(Bytes::from(cursor))).unwrap();
        for _ in 0..50 {
            let used = random.below(1_000);
            sum += used;
            let reservation = ledger.reserve(payer, tokens(1_000)).unwrap();
            let _ = ledger.settle(reservation, payee, tokens(used), None);
        }
        if round % 10 == 0
            && let Some(number) = ledger.begin_commit()
        {
            write(&mut journal, &mut ledger);
            ledger.committed(number);
        }
        write(&mut journal, &mut ledger);
    }
    assert!(disk.copy().len() < 4 << 20, "{} bytes", disk.copy().len());
    drop(journal);
    let (mut journal, mut again) = open(&disk);
    assert_eq!(again.payer(payer), ledger.payer(payer));
    assert_eq!(again.payee(payee).known, tokens(sum));
    assert_eq!((again.seq(), again.commit_to_send()), (ledger.seq(), None));
    again.set_note("more", Some(Bytes::new())).unwrap();
    write(&mut journal, &mut again);
}
