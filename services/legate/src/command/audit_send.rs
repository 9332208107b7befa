//! `legate audit export --to`: events to a receiver of OTLP over HTTP, page by page, each until it is taken, and on from there later.

use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_util::rt::TokioIo;
use legate_clock::SystemClock;
use legate_mtls::WebConnector;
use legate_wire::audit::{IndexedEvent, QueryEventsRequest};
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceResponse;
use prost::Message as _;
use tokio::net::TcpStream;

use super::Desk;
use super::audit::{PAGE, page};
use super::audit_export::Mark;
use crate::cli::ExportAs;
use crate::error::{EXPORT_REFUSED, FILE_REFUSED, USAGE};
use crate::export::request;
use crate::place::Service;
use crate::{Exit, Failure};

/// One request to the receiver, whole.
const PATIENCE: Duration = Duration::from_secs(30);

/// Bytes of events in one request: receivers take 4 MiB by default.
const BYTES: usize = 2 << 20;

/// How often a request is sent, and the longest wait between two times.
const TRIES: u32 = 8;
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// So much of an answer is read.
const LARGEST_ANSWER: usize = 64 << 10;

/// What the receiver says.
enum Said {
    /// It has them, but so many, and why not those.
    Taken(i64, String),
    /// Later, and when, where it says so.
    Later(String, Option<Duration>),
    /// Never.
    Refused(String),
}

/// A receiver of OTLP.
pub(super) struct Receiver {
    url: http::Uri,
    host: String,
    port: u16,
    web: Option<WebConnector>,
}

impl Receiver {
    /// The receiver at an address: https://HOST:PORT, or http:// on this machine; `ca`: certificates under which it is believed
    /// beside the public ones.
    pub(super) fn at(url: &str, ca: Option<&Path>) -> Result<Self, Failure> {
        let bad = |why: &str| Failure::local(&USAGE, format!("--to {url:?}: {why}"));
        let base = url.trim_end_matches('/');
        let whole = if base.ends_with("/v1/logs") { base.to_owned() } else { format!("{base}/v1/logs") };
        let parsed: http::Uri = whole.parse().map_err(|_| bad("it is no address"))?;
        let authority = parsed.authority().filter(|authority| !authority.as_str().contains('@'));
        let host = authority.map(|authority| authority.host().trim_matches(['[', ']']).to_owned());
        let host = host.filter(|host| !host.is_empty()).ok_or_else(|| bad("it names no host"))?;
        let (web, port) = match (parsed.scheme_str(), host.as_str()) {
            (Some("https"), _) => {
                let read = |path: &Path| std::fs::read_to_string(path).map_err(|e| Failure::file(path, e));
                let more = ca.map(read).transpose()?;
                let web = WebConnector::new(more.as_deref(), SystemClock::shared());
                (Some(web.map_err(|e| Failure::local(&FILE_REFUSED, e.to_string()))?), 443)
            }
            (Some("http"), "127.0.0.1" | "::1" | "localhost") => (None, 80),
            _ => return Err(bad("it has to be https://HOST, or http:// on this machine")),
        };
        let port = parsed.port_u16().unwrap_or(port);
        Ok(Self { url: parsed, host, port, web })
    }

    fn unreachable(&self, why: &str) -> Failure {
        Failure::unreachable("the receiver", &self.url.to_string(), why)
    }

    /// Sends events until they are taken; how many the receiver has rejected, and its words.
    pub(super) async fn send(&self, events: &[IndexedEvent]) -> Result<(i64, String), Failure> {
        let body = Bytes::from(request(events).encode_to_vec());
        let mut wait = Duration::from_secs(1);
        for tried in 1.. {
            let sent = tokio::time::timeout(PATIENCE, self.post(body.clone())).await;
            let said = sent.unwrap_or_else(|_| Said::Later(format!("no answer within {PATIENCE:?}"), None));
            match said {
                Said::Taken(rejected, why) => return Ok((rejected, why)),
                Said::Refused(why) => return Err(Failure::local(&EXPORT_REFUSED, format!("{}: {why}", self.url))),
                Said::Later(why, _) if tried >= TRIES => return Err(self.unreachable(&why)),
                Said::Later(why, asked) => {
                    let pause = asked.unwrap_or(wait).min(LONGEST_WAIT);
                    crate::output::say(&format!("{}: {why}; it is sent again in {} s", self.url, pause.as_secs()));
                    tokio::time::sleep(pause).await;
                    wait = (wait * 2).min(LONGEST_WAIT);
                }
            }
        }
        Err(self.unreachable("it was tried often enough"))
    }

