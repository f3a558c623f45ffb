use std::sync::Arc;

use icegate_pdp_audit::{Client, Event, SessionEnd};
use icegate_pdp_identity::Verified;
use icegate_pdp_model::{
    Code, Effect, ObjectAccess, ObjectKind, ObjectName, Outcome, Principal, Reason, SessionContext, Timestamp,
};
use icegate_pdp_policy::PersonAction;
use icegate_pdp_store::{Change, Revocation, SessionFilter, SessionRow, SessionState, StateChange};
use icegate_proto::v1::{self, revoke_sessions_request::Target};
use tonic::{Request, Response, Status};
use tracing::info;

use crate::{
    access::pep_named,
    approvals, clock, convert, hub, metrics,
    state::{Pdp, hex, named, new_id, principal_digest, unreadable},
};

/// Longest text a client may say of itself, in bytes.
const CLIENT_TEXT_BYTES_MAX: usize = 1024;
/// How often a revocation is tried while sessions of the principal end by themselves.
const REVOKE_TRIES: u32 = 100;
/// Sessions ended in one change.
const SESSIONS_AT_ONCE: u32 = 1000;
/// Longest comment of a revocation, in bytes.
const COMMENT_BYTES_MAX: usize = 2000;

/// Sessions: who is connected, and ending it.
#[derive(Debug, Clone)]
pub(crate) struct Sessions(pub(crate) Arc<Pdp>);

#[tonic::async_trait]
impl v1::session_service_server::SessionService for Sessions {
    async fn open_session(
        &self,
        request: Request<v1::OpenSessionRequest>,
    ) -> Result<Response<v1::OpenSessionResponse>, Status> {
        self.0.pep(&request)?;
        let (_, instance) = pep_named(request.metadata());
        let request = request.into_inner();
        named("pep_id", &request.pep_id)?;
        let client = client(request.client.unwrap_or_default())?;
        if request.connection.len() > CLIENT_TEXT_BYTES_MAX {
            return Err(Status::invalid_argument(format!(
                "`connection` is longer than {CLIENT_TEXT_BYTES_MAX} bytes."
            )));
        }
        if request.login_name.len() > CLIENT_TEXT_BYTES_MAX {
            return Err(Status::invalid_argument(format!(
                "`login_name` is longer than {CLIENT_TEXT_BYTES_MAX} bytes."
            )));
        }
        let login = Login {
            instance: instance.or_else(|| self.0.instance_of(&request.pep_id)).unwrap_or_default(),
            pep_id: request.pep_id,
            claimed: request.login_name,
            connection: request.connection,
            context: folded(convert::context_in(request.context)),
            client,
        };
        let result = match self.0.open(&request.token, login).await? {
            Ok(session) => v1::open_session_response::Result::Session(message(&session, session.opened)),
            Err(reason) => v1::open_session_response::Result::Refusal(convert::reason(&reason)),
        };
        Ok(Response::new(v1::OpenSessionResponse { result: Some(result) }))
    }

    async fn get_session(
        &self,
        request: Request<v1::GetSessionRequest>,
    ) -> Result<Response<v1::GetSessionResponse>, Status> {
        self.0.pep(&request)?;
        let session = self.0.session(named("session_id", &request.get_ref().session_id)?).await?;
        let session = session.ok_or_else(|| Status::not_found("There is no such session."))?;
        Ok(Response::new(v1::GetSessionResponse { session: Some(message(&session, clock::now())) }))
    }

