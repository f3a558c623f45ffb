//! What was permitted goes to Snowflake, exactly, once; and what comes back is looked at before anyone gets it.

pub(crate) mod account;
pub(crate) mod upstream;

use std::{sync::Arc, time::Instant};

use bytes::Bytes;
use http::Method;
use icegate_pep_protocol::{
    ChunkFormat, PepCode, QueryId, Refusal, Reply, Secret,
    answer::MonitoredStatus,
    reply::{ChunkTerms, ContextUpdate, Delivery, ErrorText, ReplyRefusal, ReplyTerms, Rows},
    upstream::query_path,
};
use icegate_proto::v1::{ResultShape, RunStatus, SessionContext};
use tracing::{debug, warn};

use self::upstream::RawReply;
use crate::{
    answer::Binding,
    ask::Permitted,
    chunk,
    masking::{ResultPlan, Worn},
    metrics::{REPLIES_WITHHELD, STAGE_DURATION},
    proxy::Proxy,
    record::RunEnd,
    refuse::{self, Stop},
    session::{Background, Ending, Gate, Session},
    statement::{Done, Run},
};

/// What came of sending a statement.
pub(crate) struct Forwarded {
    pub(crate) done: Done,
    /// How the run ended; `None` while it still runs at Snowflake.
    pub(crate) end: Option<RunEnd>,
}

/// Sends what was permitted. `gate` is the session's, held since before it was asked.
pub(crate) async fn forward(
    proxy: &Arc<Proxy>,
    session: &Session,
    gate: &mut Gate,
    run: &Run,
    permitted: Permitted,
    worn: Worn,
) -> Forwarded {
    let started = Instant::now();
    let path = query_path(&run.key.request_id);
    let body = Bytes::copy_from_slice(permitted.body());
    let sent = proxy.call_upstream(session, Method::POST, &path, Some(body)).await;
    metrics::histogram!(STAGE_DURATION, "stage" => "forward").record(started.elapsed());
    let lost = changes_context(permitted.statement_kinds());
    if leaves_traces(permitted.statement_kinds()) {
        session.leave_traces();
    }
    let raw = match sent {
        Ok(Ok(raw)) => raw,
        Ok(Err(error)) => {
            let stop = refuse::unanswered(error);
            let status = if error.may_have_run() { RunStatus::Unknown } else { RunStatus::NotSent };
            if lost {
                gate.context = None;
            }
            let done = if error.may_have_run() {
                Done::stopped_after_sending(&stop, None)
            } else {
                Done::stopped(&stop, None)
            };
            return Forwarded { done, end: Some(RunEnd::without_reply(status, stop.code(), started.elapsed())) };
        }
        Err(stop) => {
            // Refused for its token: it did not run. A driver that polls cannot replay the request.
            let stop = if matches!(stop, Stop::Expired) && was_held(run) { Ending::UpstreamGone.into() } else { stop };
            let end = RunEnd::without_reply(RunStatus::Failed, stop.code(), started.elapsed());
            return Forwarded { done: Done::stopped(&stop, None), end: Some(end) };
        }
    };
    let terms = Terms {
        query_id: None,
        decision_id: permitted.decision_id(),
        error_text: permitted.error_text(),
        statement_kinds: permitted.statement_kinds(),
        base: run.base.as_deref(),
        shape: only(permitted.result_shapes()),
        worn: &worn,
    };
    let read = read(proxy, session, &raw, &terms);
    settle(gate, &permitted, &read, lost);
    if let Some(query_id) = &read.query_id {
        let open = read.is_pending().then_some(started);
        if read.is_pending() {
            let (query_id, request_id) = (query_id.clone(), run.key.request_id.clone());
            session.goes_on(Background { query_id, request_id, moves: lost });
        }
        proxy.queries.bind(query_id, Binding::new(session, &permitted, worn.clone(), open));
        for (at, child) in read.result_ids.iter().enumerate() {
            proxy.queries.bind(child, Binding::of_statement(session, &permitted, worn.clone(), at));
        }
    }
    Forwarded { end: read.end(started), done: read.into_done() }
}

