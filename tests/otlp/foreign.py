"""OpenTelemetry's own SDK as teller and as reader. Every check ends the run where it fails.

    foreign.py listens PORT...
    foreign.py tell SCRATCH GRPC HTTP CA AGENT
    foreign.py told SCRATCH LEGATE AGENT
    foreign.py read SCRATCH
"""

import base64
import json
import pathlib
import socket
import subprocess
import sys
import time

CANARY = "canary-what-was-said"
SAID = {
    "gen_ai.input.messages": json.dumps([{"role": "user", "parts": [{"type": "text", "content": CANARY}]}]),
    "gen_ai.output.messages": [CANARY],
    "gen_ai.system_instructions": CANARY,
    "gen_ai.tool.call.arguments": json.dumps({"number": CANARY}),
    "gen_ai.tool.call.result": CANARY,
    "gen_ai.prompt": CANARY,
}


def until(what, found, patience=30.0):
    """What is awaited of another process comes within a bounded time, or the run fails."""
    end = time.monotonic() + patience
    while time.monotonic() < end:
        if (result := found()) is not None:
            return result
        time.sleep(0.05)
    raise AssertionError(f"{what} did not come within {patience} s")


def listens(*ports):
    def connected(port):
        try:
            socket.create_connection(("127.0.0.1", int(port)), 1).close()
            return True
        except OSError:
            return None

    for port in ports:
        until(f"a listener on {port}", lambda: connected(port))


