mod summary;
mod verify;

use std::{fmt::Write as _, io::Write};

use icegate_pdp_audit::Record;
use icegate_proto::v1::{self, AuditEntry, SearchRecordsRequest, audit_service_client::AuditServiceClient};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::{
    args::{AuditCommand, Connection, SearchArgs},
    connect::{Pdp, connect, refused},
    exit::{Exit, Failure},
    progress, show, time,
};
use summary::Summary;

/// Most records the PDP gives in one answer.
const PAGE: u32 = 1_000;

pub(crate) async fn run(command: AuditCommand, connection: &Connection, out: &mut dyn Write) -> Result<Exit, Failure> {
    // What cannot be asked is said before anybody is asked.
    let command = match command {
        AuditCommand::Search(args) => {
            Asked::Search { request: Box::new(request(&args, Timestamp::now())?), limit: args.limit, json: args.json }
        }
        AuditCommand::Show { wanted, json } => Asked::Show(wanted, json),
        AuditCommand::Verify { from_seq, to_seq } => Asked::Verify(from_seq, to_seq),
    };
    let mut client = AuditServiceClient::new(connect(connection).await?);
    match command {
        Asked::Search { request, limit, json } => {
            let entries = progress::wait("searching", search(&mut client, *request, limit)).await?;
            list(&entries, json, out)?;
            Ok(Exit::Ok)
        }
        Asked::Show(wanted, json) => {
            let mut entries = progress::wait("searching", belonging(&mut client, &wanted)).await?;
            if entries.is_empty() {
                let message = format!(
                    "no record of `{}`; check the decision's id or the record's number",
                    show::visible(&wanted)
                );
                return Err(Failure::new(Exit::Failed, message));
            }
            entries.reverse();
            if json {
                list(&entries, true, out)?;
            } else {
                write!(out, "{}", details(&entries))?;
            }
            Ok(Exit::Ok)
        }
        Asked::Verify(from_seq, to_seq) => verify::run(&mut client, from_seq, to_seq, out).await,
    }
}

enum Asked {
    Search { request: Box<SearchRecordsRequest>, limit: u32, json: bool },
    Show(String, bool),
    Verify(u64, u64),
}

fn request(args: &SearchArgs, now: Timestamp) -> Result<SearchRecordsRequest, Failure> {
    let moment = |option: &str, text: &Option<String>| match text {
        None => Ok(0),
        Some(text) => time::parse(text, now)
            .map(Timestamp::as_millisecond)
            .map_err(|problem| Failure::new(Exit::Usage, format!("`{option}`: {problem}"))),
    };
    Ok(SearchRecordsRequest {
        principal: args.user.clone(),
        agent: args.agent.clone(),
        from_unix_ms: moment("--from", &args.from)?,
        to_unix_ms: moment("--to", &args.to)?,
        object: args.object.clone(),
        outcome: args.outcome.clone(),
        text: args.text.clone(),
        limit: 0,
        before_seq: 0,
        decision_id: args.decision.clone(),
    })
}

/// Asks page by page until there are `limit` entries or no more.
async fn search(
    client: &mut AuditServiceClient<Pdp>,
    mut request: SearchRecordsRequest,
    limit: u32,
) -> Result<Vec<AuditEntry>, Failure> {
    let wanted = usize::try_from(limit).unwrap_or(usize::MAX);
    let mut entries = Vec::new();
    loop {
        let missing = wanted.saturating_sub(entries.len());
        request.limit = u32::try_from(missing).unwrap_or(PAGE).min(PAGE);
        let page = client.search_records(request.clone()).await.map_err(|status| refused(&status))?.into_inner();
        entries.extend(page.entries);
        entries.truncate(wanted);
        if entries.len() == wanted || page.next_before_seq == 0 {
            return Ok(entries);
        }
        request.before_seq = page.next_before_seq;
    }
}

