//! CREATE, ALTER, DROP, COMMENT.

use std::collections::BTreeSet;

use icegate_pdp_model::{
    ColumnName, Effect, Kind, ObjectKind, ObjectName as Name, RelationKind, RelationName, SessionContext, Verb,
};
use sqlparser::ast::{
    AlterColumnOperation, AlterSchema, AlterSchemaOperation, AlterTable, AlterTableOperation, ColumnDef, ColumnOption,
    ColumnOptions, CommentObject, CreateTable, CreateTableLikeKind, CreateTableOptions, CreateView, Expr,
    HiveDistributionStyle, ObjectName, ObjectType, Query, RenameTableNameKind, SchemaName, TableConstraint,
    ViewColumnDef,
};

use crate::{
    names,
    query::describe,
    reader::{Output, Read, Reader, Role, absent, stop},
    scope::{Ctes, Scope, Visible},
    statement::{After, Draft, Stored, Unrewritable},
};

/// Most temporary relations of a session.
const TEMPORARIES_MAX: usize = 1000;
/// Longest name, in characters (Snowflake docs, "Identifier requirements").
const NAME_MAX: usize = 255;

/// Columns of a relation a statement makes, and what influences each.
type MadeColumns = Vec<(String, BTreeSet<ColumnName>)>;

impl Reader<'_, '_> {
    pub(crate) fn create_table(&mut self, table: &CreateTable) -> Read<Draft> {
        check_table_options(table)?;
        let mut draft = Draft::of(Kind::on(Verb::Create, ObjectKind::Table));
        draft.temporary = table.temporary || table.volatile;
        for ColumnDef { name: _, data_type: _, options } in &table.columns {
            for option in options {
                self.column_option(&option.option)?;
            }
        }
        for constraint in &table.constraints {
            self.constraint(constraint)?;
        }
        let columns = if let Some(query) = &table.query {
            let output = self.query(query, None, &Ctes::default())?;
            let typed = table.columns.iter().map(|column| names::fold(&column.name));
            let listed: Vec<_> = match self.reworded.map(|reworded| reworded.columns.as_slice()) {
                Some(columns @ [_, ..]) => columns.iter().cloned().map(Some).collect(),
                _ => typed.collect(),
            };
            let made = self.made_columns(&output, listed.iter().cloned());
            self.store(&mut draft, &table.name, &output, listed.into_iter());
            draft.output = Some(output);
            made
        } else if let Some(like) = &table.like {
            let (CreateTableLikeKind::Parenthesized(like) | CreateTableLikeKind::Plain(like)) = like;
            self.like(&like.name)
        } else if let Some(source) = &table.clone {
            self.travelled(table.version.as_ref())?;
            draft.unmaskable = Some(Unrewritable::Copy);
            let visible = self.relation(source, None, Role::Clone)?;
            self.whole(&visible)
        } else {
            table.columns.iter().map(|column| Some((names::fold(&column.name)?, BTreeSet::new()))).collect()
        };
        let Some(name) = self.named(&table.name) else { return Ok(draft) };
        if draft.temporary {
            self.hides(&name);
        }
        self.create(&name, ObjectKind::Table, table.or_replace);
        let certain = table.or_replace || !table.if_not_exists;
        draft.after.push(match columns {
            Some(columns) if certain => After::Made(name, columns),
            _ => After::Unsure(name),
        });
        Ok(draft)
    }

