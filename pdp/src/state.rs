use std::{
    collections::{HashMap, HashSet},
    fmt::Write as _,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use arc_swap::ArcSwap;
use icegate_pdp_audit::DecisionEvent;
use icegate_pdp_identity::{IdentityError, Verified};
use icegate_pdp_model::{Attribute, Principal, Timestamp, with_causes};
use icegate_pdp_pip::Keys;
use icegate_pdp_policy::Bundle;
use icegate_pdp_store::{Appended, Change, Revocation, SessionRow, SessionState, Store, StoreError};
use sha2::{Digest as _, Sha256};
use tokio::sync::{OwnedSemaphorePermit, RwLock, Semaphore, watch};
use tonic::Status;

use crate::{
    Limits,
    access::NAME_BYTES_MAX,
    catalog::{Facts, Syncing},
    deciders::Deciders,
    hub::Hub,
    metrics,
};

/// Sessions kept at hand.
const SESSIONS_KEPT: u64 = 50_000;
/// How long one is believed without asking the store again.
const SESSION_KEPT: Duration = Duration::from_mins(5);
/// How long an ended session is remembered as such: longer than [`SESSION_KEPT`] and any lookup in flight.
const ENDED_KEPT: Duration = Duration::from_mins(10);
/// Decisions kept for statements that repeat them, by the bytes of their texts and by age.
const DECISIONS_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// The longest a bundle may let a decision be reused, and a little.
const DECISIONS_KEPT: Duration = Duration::from_mins(61);

/// Everything the services share. One for the process.
#[derive(Debug)]
pub(crate) struct Pdp {
    pub(crate) store: Store,
    pub(crate) keys: Keys,
    pub(crate) hub: Hub,
    pub(crate) deciders: Deciders,
    pub(crate) limits: Limits,
    pub(crate) session_longest: Duration,
    /// PEPs need no certificate.
    pub(crate) plaintext: bool,
    /// Whether the last change could be made durable.
    pub(crate) writable: watch::Sender<bool>,
    /// Becomes true when the service stops: long calls end then.
    pub(crate) stopping: watch::Receiver<bool>,
    /// Held shared while a login is judged and written, and alone while a principal is revoked: no session slips between.
    pub(crate) logins: RwLock<()>,
    /// Held while a pending approval is looked for and, if there is none, made.
    pub(crate) asking: tokio::sync::Mutex<()>,
    /// What is in force is made of; changed by whoever holds it.
    pub(crate) facts: tokio::sync::Mutex<Facts>,
    /// Asking the warehouse, when that is on.
    pub(crate) syncing: Option<Syncing>,
    bundle: ArcSwap<Bundle>,
    sessions: moka::future::Cache<String, Arc<SessionRow>>,
    ended: moka::sync::Cache<String, ()>,
    decisions: moka::sync::Cache<String, Arc<Decided>>,
    /// Tokens of these principals issued before are refused. As the store has it.
    revocations: Mutex<HashMap<String, Timestamp>>,
    instances: Mutex<HashMap<String, String>>,
    /// Sessions that may have temporary relations.
    holders: Mutex<HashSet<String>>,
    decides: Arc<Semaphore>,
    waits: Arc<Semaphore>,
    watches: Arc<Semaphore>,
}

/// A decision that may be run again.
#[derive(Debug)]
pub(crate) struct Decided {
    pub(crate) event: DecisionEvent,
    /// Of the principal it was made for.
    pub(crate) principal_digest: String,
    /// Positions of the bound values that name something in it.
    pub(crate) names: Vec<u32>,
    /// Those values, as [`bound_at`](crate::convert::bound_at) tells them apart.
    pub(crate) names_sha256: Option<[u8; 32]>,
    /// Until then.
    pub(crate) until: Timestamp,
}

/// What the service is made of at its start.
pub(crate) struct Parts {
    pub(crate) store: Store,
    pub(crate) keys: Keys,
    pub(crate) bundle: Bundle,
    pub(crate) facts: Facts,
    pub(crate) syncing: Option<Syncing>,
    pub(crate) revocations: Vec<Revocation>,
    /// Sessions with temporary relations.
    pub(crate) holders: Vec<String>,
    pub(crate) deciders: Deciders,
    pub(crate) limits: Limits,
    pub(crate) session_longest: Duration,
    pub(crate) plaintext: bool,
    pub(crate) stopping: watch::Receiver<bool>,
}

/// Work that is counted against a limit.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Work {
    Decide,
    Wait,
    Watch,
}