    async fn post(&self, body: Bytes) -> Said {
        let path = self.url.path_and_query().map_or("/v1/logs", |path| path.as_str());
        let authority = self.url.authority().map_or("", |authority| authority.as_str());
        let request = http::Request::post(path)
            .header(http::header::HOST, authority)
            .header(http::header::CONTENT_TYPE, "application/x-protobuf")
            .header(http::header::USER_AGENT, concat!("legate/", env!("CARGO_PKG_VERSION")))
            .body(Full::new(body));
        let request = match request {
            Ok(request) => request,
            Err(e) => return Said::Refused(e.to_string()),
        };
        let addresses = match tokio::net::lookup_host((self.host.as_str(), self.port)).await {
            Ok(addresses) => addresses,
            Err(e) => return Said::Later(e.to_string(), None),
        };
        let mut last = String::from("the name has no address");
        for address in addresses {
            let stream = match &self.web {
                Some(web) => match web.connect(address, &self.host).await {
                    Ok(stream) => return exchange(TokioIo::new(stream), request).await,
                    Err(e) => Err(e),
                },
                None => TcpStream::connect(address).await,
            };
            match stream {
                Ok(stream) => return exchange(TokioIo::new(stream), request).await,
                Err(e) => last = e.to_string(),
            }
        }
        Said::Later(last, None)
    }
}

