//! Exit codes, each brought about for real.

use crate::house::{AGENT, House, MANIFEST, done, eventually, legate};

#[test]
fn denied_is_3_conflict_is_4_and_changes_are_2() {
    let home = tempfile::tempdir().unwrap();
    let house = House::raise(&home.path().join("dev"));
    house.run(&["plan", "-f", MANIFEST]).with(0);
    house.run(&["plan", "-f", MANIFEST, "--detailed-exitcode"]).with(2);
    house.declare();
    house.run(&["plan", "-f", MANIFEST, "--detailed-exitcode"]).with(0);

    let ask = ["check", "--agent", AGENT, "--action", "invoice:read", "--resource"];
    let check = |resource: &str, more: &[&str]| house.run(&[&ask[..], &[resource], more].concat());
    assert_eq!(check("Invoice:apollo/1001", &["-o", "name"]).with(0), "ALLOWED\n");
    assert_eq!(check("Invoice:zeus/7", &["-o", "name"]).with(3), "BINDING_NARROWED\n");
    let sealed = check("Invoice:apollo/1", &["--attributes", "{\"sealed\": true}", "-o", "name"]);
    assert_eq!(sealed.with(3), "FORBIDDEN_BY_POLICY\n");

    let bot = home.path().join("bot");
    house.enrol(&bot);
    let bot = bot.to_str().unwrap();
    let issue = ["token", "issue", "--identity", bot, "--audience", "https://invoices.example.com"];
    let suspend = ["agent", "suspend", AGENT, "--reason", "odd reads"];
    let token = house.run(&[&issue[..], &["-o", "name"]].concat()).with(0);
    assert_eq!(token.trim().split('.').count(), 3, "{token}");
    house.run(&suspend).with(0);
    house.run(&suspend).refused(4, "AGENT_STATE_WRONG");
    house.run(&issue).refused(3, "CALLER_NOT_ACTIVE");
    house.run(&["credential", "renew", "--identity", bot]).refused(3, "CALLER_NOT_ACTIVE");
    house.run(&["apply", "-f", MANIFEST, "--reason", "x", "--base-revision", "1"]).refused(4, "BASE_MOVED");
    let stale = ["agent", "resume", AGENT, "--reason", "x", "--etag", "not-the-etag"];
    house.run(&stale).refused(4, "ETAG_MISMATCH");
    // An agent's certificate is no operator's.
    let mut as_agent = house.command(&["agent", "list"]);
    let identity = format!("{bot}/identity.pem");
    as_agent.env("LEGATE_CERT", &identity).env("LEGATE_KEY", &identity);
    let ended = done(&mut as_agent);
    assert_eq!(ended.code, Some(3), "{ended:?}");
}

#[test]
fn an_enforcement_point_asks_with_the_agents_token() {
    let home = tempfile::tempdir().unwrap();
    let house = House::raise(&home.path().join("dev"));
    house.declare();
    let (bot, backend) = (home.path().join("bot"), home.path().join("backend"));
    house.enrol(&bot);
    let create =
        ["credential", "create", "--enforcement-point", "payments/invoices", "--reason", "backend", "-o", "name"];
    let token = house.run(&create).with(0);
    let mut enrol = house.command(&["credential", "enrol", "--out", backend.to_str().unwrap()]);
    // The token comes by the environment, so that it stands in no list of processes.
    done(enrol.env("LEGATE_ENROLMENT_TOKEN", token.trim())).with(0);

    let (bot, backend) = (bot.to_str().unwrap(), backend.to_str().unwrap());
    let issue = ["token", "issue", "--identity", bot, "--audience", "https://invoices.example.com", "-o", "name"];
    let token = house.run(&issue).with(0);
    let presenter = format!("{bot}/identity.pem");
    let ask = ["check", "--identity", backend, "--token", token.trim(), "--action", "invoice:read", "-o", "name"];
    let check = |more: &[&str]| house.run(&[&ask[..], more].concat());
    let read = ["--resource", "Invoice:apollo/1001"];
    assert_eq!(check(&[&read[..], &["--presenter", &presenter]].concat()).with(0), "ALLOWED\n");
    assert_eq!(check(&read).with(3), "TOKEN_BINDING\n");
    check(&["--resource", "Ledger:1", "--presenter", &presenter]).refused(3, "CALLER_MAY_NOT_ASK");
    let named = ["check", "--identity", backend, "--agent", AGENT, "--action", "invoice:read"];
    house.run(&[&named[..], &read].concat()).refused(3, "SUBJECT_NOT_PROVEN");
}

