use std::{
    collections::{HashMap, HashSet},
    fmt,
};

use cedar_policy::{
    Authorizer, Entities, Entity, EntityTypeName, Policy, PolicyId, PolicySet, ResourceConstraint, Schema,
    SchemaFragment, ValidationError, ValidationMode, ValidationWarning, Validator, ffi::DetailedError,
};
use icegate_pdp_model::{AttributeType, Catalog};

use crate::{
    BundleError, BundleSource, Lint, Problem, SCHEMA, Settings,
    annotation::{self, Turn},
    evaluate::rows::{self, RowScopes},
    facts::Slice,
    index::{Index, is_unscoped},
    lints::{Places, misfits, rows_without, unknown_names},
    problem::{Place, file_problem, one_line},
    sets::Sets,
    settings::{DEFAULT_CONNECTION, SETTINGS_FILE, yaml_problem},
    source::{self, Chunk, SourceFile, is_policies},
    vocabulary::{Type, Vocabulary},
};

/// Where the schema stands in a bundle.
const SCHEMA_FILE: &str = "schema.cedarschema";
/// Most policies in a bundle.
const POLICIES_MAX: usize = 100_000;
/// Deepest brackets and most operators of one policy. Cedar's parser calls itself for each level of an expression, and a
/// stack that overflows would end the service, not only the loading.
const DEPTH_MAX: usize = 30;
const OPERATORS_MAX: usize = 250;
/// What to do about an error Cedar gives no advice on.
const CEDAR_REMEDY: &str = "correct the policy; README.md lists what policies can speak of";

/// A compiled bundle: policies, schema, catalog and settings that fit together.
pub struct Bundle {
    version: String,
    settings: Settings,
    catalog: Catalog,
    lints: Vec<Lint>,
    pub(crate) policies: Vec<Compiled>,
    /// Where each policy stands in `policies`.
    pub(crate) numbers: HashMap<PolicyId, u32>,
    pub(crate) index: Index,
    pub(crate) row_scopes: RowScopes,
    pub(crate) sets: Sets,
    pub(crate) vocabulary: Vocabulary,
    /// The schema's actions that are in others, with those.
    pub(crate) action_entities: Vec<Entity>,
    pub(crate) authorizer: Authorizer,
}

/// One policy, ready to be asked.
#[derive(Debug, Clone)]
pub(crate) struct Compiled {
    pub(crate) id: String,
    pub(crate) turn: Turn,
    pub(crate) reason: Option<String>,
    /// Its conditions speak of the resource, so that it must be asked about each.
    pub(crate) looks_at_resource: bool,
    pub(crate) policy: Policy,
}

impl Compiled {
    fn new(id: String, turn: Turn, reason: Option<String>, policy: Policy) -> Self {
        // The scope says it once; a second time may be a condition, or only a comment, which makes us ask more than needed.
        let looks_at_resource = policy.to_string().matches("resource").count() != 1;
        Self { id, turn, reason, looks_at_resource, policy }
    }
}

impl Bundle {
    /// Reads a bundle whole, or says everything that is wrong with it.
    ///
    /// # Errors
    ///
    /// Every problem of every file: nothing is compiled unless all of it is right.
    pub fn compile(source: &BundleSource) -> Result<Self, BundleError> {
        let mut problems = Vec::new();
        let mut lints = Vec::new();
        let files = source.taken();
        for (one, next) in files.iter().zip(files.iter().skip(1)) {
            if one.path == next.path {
                problems.push(file_problem(&one.path, "the file is given twice", "give it once"));
            }
        }
        let settings = read_settings(&files, &mut problems, &mut lints);
        let catalog = read_catalog(&files, &mut problems, &mut lints);
        let schema_text = effective_schema(settings.as_ref(), catalog.as_ref());
        check_schema(&files, &schema_text, &mut problems);
        let built = Built::new(&schema_text).map_err(|problem| BundleError { problems: vec![problem] })?;
        let read = read_policies(&files, &built, settings.as_ref(), &mut problems);
        lints.extend(read.lints);
        let (Some(settings), Some(catalog), true) = (settings, catalog, problems.is_empty()) else {
            problems.sort();
            problems.dedup();
            return Err(BundleError { problems });
        };
        lints.extend(misfits(&read.policies, &catalog, &settings, &read.places, &built.vocabulary));
        lints.extend(rows_without(&read.policies, &catalog, &read.places, &built.vocabulary));
        lints.extend(unknown_names(&read.policies, &catalog, &settings, &read.places, &built.vocabulary));
        lints.sort();
        lints.dedup();
        Ok(Self::assemble(source.version(), settings, catalog, lints, read.policies, built.vocabulary, &built.actions))
    }

