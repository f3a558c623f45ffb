use icegate_pdp_approval::Approval;
use icegate_pdp_audit::{Client, Event, Hash};
use icegate_pdp_model::{Principal, RelationName, SessionContext, TemporaryRow, Timestamp};
use serde::{Deserialize, Serialize};

/// What becomes durable together, or not at all.
#[derive(Debug, Clone)]
pub struct Change {
    /// What is so from now on.
    pub states: Vec<StateChange>,
    /// What is to be on record, in order.
    pub events: Vec<Event>,
    /// When it happened.
    pub at: Timestamp,
}

impl Change {
    /// Only a record.
    pub fn event(event: Event, at: Timestamp) -> Self {
        Self { states: Vec::new(), events: vec![event], at }
    }

    /// One state with its record.
    pub fn state(state: StateChange, event: Event, at: Timestamp) -> Self {
        Self { states: vec![state], events: vec![event], at }
    }
}

/// One thing that is so from now on.
#[derive(Debug, Clone)]
pub enum StateChange {
    /// A session begins. A conflict if the id is taken.
    PutSession(Box<SessionRow>),
    /// An active session ends. A conflict if it is not active.
    EndSession {
        /// Which.
        session_id: String,
        /// How; not [`SessionState::Active`].
        state: SessionState,
    },
    /// Nothing changes, and it is a conflict if the session is not active: what runs in it is on record before its end,
    /// or not at all.
    NeedSession {
        /// Which.
        session_id: String,
    },
    /// Tokens issued before a moment are refused. A later moment wins, whatever the order.
    PutRevocation(Revocation),
    /// An approval takes a step.
    PutApproval {
        /// As it is after the step.
        approval: Box<Approval>,
        /// Its version before the step, `None` for a new one. A conflict if it is another by now.
        expected_version: Option<u64>,
    },
    /// What a session has under the name of a temporary relation: these instead of what was there.
    PutTemporary {
        /// Whose.
        session_id: String,
        /// Its full name.
        name: RelationName,
        /// Several while it is not known which of them it is; none when it may be gone.
        rows: Vec<TemporaryRow>,
    },
    /// A session's temporary relations are not known any more.
    ForgetTemporaries {
        /// Whose.
        session_id: String,
    },
    /// What was read of one database of the warehouse.
    PutCatalog(Box<CatalogChange>),
}

/// What is known of one database from now on. Bodies are the writer's own.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CatalogChange {
    /// The database.
    pub database: String,
    /// What is known of it besides its relations; `None` leaves that as it is.
    pub body: Option<String>,
    /// Relations by full name: new, or other than before.
    pub put: Vec<(String, String)>,
    /// Relations that are gone.
    pub removed: Vec<String>,
}

/// One event that is now on record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Appended {
    /// Its place in the trail.
    pub seq: u64,
    /// The hash of its record.
    pub hash: Hash,
    /// It was on record before; this is where.
    pub repeated: bool,
}

/// One session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SessionRow {
    /// Names it everywhere.
    pub session_id: String,
    /// Who the token speaks for.
    pub principal: Principal,
    /// How it stood after the last change. See [`SessionRow::state_at`].
    #[serde(skip, default = "active")]
    pub state: SessionState,
    /// What the client says of itself.
    pub client: Client,
    /// The PEP that opened it.
    pub pep_id: String,
    /// That PEP's run.
    pub pep_instance: String,
    /// What it started with.
    pub context: SessionContext,
    /// When it began.
    pub opened: Timestamp,
    /// When it ends at the latest.
    pub expires: Timestamp,
    /// When its token was issued, for revocations.
    pub token_issued: Timestamp,
    /// Equal for equal principals.
    pub principal_digest: String,
}

impl SessionRow {
    /// How it stands now: its end counts before anybody wrote it down.
    pub fn state_at(&self, now: Timestamp) -> SessionState {
        match self.state {
            SessionState::Active if now >= self.expires => SessionState::Expired,
            SessionState::Active | SessionState::Closed | SessionState::Revoked | SessionState::Expired => self.state,
        }
    }
}

fn active() -> SessionState {
    SessionState::Active
}

/// How a session stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SessionState {
    /// It may ask.
    Active,
    /// The client ended it.
    Closed,
    /// A person ended it.
    Revoked,
    /// Its time is over.
    Expired,
}

impl SessionState {
    /// Every value.
    pub const ALL: &'static [Self] = &[Self::Active, Self::Closed, Self::Revoked, Self::Expired];

    /// The word used in the store and on screens.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Closed => "closed",
            Self::Revoked => "revoked",
            Self::Expired => "expired",
        }
    }
}

/// Tokens of one principal that are refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revocation {
    /// The principal's id.
    pub principal_id: String,
    /// Tokens issued before this are refused.
    pub not_before: Timestamp,
}
