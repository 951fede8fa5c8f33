//! Many handshakes at once, and the memory that they take.

use std::sync::Arc;
use std::time::{Duration, Instant};

use cocoon_attest::Role;
use cocoon_attest::policy::Mode;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::stage::{Stage, connect};
use super::{AttestConfig, CrowdCost, Failure};

/// How often the memory is looked at.
const LOOK: Duration = Duration::from_millis(2);

/// Tries of one dialer before it counts as refused: a node's line of quotes is short, and dialers come back.
const TRIES: usize = 50;

pub(super) async fn measure(stage: &Stage, config: AttestConfig) -> Result<Vec<CrowdCost>, Failure> {
    let mut crowds = Vec::new();
    for (link, mode) in [("client, session key", Mode::SessionKey), ("client, strict", Mode::Strict)] {
        let door = stage.listen(Some(stage.link(Role::Proxy, Role::Client, Mode::Strict)?)).await?;
        let client = stage.link(Role::Client, Role::Proxy, mode)?;
        drop(connect(door.addr, Some(&client)).await?);

        let (began, before) = (Instant::now(), resident_kib()?);
        let mut dials = JoinSet::new();
        for _ in 0..config.crowd {
            let (addr, client) = (door.addr, Arc::clone(&client));
            dials.spawn(async move {
                for _ in 0..TRIES {
                    if let Ok(connection) = connect(addr, Some(&client)).await {
                        return Some(connection);
                    }
                    sleep(LOOK * 50).await;
                }
                None
            });
        }
        let (mut open, mut peak) = (Vec::new(), before);
        while !dials.is_empty() {
            tokio::select! {
                Some(dialled) = dials.join_next() => open.extend(dialled?),
                () = sleep(LOOK) => {}
            }
            peak = peak.max(resident_kib()?);
        }
        crowds.push(CrowdCost {
            link,
            handshakes: config.crowd,
            open: open.len(),
            seconds: began.elapsed().as_secs_f64(),
            peak_kib: peak.saturating_sub(before),
        });
    }
    Ok(crowds)
}

/// Resident memory of this process.
fn resident_kib() -> Result<u64, Failure> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("no VmRSS in /proc/self/status")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}