    async fn close_session(
        &self,
        request: Request<v1::CloseSessionRequest>,
    ) -> Result<Response<v1::CloseSessionResponse>, Status> {
        self.0.pep(&request)?;
        let session_id = named("session_id", &request.get_ref().session_id)?;
        let Some(session) = self.0.session(session_id).await? else {
            return Err(Status::not_found("There is no such session."));
        };
        let now = clock::now();
        let (state, end) = match session.state_at(now) {
            SessionState::Active => (SessionState::Closed, SessionEnd::Closed),
            SessionState::Expired if session.state == SessionState::Active => {
                (SessionState::Expired, SessionEnd::Expired)
            }
            SessionState::Closed | SessionState::Revoked | SessionState::Expired => {
                return Ok(Response::new(v1::CloseSessionResponse {}));
            }
        };
        let pdp = Arc::clone(&self.0);
        finish(async move { pdp.end(&session, state, end, now).await }).await?;
        Ok(Response::new(v1::CloseSessionResponse {}))
    }

    async fn list_sessions(
        &self,
        request: Request<v1::ListSessionsRequest>,
    ) -> Result<Response<v1::ListSessionsResponse>, Status> {
        let person = self.0.person(request.metadata()).await?;
        self.0.permit(&person, PersonAction::ListSessions)?;
        let request = request.into_inner();
        let now = clock::now();
        let filter = SessionFilter {
            principal_id: Some(request.principal).filter(|principal| !principal.is_empty()),
            active_at: (!request.all).then_some(now),
            limit: self.0.page(request.limit)?,
        };
        let sessions = self.0.store.sessions(&filter).await.map_err(|error| unreadable(&error))?;
        let sessions = sessions.iter().map(|session| message(session, now)).collect();
        Ok(Response::new(v1::ListSessionsResponse { sessions }))
    }

    async fn revoke_sessions(
        &self,
        request: Request<v1::RevokeSessionsRequest>,
    ) -> Result<Response<v1::RevokeSessionsResponse>, Status> {
        let person = self.0.person(request.metadata()).await?;
        self.0.permit(&person, PersonAction::RevokeSessions)?;
        let request = request.into_inner();
        if request.reason.len() > COMMENT_BYTES_MAX {
            return Err(Status::invalid_argument(format!("`reason` is longer than {COMMENT_BYTES_MAX} bytes.")));
        }
        let target = request.target;
        let target =
            target.ok_or_else(|| Status::invalid_argument("Name a `session_id` or a `principal` to revoke."))?;
        let pdp = Arc::clone(&self.0);
        let revoking = async move {
            match target {
                Target::SessionId(id) => pdp.revoke_session(&person, &id, &request.reason).await,
                Target::Principal(id) => pdp.revoke_principal(&person, &id, &request.reason).await,
            }
        };
        let session_ids = finish(revoking).await?;
        Ok(Response::new(v1::RevokeSessionsResponse { session_ids }))
    }
}

/// Does it to its end even if the caller goes away: what is durable has to be in force here too, and told to the PEPs.
async fn finish<T: Send + 'static>(
    work: impl Future<Output = Result<T, Status>> + Send + 'static,
) -> Result<T, Status> {
    let done = tokio::spawn(work).await;
    done.unwrap_or_else(|_| Err(Status::internal("The PDP could not finish this; look how it stands, and try again.")))
}

/// Everything about a login but its token.
struct Login {
    pep_id: String,
    instance: String,
    claimed: String,
    connection: String,
    context: SessionContext,
    client: Client,
}

impl Pdp {
    /// Judges a login; either way it is on record when this answers.
    async fn open(&self, token: &str, login: Login) -> Result<Result<SessionRow, Reason>, Status> {
        let now = clock::now();
        // Fetching keys may take seconds; a revocation must not wait for it.
        let verified = self.verify(token, now).await;
        let _judging = self.logins.read().await;
        let (principal, refusal) = match verified {
            Err(error) => (None, error.reason()),
            Ok(verified) => match self.admit(&verified, &login) {
                None => return self.opened(verified, login, now).await.map(Ok),
                Some(reason) => (Some(verified.principal), reason),
            },
        };
        metrics::refused(refusal.code.as_str());
        info!(code = refusal.code.as_str(), pep_id = login.pep_id, "login refused");
        let event = Event::SessionRefused {
            principal: principal.as_ref().map(Into::into),
            login_name: login.claimed,
            client: login.client,
            pep_id: login.pep_id,
            reason: refusal.clone(),
        };
        self.commit(Change::event(event, now)).await?;
        Ok(Err(refusal))
    }