    pub(crate) fn create_view(&mut self, view: &CreateView) -> Read<Draft> {
        let CreateView {
            or_alter,
            or_replace,
            materialized: _,
            secure: _,
            name,
            name_before_not_exists: _,
            columns,
            query,
            options,
            cluster_by: _,
            comment: _,
            with_no_schema_binding,
            if_not_exists,
            temporary,
            copy_grants: _,
            to,
            params,
        } = view;
        absent(*or_alter || *with_no_schema_binding || to.is_some() || params.is_some(), "this form of CREATE VIEW")?;
        match options {
            CreateTableOptions::None => {}
            _ => return stop("an option of CREATE VIEW is not understood"),
        }
        for ViewColumnDef { name: _, data_type: _, options } in columns {
            let commented = options.as_ref().is_none_or(|options| {
                let (ColumnOptions::CommaSeparated(list) | ColumnOptions::SpaceSeparated(list)) = options;
                list.iter().all(|option| matches!(option, ColumnOption::Comment(_)))
            });
            absent(!commented, "an option of a view's column")?;
        }
        let output = self.query(query, None, &Ctes::default())?;
        let made = self.made_columns(&output, columns.iter().map(|column| names::fold(&column.name)));
        let mut draft = Draft::of(Kind::on(Verb::Create, ObjectKind::View));
        draft.unmaskable = Some(Unrewritable::View);
        draft.temporary = *temporary;
        let means_the_same = !temporary || self.means_the_same(name, query);
        self.store(&mut draft, name, &output, columns.iter().map(|column| names::fold(&column.name)));
        let Some(name) = self.named(name) else { return Ok(draft) };
        if *temporary {
            self.hides(&name);
        }
        self.create(&name, ObjectKind::View, *or_replace);
        draft.after.push(match made {
            Some(columns) if means_the_same && (*or_replace || !*if_not_exists) => After::Made(name, columns),
            _ => After::Unsure(name),
        });
        Ok(draft)
    }

    /// Whether a view's text means in the view's schema, where it is read from then on, what it means here.
    fn means_the_same(&mut self, view: &ObjectName, query: &Query) -> bool {
        let Some(RelationName { database, schema, .. }) = names::relation(view, &self.session) else { return false };
        let there = SessionContext { database: Some(database), schema: Some(schema), ..SessionContext::default() };
        let here = self.session.clone();
        let mut read_in = |session| {
            let read = self.apart(session, |reader| {
                let read = reader.query(query, None, &Ctes::default());
                read.map(|_| std::mem::take(&mut reader.relations))
            });
            read.0.ok()
        };
        (there.database == here.database && there.schema == here.schema)
            || read_in(there).is_some_and(|relations| Some(relations) == read_in(here))
    }

    /// A query's columns as those of the relation made from it, under its own names where it lists them.
    fn store(
        &self,
        draft: &mut Draft,
        name: &ObjectName,
        output: &Output,
        names: impl Iterator<Item = Option<String>>,
    ) {
        let Some(target) = names::relation(name, &self.session) else { return };
        let mut output = output.clone();
        for (column, name) in output.columns.iter_mut().zip(names) {
            if let Some(name) = name {
                column.name = name;
            }
        }
        draft.stored.push(Stored { target, output });
    }

    /// A temporary relation must not hide one of the catalog: which of the two a name means could not be followed.
    /// Every name that may be one is remembered, so there are only so many.
    pub(crate) fn hides(&mut self, name: &RelationName) {
        let there = &self.earlier.relations;
        let why = if self.catalog.relation(name).is_some() {
            "a temporary relation would hide the one of that name; give it a name of its own"
        } else if there.len() >= TEMPORARIES_MAX && !there.contains_key(name) {
            "the session has very many temporary relations; drop those it has no use for, or connect again"
        } else if [&name.database, &name.schema, &name.name].iter().any(|part| part.chars().count() > NAME_MAX) {
            "a name of it is longer than names can be"
        } else {
            return;
        };
        self.miss("relation", format_args!("{name}: {why}"));
    }

    /// Nor by a new name, or in its place.
    pub(crate) fn renamed(&mut self, old: &RelationName, new: &RelationName) {
        let may_be_temporary = self.earlier.relations.contains_key(old) || self.request.made(old).is_some();
        if may_be_temporary && self.catalog.relation(old).is_none() {
            self.hides(new);
        }
    }

    fn create(&mut self, name: &RelationName, kind: ObjectKind, or_replace: bool) {
        self.touch(kind, Name::from(name), Effect::Create);
        if or_replace {
            // What stood there may be of the other kind: the catalog knows.
            self.touch_relation(name, kind, Effect::Drop);
        }
    }

    /// Columns of a relation made from a query; `None` when they are not sure.
    fn made_columns(&self, output: &Output, names: impl Iterator<Item = Option<String>>) -> Option<MadeColumns> {
        if output.open || output.columns.iter().any(|column| column.lineage.opaque) {
            return None;
        }
        let names: Vec<String> = names.collect::<Option<_>>()?;
        if !names.is_empty() && names.len() != output.columns.len() {
            return None;
        }
        let made = output.columns.iter().enumerate().map(|(at, column)| {
            let mut influences = column.lineage.clone().all();
            influences.unite(&output.rows);
            (names.get(at).unwrap_or(&column.name).clone(), self.column_names(&influences))
        });
        Some(made.collect())
    }