    fn assemble(
        version: String,
        settings: Settings,
        catalog: Catalog,
        lints: Vec<Lint>,
        policies: Vec<Compiled>,
        vocabulary: Vocabulary,
        actions: &Entities,
    ) -> Self {
        let index = Index::new(policies.iter().map(|one| &one.policy), &vocabulary, actions);
        let row_scopes = RowScopes::of(&policies, &vocabulary);
        let numbers = (0..).zip(&policies).map(|(number, one)| (one.policy.id().clone(), number)).collect();
        Self {
            version,
            settings,
            catalog,
            lints,
            policies,
            numbers,
            index,
            row_scopes,
            sets: Sets::default(),
            action_entities: actions.iter().cloned().collect(),
            vocabulary,
            authorizer: Authorizer::new(),
        }
    }

    /// The same policies over a catalog that has the warehouse's under its own: definitions and tags of the bundle stay, and
    /// tags are united. `digest` names the warehouse's and becomes a part of the version, so that no cached decision
    /// outlives what it rests on. Gives what the two define differently as well.
    #[must_use]
    pub fn over_warehouse(&self, warehouse: &Catalog, digest: &str) -> (Self, Vec<String>) {
        let mut catalog = self.catalog.clone();
        let differences = catalog.put_under(warehouse);
        let bundle = Self {
            version: if digest.is_empty() { self.version.clone() } else { format!("{}+{digest}", self.version) },
            settings: self.settings.clone(),
            catalog,
            lints: self.lints.clone(),
            policies: self.policies.clone(),
            numbers: self.numbers.clone(),
            index: self.index.clone(),
            row_scopes: self.row_scopes.clone(),
            sets: Sets::default(),
            vocabulary: self.vocabulary.clone(),
            action_entities: self.action_entities.clone(),
            authorizer: Authorizer::new(),
        };
        (bundle, differences)
    }

    /// A bundle of policies that need not be valid: what the laws are tried on.
    #[cfg(test)]
    pub(crate) fn of(catalog: Catalog, policies: impl IntoIterator<Item = (String, Turn)>) -> Self {
        static BUILT: std::sync::LazyLock<Built> = std::sync::LazyLock::new(|| Built::new(SCHEMA).unwrap());
        let compiled = policies.into_iter().enumerate().map(|(number, (text, turn))| {
            let id = format!("p{number}");
            let policy = Policy::parse(Some(PolicyId::new(&id)), text).unwrap();
            Compiled::new(id, turn, None, policy)
        });
        let settings = Settings::of_connection("demo");
        let vocabulary = BUILT.vocabulary.clone();
        Self::assemble(String::new(), settings, catalog, Vec::new(), compiled.collect(), vocabulary, &BUILT.actions)
    }
}

impl Bundle {
    /// Names the content: the first 16 hexadecimal digits of a SHA-256 over all files of the bundle.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// What is known of the warehouse.
    pub fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    /// What the customer decided besides policies.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// What works and is probably not meant, by file and line.
    pub fn lints(&self) -> &[Lint] {
        &self.lints
    }

    /// Every policy's id, in the order of the files.
    pub fn policy_ids(&self) -> impl Iterator<Item = &str> {
        self.policies.iter().map(|policy| policy.id.as_str())
    }

    /// How many policies name neither principal, action nor resource: each is evaluated for every question.
    pub fn policies_unindexed(&self) -> usize {
        self.index.unscoped()
    }

    pub(crate) fn policy(&self, number: u32) -> Option<&Compiled> {
        self.policies.get(usize::try_from(number).ok()?)
    }

    pub(crate) fn slice(&self) -> Slice<'_> {
        Slice::new(&self.vocabulary, &self.catalog, &self.settings.connection)
    }
}

impl fmt::Debug for Bundle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bundle")
            .field("version", &self.version)
            .field("policies", &self.policies.len())
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

/// What is built into icegate.
#[derive(Debug)]
struct Built {
    vocabulary: Vocabulary,
    validator: Validator,
    actions: Entities,
}