    /// Why somebody whose token verifies may still not come in.
    fn admit(&self, verified: &Verified, login: &Login) -> Option<Reason> {
        let principal = &verified.principal;
        if self.revoked_since(&principal.id, verified.issued) {
            let sentence = "Your access was revoked; sign in again for a new token, or ask your icegate administrator.";
            return Some(Reason::new(Code::SessionRevoked, sentence));
        }
        if !names(&login.claimed, principal) {
            let sentence = format!(
                "The login name is not who the token speaks for; log in as `{}` or leave it out.",
                principal.id
            );
            return Some(Reason::new(Code::IdentityMismatch, sentence));
        }
        let bundle = self.bundle();
        // INVARIANT: no login at one warehouse is decided with the policies of another.
        if !login.connection.is_empty() && login.connection != bundle.settings().connection {
            let sentence = "The policies of this decision service are for another connection, so nothing is decided about this one. Tell whoever runs icegate.";
            return Some(Reason::new(Code::ConnectionMismatch, sentence));
        }
        let verdict = bundle.may_use(principal, &login.context, &used(&login.context));
        match verdict.outcome {
            Outcome::Allow => None,
            Outcome::Deny | Outcome::NeedsApproval | Outcome::Mask => {
                Some(verdict.reasons.into_iter().next().unwrap_or_else(|| {
                    let sentence = "No policy lets you use what the login asks for; log in without it.";
                    Reason::new(Code::PolicyNoPermit, sentence)
                }))
            }
        }
    }

    async fn opened(&self, verified: Verified, login: Login, now: Timestamp) -> Result<SessionRow, Status> {
        let longest = i64::try_from(self.session_longest.as_secs()).unwrap_or(i64::MAX);
        let session = SessionRow {
            session_id: new_id(),
            principal_digest: principal_digest(&verified.principal),
            principal: verified.principal,
            state: SessionState::Active,
            client: login.client,
            pep_id: login.pep_id,
            pep_instance: login.instance,
            context: login.context,
            opened: now,
            expires: verified.expires.min(now.plus_seconds(longest)),
            token_issued: verified.issued,
        };
        let event = Event::SessionOpened {
            session_id: session.session_id.clone(),
            principal: (&session.principal).into(),
            client: session.client.clone(),
            pep_id: session.pep_id.clone(),
            pep_instance: session.pep_instance.clone(),
            context: session.context.clone(),
            expires: session.expires,
            token_sha256: hex(verified.token_sha256),
        };
        self.commit(Change::state(StateChange::PutSession(Box::new(session.clone())), event, now)).await?;
        info!(session_id = session.session_id, pep_id = session.pep_id, "session opened");
        Ok(session)
    }

    /// Ends one session that ended by itself. Somebody else having ended it meanwhile is as good.
    pub(crate) async fn end(
        &self,
        session: &SessionRow,
        state: SessionState,
        end: SessionEnd,
        now: Timestamp,
    ) -> Result<(), Status> {
        let session_id = session.session_id.clone();
        let event =
            Event::SessionClosed { session_id: session_id.clone(), principal: (&session.principal).into(), end };
        let ended = StateChange::EndSession { session_id, state };
        match self.commit(Change::state(ended, event, now)).await {
            Err(status) if status.code() != tonic::Code::Aborted => return Err(status),
            Ok(_) | Err(_) => {}
        }
        self.session_ended(&session.session_id).await;
        approvals::cancel_of_session(self, &session.session_id, now).await
    }

    async fn revoke_session(&self, by: &Principal, session_id: &str, comment: &str) -> Result<Vec<String>, Status> {
        let session = self.session(named("session_id", session_id)?).await?;
        let session = session.ok_or_else(|| Status::not_found("There is no such session."))?;
        let now = clock::now();
        match session.state_at(now) {
            SessionState::Active => {}
            SessionState::Closed | SessionState::Revoked | SessionState::Expired => return Ok(Vec::new()),
        }
        self.revoke(by, &session.principal.id, vec![session_id.to_owned()], None, comment, now).await
    }

