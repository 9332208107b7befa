//! A witness of one's own, as its operator and as a log uses it: cosigned logs, packs and proofs, and kills.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use legate_merkle::{
    AddCheckpoint, Checkpoint, Hash, SeedSigner, Signer as _, leaf_hash, node_hash, prove_consistency, root_of,
};

use crate::house::{AGENT, House, done, eventually, legate};

/// `legate witness serve` as a child process.
struct Witness {
    address: String,
    child: Child,
}

impl Witness {
    fn raise(dir: &Path, logs: &[&str], listen: &str) -> Self {
        let mut command = legate();
        command.args(["witness", "serve", "--listen", listen, "--dir"]).arg(dir);
        for log in logs {
            command.args(["--log", log]);
        }
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim_end().strip_prefix("ready http://").unwrap().to_owned();
        Self { address, child }
    }

    /// A connection that has sent a request and not read the answer yet.
    fn sent(&self, body: &str) -> TcpStream {
        let mut tcp = TcpStream::connect(&self.address).unwrap();
        let head = format!("content-length: {}\r\nconnection: close\r\n\r\n", body.len());
        write!(tcp, "POST /add-checkpoint HTTP/1.1\r\nhost: w\r\n{head}{body}").unwrap();
        tcp
    }

    /// The status and the body of an answer.
    fn ask(&self, body: &str) -> (u16, String) {
        let mut answer = String::new();
        self.sent(body).read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
    }
}

