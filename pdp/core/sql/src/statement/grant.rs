//! GRANT and REVOKE: rights on an object, to someone.

use icegate_pdp_model::{Effect, ObjectKind, ObjectName as Name, Verb};
use sqlparser::ast::{Action, Grant, GrantObjects, Grantee, GranteeName, GranteesType, ObjectName, Privileges, Revoke};

use crate::{
    names,
    query::describe,
    reader::{Read, Reader, absent, stop},
    statement::Draft,
};

impl Reader<'_, '_> {
    pub(crate) fn grant(&mut self, grant: &Grant) -> Read<Draft> {
        let Grant { privileges, objects, grantees, with_grant_option: _, as_grantor, granted_by, current_grants: _ } =
            grant;
        absent(as_grantor.is_some() || granted_by.is_some(), "GRANTED BY")?;
        self.rights(privileges, objects.as_ref(), grantees)?;
        Ok(Draft::verb(Verb::Grant))
    }

    pub(crate) fn revoke(&mut self, revoke: &Revoke) -> Read<Draft> {
        let Revoke { grant_option_for: _, privileges, objects, grantees, granted_by, cascade: _ } = revoke;
        absent(granted_by.is_some(), "GRANTED BY")?;
        self.rights(privileges, objects.as_ref(), grantees)?;
        Ok(Draft::verb(Verb::Revoke))
    }

    fn rights(&mut self, privileges: &Privileges, objects: Option<&GrantObjects>, grantees: &[Grantee]) -> Read<()> {
        let mut roles = false;
        match privileges {
            Privileges::All { with_privileges_keyword: _ } => {}
            Privileges::Actions(actions) => {
                for action in actions {
                    if let Action::Role { role } | Action::DatabaseRole { role } = action {
                        roles = true;
                        match names::parts(role) {
                            Some(parts) => self.touch(ObjectKind::Role, Name::new(parts), Effect::Grant),
                            None => self.miss("role", describe(role)),
                        }
                    }
                }
            }
        }
        match objects {
            Some(objects) => self.granted(objects),
            None if roles => {}
            None => self.touch(ObjectKind::Account, Name::new(["ACCOUNT"]), Effect::Grant),
        }
        for Grantee { grantee_type, name } in grantees {
            self.grantee(grantee_kind(grantee_type), name.as_ref())?;
        }
        Ok(())
    }

    fn grantee(&mut self, kind: ObjectKind, name: Option<&GranteeName>) -> Read<()> {
        match name {
            Some(GranteeName::ObjectName(name)) => match names::parts(name) {
                Some(parts) => self.touch(kind, Name::new(parts), Effect::Grant),
                None => self.miss(kind.as_str(), describe(name)),
            },
            Some(GranteeName::UserHost { .. }) => return stop("a grantee with a host is not understood"),
            None => self.touch(ObjectKind::Role, Name::new(["PUBLIC"]), Effect::Grant),
        }
        Ok(())
    }

    fn granted(&mut self, objects: &GrantObjects) {
        let (kind, names): (ObjectKind, &[ObjectName]) = match objects {
            GrantObjects::AllSequencesInSchema { schemas }
            | GrantObjects::AllTablesInSchema { schemas }
            | GrantObjects::AllViewsInSchema { schemas }
            | GrantObjects::AllMaterializedViewsInSchema { schemas }
            | GrantObjects::AllExternalTablesInSchema { schemas }
            | GrantObjects::AllFunctionsInSchema { schemas }
            | GrantObjects::FutureTablesInSchema { schemas }
            | GrantObjects::FutureViewsInSchema { schemas }
            | GrantObjects::FutureExternalTablesInSchema { schemas }
            | GrantObjects::FutureMaterializedViewsInSchema { schemas }
            | GrantObjects::FutureSequencesInSchema { schemas }
            | GrantObjects::Schemas(schemas) => (ObjectKind::Schema, schemas),
            GrantObjects::FutureSchemasInDatabase { databases } | GrantObjects::Databases(databases) => {
                (ObjectKind::Database, databases)
            }
            GrantObjects::Sequences(names) => (ObjectKind::Sequence, names),
            GrantObjects::Tables(names) => {
                // `ON ACCOUNT` reads as a table of that name.
                if names.iter().any(|name| name.to_string().eq_ignore_ascii_case("account")) {
                    self.touch(ObjectKind::Account, Name::new(["ACCOUNT"]), Effect::Grant);
                    return;
                }
                self.granted_relations(names, ObjectKind::Table);
                return;
            }
            GrantObjects::Views(names) => {
                self.granted_relations(names, ObjectKind::View);
                return;
            }
            GrantObjects::Warehouses(names) => (ObjectKind::Warehouse, names),
            GrantObjects::Integrations(names) => (ObjectKind::Integration, names),
            GrantObjects::Users(names) => (ObjectKind::User, names),
            GrantObjects::ResourceMonitors(names)
            | GrantObjects::ComputePools(names)
            | GrantObjects::Connections(names)
            | GrantObjects::FailoverGroup(names)
            | GrantObjects::ReplicationGroup(names)
            | GrantObjects::ExternalVolumes(names) => (ObjectKind::Other, names),
            GrantObjects::Procedure { name, arg_types: _ } => (ObjectKind::Procedure, std::slice::from_ref(name)),
            GrantObjects::Function { name, arg_types: _ } => (ObjectKind::Function, std::slice::from_ref(name)),
        };
        for name in names {
            match self.full(kind, name) {
                Some(full) => self.touch(kind, full, Effect::Grant),
                None => self.miss(kind.as_str(), describe(name)),
            }
        }
    }

    fn granted_relations(&mut self, names: &[ObjectName], kind: ObjectKind) {
        for name in names {
            if let Some(full) = self.named(name) {
                self.touch_relation(&full, kind, Effect::Grant);
            }
        }
    }
}

fn grantee_kind(kind: &GranteesType) -> ObjectKind {
    match kind {
        GranteesType::Role
        | GranteesType::DatabaseRole
        | GranteesType::ApplicationRole
        | GranteesType::Public
        | GranteesType::None => ObjectKind::Role,
        GranteesType::User => ObjectKind::User,
        GranteesType::Share => ObjectKind::Share,
        GranteesType::Group | GranteesType::Application => ObjectKind::Other,
    }
}
