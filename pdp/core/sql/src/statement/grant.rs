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
        let mut draft = Draft::verb(Verb::Grant);
        let Grant { privileges, objects, grantees, with_grant_option: _, as_grantor, granted_by, current_grants: _ } =
            grant;
        absent(as_grantor.is_some() || granted_by.is_some(), "GRANTED BY")?;
        self.rights(privileges, objects.as_ref(), grantees)?;
        for Grantee { grantee_type, name } in grantees {
            // What is granted to a share is seen by whom it is shared with.
            if let (GranteesType::Share, Some(GranteeName::ObjectName(name))) = (grantee_type, name)
                && let Some(parts) = names::parts(name)
            {
                let share = Name::new(parts);
                draft.exports.push(format!("{} {share}", ObjectKind::Share));
                self.touch(ObjectKind::Share, share, Effect::Export);
            }
        }
        Ok(draft)
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
                    let full = match action {
                        Action::Role { role } => (role, names::parts(role).map(Name::new)),
                        // A database role lives in a database.
                        Action::DatabaseRole { role } => (role, names::schema(role, &self.session)),
                        _ => continue,
                    };
                    roles = true;
                    match full {
                        (_, Some(name)) => self.touch(ObjectKind::Role, name, Effect::Grant),
                        (role, None) => self.miss("role", describe(role)),
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
            self.grantee(grantee_type, name.as_ref())?;
        }
        Ok(())
    }

    fn grantee(&mut self, of: &GranteesType, name: Option<&GranteeName>) -> Read<()> {
        let kind = grantee_kind(of);
        let full = |name: &ObjectName, session: &_| match of {
            GranteesType::DatabaseRole | GranteesType::ApplicationRole => names::schema(name, session),
            _ => names::parts(name).map(Name::new),
        };
        match name {
            Some(GranteeName::ObjectName(name)) => match full(name, &self.session) {
                Some(name) => self.touch(kind, name, Effect::Grant),
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
            GrantObjects::ResourceMonitors(names) => (ObjectKind::ResourceMonitor, names),
            GrantObjects::ComputePools(names) => (ObjectKind::ComputePool, names),
            GrantObjects::Connections(names) => (ObjectKind::Connection, names),
            GrantObjects::FailoverGroup(names) => (ObjectKind::FailoverGroup, names),
            GrantObjects::ReplicationGroup(names) => (ObjectKind::ReplicationGroup, names),
            GrantObjects::ExternalVolumes(names) => (ObjectKind::ExternalVolume, names),
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
        GranteesType::Application => ObjectKind::Application,
        GranteesType::Group => ObjectKind::Other,
    }
}