    /// LIKE takes the shape and no rows.
    fn like(&mut self, source: &ObjectName) -> Option<MadeColumns> {
        let name = self.named(source)?;
        self.touch_relation(&name, ObjectKind::Table, Effect::Read);
        if self.request.made(&name).is_some() {
            return None;
        }
        let Some(entry) = self.catalog.relation(&name) else {
            self.miss("relation", &name);
            return None;
        };
        Some(entry.columns.iter().map(|column| (column.name.clone(), BTreeSet::new())).collect())
    }

    /// Reads every column of a relation.
    fn whole(&mut self, visible: &Visible) -> Option<MadeColumns> {
        let mut made = Vec::with_capacity(visible.columns.len());
        for column in &visible.columns {
            let lineage = self.origin(&column.origin, visible.site);
            made.push((column.name.to_string(), self.column_names(&lineage.all())));
        }
        (!visible.open).then_some(made)
    }

    /// Reads every column of a relation by its full name, without a place in the text.
    pub(crate) fn read_whole(&mut self, name: &RelationName, otherwise: ObjectKind) {
        self.relations.insert(name.clone());
        self.touch_relation(name, otherwise, Effect::Read);
        if self.request.made(name).is_some() {
            self.miss("relation", format_args!("{name}: it was changed earlier in the same request"));
            return;
        }
        let Some(entry) = self.catalog.relation(name) else {
            self.miss("relation", name);
            return;
        };
        let known = self.know(name, entry);
        for column in 0..entry.columns.len() {
            self.read(known, column, None);
        }
    }

    fn column_option(&mut self, option: &ColumnOption) -> Read<()> {
        match option {
            ColumnOption::Null
            | ColumnOption::NotNull
            | ColumnOption::PrimaryKey(_)
            | ColumnOption::Unique(_)
            | ColumnOption::Collation(_)
            | ColumnOption::Comment(_)
            | ColumnOption::Identity(_) => Ok(()),
            ColumnOption::Default(expr) => self.constant(expr),
            ColumnOption::ForeignKey(key) => {
                self.referenced(&key.foreign_table);
                Ok(())
            }
            ColumnOption::DialectSpecific(tokens) => {
                let autoincrement = tokens.iter().all(|token| {
                    matches!(token.to_string().to_ascii_uppercase().as_str(), "AUTOINCREMENT" | "AUTO_INCREMENT")
                });
                absent(!autoincrement, "an option of a column")
            }
            ColumnOption::Policy(_) => stop("a policy on a column is not understood"),
            ColumnOption::Tags(_) => stop("a tag on a column is not understood"),
            ColumnOption::Materialized(_)
            | ColumnOption::Ephemeral(_)
            | ColumnOption::Alias(_)
            | ColumnOption::Check(_)
            | ColumnOption::CharacterSet(_)
            | ColumnOption::OnUpdate(_)
            | ColumnOption::Generated { .. }
            | ColumnOption::Options(_)
            | ColumnOption::OnConflict(_)
            | ColumnOption::Srid(_)
            | ColumnOption::Invisible => stop("an option of a column is not understood"),
        }
    }

    /// A default: an expression that can see no column.
    fn constant(&mut self, expr: &Expr) -> Read<()> {
        self.expr(expr, &Scope::default(), &Ctes::default()).map(drop)
    }

    fn constraint(&mut self, constraint: &TableConstraint) -> Read<()> {
        match constraint {
            TableConstraint::PrimaryKey(_) | TableConstraint::Unique(_) => Ok(()),
            TableConstraint::ForeignKey(key) => {
                self.referenced(&key.foreign_table);
                Ok(())
            }
            _ => stop("this constraint is not understood"),
        }
    }

    fn referenced(&mut self, name: &ObjectName) {
        if let Some(name) = self.named(name) {
            self.touch_relation(&name, ObjectKind::Table, Effect::Metadata);
        }
    }