impl Built {
    fn new(schema_text: &str) -> Result<Self, Problem> {
        let broken = |what: &str, error: String| {
            file_problem(
                SCHEMA_FILE,
                format!("the built-in {what} is broken: {error}"),
                "report it as a bug of icegate",
            )
        };
        let vocabulary = Vocabulary::new().map_err(|error| broken("vocabulary", error))?;
        let schema = schema(schema_text).map_err(|error| broken("schema", error))?;
        let actions = schema.action_entities().map_err(|error| broken("schema", error.to_string()))?;
        Ok(Self { vocabulary, validator: Validator::new(schema), actions })
    }
}

/// The built-in schema, and in it the attributes this bundle declares: of principals in its settings, of rows in its
/// catalog. All of them are there for Cedar's validator; a principal or row without one makes a policy err that needs it.
fn effective_schema(settings: Option<&Settings>, catalog: Option<&Catalog>) -> String {
    let record = |attributes: Vec<(&str, AttributeType)>| {
        let fields: Vec<_> = attributes.into_iter().map(|(name, kind)| format!("{name}: {}", kind.as_str())).collect();
        if fields.is_empty() { String::new() } else { format!(" {{ {} }}", fields.join(", ")) }
    };
    let principal = settings.into_iter().flat_map(|settings| &settings.principal_attributes);
    let principal = record(principal.map(|(name, kind)| (name.as_str(), *kind)).collect());
    let rows = catalog.and_then(|catalog| catalog.row_attributes().ok()).unwrap_or_default();
    let rows = record(rows.into_iter().collect());
    SCHEMA.replacen("entity User in [Group];", &format!("entity User in [Group]{principal};"), 1).replacen(
        "entity Row in [Relation];",
        &format!("entity Row in [Relation]{rows};"),
        1,
    )
}

/// A schema's text, read.
pub(crate) fn schema(text: &str) -> Result<Schema, String> {
    Schema::from_cedarschema_str(text).map(|(schema, _)| schema).map_err(|error| one_line(&error.to_string()))
}

fn check_schema(files: &[&SourceFile], effective: &str, problems: &mut Vec<Problem>) {
    let remedy = "copy `policies/schema.cedarschema` of this version of icegate";
    let Some(file) = files.iter().find(|file| file.path == SCHEMA_FILE) else { return };
    if file.text == SCHEMA || file.text == effective {
        return;
    }
    let parsed = |text: &str| {
        let read = SchemaFragment::from_cedarschema_str(text).map(|(schema, _)| schema);
        read.map_err(|error| Box::new(DetailedError::from(&error)))
    };
    match parsed(&file.text) {
        Err(error) => {
            let place = Place::of_file(&file.path, &file.text);
            problems.extend(place.cedar_problems(&error, remedy));
        }
        Ok(schema) => {
            let ours = |text| parsed(text).ok().and_then(|schema| schema.to_json_value().ok());
            let theirs = schema.to_json_value().ok();
            if theirs.is_none() || ![SCHEMA, effective].into_iter().any(|text| ours(text) == theirs) {
                let reason = "the schema is not the one this version of icegate decides with";
                problems.push(file_problem(SCHEMA_FILE, reason, remedy));
            }
        }
    }
}

fn read_settings(files: &[&SourceFile], problems: &mut Vec<Problem>, lints: &mut Vec<Lint>) -> Option<Settings> {
    match files.iter().find(|file| file.path == SETTINGS_FILE) {
        Some(file) => Settings::read(&file.text, problems, lints),
        None => Some(Settings::of_connection(DEFAULT_CONNECTION)),
    }
}

