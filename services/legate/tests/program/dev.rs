//! `legate dev` and `legate demo` as processes: what they refuse, what they write, how they end.

use std::os::unix::fs::PermissionsExt;

use crate::house::{House, done, legate};

#[test]
fn dev_writes_what_it_promises_and_shares_its_directory_with_nobody() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("dev");
    let house = House::raise(&dir);
    for file in ["ca.pem", "operator.pem", "operator.key", "log.pub", "env"] {
        assert!(dir.join(file).is_file(), "{file}");
    }
    let mode = |name: &str| std::fs::metadata(dir.join(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("."), mode("operator.key")), (0o700, 0o600));
    for name in [
        "LEGATE_REGISTRY",
        "LEGATE_ISSUER",
        "LEGATE_POLICY",
        "LEGATE_AUDIT",
        "LEGATE_OAUTH",
        "LEGATE_LOG",
        "LEGATE_OTLP",
    ] {
        assert!(house.env(name).starts_with("https://127.0.0.1:"), "{name}");
    }
    let socket = house.env("SPIFFE_ENDPOINT_SOCKET").strip_prefix("unix://").unwrap();
    assert_eq!(std::path::Path::new(socket), dir.join("workload.sock").as_path());
    std::os::unix::net::UnixStream::connect(socket).unwrap();
    let second = done(legate().args(["dev", "--port-base", "0", "--dir"]).arg(&dir));
    assert_eq!(second.out, "");
    second.refused(1, "DIRECTORY_NOT_OURS");
    house.run(&["doctor"]).with(0);
}

#[test]
fn dev_refuses_what_would_make_it_something_else() {
    let home = tempfile::tempdir().unwrap();
    let foreign = home.path().join("foreign");
    std::fs::create_dir(&foreign).unwrap();
    std::fs::write(foreign.join("registry.db"), "somebody's data").unwrap();
    let dev = |dir: &std::path::Path| {
        let mut command = legate();
        command.args(["dev", "--port-base", "0", "--dir"]).arg(dir);
        command
    };
    done(&mut dev(&foreign)).refused(1, "DIRECTORY_NOT_OURS");
    assert_eq!(std::fs::read_dir(&foreign).unwrap().count(), 1);
    let new = home.path().join("new");
    done(dev(&new).env("LEGATE_CONFIG_LISTEN", "0.0.0.0:7101")).refused(1, "DEV_OVERRIDDEN");
    assert!(!new.exists());
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let base = taken.local_addr().unwrap().port() - 4;
    let mut on_a_taken_port = legate();
    on_a_taken_port.args(["dev", "--port-base", &base.to_string(), "--dir"]).arg(&new);
    let ended = done(&mut on_a_taken_port);
    assert!(ended.code == Some(1) && ended.out.is_empty() && ended.err.contains("START_REFUSED"), "{ended:?}");
}

#[test]
fn the_demo_holds_and_leaves_nothing_behind() {
    let temporary = tempfile::tempdir().unwrap();
    let ended = done(legate().arg("demo").env("TMPDIR", temporary.path()));
    let told = ended.with(0);
    assert!(told.contains("Every one of ") && !told.contains("FAILED"), "{told}");
    for chapter in 1..=7 {
        assert!(told.contains(&format!("\n{chapter}. ")), "chapter {chapter}: {told}");
    }
    assert_eq!(std::fs::read_dir(temporary.path()).unwrap().count(), 0);
}