    pub(crate) fn create_schema(
        &mut self,
        name: &SchemaName,
        or_replace: bool,
        if_not_exists: bool,
        clone: Option<&ObjectName>,
    ) -> Read<Draft> {
        let SchemaName::Simple(name) = name else { return stop("CREATE SCHEMA … AUTHORIZATION is not understood") };
        let mut draft = Draft::of(Kind::on(Verb::Create, ObjectKind::Schema));
        if let Some(source) = clone {
            match names::schema(source, &self.session) {
                Some(full) => self.cloned_container(ObjectKind::Schema, full),
                None => self.miss("schema", describe(source)),
            }
            draft.unmaskable = Some(Unrewritable::Copy);
        }
        let Some(full) = names::schema(name, &self.session) else {
            self.miss("schema", describe(name));
            return Ok(draft);
        };
        self.create_container(ObjectKind::Schema, &full, or_replace, clone.is_some(), &mut draft);
        if let [database, schema] = full.parts() {
            let mut session = self.session.clone();
            session.database = Some(database.clone());
            // Making a schema switches to it; whether one that may be there already does is not sure.
            session.schema = (!if_not_exists).then(|| schema.clone());
            draft.after.push(After::Session(session));
        }
        Ok(draft)
    }

    pub(crate) fn create_database(
        &mut self,
        name: &ObjectName,
        or_replace: bool,
        if_not_exists: bool,
        clone: Option<&ObjectName>,
    ) -> Draft {
        let mut draft = Draft::of(Kind::on(Verb::Create, ObjectKind::Database));
        if let Some(source) = clone {
            match names::single(source) {
                Some(full) => self.cloned_container(ObjectKind::Database, full),
                None => self.miss("database", describe(source)),
            }
            draft.unmaskable = Some(Unrewritable::Copy);
        }
        let Some(full) = names::single(name) else {
            self.miss("database", describe(name));
            return draft;
        };
        self.create_container(ObjectKind::Database, &full, or_replace, clone.is_some(), &mut draft);
        let mut session = self.session.clone();
        session.database = (!if_not_exists).then(|| full.last().to_owned());
        session.schema = (!if_not_exists).then(|| "PUBLIC".to_owned());
        draft.after.push(After::Session(session));
        draft
    }

    fn create_container(&mut self, kind: ObjectKind, name: &Name, or_replace: bool, cloned: bool, draft: &mut Draft) {
        self.touch(kind, name.clone(), Effect::Create);
        if or_replace {
            self.touch(kind, name.clone(), Effect::Drop);
        }
        if or_replace || cloned {
            draft.after.push(After::UnsureContainer(name.parts().to_vec()));
        }
    }

    /// A clone of a database or schema holds every row of every table in it.
    pub(crate) fn cloned_container(&mut self, kind: ObjectKind, name: Name) {
        let catalog = self.catalog;
        let inside: Vec<_> = catalog
            .relations()
            .filter(|(relation, entry)| {
                let path = [relation.database.as_str(), relation.schema.as_str()];
                entry.kind == RelationKind::Table
                    && name.parts().iter().map(String::as_str).zip(path).all(|(a, b)| a == b)
            })
            .collect();
        for (relation, entry) in inside {
            let known = self.know(relation, entry);
            for column in 0..entry.columns.len() {
                self.read(known, column, None);
            }
        }
        self.touch(kind, name, Effect::Read);
    }

    pub(crate) fn alter_table(&mut self, alter: &AlterTable) -> Read<Draft> {
        let AlterTable { name, if_exists: _, only, operations, location, on_cluster, table_type, end_token: _ } = alter;
        absent(
            *only || location.is_some() || on_cluster.is_some() || table_type.is_some(),
            "this form of ALTER TABLE",
        )?;
        let mut draft = Draft::of(Kind::on(Verb::Alter, ObjectKind::Table));
        let full = self.named(name);
        for operation in operations {
            self.alter_operation(operation, full.as_ref(), &mut draft)?;
        }
        if let Some(full) = full {
            self.touch_relation(&full, ObjectKind::Table, Effect::Alter);
            draft.after.push(After::Unsure(full));
        }
        Ok(draft)
    }

