use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use cedar_policy::{Context, Entities, Entity, EntityUid, RestrictedExpression};
use icegate_pdp_model::{
    Attribute, AttributeType, Catalog, ColumnName, Effect, ObjectAccess, ObjectKind, Principal, RelationKind,
    RelationName, SessionContext, StatementAnalysis,
};

use crate::vocabulary::{Type, Vocabulary};

/// Cedar would not take a fact. It never happens with the shapes below; were it to, the answer is a refusal.
#[derive(Debug)]
pub(crate) struct Unaskable;

/// Something a question is about, and everything above it.
#[derive(Debug, Clone)]
pub(crate) struct Resource {
    pub(crate) kind: Type,
    pub(crate) uid: EntityUid,
    /// Each once, in no order that matters.
    pub(crate) ancestors: Vec<EntityUid>,
}

/// The entities one request needs: the principal, the resources, and all above them.
#[derive(Debug)]
pub(crate) struct Slice<'a> {
    vocabulary: &'a Vocabulary,
    catalog: &'a Catalog,
    connection: EntityUid,
    entities: HashMap<EntityUid, Entity>,
    /// Ancestors of what is in `entities`, where anybody asked.
    relations: HashMap<RelationName, Resource>,
}

impl<'a> Slice<'a> {
    pub(crate) fn new(vocabulary: &'a Vocabulary, catalog: &'a Catalog, connection: &str) -> Self {
        let connection = vocabulary.uid(Type::Connection, connection);
        let mut slice =
            Self { vocabulary, catalog, connection, entities: HashMap::with_capacity(32), relations: HashMap::new() };
        slice.put(&slice.connection.clone(), []);
        slice
    }

    /// The principal's uid and its groups. An attribute that is not declared, or not of its type, it has not: a policy
    /// that needs it cannot be evaluated.
    pub(crate) fn principal(
        &mut self,
        principal: &Principal,
        declared: &BTreeMap<String, AttributeType>,
    ) -> Result<(EntityUid, Vec<EntityUid>), Unaskable> {
        let user = self.vocabulary.uid(Type::User, &principal.id);
        let groups: Vec<_> = principal.groups.iter().map(|group| self.vocabulary.uid(Type::Group, group)).collect();
        for group in &groups {
            self.put(group, []);
        }
        let attributes = principal.attributes.iter().filter_map(|(name, value)| {
            let value = match (declared.get(name)?, value) {
                (AttributeType::Bool, Attribute::Bool(value)) => RestrictedExpression::new_bool(*value),
                (AttributeType::Long, Attribute::Long(value)) => RestrictedExpression::new_long(*value),
                (AttributeType::String, Attribute::Text(value)) => text(value.clone()),
                // Some providers write a list of one as the one.
                (AttributeType::Strings, Attribute::Text(value)) => texts([value]),
                (AttributeType::Strings, Attribute::Texts(values)) => texts(values),
                _ => return None,
            };
            Some((name.clone(), value))
        });
        let parents: HashSet<_> = groups.iter().cloned().collect();
        let entity = Entity::new(user.clone(), attributes.collect(), parents).map_err(|_| Unaskable)?;
        self.entities.insert(user.clone(), entity);
        Ok((user, groups))
    }

    /// Any row of the relation: what is above it is known, its attributes are not.
    pub(crate) fn row(&mut self, name: &RelationName) -> Result<Resource, Unaskable> {
        let relation = self.relation(name, RelationKind::Table)?;
        let uid = self.vocabulary.uid(Type::Row, &name.to_string());
        let mut ancestors = relation.ancestors;
        self.put(&uid, [relation.uid.clone()]);
        ancestors.push(relation.uid);
        Ok(Resource { kind: Type::Row, uid, ancestors })
    }

    pub(crate) fn connection(&self) -> Resource {
        Resource { kind: Type::Connection, uid: self.connection.clone(), ancestors: Vec::new() }
    }

    pub(crate) fn approval_group(&mut self, group: &str) -> Resource {
        let uid = self.vocabulary.uid(Type::ApprovalGroup, group);
        self.put(&uid, []);
        Resource { kind: Type::ApprovalGroup, uid, ancestors: Vec::new() }
    }