impl Pdp {
    pub(crate) fn new(parts: Parts) -> Self {
        let Parts {
            store,
            keys,
            bundle,
            facts,
            syncing,
            revocations,
            holders,
            deciders,
            limits,
            session_longest,
            plaintext,
            stopping,
        } = parts;
        Self {
            store,
            keys,
            hub: Hub::new(),
            deciders,
            limits,
            session_longest,
            plaintext,
            writable: watch::Sender::new(true),
            stopping,
            logins: RwLock::new(()),
            asking: tokio::sync::Mutex::new(()),
            facts: tokio::sync::Mutex::new(facts),
            syncing,
            bundle: ArcSwap::from_pointee(bundle),
            sessions: moka::future::Cache::builder().max_capacity(SESSIONS_KEPT).time_to_live(SESSION_KEPT).build(),
            ended: moka::sync::Cache::builder().time_to_live(ENDED_KEPT).build(),
            decisions: moka::sync::Cache::builder()
                .max_capacity(DECISIONS_BYTES_MAX)
                .weigher(|_, decided: &Arc<Decided>| {
                    let sent = decided.event.sent_sql.as_ref().map_or(0, String::len);
                    u32::try_from(decided.event.sql.len() + sent + 2048).unwrap_or(u32::MAX)
                })
                .time_to_live(DECISIONS_KEPT)
                .build(),
            revocations: Mutex::new(
                revocations.into_iter().map(|revoked| (revoked.principal_id, revoked.not_before)).collect(),
            ),
            instances: Mutex::default(),
            holders: Mutex::new(holders.into_iter().collect()),
            decides: Arc::new(Semaphore::new(limits.decides_max)),
            waits: Arc::new(Semaphore::new(limits.waits_max)),
            watches: Arc::new(Semaphore::new(limits.watches_max)),
        }
    }

    /// The bundle in force. Taken once for each request, so that one request sees one bundle.
    pub(crate) fn bundle(&self) -> Arc<Bundle> {
        self.bundle.load_full()
    }

    /// Puts another bundle in force; answers the one before.
    pub(crate) fn swap(&self, bundle: Arc<Bundle>) -> Arc<Bundle> {
        self.bundle.swap(bundle)
    }

    pub(crate) async fn verify(&self, token: &str, now: Timestamp) -> Result<Verified, IdentityError> {
        let verified = self.keys.verify(token, now).await;
        metrics::token(verified.as_ref().map_or_else(|error| error.code().as_str(), |_| "verified"));
        verified
    }

    /// Whether a token issued then has been revoked since.
    pub(crate) fn revoked_since(&self, principal_id: &str, issued: Timestamp) -> bool {
        let revocations = self.revocations.lock().unwrap_or_else(PoisonError::into_inner);
        revocations.get(principal_id).is_some_and(|not_before| issued < *not_before)
    }

    /// To be called once the store has it.
    pub(crate) fn principal_revoked(&self, principal_id: &str, not_before: Timestamp) {
        let mut revocations = self.revocations.lock().unwrap_or_else(PoisonError::into_inner);
        let known = revocations.entry(principal_id.to_owned()).or_insert(not_before);
        *known = not_before.max(*known);
    }

    /// The session as it was opened; whether it still stands is in its state, which counts an end at once.
    pub(crate) async fn session(&self, session_id: &str) -> Result<Option<Arc<SessionRow>>, Status> {
        if !self.ended.contains_key(session_id)
            && let Some(session) = self.sessions.get(session_id).await
        {
            return Ok(Some(session));
        }
        let Some(session) = self.store.session(session_id).await.map_err(|error| unreadable(&error))? else {
            return Ok(None);
        };
        let session = Arc::new(session);
        if session.state == SessionState::Active {
            self.sessions.insert(session_id.to_owned(), Arc::clone(&session)).await;
        }
        Ok(Some(session))
    }