fn was_held(run: &Run) -> bool {
    matches!(run.state(), crate::statement::State::Held(..))
}

/// What is known of the session after a reply.
fn settle(gate: &mut Gate, permitted: &Permitted, read: &Read, lost: bool) {
    match read.kind {
        ReadKind::Succeeded => {
            if let Some(context) = &mut gate.context {
                apply(context, &read.context);
                gate.believed.clone_from(context);
            }
            if lost && !read.context.is_whole() {
                gate.context = None;
            }
            for change in permitted.session_changes() {
                if change.name.eq_ignore_ascii_case("QUERY_TAG") {
                    gate.client_tag = change.value.clone().filter(|tag| !tag.is_empty());
                }
            }
        }
        // Part of it may have taken effect.
        ReadKind::Pending | ReadKind::Failed | ReadKind::Withheld(_) | ReadKind::Unreadable(_) => {
            if lost {
                gate.context = None;
            }
        }
    }
}

/// Kinds that read and write rows and no more: the session is after them as it was.
const PLAIN: [&str; 12] = [
    "select",
    "insert",
    "update",
    "delete",
    "merge",
    "truncate",
    "copy_load",
    "copy_unload",
    "show",
    "describe",
    "explain",
    "list",
];

/// Whether a statement of these kinds can change what the next one's names mean.
pub(crate) fn changes_context(kinds: &[String]) -> bool {
    const NEVER: [&str; 7] =
        ["create_table", "alter_table", "drop_table", "create_view", "alter_view", "drop_view", "transaction"];
    // Without kinds nothing is known.
    kinds.is_empty()
        || kinds.iter().any(|kind| {
            let verb = kind.split_once('_').map_or(kind.as_str(), |(verb, _)| verb);
            ![kind.as_str(), verb].iter().any(|word| NEVER.contains(word) || PLAIN.contains(word))
        })
}

/// Whether statements of these kinds leave something in the session that the next request would find.
pub(crate) fn leaves_traces(kinds: &[String]) -> bool {
    kinds.is_empty() || kinds.iter().any(|kind| !PLAIN.contains(&kind.as_str()))
}

/// Takes over what a reply tells.
pub(crate) fn apply(context: &mut SessionContext, update: &ContextUpdate) {
    for (name, told) in [
        (&mut context.database, &update.database),
        (&mut context.schema, &update.schema),
        (&mut context.role, &update.role),
        (&mut context.warehouse, &update.warehouse),
    ] {
        if let Some(told) = told {
            name.clone_from(told);
        }
    }
}

/// On what terms a reply is passed on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Terms<'a> {
    pub(crate) query_id: Option<&'a QueryId>,
    pub(crate) error_text: ErrorText,
    pub(crate) statement_kinds: &'a [String],
    /// Whose the parts in storage are.
    pub(crate) decision_id: &'a str,
    /// Where the client reaches this proxy; without it such parts are withheld.
    pub(crate) base: Option<&'a str>,
    /// What was promised of the result.
    pub(crate) shape: Option<&'a ResultShape>,
    /// What its columns wear.
    pub(crate) worn: &'a Worn,
}

/// The shape of the result of a request with one statement. Several have a reply that only names theirs.
pub(crate) fn only(shapes: &[ResultShape]) -> Option<&ResultShape> {
    let [one] = shapes else { return None };
    Some(one)
}

/// A reply that was looked at.
pub(crate) struct Read {
    kind: ReadKind,
    body: Bytes,
    code: String,
    rows: Option<u64>,
    query_id: Option<QueryId>,
    result_ids: Vec<QueryId>,
    delivery: Option<Delivery>,
    pub(crate) context: ContextUpdate,
}

enum ReadKind {
    Succeeded,
    /// Still running at Snowflake.
    Pending,
    /// Snowflake answered with an error.
    Failed,
    /// It breaks the terms.
    Withheld(Refusal),
    /// It is no reply.
    Unreadable(Refusal),
}

