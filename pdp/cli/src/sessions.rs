use std::io::Write;

use icegate_proto::v1::{
    ListSessionsRequest, RevokeSessionsRequest, Session, SessionState, revoke_sessions_request::Target,
    session_service_client::SessionServiceClient,
};
use serde_json::{Value, json};

use crate::{
    approvals::{agent, name, principal_json},
    args::{Connection, SessionsCommand},
    connect::{connect, refused},
    exit::{Exit, Failure},
    progress, show, time,
};

pub(crate) async fn run(
    command: SessionsCommand,
    connection: &Connection,
    out: &mut dyn Write,
) -> Result<Exit, Failure> {
    let mut client = SessionServiceClient::new(connect(connection).await?);
    match command {
        SessionsCommand::List { principal, all, limit, json } => {
            let request = ListSessionsRequest { principal, all, limit };
            let asked = progress::wait("asking for sessions", client.list_sessions(request)).await;
            list(&asked.map_err(|status| refused(&status))?.into_inner().sessions, json, out)?;
        }
        SessionsCommand::Revoke { session_id, principal, reason } => {
            let target = match (session_id, principal) {
                (Some(id), None) => Target::SessionId(id),
                (None, Some(principal)) => Target::Principal(principal),
                _ => return Err(Failure::new(Exit::Usage, "name either a session or `--principal`")),
            };
            let whole_principal = match &target {
                Target::Principal(principal) => Some(show::visible(principal)),
                Target::SessionId(_) => None,
            };
            let request = RevokeSessionsRequest { target: Some(target), reason };
            let asked = progress::wait("revoking", client.revoke_sessions(request)).await;
            let ended = asked.map_err(|status| refused(&status))?.into_inner().session_ids;
            writeln!(out, "Ended {}.", show::count(ended.len(), "session"))?;
            for id in &ended {
                writeln!(out, "  {}", show::visible(id))?;
            }
            if let Some(principal) = whole_principal {
                writeln!(out, "Every token issued to {principal} until now is refused.")?;
            }
        }
    }
    Ok(Exit::Ok)
}

fn list(sessions: &[Session], json: bool, out: &mut dyn Write) -> Result<(), Failure> {
    if json {
        for session in sessions {
            writeln!(out, "{}", to_json(session))?;
        }
        return Ok(());
    }
    if sessions.is_empty() {
        writeln!(out, "No sessions.")?;
        return Ok(());
    }
    let rows = sessions.iter().map(|session| {
        let client = session.client.clone().unwrap_or_default();
        vec![
            session.session_id.clone(),
            word(session.state()).to_owned(),
            name(session.principal.as_ref()),
            agent(session.principal.as_ref()),
            format!("{} {}", client.app_id, client.app_version).trim().to_owned(),
            client.address,
            time::format(session.opened_unix_ms),
            time::format(session.expires_unix_ms),
        ]
    });
    let head = ["session", "state", "user", "agent", "client", "from", "opened", "expires"];
    write!(out, "{}", show::table(&head, rows))?;
    Ok(())
}

fn to_json(session: &Session) -> Value {
    let client = session.client.clone().unwrap_or_default();
    json!({
        "session_id": session.session_id,
        "state": word(session.state()),
        "principal": session.principal.as_ref().map(principal_json),
        "client": {
            "app_id": client.app_id,
            "app_version": client.app_version,
            "application": client.application,
            "address": client.address,
        },
        "pep_id": session.pep_id,
        "opened": time::format(session.opened_unix_ms),
        "expires": time::format(session.expires_unix_ms),
    })
}

fn word(state: SessionState) -> &'static str {
    match state {
        SessionState::Unspecified => "in a state this version does not know",
        SessionState::Active => "active",
        SessionState::Closed => "closed",
        SessionState::Revoked => "revoked",
        SessionState::Expired => "expired",
    }
}

#[cfg(test)]
mod tests {
    use icegate_proto::v1::{Client, Principal};

    use super::*;

    #[test]
    fn sessions_read_well() {
        let session = Session {
            session_id: "0198f0aa-0000-7000-8000-000000000002".into(),
            principal: Some(Principal { id: "corp/ana".into(), ..Principal::default() }),
            state: SessionState::Active.into(),
            client: Some(Client {
                app_id: "PythonConnector".into(),
                app_version: "4.8.1".into(),
                application: "dbt\u{1b}[31m".into(),
                address: "10.0.0.7:51000".into(),
            }),
            pep_id: "pep-1".into(),
            opened_unix_ms: 1_790_000_000_000,
            expires_unix_ms: 1_790_003_600_000,
            ..Session::default()
        };
        let shown = |json| {
            let mut out = Vec::new();
            list(std::slice::from_ref(&session), json, &mut out).unwrap();
            String::from_utf8(out).unwrap()
        };
        insta::assert_snapshot!("session_table", shown(false));
        insta::assert_snapshot!("session_json", shown(true));
    }
}