    fn alter_operation(
        &mut self,
        operation: &AlterTableOperation,
        full: Option<&RelationName>,
        draft: &mut Draft,
    ) -> Read<()> {
        match operation {
            AlterTableOperation::AddColumn { column_keyword: _, if_not_exists: _, column_def, column_position } => {
                absent(column_position.is_some(), "a column's position")?;
                column_def.options.iter().try_for_each(|option| self.column_option(&option.option))
            }
            AlterTableOperation::AddConstraint { constraint, not_valid } => {
                absent(*not_valid, "NOT VALID")?;
                self.constraint(constraint)
            }
            AlterTableOperation::DropColumn { .. }
            | AlterTableOperation::RenameColumn { .. }
            | AlterTableOperation::DropConstraint { .. }
            | AlterTableOperation::RenameConstraint { .. }
            | AlterTableOperation::DropPrimaryKey { .. }
            | AlterTableOperation::DropClusteringKey
            | AlterTableOperation::SuspendRecluster
            | AlterTableOperation::ResumeRecluster => Ok(()),
            AlterTableOperation::AlterColumn { column_name: _, op } => match op {
                AlterColumnOperation::SetNotNull
                | AlterColumnOperation::DropNotNull
                | AlterColumnOperation::DropDefault => Ok(()),
                AlterColumnOperation::SetDefault { value } => self.constant(value),
                AlterColumnOperation::SetDataType { data_type: _, using, had_set: _ } => {
                    absent(using.is_some(), "USING in ALTER COLUMN")
                }
                AlterColumnOperation::AddGenerated { .. } => stop("a generated column is not understood"),
            },
            AlterTableOperation::RenameTable { table_name } => {
                let (RenameTableNameKind::As(name) | RenameTableNameKind::To(name)) = table_name;
                // Whether a bare new name stays beside the old one or goes to the session's schema: both are touched.
                let beside = match (names::parts(name).as_deref(), full) {
                    (Some([single]), Some(full)) => Some(RelationName::new(&full.database, &full.schema, single)),
                    (Some([schema, single]), Some(full)) => Some(RelationName::new(&full.database, schema, single)),
                    _ => None,
                };
                let targets: BTreeSet<_> = beside.into_iter().chain(self.named(name)).collect();
                for target in targets {
                    if let Some(full) = full {
                        self.renamed(full, &target);
                    }
                    self.touch(ObjectKind::Table, Name::from(&target), Effect::Create);
                    draft.after.push(After::Moved(target));
                }
                Ok(())
            }
            AlterTableOperation::SwapWith { table_name } => {
                if let Some(target) = self.named(table_name) {
                    if let Some(full) = full {
                        self.renamed(full, &target);
                    }
                    self.touch_relation(&target, ObjectKind::Table, Effect::Alter);
                    draft.after.extend([target].into_iter().chain(full.cloned()).map(After::Moved));
                }
                Ok(())
            }
            other => stop(format!("this form of ALTER TABLE is not understood: {}", first_words(&other.to_string()))),
        }
    }

    pub(crate) fn alter_view(&mut self, name: &ObjectName, query: &Query) -> Read<Draft> {
        let output = self.query(query, None, &Ctes::default())?;
        let mut draft = Draft::of(Kind::on(Verb::Alter, ObjectKind::View));
        self.store(&mut draft, name, &output, std::iter::empty());
        draft.unmaskable = Some(Unrewritable::View);
        if let Some(full) = self.named(name) {
            self.touch_relation(&full, ObjectKind::View, Effect::Alter);
            draft.after.push(After::Unsure(full));
        }
        Ok(draft)
    }

    pub(crate) fn alter_schema(&mut self, alter: &AlterSchema) -> Read<Draft> {
        let AlterSchema { name, if_exists: _, operations } = alter;
        let mut draft = Draft::of(Kind::on(Verb::Alter, ObjectKind::Schema));
        let Some(full) = names::schema(name, &self.session) else {
            self.miss("schema", describe(name));
            return Ok(draft);
        };
        for operation in operations {
            match operation {
                AlterSchemaOperation::Rename { name } => {
                    let Some(target) = names::schema(name, &self.session) else {
                        self.miss("schema", describe(name));
                        continue;
                    };
                    // A bare new name: see RENAME of a table.
                    let beside = match full.parts() {
                        [database, _] => Name::new([database.as_str(), target.last()]),
                        _ => target.clone(),
                    };
                    let beside = names::parts(name).filter(|parts| parts.len() == 1).map(|_| beside);
                    for target in BTreeSet::from_iter([Some(target), beside]).into_iter().flatten() {
                        draft.after.push(After::UnsureContainer(target.parts().to_vec()));
                        self.touch(ObjectKind::Schema, target, Effect::Create);
                    }
                }
                AlterSchemaOperation::SetDefaultCollate { .. }
                | AlterSchemaOperation::AddReplica { .. }
                | AlterSchemaOperation::DropReplica { .. }
                | AlterSchemaOperation::SetOptionsParens { .. }
                | AlterSchemaOperation::OwnerTo { .. } => return stop("this form of ALTER SCHEMA is not understood"),
            }
        }
        draft.after.push(After::UnsureContainer(full.parts().to_vec()));
        draft.after.push(After::Session(unset_schema(self.session.clone())));
        self.touch(ObjectKind::Schema, full, Effect::Alter);
        Ok(draft)
    }