impl Drop for Witness {
    /// As a power switch would: SIGKILL.
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

fn make(dir: &Path, name: &str) -> String {
    let line = ["witness", "key", "--name", name, "--dir", dir.to_str().unwrap()];
    done(legate().args(line)).with(0).trim().to_owned()
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn a_log_is_cosigned_and_what_is_taken_out_of_it_satisfies_the_policy() {
    let home = tempfile::tempdir().unwrap();
    let file = |name: &str| home.path().join(name);
    let (suite, witnesses) = (file("dev"), [file("w1"), file("w2")]);
    let keys = [make(&witnesses[0], "witness.example/w1"), make(&witnesses[1], "witness.example/w2")];
    // The witnesses have to know the log's key first.
    House::raise(&suite).kill();
    let log = std::fs::read_to_string(suite.join("log.pub")).unwrap().trim().to_owned();
    let [first, second] = witnesses.each_ref().map(|dir| Witness::raise(dir, &[&log], "127.0.0.1:0"));
    let policy = file("policy");
    let lines = format!(
        "log {log}\nwitness w1 {} http://{}\nwitness w2 {} http://{}/\ngroup all all w1 w2\nquorum all\n",
        keys[0], first.address, keys[1], second.address
    );
    std::fs::write(&policy, lines).unwrap();
    let house = House::raise_with(&suite, &["--witness-policy", text(&policy)]);
    house.declare();
    let created = || house.run(&["audit", "query", "--type", "agent.created", "-o", "json"]).json()["events"].clone();
    eventually("the event is in the index", || created().is_array());
    let leaf = created()[0]["leafIndex"].as_str().unwrap().to_owned();

    let cosigned = house.run(&["audit", "checkpoint", "--cosigned", "-o", "name"]).with(0);
    assert!(cosigned.contains("\u{2014} witness.example/w1 ") && cosigned.contains("\u{2014} witness.example/w2 "));
    let (proof, entry, pack) = (file("e.tlog-proof"), file("e.leaf"), file("pack.tar"));
    house.run(&["audit", "prove", &leaf, "--cosigned", "--tlog-proof", text(&proof), "--entry", text(&entry)]).with(0);
    house.run(&["audit", "evidence", "--agent", AGENT, "--out", text(&pack), "--cosigned"]).with(0);
    let plain = file("plain.tar");
    house.run(&["audit", "evidence", "--agent", AGENT, "--out", text(&plain)]).with(0);
    // The log's address gives what its directory does.
    let at = house.env("LEGATE_LOG").to_owned();
    let by_address = house.run(&["verify", &at, "--witness-policy", text(&policy), "-o", "json"]).json();
    assert!(by_address["cosignedSize"].as_u64().unwrap() > 0, "{by_address}");

    // One witness away is the quorum away, for whoever asks for it and for nobody else.
    let address = second.address.clone();
    drop(second);
    house.run(&["agent", "suspend", AGENT, "--reason", "under watch"]).with(0);
    let late =
        ["audit", "evidence", "--agent", AGENT, "--out", text(&file("late.tar")).to_owned().leak(), "--cosigned"];
    house.run(&late).refused(5, "AUDIT_NOT_COSIGNED");
    let second = Witness::raise(&witnesses[1], &[&log], &address);
    eventually("it cosigns again", || house.run(&late).code == Some(0));
    house.kill();
    drop((first, second));

    // Nothing is there any more but files, and the policy of somebody who believes them.
    let mine = ["--witness-policy", text(&policy), "-o", "json"];
    let verify = |what: &Path, more: &[&str]| done(legate().arg("verify").arg(what).args(mine).args(more));
    let told = verify(&pack, &[]).json();
    assert_eq!(told["cosignedBy"].as_array().unwrap().len(), 2, "{told}");
    assert_eq!(told["keyIsThePacksOwn"], false, "the policy names the log");
    let told = verify(&proof, &["--entry", text(&entry)]).json();
    assert_eq!(told["cosignedBy"][0]["witness"], "witness.example/w1", "{told}");
    let told = verify(&suite.join("audit-collector/log"), &[]).json();
    let (size, covered) = (told["size"].as_u64().unwrap(), told["cosignedSize"].as_u64().unwrap());
    assert!(0 < covered && covered <= size, "{told}");
    verify(&plain, &[]).refused(6, "VERIFICATION_FAILED");
    // Another's policy, and one that asks for somebody else beside them.
    let stranger = make(&file("w3"), "witness.example/w3");
    let more = std::fs::read_to_string(&policy).unwrap().replace("group all all w1 w2", "");
    let more = more.replace("quorum all", &format!("witness w3 {stranger}\ngroup all all w1 w2 w3\nquorum all"));
    let stricter = file("stricter");
    std::fs::write(&stricter, more).unwrap();
    for what in [&pack, &suite.join("audit-collector/log")] {
        let asked = done(legate().arg("verify").arg(what).args(["--witness-policy", text(&stricter)]));
        assert!(asked.err.contains("only witness.example/w1, witness.example/w2 cosigned"), "{}", asked.err);
        asked.refused(6, "VERIFICATION_FAILED");
    }
    std::fs::write(&stricter, "quorum all\n").unwrap();
    done(legate().arg("verify").arg(&pack).args(["--witness-policy", text(&stricter)])).refused(1, "FILE_REFUSED");
    done(legate().arg("verify").arg(&pack).args(mine).args(["--key", text(&pack)])).refused(1, "FILE_REFUSED");
    let receipt = file("x.cose");
    std::fs::write(&receipt, [0xd2, 0x84, 0]).unwrap();
    verify(&receipt, &["--entry", text(&entry)]).refused(1, "USAGE");
}

fn signer() -> SeedSigner {
    SeedSigner::new("example.org/log", &[7; 32]).unwrap()
}

/// A history, and another that parts from it at a leaf.
#[derive(Clone, Copy)]
struct History {
    fork: u64,
}

impl History {
    fn node(self, level: u32, index: u64) -> Result<Hash, ()> {
        if level == 0 {
            return Ok(leaf_hash(&[index.to_be_bytes().as_slice(), &[u8::from(index >= self.fork)]].concat()));
        }
        Ok(node_hash(&self.node(level - 1, index * 2)?, &self.node(level - 1, index * 2 + 1)?))
    }

    fn request(self, old: u64, size: u64) -> String {
        let root = root_of(size, |l, i| self.node(l, i)).unwrap();
        let note = Checkpoint::new("example.org/log", size, root).sign(&signer()).unwrap();
        let proof = if old == 0 { Vec::new() } else { prove_consistency(old, size, |l, i| self.node(l, i)).unwrap() };
        AddCheckpoint { old, proof, note }.to_string()
    }
}

#[test]
fn a_witness_that_is_killed_before_it_answers_cosigns_no_other_history() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("w");
    make(&dir, "witness.example/w1");
    let log = signer().verifier().to_string();
    let honest = History { fork: u64::MAX };
    let page = || -> Option<PathBuf> {
        let entries = std::fs::read_dir(&dir).unwrap().map(|e| e.unwrap().path());
        entries.into_iter().find(|path| path.extension().is_some_and(|e| e == "checkpoint"))
    };
    let size_on_disk = || -> u64 {
        let note = page().and_then(|page| std::fs::read_to_string(page).ok());
        note.map_or(0, |note| note.lines().nth(1).unwrap().parse().unwrap())
    };
    let mut cosigned = 0;
    for round in 1..=8 {
        let witness = Witness::raise(&dir, &[&log], "127.0.0.1:0");
        let next = cosigned + 5;
        // The answer is not read. As soon as the page is turned, or at once, the witness is killed.
        let unread = witness.sent(&honest.request(cosigned, next));
        if round % 4 != 0 {
            eventually("the page is turned", || size_on_disk() == next);
        }
        drop(witness);
        drop(unread);
        let on_disk = size_on_disk();
        assert!(on_disk == next || (on_disk == cosigned && round % 4 == 0), "{on_disk} of {next}");
        cosigned = on_disk;
        let witness = Witness::raise(&dir, &[&log], "127.0.0.1:0");
        // Whatever it may have said before, it says nothing that does not fit to it.
        let other = History { fork: cosigned.saturating_sub(2) };
        let before = cosigned.saturating_sub(5);
        if cosigned > 0 {
            assert_eq!(witness.ask(&other.request(before, cosigned)), (409, format!("{cosigned}\n")));
            assert_eq!(witness.ask(&other.request(cosigned, cosigned + 4)).0, 422);
            assert_eq!(witness.ask(&other.request(cosigned, cosigned)).0, 422);
        }
        assert_eq!(witness.ask(&honest.request(cosigned, cosigned)).0, 200);
    }
    assert!(cosigned >= 30, "{cosigned}");
}

#[test]
fn a_witness_serves_what_it_cosigned_and_refuses_odd_requests_and_configurations() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("w");
    make(&dir, "witness.example/w1");
    let log = signer().verifier().to_string();
    let line = |more: &[&str]| {
        let mut command = legate();
        command.args(["witness", "serve", "--dir", text(&dir)]).args(more);
        done(&mut command)
    };
    line(&["--log", &log, "--listen", "0.0.0.0:0"]).refused(1, "START_REFUSED");
    line(&["--log", "x", "--listen", "127.0.0.1:0"]).refused(1, "USAGE");
    line(&["--log", &log, "--listen", "127.0.0.1:0", "--key", "/nonexistent"]).refused(1, "FILE_REFUSED");
    let again = ["witness", "key", "--name", "a", "--dir", text(&dir)];
    done(legate().args(again)).refused(1, "FILE_REFUSED");