/// Joins the parts of the catalog.
fn read_catalog(files: &[&SourceFile], problems: &mut Vec<Problem>, lints: &mut Vec<Lint>) -> Option<Catalog> {
    let parts: Vec<_> = files.iter().filter(|file| BundleSource::is_catalog(&file.path)).collect();
    if parts.is_empty() {
        let remedy = "write one, or `databases: {}` if nothing is catalogued";
        problems.push(file_problem("catalog.yaml", "there is neither this file nor catalog.json", remedy));
        return None;
    }
    let before = problems.len();
    if parts.iter().filter(|file| !file.path.contains('/')).count() > 1 {
        problems.push(file_problem("catalog.json", "catalog.yaml is there too", "keep one of the two"));
    }
    let mut catalog = Catalog::default();
    let mut read: Vec<(&str, Catalog)> = Vec::with_capacity(parts.len());
    for file in parts {
        let Some(part) = read_part(file, problems) else { continue };
        if let Err(conflict) = catalog.join(part.clone()) {
            // The first part that does not go with this one is the one that defines it too.
            let other = read.iter().find(|(_, earlier)| earlier.clone().join(part.clone()).is_err());
            let reason =
                format!("{conflict}; the other definition is in `{}`", other.map_or("catalog", |(path, _)| path));
            let remedy = "define it in one file, and say tags of yours under `tags:`";
            problems.push(file_problem(&file.path, reason, remedy));
        }
        read.push((&file.path, part));
    }
    // Each part alone is right; together they may not be.
    if let Err(error) = catalog.row_attributes() {
        problems.push(file_problem("catalog", error.to_string(), "correct one of them"));
    }
    for (path, part) in &read {
        for name in part.tagged_unknown().filter(|name| catalog.tagged_unknown().any(|unknown| unknown == *name)) {
            lints.push(Lint {
                policy: None,
                file: (*path).to_owned(),
                line: 0,
                message: format!(
                    "`tags` names `{name}`, which no file of the catalog knows: it protects nothing unless a sync brings it"
                ),
            });
        }
    }
    (problems.len() == before).then_some(catalog)
}

fn read_part(file: &SourceFile, problems: &mut Vec<Problem>) -> Option<Catalog> {
    let remedy = "see the shape of the catalog in README.md";
    if file.path.rsplit_once('.').is_some_and(|(_, ending)| ending == "json") {
        return match serde_json::from_str(&file.text) {
            Ok(catalog) => Some(catalog),
            Err(error) => {
                let number = |value: usize| u32::try_from(value).unwrap_or(u32::MAX);
                problems.push(Problem {
                    file: file.path.clone(),
                    line: number(error.line()),
                    column: number(error.column()),
                    reason: one_line(&error.to_string()),
                    remedy: remedy.to_owned(),
                });
                None
            }
        };
    }
    // A catalog is as large as the warehouse, and comes from whoever writes the policies.
    let options = serde_saphyr::options! { budget: None };
    match serde_saphyr::from_str_with_options(&file.text, options) {
        Ok(catalog) => Some(catalog),
        Err(error) => {
            problems.push(yaml_problem(&file.path, &error, remedy));
            None
        }
    }
}

/// What was read of all `*.cedar` files.
#[derive(Default)]
struct Read {
    policies: Vec<Compiled>,
    places: Places,
    lints: Vec<Lint>,
}

fn read_policies(
    files: &[&SourceFile],
    built: &Built,
    settings: Option<&Settings>,
    problems: &mut Vec<Problem>,
) -> Read {
    let mut read = Read::default();
    for file in files.iter().filter(|file| is_policies(&file.path)) {
        for chunk in source::chunks(&file.text) {
            let place = Place { file: &file.path, text: &file.text, start: chunk.start };
            read_policy(&chunk, &place, built, settings, problems, &mut read);
        }
    }
    if read.policies.len() > POLICIES_MAX {
        let reason =
            format!("there are {} policies, and {POLICIES_MAX} is the most a bundle may hold", read.policies.len());
        problems.push(file_problem("*.cedar", reason, "split the bundle by connection"));
    }
    read
}

fn read_policy(
    chunk: &Chunk<'_>,
    place: &Place<'_>,
    built: &Built,
    settings: Option<&Settings>,
    problems: &mut Vec<Problem>,
    read: &mut Read,
) {
    if chunk.depth > DEPTH_MAX || chunk.operators > OPERATORS_MAX {
        let reason = format!(
            "the policy nests {} brackets deep and has {} operators; at most {DEPTH_MAX} and {OPERATORS_MAX} are read",
            chunk.depth, chunk.operators
        );
        problems.push(place.problem(0, reason, "write several policies, or a set and `contains` instead of many `||`"));
        return;
    }
    let policy = match Policy::parse(None, chunk.text) {
        Ok(policy) => policy,
        Err(error) => {
            let remedy = "write a complete policy that ends in `;`, without template slots";
            problems.extend(place.cedar_problems(&DetailedError::from(&error), remedy));
            return;
        }
    };
    let (line, _) = place.line_column(0);
    let mut found = validate(&policy, place, built, problems);
    check_rows(&policy, chunk, place, built, problems);
    let Some(annotated) = annotation::read(&policy, chunk, place, &built.vocabulary, settings, problems) else {
        return;
    };
    let id = annotated.id;
    if let Some((file, line)) = read.places.get(&id) {
        let reason = format!("`@id(\"{id}\")` is taken by {file}:{line}");
        problems.push(place.problem(chunk.annotation("id"), reason, "give every policy an id of its own"));
        return;
    }
    if is_unscoped(&policy) {
        found.push(
            "the scope names no principal, action or resource, so the policy is evaluated for every question; name one"
                .into(),
        );
    }
    read.lints.extend(found.into_iter().map(|message| Lint {
        policy: Some(id.clone()),
        file: place.file.to_owned(),
        line,
        message,
    }));
    read.places.insert(id.clone(), (place.file.to_owned(), line));
    let policy = policy.new_id(PolicyId::new(&id));
    read.policies.push(Compiled::new(id, annotated.turn, annotated.reason, policy));
}