/// Reads a reply and turns it into what the client gets.
pub(crate) fn read(proxy: &Proxy, session: &Session, raw: &RawReply, terms: &Terms<'_>) -> Read {
    let mut read = Read {
        kind: ReadKind::Pending,
        body: Bytes::new(),
        code: String::new(),
        rows: None,
        query_id: None,
        result_ids: Vec::new(),
        delivery: None,
        context: ContextUpdate::default(),
    };
    let mut reply = match Reply::parse(&raw.body, &proxy.limits) {
        Ok(reply) => reply,
        Err(error) => {
            warn!(session_id = session.id, status = raw.status.as_u16(), %error, "reply not readable");
            read.kind = ReadKind::Unreadable(error.refusal());
            return read;
        }
    };
    read.kind = if !reply.is_success() {
        ReadKind::Failed
    } else if reply.is_in_progress() {
        ReadKind::Pending
    } else {
        ReadKind::Succeeded
    };
    reply.code().clone_into(&mut read.code);
    read.rows = reply.rows();
    read.query_id = reply.query_id();
    read.result_ids = reply.result_ids();
    read.context = reply.context();
    let tokens = session.upstream();
    let secrets: Vec<&Secret> = std::iter::once(&tokens.session).chain(&tokens.master).collect();
    let parts = match masked(proxy, session, &mut reply, terms) {
        Ok(parts) => parts,
        Err(error) => {
            read.withhold(session, &error);
            return read;
        }
    };
    let terms = ReplyTerms {
        query_id: terms.query_id,
        error_text: terms.error_text,
        statement_kinds: terms.statement_kinds,
        chunks: match &parts {
            Parts::None => ChunkTerms::Withhold,
            Parts::Direct => ChunkTerms::Direct,
            Parts::Through(addresses) => ChunkTerms::Through(addresses),
        },
        columns: terms.shape.filter(|shape| shape.promised).map(|shape| shape.columns.as_slice()),
        secrets: &secrets,
    };
    match reply.into_client(&terms) {
        Ok(client) => {
            if !client.dropped_fields.is_empty() {
                debug!(session_id = session.id, fields = ?client.dropped_fields, "fields of a reply left out");
            }
            read.body = client.body.into();
            read.delivery = client.delivery;
        }
        Err(error) => read.withhold(session, &error),
    }
    read
}

/// Masks the rows in a reply, and sees to the parts in storage.
fn masked(proxy: &Proxy, session: &Session, reply: &mut Reply<'_>, terms: &Terms<'_>) -> Result<Parts, ReplyRefusal> {
    let plan = terms.worn.plan(&proxy.masking, reply, terms.shape)?;
    let rewritten = terms.error_text == ErrorText::Withhold && reply.is_success();
    let shown = rewritten.then(ResultPlan::only_what_is_shown);
    let parts = parts(proxy, session, reply, terms, plan.as_ref(), shown.as_ref())?;
    if let Some(plan) = &plan {
        reply.replace_rows(|rows| plan.mask(&rows).map(Some))?;
    } else if let Some(shown) = &shown {
        reply.replace_rows(|rows| match rows {
            Rows::Arrow(_) => shown.mask(&rows).map(Some),
            Rows::Json(_) => Ok(None),
        })?;
    }
    Ok(parts)
}

/// How the parts of a result that lie in storage reach the client.
enum Parts {
    None,
    Direct,
    Through(Vec<String>),
}

fn parts(
    proxy: &Proxy,
    session: &Session,
    reply: &Reply<'_>,
    terms: &Terms<'_>,
    plan: Option<&ResultPlan>,
    shown: Option<&ResultPlan>,
) -> Result<Parts, ReplyRefusal> {
    if !reply.is_success() || reply.is_in_progress() {
        return Ok(Parts::None);
    }
    let Some(chunks) = reply.chunks()? else { return Ok(Parts::None) };
    // What is masked here has to come by here.
    if proxy.storage.is_direct() && plan.is_none() {
        // No driver is sent to a host that is no storage, either.
        let allowed = chunks.all.iter().all(|chunk| proxy.storage.allowed(chunk.url.expose()).is_some());
        return if allowed { Ok(Parts::Direct) } else { Err(ReplyRefusal::Chunks) };
    }
    let own = reply.query_id();
    let query_id = terms.query_id.or(own.as_ref()).ok_or(ReplyRefusal::Chunks)?;
    let owner = chunk::Owner { session_id: &session.id, decision_id: terms.decision_id, query_id };
    let base = terms.base.ok_or(ReplyRefusal::Chunks)?;
    let plan = plan.or(shown.filter(|_| chunks.format == ChunkFormat::Arrow));
    chunk::addresses(proxy, owner, &chunks, base, plan).map(Parts::Through).ok_or(ReplyRefusal::Chunks)
}