    let honest = History { fork: u64::MAX };
    let witness = Witness::raise(&dir, &[&log], "127.0.0.1:0");
    line(&["--log", &log, "--listen", "127.0.0.1:0"]).refused(1, "FILE_REFUSED");
    assert_eq!(witness.ask("old 0\n").0, 400);
    assert_eq!(witness.ask(&honest.request(0, 4)).0, 200);
    assert_eq!(witness.ask(&honest.request(0, 4)), (409, "4\n".into()));
    let get = |request: &str| {
        let mut tcp = TcpStream::connect(&witness.address).unwrap();
        write!(tcp, "{request} HTTP/1.1\r\nhost: w\r\nconnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        tcp.read_to_string(&mut answer).unwrap();
        answer
    };
    // SHA-256 of example.org/log.
    let hash = std::fs::read_dir(&dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
    let hash = hash.into_iter().find_map(|name| name.strip_suffix(".checkpoint").map(str::to_owned)).unwrap();
    let found = get(&format!("GET /{hash}/checkpoint"));
    assert!(found.starts_with("HTTP/1.1 200") && found.contains("\u{2014} witness.example/w1 "), "{found}");
    assert!(get("GET /add-checkpoint").starts_with("HTTP/1.1 405"));
    assert!(get(&format!("GET /{}/checkpoint", "0".repeat(64))).starts_with("HTTP/1.1 404"));
    assert!(get("GET /../../etc/passwd").starts_with("HTTP/1.1 404"));
    let mut too_long = String::new();
    let mut tcp = witness.sent(&"x".repeat(80_000));
    // It may close while the rest is still on its way.
    let _reset = tcp.read_to_string(&mut too_long);
    assert!(too_long.is_empty() || too_long.starts_with("HTTP/1.1 413"), "{too_long}");
    assert_eq!(witness.ask(&honest.request(4, 9)).0, 200, "it serves all the same");
}
