//! What an account takes in memory, in a devnet whose history is in its file.

use std::fs;

use cocoon_ton::devnet::{Devnet, Options};

use super::stage::Stage;
use super::throughput::{genesis, send, settle};
use super::{Failure, Memory};

/// Messages that are on their way to the devnet at once.
const AT_ONCE: u32 = 256;

pub(super) async fn measure(accounts: u32) -> Result<Memory, Failure> {
    let stage = Stage::new()?;
    let folder = std::env::temp_dir().join(format!("cocoon-sim-accounts-{}", std::process::id()));
    let devnet = Devnet::open(&folder, &Options { genesis: genesis(), ..Options::default() })?;
    let before = resident_kib()?;
    for first in (0..accounts).step_by(AT_ONCE as usize) {
        let batch: Result<Vec<_>, _> =
            (first..accounts.min(first + AT_ONCE)).map(|index| stage.worker(index)).collect();
        send(&devnet, &batch?).await?;
        settle(&devnet).await?;
    }
    let kib = resident_kib()?.saturating_sub(before);
    let file_bytes = fs::metadata(folder.join("devnet.redb"))?.len();
    drop(devnet);
    fs::remove_dir_all(&folder)?;
    Ok(Memory { accounts, kib, file_kib: file_bytes / 1024 })
}

fn resident_kib() -> Result<u64, Failure> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("no VmRSS in /proc/self/status")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}