    async fn revoke_principal(&self, by: &Principal, principal_id: &str, comment: &str) -> Result<Vec<String>, Status> {
        if principal_id.is_empty() || principal_id.len() > CLIENT_TEXT_BYTES_MAX {
            return Err(Status::invalid_argument("`principal` is a principal's id, as in `corp/ana`."));
        }
        let _alone = self.logins.write().await;
        let mut revoked = Vec::new();
        let (mut written, mut conflicts) = (false, 0);
        loop {
            let now = clock::now();
            let filter = SessionFilter {
                principal_id: Some(principal_id.to_owned()),
                active_at: Some(now),
                limit: SESSIONS_AT_ONCE,
            };
            let sessions = self.store.sessions(&filter).await.map_err(|error| unreadable(&error))?;
            if sessions.is_empty() && written {
                return Ok(revoked);
            }
            let ids = sessions.into_iter().map(|session| session.session_id).collect();
            match self.revoke(by, principal_id, ids, Some(now), comment, now).await {
                Ok(ids) => {
                    written = true;
                    revoked.extend(ids);
                }
                // One of them was closed meanwhile; the rest still has to end.
                Err(status) if status.code() == tonic::Code::Aborted && conflicts < REVOKE_TRIES => conflicts += 1,
                Err(status) => return Err(status),
            }
        }
    }

    /// Ends sessions in one durable change, then tells everybody who holds anything of them.
    async fn revoke(
        &self,
        by: &Principal,
        principal_id: &str,
        session_ids: Vec<String>,
        not_before: Option<Timestamp>,
        comment: &str,
        now: Timestamp,
    ) -> Result<Vec<String>, Status> {
        let end = |id: &String| StateChange::EndSession { session_id: id.clone(), state: SessionState::Revoked };
        let mut states: Vec<StateChange> = session_ids.iter().map(end).collect();
        if let Some(not_before) = not_before {
            states.push(StateChange::PutRevocation(Revocation { principal_id: principal_id.to_owned(), not_before }));
        }
        let event = Event::SessionRevoked {
            principal_id: principal_id.to_owned(),
            session_ids: session_ids.clone(),
            not_before,
            by: by.into(),
            comment: comment.to_owned(),
        };
        self.commit(Change { states, events: vec![event], at: now }).await?;
        if let Some(not_before) = not_before {
            self.principal_revoked(principal_id, not_before);
        }
        for session_id in &session_ids {
            self.session_ended(session_id).await;
        }
        self.hub.tell(hub::Event::Revoked(session_ids.as_slice().into()));
        info!(sessions = session_ids.len(), "sessions revoked");
        for session_id in &session_ids {
            approvals::cancel_of_session(self, session_id, now).await?;
        }
        Ok(session_ids)
    }

    /// Writes down what has run out by itself: sessions and approvals.
    pub(crate) async fn sweep(&self) -> Result<(), Status> {
        let now = clock::now();
        for session in self.store.sessions_due(now).await.map_err(|error| unreadable(&error))? {
            self.end(&session, SessionState::Expired, SessionEnd::Expired, now).await?;
        }
        for approval in self.store.approvals_due(now).await.map_err(|error| unreadable(&error))? {
            approvals::expire(self, &approval, now).await?;
        }
        Ok(())
    }
}

/// Whether a login name means this principal: its id, or the part after the issuer's name. None given means no claim.
fn names(login_name: &str, principal: &Principal) -> bool {
    let given = login_name.to_lowercase();
    let id = principal.id.to_lowercase();
    let claim = id.split_once('/').map(|(_, claim)| claim);
    given.is_empty() || given == id || claim == Some(given.as_str())
}