    pub(crate) fn system(&mut self) -> Resource {
        let uid = self.vocabulary.system();
        self.put(&uid, []);
        Resource { kind: Type::System, uid, ancestors: Vec::new() }
    }

    /// The object; `None` for the session, which nobody is asked about.
    pub(crate) fn object(&mut self, access: &ObjectAccess) -> Result<Option<Resource>, Unaskable> {
        let Some(kind) = Type::of_object(access.kind) else { return Ok(None) };
        let parts = access.name.parts();
        if kind == Type::Relation {
            // Part of a name is in no schema and has no tag: refusals by either would miss it.
            let [database, schema, name] = parts else { return Err(Unaskable) };
            let name = RelationName::new(database, schema, name);
            let shown = if access.kind == ObjectKind::View { RelationKind::View } else { RelationKind::Table };
            return self.relation(&name, shown).map(Some);
        }
        // A URL or a stage path is one part and is written as it is; everything else as Snowflake prints it.
        let id = match (kind, parts) {
            (Type::Location | Type::Stage, [one]) => one.clone(),
            _ => access.name.to_string(),
        };
        let uid = self.vocabulary.uid(kind, &id);
        let ancestors = match (kind, parts) {
            (Type::Database, _) => vec![self.connection.clone()],
            (Type::Schema, [database, _]) => self.database(database),
            (Type::Stage | Type::Function | Type::Procedure | Type::Object, [database, schema, _, ..]) => {
                self.schema(database, schema)
            }
            _ => Vec::new(),
        };
        let attributes: Vec<(&str, String)> = match kind {
            Type::Object => vec![("kind", access.kind.as_str().to_owned())],
            Type::Location => vec![("url", id)],
            _ => Vec::new(),
        };
        self.put_with(&uid, attributes, ancestors.first().cloned())?;
        Ok(Some(Resource { kind, uid, ancestors }))
    }

    pub(crate) fn column(&mut self, name: &ColumnName) -> Result<Resource, Unaskable> {
        let relation = self.relation(&name.relation, RelationKind::Table)?;
        let uid = self.vocabulary.uid(Type::Column, &name.to_string());
        let catalog = self.catalog;
        let tags = catalog.relation(&name.relation).and_then(|found| found.tags_of(&name.column));
        let mut parents = vec![relation.uid.clone()];
        let mut ancestors = relation.ancestors;
        ancestors.push(relation.uid);
        for tag in tags.into_iter().flatten() {
            let closure = self.tag(tag);
            parents.extend(closure.first().cloned());
            extend_once(&mut ancestors, closure);
        }
        self.put(&uid, parents);
        Ok(Resource { kind: Type::Column, uid, ancestors })
    }

    /// Everything Cedar needs to know of, `actions` with the groups they are in included.
    pub(crate) fn entities(self, actions: &[Entity]) -> Result<Entities, Unaskable> {
        let entities = self.entities.into_values().chain(actions.iter().cloned());
        Entities::from_entities(entities, None).map_err(|_| Unaskable)
    }

    fn relation(&mut self, name: &RelationName, shown: RelationKind) -> Result<Resource, Unaskable> {
        if let Some(known) = self.relations.get(name) {
            return Ok(known.clone());
        }
        let catalog = self.catalog;
        let catalogued = catalog.relation(name);
        let uid = self.vocabulary.uid(Type::Relation, &name.to_string());
        let mut ancestors = self.schema(&name.database, &name.schema);
        let mut parents: Vec<_> = ancestors.first().cloned().into_iter().collect();
        for tag in catalogued.into_iter().flat_map(|relation| &relation.tags) {
            let closure = self.tag(tag);
            parents.extend(closure.first().cloned());
            extend_once(&mut ancestors, closure);
        }
        let kind = match catalogued.map_or(shown, |relation| relation.kind) {
            RelationKind::Table => ObjectKind::Table,
            RelationKind::View => ObjectKind::View,
        };
        self.put_with(&uid, vec![("kind", kind.as_str().to_owned())], parents)?;
        let relation = Resource { kind: Type::Relation, uid, ancestors };
        self.relations.insert(name.clone(), relation.clone());
        Ok(relation)
    }