#[test]
fn what_is_not_reached_is_5_and_what_is_wrong_here_is_1() {
    let home = tempfile::tempdir().unwrap();
    let house = House::raise(&home.path().join("dev"));
    // A port that was free a moment ago, and that nobody listens on.
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let nowhere = format!("https://{free}");
    house.run(&["agent", "list", "--registry", &nowhere]).refused(5, "UNREACHABLE");
    // policy-decision answers, and is not the registry.
    house.run(&["agent", "list", "--registry", house.env("LEGATE_POLICY")]).refused(5, "UNREACHABLE");
    let doctor = house.run(&["doctor", "--audit", &nowhere]);
    assert_eq!(doctor.code, Some(5), "{doctor:?}");
    house.run(&["doctor"]).with(0);

    house.run(&["agent", "get", "payments/nobody"]).refused(1, "AGENT_NOT_FOUND");
    house.run(&["agent", "get", "nobody"]).refused(1, "USAGE");
    done(legate().args(["agent", "list"])).refused(1, "CONTEXT_MISSING");
    let manifest = home.path().join("bad.yaml");
    std::fs::write(&manifest, std::fs::read_to_string(MANIFEST).unwrap().replace("sponsors:", "sponsor:")).unwrap();
    let bad = manifest.to_str().unwrap();
    let ended = house.run(&["apply", "-f", bad, "--reason", "x"]);
    assert!(ended.err.contains("bad.yaml:36:3: "), "{ended:?}");
    ended.refused(1, "MANIFEST_INVALID");
    std::fs::write(&manifest, std::fs::read_to_string(MANIFEST).unwrap().replace("[\"user:grace@example.com\"]", "[]"))
        .unwrap();
    house.run(&["apply", "-f", bad, "--reason", "x"]).refused(1, "AGENT_SPONSOR_MISSING");
    assert_eq!(done(legate().args(["agent", "list", "--no-such-flag"])).code, Some(1));
    assert_eq!(done(&mut legate()).code, Some(1), "no command at all");
    done(legate().arg("--help")).with(0);
    done(legate().arg("--version")).with(0);
}

#[test]
fn a_log_that_does_not_verify_is_6() {
    let home = tempfile::tempdir().unwrap();
    let house = House::raise(&home.path().join("dev"));
    house.declare();
    let events = || house.run(&["audit", "query", "--type", "agent.created", "-o", "json"]).json()["events"].clone();
    eventually("the event is in the index", || events().is_array());
    let leaf = events()[0]["leafIndex"].as_str().unwrap().to_owned();
    // The checkpoint follows the index by a moment at most.
    eventually("the checkpoint covers it", || house.run(&["audit", "prove", &leaf]).code == Some(0));
    let kept = home.path().join("checkpoint");
    std::fs::write(&kept, house.run(&["audit", "checkpoint", "-o", "name"]).with(0)).unwrap();
    let kept_flag = ["--checkpoint", kept.to_str().unwrap()];
    let verified: serde_json::Value = serde_json::from_str(&house.verify(&kept_flag).with(0)).unwrap();
    assert!(verified["continues"].as_u64().unwrap() > 8, "{verified}");
    // Over HTTPS as well, from the tiles.
    let key = house.log_key();
    house.run(&["verify", house.env("LEGATE_LOG"), "--key", key.to_str().unwrap()]).with(0);

    // What was asked is told to the log a moment later, which then publishes another bundle: that one is edited as well.
    let mut ended = None;
    eventually("an edited log is refused", || {
        assert!(edited(&house) > 0);
        ended = Some(house.verify(&["-o", "json"]));
        ended.as_ref().is_some_and(|ended| ended.code != Some(0))
    });
    let ended = ended.unwrap();
    let told: serde_json::Value = serde_json::from_str(&ended.out).unwrap();
    assert!(told["eventId"].as_str().unwrap().starts_with("evt_") && told["entry"].is_u64(), "{told}");
    assert!(ended.err.contains("is not the one that was logged"), "{ended:?}");
    ended.refused(6, "VERIFICATION_FAILED");
    let stranger = home.path().join("other.pub");
    std::fs::write(&stranger, std::fs::read_to_string(key).unwrap().replace('+', "x+")).unwrap();
    let other = done(legate().arg("verify").arg(house.log()).arg("--key").arg(&stranger));
    other.refused(1, "FILE_REFUSED");
}