async fn exchange<S>(stream: S, request: http::Request<Full<Bytes>>) -> Said
where
    S: hyper::rt::Read + hyper::rt::Write + Send + Unpin + 'static,
{
    let (mut sender, connection) = match hyper::client::conn::http1::handshake(stream).await {
        Ok(shaken) => shaken,
        Err(e) => return Said::Later(e.to_string(), None),
    };
    let mut driving = tokio::task::JoinSet::new();
    driving.spawn(connection);
    let answer = match sender.send_request(request).await {
        Ok(answer) => answer,
        Err(e) => return Said::Later(e.to_string(), None),
    };
    let status = answer.status();
    let again = answer.headers().get(http::header::RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
    let body = Limited::new(answer.into_body(), LARGEST_ANSWER).collect().await;
    let body = body.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    match status.as_u16() {
        200..=299 => {
            let partial = ExportLogsServiceResponse::decode(body).unwrap_or_default().partial_success;
            partial.map_or_else(
                || Said::Taken(0, String::new()),
                |partial| Said::Taken(partial.rejected_log_records.max(0), partial.error_message),
            )
        }
        // Those that the protocol says can be tried again.
        429 | 502 | 503 | 504 => {
            Said::Later(format!("the receiver answered with {status}"), again.map(Duration::from_secs))
        }
        _ => Said::Refused(format!("the receiver answered with {status}")),
    }
}

/// Splits a page where it would be too large for one request.
fn portions(events: &[IndexedEvent]) -> Vec<&[IndexedEvent]> {
    let (mut all, mut first, mut bytes) = (Vec::new(), 0, 0);
    for (at, event) in events.iter().enumerate() {
        // Names of attributes make a record about twice as long as its event.
        let its = 2 * event.event.as_ref().map_or(0, prost::Message::encoded_len) + 1_024;
        if bytes + its > BYTES && at > first {
            all.push(&events[first..at]);
            (first, bytes) = (at, 0);
        }
        bytes += its;
    }
    if first < events.len() {
        all.push(&events[first..]);
    }
    all
}

/// Sends what a question finds. The mark says after each page that the receiver has it.
pub(super) async fn run(
    desk: &Desk,
    receiver: &Receiver,
    mark_at: &Path,
    asked: Option<QueryEventsRequest>,
) -> Result<Exit, Failure> {
    let audit = desk.line(Service::Audit)?;
    let mut mark = match asked {
        None => Mark::kept(mark_at)?,
        Some(_) if mark_at.exists() => {
            return Err(Failure::file(
                mark_at,
                "it is there already; go on from it with --resume, or take another name",
            ));
        }
        Some(asked) => {
            let mut mark = Mark::begin(ExportAs::Otlp, &asked)?;
            mark.keep(mark_at, "")?;
            mark
        }
    };
    let mut ask = QueryEventsRequest { page_size: PAGE, ..mark.question(mark_at)? };
    let (mut rejected, mut words) = (0, String::new());
    loop {
        let found = page(&audit, &ask).await?;
        for portion in portions(&found.events) {
            let sent = receiver.send(portion).await.map_err(|mut failure| {
                failure.next = format!("{} What was taken is marked; go on with --resume.", failure.next);
                failure
            });
            let (count, why) = sent?;
            rejected += count;
            if !why.is_empty() {
                words = why;
            }
        }
        mark.rows += found.events.len() as u64;
        mark.keep(mark_at, &found.next_page_token)?;
        ask.page_token = found.next_page_token;
        if ask.page_token.is_empty() {
            break;
        }
    }
    let _gone = std::fs::remove_file(mark_at);
    crate::output::say(&format!("{} events sent to {}", mark.rows, receiver.url));
    if rejected > 0 {
        let what = format!("the receiver rejected {rejected} of {} events: {words}", mark.rows);
        return Err(Failure::local(&EXPORT_REFUSED, what));
    }
    if !words.is_empty() {
        crate::output::say(&format!("the receiver says: {words}"));
    }
    Ok(Exit::Done)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use legate_wire::audit::AuditEvent;
    use opentelemetry_proto::tonic::collector::logs::v1::{ExportLogsPartialSuccess, ExportLogsServiceRequest};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    fn event(leaf_index: u64, reason: &str) -> IndexedEvent {
        let event = AuditEvent { r#type: "agent.created".into(), reason: reason.into(), ..AuditEvent::default() };
        IndexedEvent { leaf_index, event: Some(event), ..IndexedEvent::default() }
    }

    /// Answers one request after the other with these, and gives what came.
    async fn receiver(answers: Vec<(u16, &'static str, Vec<u8>)>) -> (Receiver, tokio::task::JoinHandle<Vec<usize>>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = Receiver::at(&format!("http://{}", listener.local_addr().unwrap()), None).unwrap();
        let task = tokio::spawn(async move {
            let mut came = Vec::new();
            for (status, header, body) in answers {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut bytes = Vec::new();
                let (head, length) = loop {
                    stream.read_buf(&mut bytes).await.unwrap();
                    let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else { continue };
                    let head = String::from_utf8(bytes[..end].to_vec()).unwrap().to_ascii_lowercase();
                    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
                    break (end + 4, length.parse::<usize>().unwrap());
                };
                while bytes.len() < head + length {
                    stream.read_buf(&mut bytes).await.unwrap();
                }
                assert!(bytes.starts_with(b"POST /v1/logs HTTP/1.1\r\n"));
                came.push(ExportLogsServiceRequest::decode(&bytes[head..]).unwrap().resource_logs.len());
                let answer = format!("HTTP/1.1 {status} X\r\n{header}content-length: {}\r\n\r\n", body.len());
                stream.write_all(&[answer.as_bytes(), &body].concat()).await.unwrap();
            }
            came
        });
        (at, task)
    }

    #[tokio::test]
    async fn a_page_is_sent_until_it_is_taken_and_what_is_rejected_is_told() {
        let partial = ExportLogsPartialSuccess { rejected_log_records: 1, error_message: "no".into() };
        let partial = ExportLogsServiceResponse { partial_success: Some(partial) }.encode_to_vec();
        let (at, task) = receiver(vec![
            (503, "retry-after: 0\r\n", Vec::new()),
            (429, "retry-after: 0\r\n", Vec::new()),
            (200, "", Vec::new()),
            (200, "", partial),
            (400, "", Vec::new()),
        ])
        .await;
        let events = [event(1, ""), event(2, "")];
        assert_eq!(at.send(&events).await.unwrap(), (0, String::new()));
        assert_eq!(at.send(&events).await.unwrap(), (1, "no".to_owned()));
        assert_eq!(at.send(&events).await.unwrap_err().reason, "EXPORT_REFUSED");
        assert_eq!(task.await.unwrap(), [2; 5]);
    }

    #[test]
    fn an_address_that_is_none_or_in_plaintext_elsewhere_is_refused() {
        for good in
            ["https://a.example", "https://a.example:4318/", "http://localhost:4318", "http://[::1]:4318/v1/logs"]
        {
            assert!(Receiver::at(good, None).unwrap().url.path() == "/v1/logs", "{good}");
        }
        assert_eq!(Receiver::at("https://a.example/otlp", None).unwrap().url.path(), "/otlp/v1/logs");
        for bad in
            ["http://a.example", "a.example:4318", "ftp://a.example", "https://", "", "https://user@a.example", "x y"]
        {
            assert_eq!(Receiver::at(bad, None).err().unwrap().reason, "USAGE", "{bad}");
        }
    }

    #[test]
    fn a_page_of_large_events_becomes_several_requests() {
        let large = "x".repeat(60_000);
        let events: Vec<IndexedEvent> = (0..100).map(|n| event(n, &large)).collect();
        let all = portions(&events);
        assert!(all.len() > 4 && all.iter().all(|portion| request(portion).encoded_len() < BYTES), "{}", all.len());
        assert_eq!(all.concat().len(), 100);
        assert_eq!(portions(&events[..1]).len(), 1);
        assert!(portions(&[]).is_empty());
    }
}
