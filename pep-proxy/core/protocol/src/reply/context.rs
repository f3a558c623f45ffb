use serde::{Deserialize, Serialize};

/// Names a session resolves unqualified identifiers with, as Snowflake stores them. Empty = none set.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SessionContext {
    /// Database.
    pub database: String,
    /// Schema.
    pub schema: String,
    /// Role.
    pub role: String,
    /// Warehouse.
    pub warehouse: String,
}

impl SessionContext {
    /// Takes over what a reply tells.
    pub fn apply(&mut self, update: &ContextUpdate) {
        let ContextUpdate { database, schema, role, warehouse } = update;
        for (name, told) in [
            (&mut self.database, database),
            (&mut self.schema, schema),
            (&mut self.role, role),
            (&mut self.warehouse, warehouse),
        ] {
            if let Some(told) = told {
                name.clone_from(told);
            }
        }
    }
}

/// What a reply says about the session's names: `None` says nothing, an empty name says that none is set any more.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ContextUpdate {
    /// `finalDatabaseName`.
    pub database: Option<String>,
    /// `finalSchemaName`.
    pub schema: Option<String>,
    /// `finalRoleName`.
    pub role: Option<String>,
    /// `finalWarehouseName`.
    pub warehouse: Option<String>,
}

impl ContextUpdate {
    /// Whether nothing is said.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Whether everything is said.
    pub fn is_whole(&self) -> bool {
        let Self { database, schema, role, warehouse } = self;
        [database, schema, role, warehouse].iter().all(|name| name.is_some())
    }
}