    /// Forgets a session that has ended, so that the next look finds the store's word.
    ///
    /// A lookup in flight may put the old row back after this; `ended` makes sure nobody believes it.
    pub(crate) async fn session_ended(&self, session_id: &str) {
        self.ended.insert(session_id.to_owned(), ());
        self.sessions.invalidate(session_id).await;
        self.holders.lock().unwrap_or_else(PoisonError::into_inner).remove(session_id);
    }

    /// Whether a session may have temporary relations: its names can mean what they mean nowhere else.
    pub(crate) fn holds_temporaries(&self, session_id: &str) -> bool {
        self.holders.lock().unwrap_or_else(PoisonError::into_inner).contains(session_id)
    }

    /// To be called before the store has the first of them.
    pub(crate) fn has_temporaries(&self, session_id: &str) {
        self.holders.lock().unwrap_or_else(PoisonError::into_inner).insert(session_id.to_owned());
    }

    pub(crate) fn remember(&self, decided: Decided) {
        self.decisions.insert(decided.event.decision_id.clone(), Arc::new(decided));
    }

    pub(crate) fn remembered(&self, decision_id: &str) -> Option<Arc<Decided>> {
        self.decisions.get(decision_id)
    }

    /// The start of this PEP that watches now, as far as it has told.
    pub(crate) fn instance_of(&self, pep_id: &str) -> Option<String> {
        self.instances.lock().unwrap_or_else(PoisonError::into_inner).get(pep_id).cloned()
    }

    pub(crate) fn instance_seen(&self, pep_id: &str, instance: &str) {
        let mut instances = self.instances.lock().unwrap_or_else(PoisonError::into_inner);
        instances.insert(pep_id.to_owned(), instance.to_owned());
    }

    /// Makes a change durable, or says in the answer that nothing may run.
    pub(crate) async fn commit(&self, change: Change) -> Result<Vec<Appended>, Status> {
        let appended = self.store.commit(change).await;
        match &appended {
            Ok(_) => self.writable.send_if_modified(|writable| !std::mem::replace(writable, true)),
            Err(StoreError::Conflict(_) | StoreError::TooLarge { .. } | StoreError::Invalid(_)) => false,
            Err(_) => self.writable.send_if_modified(|writable| std::mem::replace(writable, false)),
        };
        appended.map_err(|error| unwritable(&error))
    }

    /// A place for this work, or `RESOURCE_EXHAUSTED`.
    pub(crate) fn begin(&self, work: Work) -> Result<OwnedSemaphorePermit, Status> {
        let (places, limit, count) = match work {
            Work::Decide => (&self.decides, "decides_max", self.limits.decides_max),
            Work::Wait => (&self.waits, "waits_max", self.limits.waits_max),
            Work::Watch => (&self.watches, "watches_max", self.limits.watches_max),
        };
        Arc::clone(places).try_acquire_owned().map_err(|_| {
            metrics::overload(limit);
            Status::resource_exhausted(format!(
                "The PDP works on {count} such calls already (`limits.{limit}`); try again in a moment."
            ))
        })
    }

    /// How many entries a page has: what was asked for within the limits, 100 when nothing was.
    pub(crate) fn page(&self, asked: u32) -> Result<u32, Status> {
        match asked {
            0 => Ok(self.limits.page_max.min(100)),
            asked if asked <= self.limits.page_max => Ok(asked),
            asked => Err(Status::invalid_argument(format!(
                "`limit` is {asked}; ask for at most {} at a time (`limits.page_max`).",
                self.limits.page_max
            ))),
        }
    }
}

/// The store could not be read: no answer is better than a guess.
pub(crate) fn unreadable(error: &StoreError) -> Status {
    tracing::error!(error = with_causes(error), "store not readable");
    Status::unavailable(
        "AUDIT-UNAVAILABLE: the PDP cannot read its store; try again, and tell your icegate administrator.",
    )
}

