//! The kinds of object statements name, as data: Snowflake's reference, "SQL command reference".

use icegate_pdp_model::ObjectKind;

/// How many parts a full name has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scope {
    /// Full as it is.
    Any,
    Account,
    Database,
    Schema,
}

/// What the settings of an object can hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Settings {
    /// CREATE and SET take settings only: nothing in them is code that would be stored or run.
    Plain,
    /// SET does, and CREATE takes more.
    Set,
}

/// A kind of object as statements name it.
#[derive(Debug)]
pub(super) struct Object {
    pub(super) words: &'static str,
    pub(super) kind: ObjectKind,
    pub(super) scope: Scope,
    pub(super) settings: Settings,
    /// A list of types follows its name.
    pub(super) typed: bool,
}

const fn plain(words: &'static str, kind: ObjectKind, scope: Scope) -> Object {
    Object { words, kind, scope, settings: Settings::Plain, typed: false }
}

const fn bodied(words: &'static str, kind: ObjectKind, scope: Scope) -> Object {
    Object { words, kind, scope, settings: Settings::Set, typed: false }
}

const fn typed(words: &'static str, kind: ObjectKind) -> Object {
    Object { words, kind, scope: Scope::Schema, settings: Settings::Set, typed: true }
}

/// Longer words before their beginnings.
pub(super) const OBJECTS: &[Object] = &[
    // Integrations.
    plain("API INTEGRATION", ObjectKind::Integration, Scope::Account),
    plain("CATALOG INTEGRATION", ObjectKind::Integration, Scope::Account),
    plain("EXTERNAL ACCESS INTEGRATION", ObjectKind::Integration, Scope::Account),
    plain("NOTIFICATION INTEGRATION", ObjectKind::Integration, Scope::Account),
    plain("SECURITY INTEGRATION", ObjectKind::Integration, Scope::Account),
    plain("STORAGE INTEGRATION", ObjectKind::Integration, Scope::Account),
    plain("INTEGRATION", ObjectKind::Integration, Scope::Account),
    // Policies.
    plain("NETWORK POLICY", ObjectKind::Policy, Scope::Account),
    plain("PASSWORD POLICY", ObjectKind::Policy, Scope::Schema),
    plain("SESSION POLICY", ObjectKind::Policy, Scope::Schema),
    plain("AUTHENTICATION POLICY", ObjectKind::Policy, Scope::Schema),
    plain("BACKUP POLICY", ObjectKind::Policy, Scope::Schema),
    plain("SNAPSHOT POLICY", ObjectKind::Policy, Scope::Schema),
    plain("FEATURE POLICY", ObjectKind::Policy, Scope::Schema),
    bodied("PACKAGES POLICY", ObjectKind::Policy, Scope::Schema),
    bodied("MASKING POLICY", ObjectKind::Policy, Scope::Schema),
    bodied("ROW ACCESS POLICY", ObjectKind::Policy, Scope::Schema),
    bodied("AGGREGATION POLICY", ObjectKind::Policy, Scope::Schema),
    bodied("PROJECTION POLICY", ObjectKind::Policy, Scope::Schema),
    bodied("JOIN POLICY", ObjectKind::Policy, Scope::Schema),
    bodied("PRIVACY POLICY", ObjectKind::Policy, Scope::Schema),
    bodied("STORAGE LIFECYCLE POLICY", ObjectKind::Policy, Scope::Schema),
    // The account's own.
    plain("NETWORK RULE", ObjectKind::NetworkRule, Scope::Schema),
    plain("SECRET", ObjectKind::Secret, Scope::Schema),
    plain("CONTACT", ObjectKind::Contact, Scope::Schema),
    bodied("RESOURCE MONITOR", ObjectKind::ResourceMonitor, Scope::Any),
    bodied("EXTERNAL VOLUME", ObjectKind::ExternalVolume, Scope::Account),
    bodied("FAILOVER GROUP", ObjectKind::FailoverGroup, Scope::Account),
    bodied("REPLICATION GROUP", ObjectKind::ReplicationGroup, Scope::Account),
    plain("COMPUTE POOL", ObjectKind::ComputePool, Scope::Account),
    bodied("CONNECTION", ObjectKind::Connection, Scope::Any),
    plain("MANAGED ACCOUNT", ObjectKind::ManagedAccount, Scope::Account),
    plain("ORGANIZATION ACCOUNT", ObjectKind::ManagedAccount, Scope::Account),
    plain("ORGANIZATION PROFILE", ObjectKind::Profile, Scope::Account),
    plain("ORGANIZATION USER GROUP", ObjectKind::User, Scope::Account),
    plain("ORGANIZATION USER", ObjectKind::User, Scope::Account),
    plain("ACCOUNT", ObjectKind::ManagedAccount, Scope::Account),
    bodied("LISTING", ObjectKind::Listing, Scope::Account),
    // Applications, services and models.
    plain("APPLICATION PACKAGE", ObjectKind::ApplicationPackage, Scope::Any),
    plain("APPLICATION ROLE", ObjectKind::Role, Scope::Database),
    bodied("APPLICATION", ObjectKind::Application, Scope::Account),
    bodied("GIT REPOSITORY", ObjectKind::GitRepository, Scope::Schema),
    plain("IMAGE REPOSITORY", ObjectKind::ImageRepository, Scope::Schema),
    bodied("CORTEX SEARCH SERVICE", ObjectKind::SearchService, Scope::Schema),
    bodied("MCP SERVER", ObjectKind::Service, Scope::Schema),
    bodied("SERVICE", ObjectKind::Service, Scope::Schema),
    bodied("STREAMLIT", ObjectKind::Streamlit, Scope::Schema),
    bodied("NOTEBOOK PROJECT", ObjectKind::Notebook, Scope::Schema),
    bodied("NOTEBOOK", ObjectKind::Notebook, Scope::Schema),
    bodied("DBT PROJECT", ObjectKind::Project, Scope::Schema),
    bodied("DCM PROJECT", ObjectKind::Project, Scope::Schema),
    bodied("MODEL MONITOR", ObjectKind::ModelMonitor, Scope::Schema),
    bodied("MODEL", ObjectKind::Model, Scope::Schema),
    bodied("AGENT", ObjectKind::Agent, Scope::Schema),
    bodied("DATASET", ObjectKind::Dataset, Scope::Schema),
    bodied("WORKSPACE", ObjectKind::Workspace, Scope::Schema),
    bodied("BACKUP SET", ObjectKind::Backup, Scope::Schema),
    bodied("SNAPSHOT SET", ObjectKind::Backup, Scope::Schema),
    bodied("SNAPSHOT", ObjectKind::Backup, Scope::Schema),
    // Who works, and with what.
    plain("DATABASE ROLE", ObjectKind::Role, Scope::Database),
    plain("ROLE", ObjectKind::Role, Scope::Account),
    plain("WAREHOUSE", ObjectKind::Warehouse, Scope::Account),
    bodied("USER", ObjectKind::User, Scope::Account),
    plain("SHARE", ObjectKind::Share, Scope::Account),
    plain("DATABASE", ObjectKind::Database, Scope::Account),
    plain("SCHEMA", ObjectKind::Schema, Scope::Database),
    // What lives in a schema.
    bodied("EXTERNAL TABLE", ObjectKind::Table, Scope::Schema),
    bodied("DYNAMIC TABLE", ObjectKind::Table, Scope::Schema),
    bodied("DYNAMIC ICEBERG TABLE", ObjectKind::Table, Scope::Schema),
    bodied("ICEBERG TABLE", ObjectKind::Table, Scope::Schema),
    bodied("HYBRID TABLE", ObjectKind::Table, Scope::Schema),
    bodied("INTERACTIVE TABLE", ObjectKind::Table, Scope::Schema),
    bodied("EVENT TABLE", ObjectKind::Table, Scope::Schema),
    bodied("TABLE", ObjectKind::Table, Scope::Schema),
    bodied("MATERIALIZED VIEW", ObjectKind::View, Scope::Schema),
    bodied("SEMANTIC VIEW", ObjectKind::View, Scope::Schema),
    bodied("VIEW", ObjectKind::View, Scope::Schema),
    plain("STAGE", ObjectKind::Stage, Scope::Schema),
    plain("FILE FORMAT", ObjectKind::FileFormat, Scope::Schema),
    plain("SEQUENCE", ObjectKind::Sequence, Scope::Schema),
    plain("TAG", ObjectKind::Tag, Scope::Schema),
    bodied("STREAM", ObjectKind::Stream, Scope::Schema),
    bodied("PIPE", ObjectKind::Pipe, Scope::Schema),
    bodied("TASK", ObjectKind::Task, Scope::Schema),
    bodied("ALERT", ObjectKind::Alert, Scope::Schema),
    bodied("TYPE", ObjectKind::Type, Scope::Schema),
    typed("DATA METRIC FUNCTION", ObjectKind::Function),
    typed("EXTERNAL FUNCTION", ObjectKind::Function),
    typed("FUNCTION", ObjectKind::Function),
    typed("PROCEDURE", ObjectKind::Procedure),
];
