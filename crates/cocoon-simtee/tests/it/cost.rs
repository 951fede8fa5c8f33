//! What a simulated platform costs; printed, not judged: `cargo nextest run -p cocoon-simtee cost --run-ignored all
//! --no-capture`.

use std::time::Instant;

use cocoon_attest::Role;
use cocoon_attest::provider::Attester as _;
use cocoon_simtee::{Platform, SimImage, TdOptions};

use crate::{NOW, REPORT_DATA, collateral, evidence};

fn microseconds(rounds: u32, mut run: impl FnMut()) -> u128 {
    let start = Instant::now();
    (0..rounds).for_each(|_| run());
    start.elapsed().as_micros() / u128::from(rounds)
}

#[tokio::test]
#[ignore = "a measurement"]
async fn cost() {
    println!("platform: {} µs", microseconds(20, || drop(Platform::generate(NOW))));
    let platform = Platform::generate(NOW);
    println!("AMD keys: {} µs", microseconds(1, || drop(platform.amd_root_pem())));
    println!("TD: {} µs", microseconds(20, || drop(platform.td(SimImage::for_role(Role::Worker)))));
    let td = platform.td(TdOptions::new(SimImage::for_role(Role::Worker)).gpus(1));
    println!("quote: {} µs", microseconds(100, || drop(td.quote(REPORT_DATA))));
    let guest = platform.snp_guest(SimImage::for_role(Role::Worker));
    println!("SNP report: {} µs", microseconds(100, || drop(guest.report(REPORT_DATA))));

    let shown = evidence(&td).await;
    let start = Instant::now();
    for _ in 0..20 {
        collateral(&platform, &shown).await;
    }
    println!("collateral: {} µs", start.elapsed().as_micros() / 20);
    let start = Instant::now();
    for _ in 0..20 {
        td.gpu_evidence([0; 32]).await.unwrap();
    }
    println!("GPU report: {} µs", start.elapsed().as_micros() / 20);
    let start = Instant::now();
    for _ in 0..20 {
        evidence(&td).await;
    }
    println!("evidence: {} µs", start.elapsed().as_micros() / 20);
}