/// A change that could not be made durable: nothing may run.
pub(crate) fn unwritable(error: &StoreError) -> Status {
    match error {
        StoreError::Conflict(what) => Status::aborted(format!("The {what} was changed by somebody else; try again.")),
        StoreError::TooLarge { .. } => {
            metrics::audit_failure();
            Status::invalid_argument("The request is too large to be recorded, so it cannot run; make it smaller.")
        }
        error => {
            metrics::audit_failure();
            tracing::error!(error = with_causes(error), "record not durable");
            Status::unavailable(
                "AUDIT-UNAVAILABLE: the record could not be made durable, so nothing may run; try again, and tell your \
                 icegate administrator.",
            )
        }
    }
}

/// A name a caller gives for itself or for an object here.
pub(crate) fn named<'a>(what: &str, name: &'a str) -> Result<&'a str, Status> {
    if name.is_empty() {
        return Err(Status::invalid_argument(format!("`{what}` is empty.")));
    }
    if name.len() > NAME_BYTES_MAX {
        return Err(Status::invalid_argument(format!("`{what}` is longer than {NAME_BYTES_MAX} bytes.")));
    }
    Ok(name)
}

/// Equal for equal principals: identity, groups, agent and attributes, each written with its length.
pub(crate) fn principal_digest(principal: &Principal) -> String {
    let mut hasher = Sha256::new();
    let mut field = |text: &str| {
        hasher.update(u64::try_from(text.len()).unwrap_or(u64::MAX).to_be_bytes());
        hasher.update(text.as_bytes());
    };
    for text in [&principal.issuer, &principal.subject, &principal.id] {
        field(text);
    }
    match &principal.agent {
        None => field("no agent"),
        Some(agent) => {
            field("agent");
            field(&agent.id);
            field(agent.assurance.as_str());
        }
    }
    field(&principal.groups.len().to_string());
    for group in &principal.groups {
        field(group);
    }
    for (name, value) in &principal.attributes {
        field(name);
        match value {
            Attribute::Bool(value) => field(if *value { "true" } else { "false" }),
            Attribute::Long(value) => {
                field("long");
                field(&value.to_string());
            }
            Attribute::Text(text) => {
                field("text");
                field(text);
            }
            Attribute::Texts(texts) => {
                field(&texts.len().to_string());
                for text in texts {
                    field(text);
                }
            }
        }
    }
    hex(hasher.finalize().into())
}

/// A SHA-256 hash as text.
pub(crate) fn hex(hash: [u8; 32]) -> String {
    hash.iter().fold(String::with_capacity(64), |mut hex, byte| {
        // Writing to a String cannot fail.
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

/// A new id whose order is the order of time.
pub(crate) fn new_id() -> String {
    uuid::Uuid::now_v7().to_string()
}

#[cfg(test)]
mod tests {
    use icegate_pdp_model::{Agent, Assurance, Attribute, Principal};

    use super::principal_digest;

    #[test]
    fn whatever_can_change_an_answer_changes_the_digest() {
        let ana = Principal {
            id: "corp/ana".into(),
            issuer: "https://id.corp".into(),
            subject: "ana".into(),
            groups: ["a".to_owned(), "b".to_owned()].into(),
            agent: None,
            attributes: std::collections::BTreeMap::new(),
        };
        let agent = |assurance| Some(Agent { id: "copilot".into(), assurance });
        let others = [
            Principal { subject: "ana2".into(), ..ana.clone() },
            Principal { issuer: "https://id.other".into(), ..ana.clone() },
            Principal { groups: ["a".to_owned()].into(), ..ana.clone() },
            Principal { groups: ["ab".to_owned()].into(), ..ana.clone() },
            Principal { agent: agent(Assurance::Attested), ..ana.clone() },
            Principal { agent: agent(Assurance::Inferred), ..ana.clone() },
        ];
        let mut digests: Vec<String> = others.iter().chain([&ana]).map(principal_digest).collect();
        assert_eq!(principal_digest(&ana.clone()), principal_digest(&ana));
        let attributed = [
            ("region", Attribute::Text("EU".into())),
            ("region", Attribute::Text("US".into())),
            ("regions", Attribute::Texts(["EU".to_owned()].into())),
        ];
        digests.extend(attributed.map(|(name, value)| {
            principal_digest(&Principal { attributes: [(name.to_owned(), value)].into(), ..ana.clone() })
        }));
        digests.sort();
        digests.dedup();
        assert_eq!(digests.len(), 10);
    }
}