    /// The schema and all above it, nearest first.
    fn schema(&mut self, database: &str, schema: &str) -> Vec<EntityUid> {
        let name = icegate_pdp_model::ObjectName::new([database, schema]).to_string();
        let uid = self.vocabulary.uid(Type::Schema, &name);
        let above = self.database(database);
        self.put(&uid, above.first().cloned());
        std::iter::once(uid).chain(above).collect()
    }

    fn database(&mut self, database: &str) -> Vec<EntityUid> {
        let name = icegate_pdp_model::ObjectName::new([database]).to_string();
        let uid = self.vocabulary.uid(Type::Database, &name);
        let connection = self.connection.clone();
        self.put(&uid, [connection.clone()]);
        vec![uid, connection]
    }

    /// The tag and the tags it is in: `pii.email`, `pii`.
    fn tag(&mut self, tag: &str) -> Vec<EntityUid> {
        let mut closure = vec![self.vocabulary.uid(Type::Tag, tag)];
        let mut rest = tag;
        while let Some((above, _)) = rest.rsplit_once('.') {
            closure.push(self.vocabulary.uid(Type::Tag, above));
            rest = above;
        }
        for (number, uid) in closure.iter().enumerate() {
            let above = closure.get(number + 1).cloned();
            self.put(uid, above);
        }
        closure
    }

    fn put(&mut self, uid: &EntityUid, parents: impl IntoIterator<Item = EntityUid>) {
        if !self.entities.contains_key(uid) {
            let entity = Entity::new_no_attrs(uid.clone(), parents.into_iter().collect());
            self.entities.insert(uid.clone(), entity);
        }
    }

    fn put_with(
        &mut self,
        uid: &EntityUid,
        attributes: Vec<(&str, String)>,
        parents: impl IntoIterator<Item = EntityUid>,
    ) -> Result<(), Unaskable> {
        if !self.entities.contains_key(uid) {
            let attributes = attributes.into_iter().map(|(key, value)| (key.to_owned(), text(value))).collect();
            let parents: HashSet<_> = parents.into_iter().collect();
            let entity = Entity::new(uid.clone(), attributes, parents).map_err(|_| Unaskable)?;
            self.entities.insert(uid.clone(), entity);
        }
        Ok(())
    }
}

fn extend_once(all: &mut Vec<EntityUid>, more: Vec<EntityUid>) {
    for uid in more {
        if !all.contains(&uid) {
            all.push(uid);
        }
    }
}

/// `context.statement` of a login, where there is no statement yet.
#[derive(Debug, Clone, Copy)]
pub(crate) enum About<'a> {
    /// One of so many statements.
    Statement(&'a StatementAnalysis, usize),
    /// A session that is about to open.
    Login,
}

/// The context of a question about a statement or a login.
pub(crate) fn statement_context(
    principal: &Principal,
    session: &SessionContext,
    about: About<'_>,
    approvals: &BTreeSet<String>,
    catalog: &Catalog,
) -> Result<Context, Unaskable> {
    let name = |name: &Option<String>| text(name.clone().unwrap_or_default());
    let session = record(vec![
        ("database", name(&session.database)),
        ("schema", name(&session.schema)),
        ("role", name(&session.role)),
        ("warehouse", name(&session.warehouse)),
    ])?;
    Context::from_pairs([
        ("agent".to_owned(), agent(principal)?),
        ("approvals".to_owned(), texts(approvals)),
        ("session".to_owned(), session),
        ("statement".to_owned(), statement(about, catalog)?),
    ])
    .map_err(|_| Unaskable)
}

/// The context of a question about what people do in icegate itself.
pub(crate) fn person_context(principal: &Principal) -> Result<Context, Unaskable> {
    Context::from_pairs([("agent".to_owned(), agent(principal)?)]).map_err(|_| Unaskable)
}

