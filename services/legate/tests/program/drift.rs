//! From finding to plan by the program's verbs: what an agent used three weeks ago is there, what it did not use is found and taken away.

use std::path::Path;

use crate::earlier::earlier;
use crate::house::{AGENT, House, MANIFEST, eventually};

const PAYER: &str = "
apiVersion: legate/v1
kind: Role
metadata: {name: invoice-payer, namespace: payments}
spec: {permissions: ['invoice:read on Invoice:*', 'invoice:pay on Invoice:*']}
---
apiVersion: legate/v1
kind: RoleBinding
metadata: {name: invoice-bot-pays, namespace: payments}
spec: {role: invoice-payer, agents: [invoice-bot]}
---
apiVersion: legate/v1
kind: Role
metadata: {name: invoice-lister, namespace: payments}
spec: {permissions: ['invoice:list on Invoice:*']}
---
apiVersion: legate/v1
kind: RoleBinding
metadata: {name: invoice-bot-lists, namespace: payments}
spec: {role: invoice-lister, agents: [invoice-bot]}
";

const LIFE: &str = "
apiVersion: legate/v1
kind: LifecyclePolicy
metadata: {name: tidy, namespace: payments}
spec: {mode: ENFORCE, attestEvery: 10d}
";

#[test]
fn from_finding_to_plan_and_the_finding_is_gone() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("dev");
    let file = |name: &str| home.path().join(name).to_str().unwrap().to_owned();
    let payer = file("payer.yaml");
    std::fs::write(&payer, PAYER).unwrap();
    let check = ["check", "--agent", AGENT, "--action", "invoice:read", "--resource", "Invoice:apollo/1"];
    let uses = |told: serde_json::Value| told["agents"][0]["permissions"][0]["count"].as_str().map(str::to_owned);

    let heard = |told: serde_json::Value, count: &str| uses(told).as_deref() == Some(count);
    earlier(&dir, 20, |run| {
        run(&["apply", "-f", MANIFEST, &payer, "--reason", "a start"]).with(0);
        run(&check).with(0);
        eventually("one use is heard", || heard(run(&["agent", "usage", AGENT, "-o", "json"]).json(), "1"));
        // Of whom nothing was heard that may be all there is.
        let ended = run(&["agent", "list", "--dormant", "90d", "-o", "name"]);
        assert!(ended.err.contains("does not reach back"), "{}", ended.err);
    });

    let house = House::raise(&dir);
    house.run(&check).with(0);
    eventually("both are heard", || heard(house.run(&["agent", "usage", AGENT, "-o", "json"]).json(), "2"));
    let table = house.run(&["agent", "usage", AGENT, "-o", "table"]).with(0);
    assert!(table.contains("invoice:read") && table.contains("evidence from"), "{table}");
    let drift = |more: &[&str]| house.run(&[&["drift", "--unused-after", "7d"], more].concat());
    let found = drift(&["--namespace", "payments", "-o", "json"]).json();
    let all: Vec<&str> =
        found["findings"].as_array().unwrap().iter().map(|one| one["type"].as_str().unwrap()).collect();
    assert_eq!(all, ["DRIFT_TYPE_UNUSED"; 2], "{found}");
    let table = drift(&["--agent", AGENT, "--finding", "unused", "-o", "wide"]).with(0);
    assert!(table.contains("invoice:pay on Invoice:*") && table.contains("no gaps are known"), "{table}");
    assert_eq!(drift(&["-o", "name"]).with(0), format!("{AGENT}\n{AGENT}\n"));
    // Credentials are told by credential-issuer, and there is none that could be stale.
    assert!(drift(&["--finding", "stale-credential", "-o", "name"]).with(0).is_empty());
    assert!(drift(&["--finding", "orphaned", "-o", "name"]).with(0).is_empty());
    house.run(&["drift", "--unused-after", "1d"]).refused(1, "QUESTION_INVALID");
    house.run(&["drift", "--agent", "payments/nobody"]).refused(1, "AGENT_NOT_FOUND");

    // What the roles give is the agent's alone: it is taken where it is given.
    let (smaller, whole) = (file("smaller.yaml"), file("whole.plan"));
    let propose = ["--agent", AGENT, "--propose", "-f", &smaller, "--out", &whole];
    let told = drift(&[&propose[..], &["-o", "table"]].concat()).with(0);
    assert!(told.contains("0 of 2 allowed decisions of the last 31d would flip."), "{told}");
    assert!(told.contains("role payments/invoice-payer loses invoice:pay on Invoice:*"), "{told}");
    assert!(told.contains("binding payments/invoice-bot-lists is taken back"), "{told}");
    let text = std::fs::read_to_string(&smaller).unwrap();
    assert!(text.contains("kind: Role\n") && text.contains("invoice:read on Invoice:*"), "{text}");
    assert!(text.starts_with("# What concerns the agent alone") && !text.contains("ceiling"), "{text}");
    drift(&propose).refused(1, "FILE_REFUSED");
    let plan = house.run(&["plan", "-f", &smaller, "-o", "table"]).with(0);
    assert!(plan.contains("will change") && plan.contains("invoice:pay"), "{plan}");
    // Or below a ceiling of its own, where that is wanted.
    let capped = file("capped.yaml");
    let told = drift(&["--agent", AGENT, "--propose", "--ceiling", "-f", &capped, "-o", "table"]).with(0);
    assert!(told.contains("keeps invoice:read on Invoice:*"), "{told}");
    assert!(std::fs::read_to_string(&capped).unwrap().starts_with("# A ceiling"));
    house.run(&["apply", "--plan", &whole, "--reason", "it never pays"]).with(0);
    eventually("it is gone", || drift(&["--finding", "unused", "-o", "name"]).with(0).is_empty());
    house.run(&["binding", "get", "payments/invoice-bot-lists"]).refused(1, "OBJECT_NOT_FOUND");
    house.run(&check).with(0);
    let again = file("again.yaml");
    let told = drift(&["--agent", AGENT, "--propose", "-f", &again, "-o", "table"]).with(0);
    assert!(told.contains("nothing to take away") && !Path::new(&again).exists(), "{told}");

    // A plan says what a lifecycle policy would do to whom: the agent is active for twenty days, and nobody confirmed it.
    let life = file("life.yaml");
    std::fs::write(&life, LIFE).unwrap();
    let plan = house.run(&["plan", "-f", &life, "-o", "table"]).with(0);
    assert!(plan.contains("Lifecycle policy payments/tidy: would suspend 1 agent, 1"), "{plan}");
    let plan = house.run(&["plan", "-f", &life, "-o", "json"]).json();
    assert_eq!(plan["lifecycle"][0]["impact"]["impacts"][0]["agent"], "invoice-bot", "{plan}");
}
