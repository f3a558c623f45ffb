//! Where a session stands: the names that decide what an unqualified identifier means.

use bytes::Bytes;
use http::Method;
use icegate_pep_protocol::{PepCode, Reply, RequestedNames, SessionContext as Names, Stamp, stamp, upstream};
use icegate_proto::v1::SessionContext;
use tracing::warn;

use super::{Gate, Session, login::fresh_request_id};
use crate::{
    forward::{self, upstream::UpstreamError},
    proxy::Proxy,
    refuse::{self, Stop},
};

/// Asks Snowflake where a session stands: every reply ends with it, whatever the statement was. This one reads nothing.
const WHERE: &str = "SELECT 1";

/// The context the next statement will run in; asked for when it is not known. The gate must be held until that
/// statement has been answered.
pub(crate) async fn known<'a>(
    proxy: &Proxy,
    session: &Session,
    gate: &'a mut Gate,
) -> Result<&'a SessionContext, Stop> {
    if gate.context.is_none() {
        let mut context = gate.believed.clone();
        ask(proxy, session, gate.client_tag.as_deref(), &mut context).await?;
        gate.believed.clone_from(&context);
        gate.context = Some(context);
    }
    gate.context.as_ref().ok_or_else(unknown)
}

async fn ask(
    proxy: &Proxy,
    session: &Session,
    client_tag: Option<&str>,
    context: &mut SessionContext,
) -> Result<(), Stop> {
    let tag =
        stamp(&Stamp { decision: None, user: &session.principal_id, agent: session.agent.as_deref(), client_tag });
    let body = serde_json::json!({ "sqlText": WHERE, "asyncExec": false, "parameters": { "QUERY_TAG": tag } });
    let body = Bytes::from(body.to_string());
    let path = upstream::query_path(&fresh_request_id()?);
    let raw = proxy.call_upstream(session, Method::POST, &path, Some(body)).await?.map_err(|error| {
        warn!(%error, "context of a session not learnt");
        if error == UpstreamError::Busy { refuse::unanswered(error) } else { unknown() }
    })?;
    match Reply::parse(&raw.body, &proxy.limits) {
        Ok(reply) if reply.is_success() && !reply.is_in_progress() => {
            forward::apply(context, &reply.context());
            Ok(())
        }
        Ok(_) | Err(_) => Err(unknown()),
    }
}

fn unknown() -> Stop {
    Stop::new(
        PepCode::UpstreamUnreachable,
        "icegate cannot learn from Snowflake which database, schema, role and warehouse this session is in, so it cannot decide. Try again, or log in again.",
    )
}

/// What a login asks to start with.
pub(super) fn of_names(names: &RequestedNames) -> SessionContext {
    let text = |name: &Option<String>| name.clone().unwrap_or_default();
    SessionContext {
        database: text(&names.database),
        schema: text(&names.schema),
        role: text(&names.role),
        warehouse: text(&names.warehouse),
    }
}

/// Fills what was not reported with what was asked for.
pub(super) fn fill(reported: &mut Names, asked: &RequestedNames) {
    let pairs = [
        (&mut reported.database, &asked.database),
        (&mut reported.schema, &asked.schema),
        (&mut reported.role, &asked.role),
        (&mut reported.warehouse, &asked.warehouse),
    ];
    for (reported, asked) in pairs {
        if let (true, Some(asked)) = (reported.is_empty(), asked) {
            reported.clone_from(asked);
        }
    }
}

pub(super) fn to_proto(names: &Names) -> SessionContext {
    let Names { database, schema, role, warehouse } = names.clone();
    SessionContext { database, schema, role, warehouse }
}

pub(super) fn to_sealed(context: &SessionContext) -> Names {
    let SessionContext { database, schema, role, warehouse } = context.clone();
    Names { database, schema, role, warehouse }
}
