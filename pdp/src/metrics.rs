//! Every metric of the service: declared, described and set here, so that names and labels are one list.
//!
//! Labels come from closed sets, never from a principal, a relation or a statement.

use std::{sync::OnceLock, time::Duration};

use icegate_pdp_pip::warehouse::Warehouse;
use metrics::{Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};

const BUILD_INFO: &str = "icegate_pdp_build_info";
const BUNDLE_INFO: &str = "icegate_pdp_bundle_info";
const BUNDLE_LOADED: &str = "icegate_pdp_bundle_loaded_timestamp_seconds";
const BUNDLE_REFUSED: &str = "icegate_pdp_bundle_reload_failures_total";
const DECISIONS: &str = "icegate_pdp_decisions_total";
const DECISION_DURATION: &str = "icegate_pdp_decision_duration_seconds";
const REFUSALS: &str = "icegate_pdp_refusals_total";
const INTENTS: &str = "icegate_pdp_intents_total";
const SESSIONS: &str = "icegate_pdp_sessions_active";
const APPROVALS: &str = "icegate_pdp_approvals_pending";
const WATCHES: &str = "icegate_pdp_watches_open";
const TOKENS: &str = "icegate_pdp_token_verifications_total";
const KEYS: &str = "icegate_pdp_jwks_keys";
const KEYS_AGE: &str = "icegate_pdp_jwks_age_seconds";
const KEYS_FAILING: &str = "icegate_pdp_jwks_refresh_failing";
const OVERLOADS: &str = "icegate_pdp_overloads_total";
const AUDIT_QUEUE: &str = "icegate_pdp_audit_queue_depth";
const AUDIT_COMMIT: &str = "icegate_pdp_audit_commit_duration_seconds";
const AUDIT_GROUP: &str = "icegate_pdp_audit_group_changes";
const AUDIT_FAILURES: &str = "icegate_pdp_audit_failures_total";
const CATALOG_RELATIONS: &str = "icegate_pdp_catalog_relations";
const CATALOG_SYNCED: &str = "icegate_pdp_catalog_synced_timestamp_seconds";
const CATALOG_RUNS: &str = "icegate_pdp_catalog_runs_total";
const CATALOG_LOOKUPS: &str = "icegate_pdp_catalog_lookups_total";
const CATALOG_QUERIES: &str = "icegate_pdp_catalog_queries_total";

/// Buckets of durations, in seconds: from what a cached lookup takes to what a slow disk takes.
const SECONDS: [f64; 16] =
    [0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0];
/// Buckets of how many changes one commit makes durable.
const CHANGES: [f64; 10] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0];

/// Stages of a decision, in order.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Stage {
    /// Looking up session and approval.
    Session,
    /// Reading the text and asking the policies.
    Decide,
    /// Making the record durable.
    Record,
}

impl Stage {
    fn as_str(self) -> &'static str {
        match self {
            Self::Session => "session",
            Self::Decide => "decide",
            Self::Record => "record",
        }
    }
}

/// Installs the recorder of this process, once; asked again, gives the same.
pub(crate) fn install() -> Result<PrometheusHandle, BuildError> {
    static HANDLE: OnceLock<PrometheusHandle> = OnceLock::new();
    if let Some(handle) = HANDLE.get() {
        return Ok(handle.clone());
    }
    let recorder = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".into()), &SECONDS)?
        .set_buckets_for_metric(Matcher::Full(AUDIT_GROUP.into()), &CHANGES)?
        .build_recorder();
    let handle = HANDLE.get_or_init(|| recorder.handle()).clone();
    // Somebody embedding the service may have installed one of their own; theirs stays.
    if metrics::set_global_recorder(recorder).is_ok() {
        describe();
    }
    Ok(handle)
}

fn describe() {
    describe_gauge!(BUILD_INFO, "Always 1; the labels tell the version");
    describe_gauge!(BUNDLE_INFO, "1 for the version of the bundle in force");
    describe_gauge!(BUNDLE_LOADED, Unit::Seconds, "When the bundle in force was loaded, as Unix time");
    describe_counter!(BUNDLE_REFUSED, "Bundles that did not compile and were not taken");
    describe_counter!(DECISIONS, "Decisions by outcome");
    describe_histogram!(DECISION_DURATION, Unit::Seconds, "Time a decision takes, by stage");
    describe_counter!(REFUSALS, "Refused statements and logins by the code of their first reason");
    describe_counter!(INTENTS, "Statements that asked to run under a cached decision, by result");
    describe_gauge!(SESSIONS, "Sessions that are open");
    describe_gauge!(APPROVALS, "Approvals somebody waits for");
    describe_gauge!(WATCHES, "PEPs that watch");
    describe_counter!(TOKENS, "Verified tokens by result");
    describe_gauge!(KEYS, "Usable keys of an issuer");
    describe_gauge!(KEYS_AGE, Unit::Seconds, "Time since an issuer's keys were last seen at their source");
    describe_gauge!(KEYS_FAILING, "1 when the last fetch of an issuer's keys failed");
    describe_counter!(OVERLOADS, "Calls refused because a limit on work at one time was reached, by limit");
    describe_gauge!(AUDIT_QUEUE, "Changes waiting to be made durable");
    describe_histogram!(AUDIT_COMMIT, Unit::Seconds, "Time one commit takes, waiting for the disk included");
    describe_histogram!(AUDIT_GROUP, "Changes made durable by one commit");
    describe_counter!(AUDIT_FAILURES, "Changes that could not be made durable");
    describe_gauge!(CATALOG_RELATIONS, "Tables and views of the warehouse by whether they could be read");
    describe_gauge!(CATALOG_SYNCED, Unit::Seconds, "When the database read longest ago was read, as Unix time");
    describe_counter!(CATALOG_RUNS, "Databases of the warehouse read, by result");
    describe_counter!(CATALOG_LOOKUPS, "Names looked up in the warehouse for a statement, by result");
    describe_counter!(CATALOG_QUERIES, "Queries of icegate's own about the catalog, by purpose");
    gauge!(BUILD_INFO, "version" => env!("CARGO_PKG_VERSION")).set(1.0);
    for outcome in ["allow", "deny", "mask", "needs-approval"] {
        counter!(DECISIONS, "outcome" => outcome).absolute(0);
    }
    counter!(BUNDLE_REFUSED).absolute(0);
    counter!(AUDIT_FAILURES).absolute(0);
    gauge!(AUDIT_QUEUE).set(0.0);
}

