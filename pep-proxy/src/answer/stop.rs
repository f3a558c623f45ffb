//! Statements that only stop others. Nothing of them is sent: the ids in them can be ours, and Snowflake would let them stop
//! what is another session's, since behind all sessions is one user.

use std::time::Instant;

use icegate_pep_protocol::{
    PepCode, QueryId, QueryRequest,
    answer::{self as own, MonitoredStatus, Said},
};
use icegate_proto::v1::{RunStatus, SessionContext, Stop as Stopping, stop::Of};

use super::{abort_query, stop_query, stop_upstream};
use crate::{
    proxy::Proxy,
    record::RunEnd,
    refuse::Stop,
    session::Session,
    statement::{Done, Run},
};

/// Stops what is the session's own, and answers in Snowflake's words. Snowflake docs, "`SYSTEM$CANCEL_QUERY`" and
/// "`SYSTEM$CANCEL_ALL_QUERIES`", read 2026-11.
pub(crate) async fn answer(
    proxy: &Proxy,
    session: &Session,
    run: &Run,
    request: &QueryRequest,
    context: &SessionContext,
    stops: &Stopping,
) -> (Done, RunEnd) {
    let started = Instant::now();
    match said(proxy, session, run, request, stops).await {
        Ok(text) => {
            let names = [&context.database, &context.schema, &context.warehouse, &context.role];
            let said = Said { query_id: &run.query_id, names: names.map(String::as_str), text: text.as_deref() };
            let done = Done::answered(own::said(&said).into(), MonitoredStatus::Success, None);
            let rows = Some(text.iter().len() as u64);
            (done, RunEnd { rows, ..RunEnd::without_reply(RunStatus::Succeeded, "", started.elapsed()) })
        }
        Err(stop) => {
            let end = RunEnd::without_reply(RunStatus::NotSent, stop.code(), started.elapsed());
            (Done::stopped(&stop, None), end)
        }
    }
}

/// What the one cell of the result says; nothing when only its shape is asked for.
async fn said(
    proxy: &Proxy,
    session: &Session,
    run: &Run,
    request: &QueryRequest,
    stops: &Stopping,
) -> Result<Option<String>, Stop> {
    if request.async_exec() {
        return Err(Stop::new(
            PepCode::RequestMalformed,
            "A statement that stops others has its answer at once; run it synchronously.",
        ));
    }
    if request.describe_only() {
        return Ok(None);
    }
    let unknown =
        || Stop::new(PepCode::QueryUnknown, "There is nothing of this id in this session that could be stopped.");
    match &stops.of {
        Some(Of::QueryId(id)) => {
            let query_id = QueryId::parse(id).ok_or_else(unknown)?;
            let stopped = stop_query(proxy, session, &query_id).await?;
            Ok(Some(if stopped {
                format!("query [{query_id}] terminated.")
            } else {
                "Identified SQL statement is not currently executing.".to_owned()
            }))
        }
        // By our number for it, or by Snowflake's, which `CURRENT_SESSION()` tells.
        Some(Of::SessionNumber(number))
            if *number == session.number || number.to_string() == session.upstream_session_id =>
        {
            Ok(Some(format!("{} cancelled.", stop_all(proxy, session, run).await?)))
        }
        Some(Of::SessionNumber(_)) => Err(unknown()),
        None => Err(Stop::new(
            PepCode::RequestMalformed,
            "This proxy does not know what the statement stops; use your client's own way to cancel.",
        )),
    }
}

/// Stops all that is on its way in a session but the statement that asks for it; says how many there were.
async fn stop_all(proxy: &Proxy, session: &Session, asking: &Run) -> Result<usize, Stop> {
    let mut stopped = 0;
    for run in session.running().into_iter().filter(|run| run.query_id != asking.query_id) {
        run.cancel();
        stop_upstream(proxy, session, &run).await;
        stopped += 1;
    }
    for statement in session.background() {
        stopped += usize::from(abort_query(proxy, session, &statement.query_id).await?);
    }
    Ok(stopped)
}