fn statement(about: About<'_>, catalog: &Catalog) -> Result<RestrictedExpression, Unaskable> {
    let (statement, count) = match about {
        About::Statement(statement, count) => (statement, count),
        About::Login => {
            return record(vec![
                ("kind", text("login".to_owned())),
                ("level", text("understood".to_owned())),
                ("effects", RestrictedExpression::new_set([text(Effect::Use.as_str().to_owned())])),
                ("has_where", RestrictedExpression::new_bool(false)),
                ("relations", long(0)),
                ("columns_read", long(0)),
                ("cross_join", RestrictedExpression::new_bool(false)),
                ("tags", RestrictedExpression::new_set([])),
                ("functions", RestrictedExpression::new_set([])),
                ("statements", long(0)),
                ("bytes", long(0)),
                ("exports", RestrictedExpression::new_set([])),
            ]);
        }
    };
    let facts = &statement.facts;
    let mut pairs = vec![
        ("kind", text(statement.kind.to_string())),
        ("level", text(statement.level.as_str().to_owned())),
        ("effects", RestrictedExpression::new_set(statement.effects.iter().map(|effect| text(effect.to_string())))),
        ("has_where", RestrictedExpression::new_bool(facts.has_where)),
        ("relations", long(u64::from(facts.relations))),
        ("columns_read", long(statement.columns_read.len() as u64)),
        ("cross_join", RestrictedExpression::new_bool(facts.cross_join)),
        ("tags", RestrictedExpression::new_set(tags(statement, catalog).into_iter().map(|tag| text(tag.to_owned())))),
        ("functions", texts(&facts.functions)),
        ("statements", long(count as u64)),
        ("bytes", long(facts.bytes)),
        ("exports", texts(&statement.exports)),
    ];
    pairs.extend(facts.limit.map(|limit| ("limit", long(limit))));
    record(pairs)
}

/// Tags of every relation the statement touches and of every column it reads, with the tags they are in.
fn tags<'c>(statement: &StatementAnalysis, catalog: &'c Catalog) -> BTreeSet<&'c str> {
    let of_relations = statement.objects.iter().filter_map(|access| match access.name.parts() {
        [database, schema, name] if Type::of_object(access.kind) == Some(Type::Relation) => {
            catalog.relation(&RelationName::new(database, schema, name)).map(|found| &found.tags)
        }
        _ => None,
    });
    let of_columns = statement
        .columns_read
        .iter()
        .filter_map(|name| catalog.relation(&name.relation).and_then(|found| found.tags_of(&name.column)));
    let mut tags = BTreeSet::new();
    for tag in of_relations.chain(of_columns).flatten() {
        let mut rest = Some(tag.as_str());
        while let Some(tag) = rest {
            tags.insert(tag);
            rest = tag.rsplit_once('.').map(|(above, _)| above);
        }
    }
    tags
}

fn agent(principal: &Principal) -> Result<RestrictedExpression, Unaskable> {
    let agent = principal.agent.as_ref();
    record(vec![
        ("present", RestrictedExpression::new_bool(agent.is_some())),
        ("id", text(agent.map(|agent| agent.id.clone()).unwrap_or_default())),
        ("assurance", RestrictedExpression::new_long(agent.map_or(0, |agent| agent.assurance as i64))),
    ])
}

fn record(pairs: Vec<(&str, RestrictedExpression)>) -> Result<RestrictedExpression, Unaskable> {
    let pairs = pairs.into_iter().map(|(key, value)| (key.to_owned(), value));
    RestrictedExpression::new_record(pairs).map_err(|_| Unaskable)
}

fn text(value: String) -> RestrictedExpression {
    RestrictedExpression::new_string(value)
}

fn texts<'a>(values: impl IntoIterator<Item = &'a String>) -> RestrictedExpression {
    RestrictedExpression::new_set(values.into_iter().map(|value| text(value.clone())))
}

fn long(value: u64) -> RestrictedExpression {
    RestrictedExpression::new_long(i64::try_from(value).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use icegate_pdp_model::{Catalog, Effect, ObjectAccess, ObjectKind, ObjectName};

    use crate::compile::Bundle;

    #[test]
    fn part_of_a_relations_name_is_asked_nobody_about() {
        let bundle = Bundle::of(Catalog::default(), []);
        for (parts, wanted) in [(vec!["T"], false), (vec!["S", "T"], false), (vec!["D", "S", "T"], true)] {
            let access =
                ObjectAccess { kind: ObjectKind::Table, name: ObjectName::new(parts.clone()), effect: Effect::Read };
            assert_eq!(bundle.slice().object(&access).is_ok(), wanted, "{parts:?}");
        }
    }
}
