//! Certificates and tokens a second, against signing alone with the same library.

use std::time::Instant;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};

use crate::house::{AUDIENCE, House};
use crate::load::{self, Seen, count};
use crate::{Failed, Plan};

/// Runtimes that ask at once.
const RUNTIMES: u32 = 32;

/// P-256 signatures by one core, as the issuer makes them.
fn sign(plan: Plan) -> Result<f64, Failed> {
    let random = SystemRandom::new();
    let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING)?;
    let message = [7u8; 600];
    let start = Instant::now();
    let mut signed = 0usize;
    while start.elapsed() < plan.time {
        for _ in 0..100 {
            std::hint::black_box(key.sign(&random, &message)?);
        }
        signed += 100;
    }
    Ok(count(signed) / start.elapsed().as_secs_f64())
}

/// Measures, and prints.
pub(crate) async fn measure(plan: Plan) -> Result<(), Failed> {
    println!(
        "\nissue: {RUNTIMES} runtimes at once, each in a closed loop; every issuance is recorded and synced before it is signed"
    );
    let few = Plan { agents: RUNTIMES, policies: 2, ..plan };
    let house = House::raise(few).await?;
    let mut runtimes = Vec::new();
    for n in 0..RUNTIMES {
        runtimes.push(house.runtime(n).await?.0);
    }
    let (mut signing, mut tokens, mut renewals) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..plan.rounds {
        signing.push(tokio::task::spawn_blocking(move || sign(plan)).await??);
        tokens.push(
            load::run(runtimes.clone(), plan.time, |runtime| async move {
                runtime.token(AUDIENCE).await?;
                Ok(runtime)
            })
            .await?,
        );
        renewals.push(
            load::run(runtimes.clone(), plan.time, |runtime| async move {
                runtime.renew().await?;
                Ok(runtime)
            })
            .await?,
        );
    }
    let signing = load::median(signing);
    println!("  {:<58} {signing:>9.0} /s", "P-256 signatures by one core (floor)");
    let report = |what: &str, all: &[Seen]| {
        let rate = load::median(all.iter().map(Seen::rate).collect());
        load::line(what, all);
        load::tell(&format!("{what} / signing alone"), rate / signing, None);
    };
    report("access tokens", &tokens);
    report("renewed certificates, a new key each", &renewals);
    house.lower().await;
    Ok(())
}