/// A policy about rows becomes a condition of queries, or the bundle is refused: nothing of it may be left out.
fn check_rows(policy: &Policy, chunk: &Chunk<'_>, place: &Place<'_>, built: &Built, problems: &mut Vec<Problem>) {
    let is_row = |kind: &EntityTypeName| built.vocabulary.kind(kind) == Some(Type::Row);
    let about = rows::is_about_rows(policy, &built.vocabulary);
    let only_rows = match policy.resource_constraint() {
        ResourceConstraint::Is(kind) | ResourceConstraint::IsIn(kind, _) => is_row(&kind),
        ResourceConstraint::Eq(uid) => is_row(uid.type_name()),
        ResourceConstraint::Any | ResourceConstraint::In(_) => false,
    };
    if !about && !only_rows {
        return;
    }
    for name in ["mask", "approval"].into_iter().filter(|name| policy.annotation(name).is_some()) {
        problems.push(place.problem(
            chunk.annotation(name),
            format!("`@{name}` stands on a policy about rows"),
            "a row is shown or not: take the annotation off, or write a policy of its own for `read` or `read_column`",
        ));
    }
    if matches!(policy.resource_constraint(), ResourceConstraint::Eq(_)) {
        let remedy = "write `resource in Icegate::Relation::\"…\"` and say which rows with `when`";
        problems.push(place.problem(0, "the policy names one row, and rows have no ids", remedy));
    }
    if let Some(why) = rows::misfit(policy) {
        let remedy = "compare attributes of `resource` with ==, !=, <, <=, >, >=, `like`, `has` and `[…].contains(…)`, \
                      joined by &&, ||, ! and if";
        problems.push(place.problem(0, why, remedy));
    }
}

/// Strict validation of one policy: errors, and warnings that mean it never does what it says, become problems; other
/// warnings are returned.
fn validate(policy: &Policy, place: &Place<'_>, built: &Built, problems: &mut Vec<Problem>) -> Vec<String> {
    let mut lints = Vec::new();
    let mut set = PolicySet::new();
    if set.add(policy.clone()).is_err() {
        problems.push(place.problem(0, "the policy cannot be put in a set", CEDAR_REMEDY));
        return lints;
    }
    let result = built.validator.validate(&set, ValidationMode::Strict);
    let unnamed = |text: &str| {
        let text = text.replace("for policy `policy0`, ", "");
        one_line(&text)
    };
    // Cedar repeats itself for every kind of resource; one sentence per place is enough.
    let mut places = HashSet::new();
    let mut refuse = |mut error: DetailedError| {
        if !places.insert(error.source_locations.first().map(|label| label.loc.start)) {
            return;
        }
        error.message = unnamed(&error.message);
        problems.extend(place.cedar_problems(&error, CEDAR_REMEDY));
    };
    let errors: Vec<_> = result.validation_errors().collect();
    for error in &errors {
        // What else is wrong says more than that nothing fits any more.
        if errors.len() > 1 && matches!(error, ValidationError::InvalidActionApplication(_)) {
            continue;
        }
        refuse(DetailedError::from(*error));
    }
    for warning in result.validation_warnings() {
        match warning {
            ValidationWarning::MixedScriptString(_)
            | ValidationWarning::MixedScriptIdentifier(_)
            | ValidationWarning::ConfusableIdentifier(_) => lints.push(unnamed(&warning.to_string())),
            ValidationWarning::ImpossiblePolicy(_) | ValidationWarning::InvalidActionApplication(_)
                if !errors.is_empty() => {}
            // Invisible text that reorders what a reader sees, or a policy that never applies.
            _ => refuse(DetailedError::from(warning)),
        }
    }
    lints
}
