//! Units, images, the Compose file and the chart start the services as they are, where their configuration expects them.

use serde_norway::Value;

use super::SERVICES;
use crate::blessed::{read, root};

/// The port of a key such as `listen` in a service's sample.
fn port(service: &str, key: &str) -> u64 {
    let text = read(&format!("deploy/config/{service}.toml"));
    let line = text.lines().find_map(|line| line.strip_prefix(&format!("{key} = "))).unwrap();
    line.trim_matches('"').rsplit_once(':').unwrap().1.parse().unwrap()
}

fn yaml(path: &str) -> Value {
    let mut value: Value = serde_norway::from_str(&read(path)).unwrap_or_else(|e| panic!("{path}: {e}"));
    value.apply_merge().unwrap();
    value
}

#[test]
fn services_dial_each_other_where_they_listen() {
    for service in SERVICES {
        let text = read(&format!("deploy/config/{service}.toml"));
        for other in SERVICES {
            for line in text.lines().filter(|l| !l.starts_with('#') && l.contains(&format!("https://{other}:"))) {
                assert!(line.ends_with(&format!(":{}\"", port(other, "listen"))), "{service}: {line}");
            }
        }
    }
}

#[test]
fn the_unit_runs_each_service_locked_in() {
    let unit = read("deploy/systemd/legate@.service");
    let has = |line: &str| unit.lines().any(|l| l == line);
    assert!(has("ExecStart=/usr/bin/legate serve %i --config /etc/legate/%i.toml"));
    for line in [
        "NoNewPrivileges=yes",
        "CapabilityBoundingSet=",
        "ProtectSystem=strict",
        "ProtectHome=yes",
        "PrivateTmp=yes",
        "PrivateDevices=yes",
        "RestrictNamespaces=yes",
        "MemoryDenyWriteExecute=yes",
        "SystemCallFilter=@system-service",
        "LimitCORE=0",
        "Restart=on-failure",
        "User=legate-%i",
    ] {
        assert!(has(line), "the unit lacks {line}");
    }
    let users = read("deploy/systemd/legate.sysusers");
    for service in SERVICES {
        assert!(users.contains(&format!("\nu legate-{service} ")), "no user for {service}");
        // Everything that a service writes lies where the unit lets it.
        let config = read(&format!("deploy/config/{service}.toml"));
        for path in config.split('"').filter(|text| text.contains("/var/lib/")) {
            let path = path.trim_start_matches("sqlite:");
            let own = path.starts_with(&format!("/var/lib/legate/{service}/"));
            assert!(own || path.starts_with("/var/lib/legate/trust/"), "{service} writes to {path}");
        }
    }
}

#[test]
fn the_node_helpers_unit_lets_it_see_and_nothing_more() {
    let unit = read("deploy/systemd/legate-workload.service");
    let config = read("deploy/config/workload.toml");
    let has = |line: &str| unit.lines().any(|l| l == line);
    for line in [
        "ExecStart=/usr/bin/legate workload --config /etc/legate/workload.toml",
        "CapabilityBoundingSet=CAP_SYS_PTRACE CAP_DAC_READ_SEARCH",
        "AmbientCapabilities=CAP_SYS_PTRACE CAP_DAC_READ_SEARCH",
        "NoNewPrivileges=yes",
        "ProtectSystem=strict",
        "LimitCORE=0",
        "User=legate-workload",
        "RuntimeDirectory=legate",
        "StateDirectory=legate-workload",
    ] {
        assert!(has(line), "the unit lacks {line}");
    }
    // With these it would not see the processes, or not their programs.
    for blind in ["ProtectProc=", "ProcSubset=", "PrivateUsers=", "PrivatePIDs=", "ProtectHome=", "PrivateTmp="] {
        assert!(!unit.lines().any(|line| line.starts_with(blind)), "{blind} blinds the helper");
    }
    assert!(
        config.contains("\nsocket = \"/run/legate/workload.sock\"\n")
            && config.contains("\nstate = \"/var/lib/legate-workload\"\n")
    );
    assert!(read("deploy/systemd/legate.sysusers").contains("\nu legate-workload "), "no user for the helper");
}

#[test]
fn compose_starts_every_service_with_its_sample() {
    let compose = yaml("deploy/docker/compose.yaml");
    for service in SERVICES {
        let found = &compose["services"][service];
        let words = |key: &str| -> Vec<String> {
            let list = found[key].as_sequence().unwrap_or_else(|| panic!("{service} has no {key}"));
            list.iter().map(|word| word.as_str().unwrap().to_owned()).collect()
        };
        let config = format!("/etc/legate/{service}.toml");
        assert_eq!(words("command"), ["serve", service, "--config", &config]);
        assert_eq!(words("ports"), [format!("127.0.0.1:{0}:{0}", port(service, "listen"))]);
        assert!(words("volumes").contains(&format!("../config/{service}.toml:{config}:ro")));
        assert!(root().join(format!("deploy/config/{service}.toml")).exists());
        assert_eq!(found["read_only"], Value::Bool(true), "{service}");
        let test = found["healthcheck"]["test"].as_sequence().unwrap();
        assert_eq!(test.last().unwrap().as_str().unwrap(), port(service, "probes").to_string());
    }
    let image = read("deploy/docker/Dockerfile");
    assert!(image.lines().any(|line| line == "USER 65532:65532"), "the image runs as root");
    let version = image.lines().find_map(|line| line.strip_prefix("FROM rust:")).unwrap();
    let wanted =
        read("Cargo.toml").lines().find_map(|l| l.strip_prefix("rust-version = \"").map(str::to_owned)).unwrap();
    assert!(version.starts_with(wanted.trim_end_matches('"')), "the image builds with Rust {version}");
}

#[test]
fn the_chart_knows_the_ports_of_the_samples() {
    let values = yaml("deploy/helm/legate/values.yaml");
    let services = values["services"].as_mapping().unwrap();
    assert_eq!(services.len(), SERVICES.len());
    for service in SERVICES {
        let found = &values["services"][service];
        assert_eq!(found["port"].as_u64(), Some(port(service, "listen")), "{service}");
        assert_eq!(found["probePort"].as_u64(), Some(port(service, "probes")), "{service}");
    }
    let chart = yaml("deploy/helm/legate/Chart.yaml");
    let version = read("Cargo.toml").lines().find_map(|l| l.strip_prefix("version = ").map(str::to_owned)).unwrap();
    assert_eq!(format!("{:?}", chart["appVersion"].as_str().unwrap()), version);
}