/// Everything of a decision, newest first: by its id, or by the number of a record of it. A record of no decision comes
/// alone.
async fn belonging(client: &mut AuditServiceClient<Pdp>, wanted: &str) -> Result<Vec<AuditEntry>, Failure> {
    let of_decision = |id: &str| SearchRecordsRequest { decision_id: id.to_owned(), ..Default::default() };
    let Ok(seq) = wanted.parse::<u64>() else { return search(client, of_decision(wanted), PAGE).await };
    let newest = SearchRecordsRequest { before_seq: seq.saturating_add(1), ..Default::default() };
    let mut entries = search(client, newest, 1).await?;
    entries.retain(|entry| entry.record.as_ref().is_some_and(|record| record.seq == seq));
    let decision = entries.first().and_then(|entry| parsed(entry).ok()).and_then(|parsed| decision_of(&parsed.record));
    match decision {
        Some(id) => search(client, of_decision(&id), PAGE).await,
        None => Ok(entries),
    }
}

/// The decision a record belongs to, as it stands in its body.
fn decision_of(record: &Record) -> Option<String> {
    let body: Value = serde_json::from_slice(&record.canonical()).ok()?;
    body.get("event")?.get("decision_id")?.as_str().map(str::to_owned)
}

fn list(entries: &[AuditEntry], json: bool, out: &mut dyn Write) -> Result<(), Failure> {
    if json {
        for entry in entries {
            writeln!(out, "{}", to_json(entry))?;
        }
        return Ok(());
    }
    if entries.is_empty() {
        writeln!(out, "No records.")?;
        return Ok(());
    }
    let rows = entries.iter().map(|entry| match parsed(entry) {
        Ok(Parsed { record, outcome, cut }) => Summary::of(&record, outcome.as_ref(), cut.is_some()).row(),
        Err(problem) => vec!["-".into(), "-".into(), "-".into(), "-".into(), problem],
    });
    let head = ["record", "time", "user", "agent", "outcome", "run", "rows", "objects", "statement"];
    write!(out, "{}", show::table(&head, rows))?;
    Ok(())
}

fn details(entries: &[AuditEntry]) -> String {
    let mut text = String::new();
    for entry in entries {
        match parsed(entry) {
            Ok(Parsed { record, outcome, cut }) => {
                text.push_str(&summary::details(&record));
                for ending in [outcome, cut].iter().flatten() {
                    text.push('\n');
                    text.push_str(&summary::details(ending));
                }
            }
            Err(problem) => {
                text.push_str(&problem);
                text.push('\n');
            }
        }
        text.push('\n');
    }
    text
}

/// The bytes as they were hashed, read as JSON, with the hashes that hold them in place.
fn to_json(entry: &AuditEntry) -> Value {
    let record = |record: &v1::Record| {
        let body: Value = serde_json::from_slice(&record.body).unwrap_or(Value::Null);
        json!({ "seq": record.seq, "body": body, "prev_hash": hex(&record.prev_hash), "hash": hex(&record.hash) })
    };
    json!({
        "record": entry.record.as_ref().map(record),
        "outcome": entry.outcome.as_ref().map(record),
        "cut": entry.cut.as_ref().map(record),
    })
}

struct Parsed {
    record: Record,
    outcome: Option<Record>,
    cut: Option<Record>,
}

