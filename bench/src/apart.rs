//! The services in processes of their own, this program started again: what each costs is its own CPU time, as the kernel counts it.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use legate::dev::pki;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use crate::Failed;
use crate::house::House;

/// Names the service that a process is to be, and its configuration.
const SERVE: &str = "LEGATE_BENCH_SERVE";

/// Ticks of `/proc/PID/stat` in a second (`USER_HZ`, the same on every Linux that we run on).
const TICKS: f64 = 100.0;

/// Does what `legate serve` does, where this process was started for that.
pub(crate) fn serve() -> Option<Result<(), Failed>> {
    let task = std::env::var(SERVE).ok()?;
    let (service, config) = task.split_once(' ')?;
    Some(legate::dev::serve(service, config.as_ref()).map_err(Into::into))
}

/// The first of a hundred ports of which nobody has any that a suite takes.
pub(crate) fn free_ports() -> Result<u16, Failed> {
    let is_free = |port: u16| std::net::TcpListener::bind(("127.0.0.1", port)).is_ok();
    let mut bases = (0..120).map(|n| 20_000 + 100 * ((std::process::id() + n) % 120) as u16);
    let free = bases.find(|base| [1, 2, 3, 4, 12, 14, 91, 92, 93, 94].iter().all(|at| is_free(base + at)));
    Ok(free.ok_or("no free ports between 20,000 and 32,000")?)
}

/// Services that run, and end with this.
pub(crate) struct Apart(Vec<(&'static str, Child)>);

impl Drop for Apart {
    fn drop(&mut self) {
        for (_, child) in &mut self.0 {
            let _gone = child.kill();
            let _gone = child.wait();
        }
    }
}

/// What the kernel has counted of a process's CPU time.
pub(crate) fn cpu_of(process: u32) -> Result<Duration, Failed> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat"))?;
    // Behind the name in parentheses: the state is field 3, utime 14 and stime 15 (proc_pid_stat(5)).
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |at: usize| fields.get(at - 3).and_then(|text| text.parse::<u32>().ok());
    let (user, system) = ticks(14).zip(ticks(15)).ok_or("/proc/PID/stat is not as it was")?;
    Ok(Duration::from_secs_f64(f64::from(user + system) / TICKS))
}

/// CPU time of each service, in the order in which they are raised.
pub(crate) type Cpu = [Duration; 4];

/// Starts all four from the configuration files that the suite left, and waits until they serve.
pub(crate) async fn raise(house: &House) -> Result<Apart, Failed> {
    let mut apart = Apart(Vec::new());
    for service in pki::SERVICES {
        let config = house.suite.layout().service(service).join("config.toml");
        let child = Command::new(std::env::current_exe()?)
            .env(SERVE, format!("{service} {}", config.display()))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        apart.0.push((service, child));
    }
    for service in pki::SERVICES {
        let begin = Instant::now();
        let mut health = HealthClient::new(house.operator(service)?);
        while !health
            .check(HealthCheckRequest::default())
            .await
            .is_ok_and(|answer| answer.into_inner().status() == ServingStatus::Serving)
        {
            if begin.elapsed() > Duration::from_secs(20) {
                return Err(format!("{service} does not serve as a process of its own").into());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    Ok(apart)
}

impl Apart {
    /// What the kernel has counted up to now.
    pub(crate) fn cpu(&self) -> Result<Cpu, Failed> {
        let mut all = Cpu::default();
        for ((_, child), cpu) in self.0.iter().zip(&mut all) {
            *cpu = cpu_of(child.id())?;
        }
        Ok(all)
    }

    /// The same once all have come to rest: what a call left to be shipped and indexed is over, too.
    pub(crate) async fn cpu_at_rest(&self) -> Result<Cpu, Failed> {
        let begin = Instant::now();
        let mut before = self.cpu()?;
        loop {
            tokio::time::sleep(Duration::from_millis(300)).await;
            let now = self.cpu()?;
            let spent: Duration = now.iter().zip(before).map(|(now, before)| now.saturating_sub(before)).sum();
            if spent <= Duration::from_millis(30) || begin.elapsed() > Duration::from_secs(10) {
                return Ok(now);
            }
            before = now;
        }
    }
}
