//! Who may do something, asked where there are so many agents.

use std::time::{Duration, Instant};

use legate::dev::Suite;
use legate_wire::policy as wire;
use wire::decision_service_client::DecisionServiceClient;

use super::{declared, line};
use crate::Failed;
use crate::load::{Seen, count};

/// How often each is asked.
const ASKED: usize = 50;

fn who(action: &str, namespace: String, page_size: u32) -> wire::WhoCanRequest {
    wire::WhoCanRequest {
        action: action.into(),
        resource: Some(wire::Resource { r#type: "Invoice".into(), id: "apollo/1".into(), attributes: None }),
        namespace,
        page_size,
        ..wire::WhoCanRequest::default()
    }
}

/// Measures, and prints.
pub(super) async fn measure(suite: &Suite, agents: u32) -> Result<(), Failed> {
    let mut client = DecisionServiceClient::new(suite.dial("policy-decision")?).max_decoding_message_size(16 << 20);
    let (one, all) = (declared::namespace(3), String::new());
    for (what, ask) in [
        ("WhoCan, 100 of one namespace, where all may", who("invoice:read", one.clone(), 100)),
        ("WhoCan, 100 of all, where all may", who("invoice:read", all.clone(), 100)),
        ("WhoCan, of all, where none may", who("invoice:write", all.clone(), 100)),
    ] {
        let (mut times, began) = (Vec::new(), Instant::now());
        for _ in 0..ASKED {
            let began = Instant::now();
            client.who_can(ask.clone()).await?;
            times.push(began.elapsed());
        }
        line(what, &Seen::new(times, began.elapsed()));
    }
    everybody(&mut client, who("invoice:read", all, 1_000), agents).await?;
    Ok(())
}

/// Page after page to the last one.
async fn everybody(
    client: &mut DecisionServiceClient<legate_rpc::Client>,
    mut ask: wire::WhoCanRequest,
    agents: u32,
) -> Result<(), Failed> {
    let (mut found, mut pages, began) = (0, Vec::new(), Instant::now());
    loop {
        let asked = Instant::now();
        let page = client.who_can(ask.clone()).await?.into_inner();
        pages.push(asked.elapsed());
        found += page.holders.len();
        if page.next_page_token.is_empty() {
            break;
        }
        ask.page_token = page.next_page_token;
    }
    let took: Duration = began.elapsed();
    if found != agents as usize {
        return Err(format!("WhoCan found {found} of {agents}").into());
    }
    line("the same to the last page, 1,000 a page", &Seen::new(pages, took));
    let rate = count(found) / took.as_secs_f64();
    println!("  {:<58} {:>9.1} s   ({rate:.0} agents/s)", "all of those pages", took.as_secs_f64());
    Ok(())
}