def spans_of(provider, number):
    """One run of an agent, as its SDK tells it."""
    tracer = provider.get_tracer("invoice-bot")
    with tracer.start_as_current_span(f"invoke_agent {CANARY}") as run:
        run.set_attributes({"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "invoice-bot", **SAID})
        with tracer.start_as_current_span("chat") as chat:
            chat.set_attributes({
                "gen_ai.operation.name": "chat", "gen_ai.provider.name": "openai", "gen_ai.request.model": "m-1",
                "gen_ai.usage.input_tokens": 17, "gen_ai.conversation.id": f"conv-{number}", **SAID})
            chat.add_event(CANARY, {"content": CANARY})
        with tracer.start_as_current_span("execute_tool") as tool:
            tool.set_attributes({
                "gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "read_invoice",
                "legate.action": "invoice:read", "legate.resource.type": "Invoice",
                "legate.resource.id": f"apollo/{number}", "user.id": "ada@example.com", **SAID})
        with tracer.start_as_current_span("GET") as other:
            other.set_attributes({"http.request.method": "GET", "url.full": f"https://api.example/{CANARY}"})


def tell(scratch, grpc_at, http_at, ca, agent):
    import grpc
    from opentelemetry._logs import LogRecord, SeverityNumber
    from opentelemetry.exporter.otlp.proto.grpc._log_exporter import OTLPLogExporter as GrpcLogs
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as GrpcSpans
    from opentelemetry.exporter.otlp.proto.http import Compression
    from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter as HttpLogs
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as HttpSpans
    from opentelemetry.sdk._logs import LoggerProvider
    from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, LogRecordExportResult, SimpleLogRecordProcessor
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExportResult
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    scratch = pathlib.Path(scratch)

    def pem(who):
        return (scratch / who / "identity.pem").read_bytes()

    believed = pathlib.Path(ca).read_bytes()
    credentials = grpc.ssl_channel_credentials(believed, pem("agent"), pem("agent"))
    http = {"certificate_file": ca, "client_certificate_file": str(scratch / "agent/identity.pem"),
            "client_key_file": str(scratch / "agent/identity.pem")}
    by_grpc = {"endpoint": grpc_at, "credentials": credentials}

    def run(number, *attributes):
        kept = InMemorySpanExporter()
        provider = TracerProvider(resource=Resource.create({"service.name": "invoice-bot", **dict(attributes)}))
        provider.add_span_processor(SimpleSpanProcessor(kept))
        spans_of(provider, number)
        return kept.get_finished_spans()

    def told(exporter, all, good):
        # A client that has not heard the answer sends it again.
        for _ in range(2):
            assert exporter.export(all) == good, exporter
        exporter.shutdown()

    told(GrpcSpans(**by_grpc), run(1), SpanExportResult.SUCCESS)
    told(GrpcSpans(**by_grpc, compression=grpc.Compression.Gzip), run(2), SpanExportResult.SUCCESS)
    told(HttpSpans(endpoint=http_at + "/v1/traces", **http), run(3), SpanExportResult.SUCCESS)
    told(HttpSpans(endpoint=http_at + "/v1/traces", compression=Compression.Gzip, **http), run(4), SpanExportResult.SUCCESS)

    kept = InMemoryLogRecordExporter()
    provider = LoggerProvider(resource=Resource.create({"service.name": "invoice-bot"}))
    provider.add_log_record_processor(SimpleLogRecordProcessor(kept))
    for number in (5, 6):
        provider.get_logger("invoice-bot").emit(LogRecord(
            timestamp=time.time_ns(), severity_number=SeverityNumber.INFO, body=CANARY,
            attributes={"legate.action": "invoice:read", "legate.resource.type": "Invoice",
                        "legate.resource.id": f"apollo/{number}", **SAID}))
    records = kept.get_finished_logs()
    told(GrpcLogs(**by_grpc), records[:1], LogRecordExportResult.SUCCESS)
    told(HttpLogs(endpoint=http_at + "/v1/logs", **http), records[1:], LogRecordExportResult.SUCCESS)

    # An enforcement point, such as a collector in between, passes on what it was told.
    point = grpc.ssl_channel_credentials(believed, pem("enforcer"), pem("enforcer"))
    told(GrpcSpans(endpoint=grpc_at, credentials=point), run(7, ("legate.agent.id", agent)), SpanExportResult.SUCCESS)
    # Who shows no certificate is nobody.
    nobody = GrpcSpans(endpoint=grpc_at, credentials=grpc.ssl_channel_credentials(believed))
    assert nobody.export(run(8)) == SpanExportResult.FAILURE
    print("OpenTelemetry's SDK: 5 batches of spans and 2 of log records, each twice")


def told(scratch, legate, agent):
    def ask():
        asked = [legate, "audit", "query", "--agent", agent, "--filter", "type = action.executed OR type = activity.reported",
                 "--limit", "0", "--oldest-first", "-o", "json"]
        events = json.loads(subprocess.run(asked, check=True, capture_output=True).stdout).get("events", [])
        # The index follows the log by a moment.
        return events if len(events) >= 5 * 3 + 2 else None

    events = until("what was told", ask)
    assert len(events) == 5 * 3 + 2, len(events)
    trust = [event["trust"] for event in events]
    assert trust.count("TRUST_CLASS_OBSERVED") == 3 and trust.count("TRUST_CLASS_AUTHENTICATED") == 14, trust
    said = [event["event"] for event in events]
    assert CANARY not in json.dumps(events)
    tools = sorted(event["resource"]["id"] for event in said if event["type"] == "action.executed")
    assert tools == [f"apollo/{number}" for number in range(1, 8)], tools
    assert all(event["agentId"] == agent and event["namespace"] == "payments" for event in said)
    of_span = [event for event in said if event["type"] == "action.executed" and event["details"]["otlp"] == "span"]
    assert {event["subject"] for event in of_span} == {"user:ada@example.com"}, of_span
    chats = [event for event in said if event["action"] == "gen_ai:chat"]
    assert len(chats) == 5 and all(event["details"]["input_tokens"] == "17" for event in chats)
    print(f"{len(events)} events, each once: 14 of the agent itself, 3 observed")


def read(scratch):
    from google.protobuf import json_format
    from opentelemetry.proto.logs.v1.logs_pb2 import LogsData

    scratch = pathlib.Path(scratch)
    lines = (scratch / "events.otlp").read_text().splitlines()
    names, last = set(), -1
    for line in lines:
        data = json.loads(line)
        for record in (r for logs in data["resourceLogs"] for scope in logs["scopeLogs"] for r in scope["logRecords"]):
            # OTLP's JSON has ids in hexadecimal digits, where protobuf's own has base64.
            for name, length in (("traceId", 16), ("spanId", 8)):
                if name in record:
                    id_ = bytes.fromhex(record[name])
                    assert len(id_) == length, record
                    record[name] = base64.b64encode(id_).decode()
        # Unknown fields are refused.
        parsed = json_format.ParseDict(data, LogsData())
        (record,) = parsed.resource_logs[0].scope_logs[0].log_records
        attributes = {one.key: one.value for one in record.attributes}
        # In the order of the log. Leaves in which only the signature of a batch rests are no events.
        leaf = attributes["legate.leaf.index"].int_value
        assert leaf > last, line
        last = leaf
        assert record.time_unix_nano > 0 and record.event_name.startswith("legate."), line
        names.add(record.event_name)
    assert {"legate.action.executed", "legate.activity.reported", "legate.agent.created"} <= names, names
    print(f"opentelemetry-proto: {len(lines)} lines are LogsData")

    def printed():
        text = (scratch / "behind.log").read_text(errors="replace")
        return text if text.count("legate.event.id") >= len(lines) else None

    text = until("what rotel prints", printed)
    assert "legate.agent.created" in text or "agent.created" in text
    print(f"rotel: {text.count('legate.event.id')} log records came by OTLP")


verb, *args = sys.argv[1:]
{"listens": listens, "tell": tell, "told": told, "read": read}[verb](*args)