fn parsed(entry: &AuditEntry) -> Result<Parsed, String> {
    let read = |record: &v1::Record| {
        Record::from_canonical(&record.body)
            .map_err(|error| format!("record {}: {}", record.seq, crate::exit::chain(&error)))
    };
    let record = entry.record.as_ref().ok_or("the PDP answered without the record")?;
    Ok(Parsed {
        record: read(record)?,
        outcome: entry.outcome.as_ref().map(read).transpose()?,
        cut: entry.cut.as_ref().map(read).transpose()?,
    })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use icegate_pdp_audit::{CutEvent, CutReason, Event, OutcomeEvent, RunStatus};
    use icegate_pdp_model::Timestamp as At;

    use super::*;

    fn entry(seq: u64, event: Event, outcome: Option<OutcomeEvent>) -> AuditEntry {
        let wire = |seq, event| {
            let body = Record { seq, at: At(1_790_000_000_000), event }.canonical();
            v1::Record { seq, body, prev_hash: vec![0; 32], hash: vec![1; 32] }
        };
        AuditEntry {
            record: Some(wire(seq, event)),
            outcome: outcome.map(|outcome| wire(seq + 1, Event::Outcome(outcome))),
            cut: None,
        }
    }

    fn decision(sql: &str) -> Event {
        serde_json::from_value(json!({
            "kind": "decision",
            "decision_id": "0198f0aa-0000-7000-8000-000000000003",
            "session_id": "0198f0aa-0000-7000-8000-000000000002",
            "request_id": "r1", "pep_id": "pep-1", "pep_instance": "i1",
            "principal": {
                "id": "corp/ana", "issuer": "https://login.example.com", "subject": "ana", "groups": ["analysts"],
                "agent": null, "provenance": "unknown",
            },
            "client": {}, "context": {},
            "sql": sql, "sent_sql": null, "bindings_sha256": null, "describe_only": false,
            "statements": [{
                "kind": "select", "level": "understood", "effects": ["read"],
                "objects": [{ "kind": "table", "name": "SALES.PUBLIC.CUSTOMERS", "effect": "read" }],
                "columns_read": ["SALES.PUBLIC.CUSTOMERS.EMAIL"], "exports": [], "unresolved": [],
            }],
            "disclosed": [], "disclosed_opaque": false,
            "masks": [{ "column": "SALES.PUBLIC.CUSTOMERS.EMAIL", "mask": "email", "policy": "mask-email" }],
            "outcome": "mask",
            "reasons": [{ "code": "POLICY-MASK", "policy": "mask-email", "message": "Personal data is masked." }],
            "policies": ["mask-email"], "bundle_version": "b1", "approval_id": null, "cached_from": null,
            "journaled": false, "ran": null,
        }))
        .unwrap()
    }

    fn outcome() -> OutcomeEvent {
        OutcomeEvent {
            status: RunStatus::Succeeded,
            rows: Some(42),
            duration_ms: 17,
            ..OutcomeEvent::unknown("0198f0aa-0000-7000-8000-000000000003", "0198f0aa-0000-7000-8000-000000000002")
        }
    }

    fn cut() -> AuditEntry {
        let event = Event::DeliveryCut(CutEvent {
            decision_id: "0198f0aa-0000-7000-8000-000000000003".into(),
            session_id: "0198f0aa-0000-7000-8000-000000000002".into(),
            query_id: Some("01b2c3d4-0000-1111-0000-000000000001".into()),
            part: 3,
            reason: CutReason::Masking,
            cut: At(1_790_000_000_000),
        });
        entry(9, event, None)
    }

    #[test]
    fn a_trail_reads_well() {
        let entries = [
            // Its decision is not on record.
            cut(),
            entry(7, Event::ServiceStopped { instance: "i1".into() }, None),
            AuditEntry {
                cut: cut().record,
                ..entry(5, decision("SELECT email\nFROM customers -- \u{202e}hidden"), Some(outcome()))
            },
            entry(3, decision("SELECT 1"), None),
        ];
        let shown = |json| {
            let mut out = Vec::new();
            list(&entries, json, &mut out).unwrap();
            String::from_utf8(out).unwrap()
        };
        insta::assert_snapshot!("audit_table", shown(false));
        insta::assert_snapshot!("audit_json", shown(true));
        insta::assert_snapshot!("audit_details", details(&entries[2..3]));
    }

    #[test]
    fn a_wrong_time_is_said_before_anybody_is_asked() {
        let args = SearchArgs {
            user: String::new(),
            agent: String::new(),
            from: Some("soon".into()),
            to: None,
            object: String::new(),
            outcome: String::new(),
            text: String::new(),
            decision: String::new(),
            limit: 1,
            json: false,
        };
        let failure = request(&args, Timestamp::UNIX_EPOCH).unwrap_err();
        assert_eq!(failure.exit(), Exit::Usage);
        assert!(failure.to_string().starts_with("`--from`: `soon` is not a time"), "{failure}");
    }
}
