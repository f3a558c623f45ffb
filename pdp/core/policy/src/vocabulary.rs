use std::str::FromStr;

use cedar_policy::{EntityId, EntityTypeName, EntityUid};
use icegate_pdp_model::{Effect, ObjectKind};

/// The id of the one `Icegate::System`.
const SYSTEM: &str = "icegate";

/// An enum of the schema's words, with all its values listed once.
macro_rules! cedar_names {
    ($(#[$meta:meta])* $name:ident { $($variant:ident = $word:literal,)* }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub(crate) enum $name {
            $($variant,)*
        }
        impl $name {
            /// Every value; each stands at its own number.
            pub(crate) const ALL: &'static [Self] = &[$(Self::$variant,)*];
            /// The word in the schema.
            pub(crate) const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word,)* }
            }
        }
    };
}

cedar_names! {
    /// The schema's actions.
    Action {
        Run = "run",
        Unknown = "unknown",
        ReadColumn = "read_column",
        ReadRow = "read_row",
        Read = "read",
        Write = "write",
        Create = "create",
        Alter = "alter",
        Drop = "drop",
        Grant = "grant",
        Export = "export",
        Import = "import",
        Execute = "execute",
        Use = "use",
        Metadata = "metadata",
        Approve = "approve",
        SearchAudit = "search_audit",
        ListSessions = "list_sessions",
        RevokeSessions = "revoke_sessions",
    }
}

impl From<Effect> for Action {
    fn from(effect: Effect) -> Self {
        match effect {
            Effect::Read => Self::Read,
            Effect::Write => Self::Write,
            Effect::Create => Self::Create,
            Effect::Alter => Self::Alter,
            Effect::Drop => Self::Drop,
            Effect::Grant => Self::Grant,
            Effect::Export => Self::Export,
            Effect::Import => Self::Import,
            Effect::Execute => Self::Execute,
            Effect::Use => Self::Use,
            Effect::Metadata => Self::Metadata,
        }
    }
}

cedar_names! {
    /// The schema's entity types.
    Type {
        User = "User",
        Group = "Group",
        Connection = "Connection",
        Database = "Database",
        Schema = "Schema",
        Tag = "Tag",
        Relation = "Relation",
        Column = "Column",
        Row = "Row",
        Stage = "Stage",
        Location = "Location",
        Function = "Function",
        Procedure = "Procedure",
        Warehouse = "Warehouse",
        Role = "Role",
        Account = "Account",
        Object = "Object",
        ApprovalGroup = "ApprovalGroup",
        System = "System",
    }
}

impl Type {
    /// The type that stands for objects of this kind; `None` for the session, which nobody is asked about.
    pub(crate) fn of_object(kind: ObjectKind) -> Option<Self> {
        Some(match kind {
            ObjectKind::Account => Self::Account,
            ObjectKind::Database => Self::Database,
            ObjectKind::Schema => Self::Schema,
            ObjectKind::Table | ObjectKind::View => Self::Relation,
            ObjectKind::Stage => Self::Stage,
            ObjectKind::Location => Self::Location,
            ObjectKind::Function => Self::Function,
            ObjectKind::Procedure => Self::Procedure,
            ObjectKind::Warehouse => Self::Warehouse,
            ObjectKind::Role => Self::Role,
            ObjectKind::User
            | ObjectKind::Integration
            | ObjectKind::Share
            | ObjectKind::Task
            | ObjectKind::Stream
            | ObjectKind::Pipe
            | ObjectKind::Policy
            | ObjectKind::Tag
            | ObjectKind::Sequence
            | ObjectKind::FileFormat
            | ObjectKind::Agent
            | ObjectKind::Alert
            | ObjectKind::Application
            | ObjectKind::ApplicationPackage
            | ObjectKind::Backup
            | ObjectKind::ComputePool
            | ObjectKind::Connection
            | ObjectKind::Contact
            | ObjectKind::Dataset
            | ObjectKind::ExternalVolume
            | ObjectKind::FailoverGroup
            | ObjectKind::GitRepository
            | ObjectKind::ImageRepository
            | ObjectKind::Listing
            | ObjectKind::ManagedAccount
            | ObjectKind::Model
            | ObjectKind::ModelMonitor
            | ObjectKind::NetworkRule
            | ObjectKind::Notebook
            | ObjectKind::Profile
            | ObjectKind::Project
            | ObjectKind::ReplicationGroup
            | ObjectKind::ResourceMonitor
            | ObjectKind::SearchService
            | ObjectKind::Secret
            | ObjectKind::Service
            | ObjectKind::Streamlit
            | ObjectKind::Type
            | ObjectKind::Workspace
            | ObjectKind::Other => Self::Object,
            ObjectKind::Session => return None,
        })
    }
}

/// Cedar's names for ours, made once.
#[derive(Debug, Clone)]
pub(crate) struct Vocabulary {
    types: Vec<EntityTypeName>,
    actions: Vec<EntityUid>,
}

impl Vocabulary {
    /// Errors with Cedar's words when a name is not one, which the tests rule out.
    pub(crate) fn new() -> Result<Self, String> {
        let name =
            |word: &str| EntityTypeName::from_str(&format!("Icegate::{word}")).map_err(|error| error.to_string());
        let action = name("Action")?;
        let uid = |word: &Action| EntityUid::from_type_name_and_id(action.clone(), EntityId::new(word.as_str()));
        Ok(Self {
            types: Type::ALL.iter().map(|kind| name(kind.as_str())).collect::<Result<_, _>>()?,
            actions: Action::ALL.iter().map(uid).collect(),
        })
    }

    pub(crate) fn uid(&self, kind: Type, id: &str) -> EntityUid {
        #[expect(clippy::indexing_slicing, reason = "`types` holds one name for each value of `Type`")]
        let name = self.types[kind as usize].clone();
        EntityUid::from_type_name_and_id(name, EntityId::new(id))
    }

    pub(crate) fn action(&self, action: Action) -> &EntityUid {
        #[expect(clippy::indexing_slicing, reason = "`actions` holds one uid for each value of `Action`")]
        &self.actions[action as usize]
    }

    pub(crate) fn system(&self) -> EntityUid {
        self.uid(Type::System, SYSTEM)
    }

    /// Our word for Cedar's type.
    pub(crate) fn kind(&self, name: &EntityTypeName) -> Option<Type> {
        Type::ALL.iter().zip(&self.types).find_map(|(kind, known)| (known == name).then_some(*kind))
    }
}

#[cfg(test)]
mod tests {
    use super::{Action, Type, Vocabulary};

    #[test]
    fn the_schema_knows_exactly_these_words() {
        let schema = crate::compile::schema(crate::SCHEMA).unwrap();
        let vocabulary = Vocabulary::new().unwrap();
        let mut actions: Vec<_> = schema.actions().map(ToString::to_string).collect();
        let mut ours: Vec<_> = Action::ALL.iter().map(|action| vocabulary.action(*action).to_string()).collect();
        actions.sort();
        ours.sort();
        assert_eq!(actions, ours);
        let mut types: Vec<_> = schema.entity_types().map(ToString::to_string).collect();
        let mut ours: Vec<_> = Type::ALL.iter().map(|kind| format!("Icegate::{}", kind.as_str())).collect();
        types.sort();
        ours.sort();
        assert_eq!(types, ours);
        for (number, kind) in Type::ALL.iter().enumerate() {
            assert_eq!(*kind as usize, number);
        }
    }
}