pub(crate) fn bundle_in_force(version: &str, before: Option<&str>, loaded_unix_seconds: i64) {
    if let Some(before) = before.filter(|before| *before != version) {
        gauge!(BUNDLE_INFO, "version" => before.to_owned()).set(0.0);
    }
    gauge!(BUNDLE_INFO, "version" => version.to_owned()).set(1.0);
    gauge!(BUNDLE_LOADED).set(float(loaded_unix_seconds));
}

pub(crate) fn bundle_refused() {
    counter!(BUNDLE_REFUSED).increment(1);
}

pub(crate) fn decided(outcome: &'static str) {
    counter!(DECISIONS, "outcome" => outcome).increment(1);
}

pub(crate) fn stage(stage: Stage, took: Duration) {
    histogram!(DECISION_DURATION, "stage" => stage.as_str()).record(took);
}

pub(crate) fn refused(code: &'static str) {
    counter!(REFUSALS, "code" => code).increment(1);
}

pub(crate) fn intent(result: &'static str) {
    counter!(INTENTS, "result" => result).increment(1);
}

pub(crate) fn sessions_active(count: u64) {
    gauge!(SESSIONS).set(float(count.cast_signed()));
}

pub(crate) fn approvals_pending(count: u64) {
    gauge!(APPROVALS).set(float(count.cast_signed()));
}

pub(crate) fn watches_open(change: f64) {
    gauge!(WATCHES).increment(change);
}

pub(crate) fn token(result: &'static str) {
    counter!(TOKENS, "result" => result).increment(1);
}

/// Issuers are few and named in the configuration, so their names may be labels.
pub(crate) fn issuer_keys(issuer: &str, keys: usize, age: Option<Duration>, failing: bool) {
    let issuer = issuer.to_owned();
    gauge!(KEYS, "issuer" => issuer.clone()).set(float(i64::try_from(keys).unwrap_or(i64::MAX)));
    gauge!(KEYS_FAILING, "issuer" => issuer.clone()).set(f64::from(u8::from(failing)));
    if let Some(age) = age {
        gauge!(KEYS_AGE, "issuer" => issuer).set(age.as_secs_f64());
    }
}

pub(crate) fn overload(limit: &'static str) {
    counter!(OVERLOADS, "limit" => limit).increment(1);
}

/// What is known of the warehouse now.
pub(crate) fn catalog(warehouse: &Warehouse) {
    let unreadable = warehouse.relations.values().filter(|relation| relation.unreadable.is_some()).count();
    let count = |count: usize| float(i64::try_from(count).unwrap_or(i64::MAX));
    gauge!(CATALOG_RELATIONS, "state" => "unreadable").set(count(unreadable));
    gauge!(CATALOG_RELATIONS, "state" => "read").set(count(warehouse.relations.len() - unreadable));
    if let Some(synced_ms) = warehouse.databases.values().map(|database| database.synced_ms).min() {
        gauge!(CATALOG_SYNCED).set(float(synced_ms / 1000));
    }
}

pub(crate) fn catalog_run(result: &'static str) {
    counter!(CATALOG_RUNS, "result" => result).increment(1);
}

pub(crate) fn catalog_lookup(result: &'static str) {
    counter!(CATALOG_LOOKUPS, "result" => result).increment(1);
}

pub(crate) fn catalog_query(purpose: &str) {
    let purpose = if purpose == "lookup" { "lookup" } else { "sync" };
    counter!(CATALOG_QUERIES, "purpose" => purpose).increment(1);
}

pub(crate) fn audit_failure() {
    counter!(AUDIT_FAILURES).increment(1);
}

pub(crate) fn audit_queue(depth: usize) {
    gauge!(AUDIT_QUEUE).set(float(i64::try_from(depth).unwrap_or(i64::MAX)));
}

pub(crate) fn audit_commit(took: Duration, changes: usize) {
    histogram!(AUDIT_COMMIT).record(took);
    histogram!(AUDIT_GROUP).record(float(i64::try_from(changes).unwrap_or(i64::MAX)));
}

#[expect(clippy::cast_precision_loss, reason = "counts and times on a dashboard")]
fn float(value: i64) -> f64 {
    value as f64
}