    pub(crate) fn drop_objects(&mut self, object_type: ObjectType, names: &[ObjectName]) -> Read<Draft> {
        let kind = match object_type {
            ObjectType::Table => ObjectKind::Table,
            ObjectType::View | ObjectType::MaterializedView => ObjectKind::View,
            ObjectType::Schema => ObjectKind::Schema,
            ObjectType::Database => ObjectKind::Database,
            ObjectType::Role => ObjectKind::Role,
            ObjectType::Sequence => ObjectKind::Sequence,
            ObjectType::Stage => ObjectKind::Stage,
            ObjectType::User => ObjectKind::User,
            ObjectType::Stream => ObjectKind::Stream,
            ObjectType::Warehouse => ObjectKind::Warehouse,
            ObjectType::Collation => return stop("DROP COLLATION is not understood"),
            ObjectType::Index => return stop("DROP INDEX is not understood"),
            ObjectType::Type => return stop("DROP TYPE is not understood"),
        };
        let mut draft = Draft::of(Kind::on(Verb::Drop, kind));
        for name in names {
            let Some(full) = self.full(kind, name) else {
                self.miss(kind.as_str(), describe(name));
                continue;
            };
            if let (ObjectKind::Table | ObjectKind::View, [database, schema, name]) = (kind, full.parts()) {
                draft.after.push(After::Unsure(RelationName::new(database, schema, name)));
            }
            if let ObjectKind::Schema | ObjectKind::Database = kind {
                draft.after.push(After::UnsureContainer(full.parts().to_vec()));
                draft.after.push(After::Session(unset_schema(self.session.clone())));
            }
            self.touch(kind, full, Effect::Drop);
        }
        Ok(draft)
    }

    /// The full name of an object of this kind.
    pub(crate) fn full(&self, kind: ObjectKind, name: &ObjectName) -> Option<Name> {
        match kind {
            ObjectKind::Schema => names::schema(name, &self.session),
            ObjectKind::Account
            | ObjectKind::Database
            | ObjectKind::Warehouse
            | ObjectKind::Role
            | ObjectKind::User
            | ObjectKind::Integration
            | ObjectKind::Share
            | ObjectKind::Location
            | ObjectKind::Application
            | ObjectKind::ApplicationPackage
            | ObjectKind::ComputePool
            | ObjectKind::Connection
            | ObjectKind::ExternalVolume
            | ObjectKind::FailoverGroup
            | ObjectKind::Listing
            | ObjectKind::ManagedAccount
            | ObjectKind::Profile
            | ObjectKind::ReplicationGroup
            | ObjectKind::ResourceMonitor
            | ObjectKind::Session
            | ObjectKind::Other => names::single(name),
            ObjectKind::Table
            | ObjectKind::View
            | ObjectKind::Stage
            | ObjectKind::Function
            | ObjectKind::Procedure
            | ObjectKind::Task
            | ObjectKind::Stream
            | ObjectKind::Pipe
            | ObjectKind::Policy
            | ObjectKind::Tag
            | ObjectKind::Sequence
            | ObjectKind::Agent
            | ObjectKind::Alert
            | ObjectKind::Backup
            | ObjectKind::Contact
            | ObjectKind::Dataset
            | ObjectKind::GitRepository
            | ObjectKind::ImageRepository
            | ObjectKind::Model
            | ObjectKind::ModelMonitor
            | ObjectKind::NetworkRule
            | ObjectKind::Notebook
            | ObjectKind::Project
            | ObjectKind::SearchService
            | ObjectKind::Secret
            | ObjectKind::Service
            | ObjectKind::Streamlit
            | ObjectKind::Type
            | ObjectKind::Workspace
            | ObjectKind::FileFormat => names::in_schema(name, &self.session).map(Name::new),
        }
    }