/// Names as a client writes them in its login, read as SQL reads them. What does not read as a name stays as it is, and
/// no policy will know it.
fn folded(context: SessionContext) -> SessionContext {
    let fold = |name: Option<String>| {
        name.map(|name| match name.parse::<ObjectName>() {
            Ok(parsed) => match parsed.parts() {
                [part] => part.clone(),
                _ => name,
            },
            Err(_) => name,
        })
    };
    let SessionContext { database, schema, role, warehouse } = context;
    SessionContext { database: fold(database), schema: fold(schema), role: fold(role), warehouse: fold(warehouse) }
}

/// What a session would use from its start.
fn used(context: &SessionContext) -> Vec<ObjectAccess> {
    let access = |kind, parts: Vec<&String>| ObjectAccess { kind, name: ObjectName::new(parts), effect: Effect::Use };
    let mut objects = Vec::new();
    if let Some(role) = &context.role {
        objects.push(access(ObjectKind::Role, vec![role]));
    }
    if let Some(warehouse) = &context.warehouse {
        objects.push(access(ObjectKind::Warehouse, vec![warehouse]));
    }
    if let Some(database) = &context.database {
        objects.push(access(ObjectKind::Database, vec![database]));
    }
    if let Some(schema) = &context.schema {
        objects.push(access(ObjectKind::Schema, context.database.iter().chain([schema]).collect()));
    }
    objects
}

fn client(client: v1::Client) -> Result<Client, Status> {
    let v1::Client { app_id, app_version, application, address } = client;
    if [&app_id, &app_version, &application, &address].iter().any(|text| text.len() > CLIENT_TEXT_BYTES_MAX) {
        let text = format!("A field of `client` is longer than {CLIENT_TEXT_BYTES_MAX} bytes.");
        return Err(Status::invalid_argument(text));
    }
    Ok(Client { app_id, app_version, application, address })
}

fn message(session: &SessionRow, now: Timestamp) -> v1::Session {
    let state = match session.state_at(now) {
        SessionState::Active => v1::SessionState::Active,
        SessionState::Closed => v1::SessionState::Closed,
        SessionState::Revoked => v1::SessionState::Revoked,
        SessionState::Expired => v1::SessionState::Expired,
    };
    v1::Session {
        session_id: session.session_id.clone(),
        principal: Some(convert::principal(&session.principal)),
        state: state.into(),
        client: Some(v1::Client {
            app_id: session.client.app_id.clone(),
            app_version: session.client.app_version.clone(),
            application: session.client.application.clone(),
            address: session.client.address.clone(),
        }),
        pep_id: session.pep_id.clone(),
        opened_unix_ms: session.opened.0,
        expires_unix_ms: session.expires.0,
        principal_digest: session.principal_digest.clone(),
    }
}

#[cfg(test)]
mod tests {
    use icegate_pdp_model::{Principal, SessionContext};

    use super::{folded, names, used};

    #[test]
    fn a_login_name_is_the_id_or_its_claim() {
        let ana = Principal {
            id: "corp/Ana@Example.com".into(),
            issuer: String::new(),
            subject: "1".into(),
            groups: [].into(),
            agent: None,
            attributes: std::collections::BTreeMap::new(),
        };
        for (login_name, wanted) in [
            ("", true),
            ("ANA@example.com", true),
            ("corp/ana@example.com", true),
            ("other/ana@example.com", false),
            ("ana", false),
            ("corp", false),
            ("1", false),
        ] {
            assert_eq!(names(login_name, &ana), wanted, "{login_name}");
        }
    }

    #[test]
    fn a_login_uses_what_it_names() {
        let context = SessionContext {
            database: Some("sales".into()),
            schema: Some("\"my schema\"".into()),
            role: None,
            warehouse: Some("wh".into()),
        };
        let names: Vec<String> =
            used(&folded(context)).iter().map(|object| format!("{} {}", object.kind, object.name)).collect();
        assert_eq!(names, ["warehouse WH", "database SALES", r#"schema SALES."my schema""#]);
    }
}