/// Edits the event in each bundle that holds it; in how many it was edited, now or before.
fn edited(house: &House) -> usize {
    let mut edited = 0;
    for bundle in std::fs::read_dir(house.log().join("tile/entries/000.p")).unwrap() {
        let path = bundle.unwrap().path();
        // One that another has replaced is gone.
        let Ok(mut bytes) = std::fs::read(&path) else { continue };
        let at = |bytes: &[u8], what: &[u8]| bytes.windows(what.len()).position(|w| w == what);
        if at(&bytes, b"bgent.created").is_some() {
            edited += 1;
        } else if let Some(at) = at(&bytes, b"agent.created") {
            bytes[at] = b'b';
            edited += 1;
            std::fs::write(&path, bytes).unwrap();
        }
    }
    edited
}

#[test]
fn many_questions_are_asked_over_one_stream() {
    use std::io::Write as _;

    let home = tempfile::tempdir().unwrap();
    let house = House::raise(&home.path().join("dev"));
    house.declare();
    let id = house.run(&["agent", "get", AGENT, "-o", "json"]).with(0);
    let id: serde_json::Value = serde_json::from_str(&id).unwrap();
    let id =
        id.pointer("/agent/metadata/id").or_else(|| id.pointer("/metadata/id")).unwrap().as_str().unwrap().to_owned();
    let question = |resource: &str| {
        format!(
            r#"{{"subject": {{"agentId": "{id}"}}, "action": "invoice:read", "resource": {{"type": "Invoice", "id": "{resource}"}}}}"#
        )
    };
    let ask = |lines: &[String]| {
        let mut command = house.command(&["check", "--stream"]);
        command.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped());
        let mut child = command.stderr(std::process::Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(lines.join("\n").as_bytes()).unwrap();
        let ended = child.wait_with_output().unwrap();
        let out = String::from_utf8(ended.stdout).unwrap();
        let mut words = std::collections::BTreeMap::new();
        for line in out.lines() {
            let said: serde_json::Value = serde_json::from_str(line).unwrap();
            let word = said.pointer("/answer/reasonCode").or_else(|| said.pointer("/error/reason")).unwrap();
            let number: usize = said["itemId"].as_str().unwrap().parse().unwrap();
            assert!(words.insert(number, word.as_str().unwrap().to_owned()).is_none(), "{line}");
        }
        (ended.status.code(), words)
    };
    let good: Vec<String> = (1..=1_000).map(|n| question(&format!("apollo/{n}"))).collect();
    let (code, words) = ask(&good);
    assert_eq!((code, words.len()), (Some(0), 1_000));
    assert!(words.values().all(|word| word == "ALLOWED"));
    let mixed =
        [question("apollo/1"), String::new(), question("zeus/7"), "{\"action\": 1}".into(), "no".into(), question("")];
    let (code, words) = ask(&mixed);
    assert_eq!(code, Some(3));
    let expected = [(1, "ALLOWED"), (3, "BINDING_NARROWED"), (4, "USAGE"), (5, "USAGE"), (6, "QUESTION_INVALID")];
    assert_eq!(words, expected.map(|(n, word)| (n, word.to_owned())).into());
    assert_eq!(ask(&[]), (Some(0), Default::default()));
    house.run(&["check", "--stream", "--agent", AGENT]).with(1);
    house.run(&["check", "--action", "invoice:read"]).with(1);
}