    pub(crate) fn comment(&mut self, object: CommentObject, name: &ObjectName) -> Read<Draft> {
        let kind = match object {
            CommentObject::Table => ObjectKind::Table,
            CommentObject::View | CommentObject::MaterializedView => ObjectKind::View,
            CommentObject::Schema => ObjectKind::Schema,
            CommentObject::Database => ObjectKind::Database,
            CommentObject::Role => ObjectKind::Role,
            CommentObject::User => ObjectKind::User,
            CommentObject::Sequence => ObjectKind::Sequence,
            CommentObject::Column => {
                let mut table = name.clone();
                table.0.pop();
                let mut draft = Draft::verb(Verb::Comment);
                if let Some(full) = self.named(&table) {
                    self.touch_relation(&full, ObjectKind::Table, Effect::Alter);
                    draft.kind = Kind::on(Verb::Comment, ObjectKind::Table);
                }
                return Ok(draft);
            }
            CommentObject::Collation
            | CommentObject::Domain
            | CommentObject::Extension
            | CommentObject::Function
            | CommentObject::Index
            | CommentObject::Procedure
            | CommentObject::Type => return stop("COMMENT ON this kind of object is not understood"),
        };
        match self.full(kind, name) {
            Some(full) => self.touch(kind, full, Effect::Alter),
            None => self.miss(kind.as_str(), describe(name)),
        }
        Ok(Draft::of(Kind::on(Verb::Comment, kind)))
    }
}

fn unset_schema(mut session: icegate_pdp_model::SessionContext) -> icegate_pdp_model::SessionContext {
    session.schema = None;
    session
}

/// The head of a text, to name a construct without quoting what it holds.
fn first_words(text: &str) -> String {
    text.split_whitespace().take(2).collect::<Vec<_>>().join(" ")
}

/// Options that move where a table's rows are, or are of another database, are not understood.
fn check_table_options(table: &CreateTable) -> Read<()> {
    absent(table.external, "CREATE EXTERNAL TABLE")?;
    absent(table.dynamic || table.target_lag.is_some() || table.warehouse.is_some(), "CREATE DYNAMIC TABLE")?;
    absent(table.iceberg || table.external_volume.is_some() || table.catalog.is_some(), "CREATE ICEBERG TABLE")?;
    absent(table.base_location.is_some() || table.catalog_sync.is_some(), "CREATE ICEBERG TABLE")?;
    absent(table.snapshot || table.unlogged || table.on_cluster.is_some(), "this form of CREATE TABLE")?;
    absent(table.location.is_some() || table.file_format.is_some(), "LOCATION or FILE FORMAT of a table")?;
    absent(table.with_connection.is_some() || table.with_data.is_some(), "this form of CREATE TABLE")?;
    absent(table.inherits.is_some() || table.partition_of.is_some() || table.for_values.is_some(), "INHERITS")?;
    absent(
        table.on_commit.is_some() || table.order_by.is_some() || table.partition_by.is_some(),
        "this form of CREATE TABLE",
    )?;
    absent(
        table.primary_key.is_some() || table.clustered_by.is_some() || table.distkey.is_some(),
        "this form of CREATE TABLE",
    )?;
    absent(table.sortkey.is_some() || table.strict || table.without_rowid, "this form of CREATE TABLE")?;
    absent(table.with_row_access_policy.is_some() || table.with_aggregation_policy.is_some(), "a policy on a table")?;
    absent(table.with_storage_lifecycle_policy.is_some() || table.with_tags.is_some(), "a policy or tag on a table")?;
    absent(table.require_user || table.version.is_some() && table.clone.is_none(), "this form of CREATE TABLE")?;
    match &table.hive_distribution {
        HiveDistributionStyle::NONE => {}
        HiveDistributionStyle::PARTITIONED { .. } | HiveDistributionStyle::SKEWED { .. } => {
            return stop("PARTITIONED BY is not understood");
        }
    }
    let hive = table.hive_formats.as_ref().is_some_and(|hive| {
        hive.row_format.is_some()
            || hive.serde_properties.is_some()
            || hive.storage.is_some()
            || hive.location.is_some()
    });
    absent(hive, "this form of CREATE TABLE")?;
    match &table.table_options {
        CreateTableOptions::None => Ok(()),
        CreateTableOptions::With(_)
        | CreateTableOptions::Options(_)
        | CreateTableOptions::Plain(_)
        | CreateTableOptions::TableProperties(_) => stop("an option of CREATE TABLE is not understood"),
    }
}