impl Read {
    fn withhold(&mut self, session: &Session, error: &ReplyRefusal) {
        warn!(session_id = session.id, %error, "reply withheld");
        metrics::counter!(REPLIES_WITHHELD, "reason" => error.word()).increment(1);
        self.kind = ReadKind::Withheld(error.refusal());
    }

    pub(crate) fn is_pending(&self) -> bool {
        matches!(self.kind, ReadKind::Pending)
    }

    /// Whether it says how the statement ended.
    pub(crate) fn is_end(&self) -> bool {
        !matches!(self.kind, ReadKind::Pending | ReadKind::Unreadable(_))
    }

    pub(crate) fn is_success(&self) -> bool {
        matches!(self.kind, ReadKind::Succeeded)
    }

    pub(crate) fn result_ids(&self) -> &[QueryId] {
        &self.result_ids
    }

    /// How the run ended; `None` while it has not.
    pub(crate) fn end(&self, started: Instant) -> Option<RunEnd> {
        let (status, error_code) = match &self.kind {
            ReadKind::Pending => return None,
            ReadKind::Succeeded => (RunStatus::Succeeded, String::new()),
            ReadKind::Failed if matches!(self.code.as_str(), "000604" | "604") => {
                (RunStatus::Cancelled, self.code.clone())
            }
            ReadKind::Failed => (RunStatus::Failed, self.code.clone()),
            ReadKind::Withheld(refusal) => (RunStatus::Withheld, refusal.code.clone()),
            ReadKind::Unreadable(_) => (RunStatus::Unknown, PepCode::ReplyWithheld.as_str().to_owned()),
        };
        Some(RunEnd {
            status,
            query_id: self.query_id.as_ref().map(ToString::to_string).unwrap_or_default(),
            rows: if matches!(status, RunStatus::Succeeded | RunStatus::Withheld) { self.rows } else { None },
            duration: started.elapsed(),
            error_code,
            delivery: self.delivery,
        })
    }

    fn into_done(self) -> Done {
        match self.kind {
            ReadKind::Succeeded => Done::answered(self.body, MonitoredStatus::Success, self.query_id),
            ReadKind::Pending => Done::answered(self.body, MonitoredStatus::Running, self.query_id),
            ReadKind::Failed => Done::answered(self.body, MonitoredStatus::Failed, self.query_id),
            ReadKind::Withheld(refusal) | ReadKind::Unreadable(refusal) => {
                Done::stopped_after_sending(&refusal.into(), self.query_id)
            }
        }
    }

    /// What the client gets.
    pub(crate) fn into_body(self) -> Result<Bytes, Stop> {
        match self.kind {
            ReadKind::Succeeded | ReadKind::Pending | ReadKind::Failed => Ok(self.body),
            ReadKind::Withheld(refusal) | ReadKind::Unreadable(refusal) => Err(refusal.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_that_move_the_session() {
        for (kinds, moves) in [
            (vec!["select"], false),
            (vec!["copy_load"], false),
            (vec!["use_role"], true),
            (vec!["select", "use_schema"], true),
            (vec!["create_schema"], true),
            (vec!["create_table"], false),
            (vec!["call"], true),
            (vec!["unknown"], true),
            (vec![], true),
        ] {
            let kinds: Vec<String> = kinds.into_iter().map(str::to_owned).collect();
            assert_eq!(changes_context(&kinds), moves, "{kinds:?}");
        }
    }
}
