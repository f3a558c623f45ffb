//! COPY INTO: which way the data goes is told from the target itself, never from what the parser took it for.

use icegate_pdp_model::{Effect, ObjectKind, ObjectName as Name, Verb};
use sqlparser::ast::{
    Ident, ObjectName, ObjectNamePart, SelectItem, Statement,
    helpers::{
        key_value_options::{KeyValueOption, KeyValueOptionKind, KeyValueOptions},
        stmt_data_loading::{StageLoadSelectItemKind, StageParamsObject},
    },
};

use crate::{
    names,
    reader::{Lineage, Output, OutputColumn, Read, Reader, Role, absent, stop},
    scope::{Ctes, Scope},
    statement::{After, Draft, Stored},
};

/// Storage outside that Snowflake can name by URL.
const SCHEMES: [&str; 6] = ["s3://", "s3gov://", "s3china://", "s3compat://", "gcs://", "azure://"];

/// What stands on either side of COPY.
#[derive(Debug)]
pub(crate) enum Place {
    /// A stage with its path, as shown: `@DB.SCHEMA.STAGE/path`.
    Stage { object: Name, shown: String },
    /// A URL outside.
    Location(String),
    /// A plain name.
    Named,
}

impl Reader<'_, '_> {
    pub(crate) fn copy_into(&mut self, statement: &Statement) -> Read<Draft> {
        let Statement::CopyIntoSnowflake {
            kind: _,
            into,
            into_columns,
            from_obj,
            from_obj_alias,
            stage_params,
            from_transformations,
            from_query,
            files: _,
            pattern: _,
            file_format,
            copy_options,
            validation_mode,
            partition,
        } = statement
        else {
            return stop("this form of COPY is not understood");
        };
        let place = self.place(into)?;
        self.formats();
        self.copy_settings(file_format)?;
        let purged = self.copy_settings(copy_options)?;
        if let Place::Named = place {
            if purged
                && let Some(from) = from_obj
                && let Place::Stage { object, shown: _ } = self.place(from)?
            {
                // What was loaded is removed there.
                self.touch(ObjectKind::Stage, object, Effect::Write);
            }
            absent(from_query.is_some() || partition.is_some(), "this form of COPY INTO a table")?;
            let Some(from) = from_obj else { return stop("COPY INTO a table from nothing") };
            return self.load(into, from, from_transformations.as_deref(), stage_params, into_columns.as_deref());
        }
        let mut draft = Draft::verb(Verb::CopyUnload);
        absent(into_columns.is_some() || from_transformations.is_some(), "this form of COPY INTO a location")?;
        absent(from_obj_alias.is_some() || validation_mode.is_some(), "this form of COPY INTO a location")?;
        self.integration(stage_params)?;
        match place {
            Place::Stage { object, shown } => {
                self.touch(ObjectKind::Stage, object, Effect::Export);
                draft.exports.push(shown);
            }
            Place::Location(url) => {
                self.touch(ObjectKind::Location, Name::new([url.clone()]), Effect::Export);
                draft.exports.push(url);
            }
            Place::Named => {}
        }
        let mut scope = Scope::default();
        let output = match (from_query, from_obj) {
            (Some(query), None) => self.query(query, None, &Ctes::default())?,
            (None, Some(from)) => {
                let Place::Named = self.place(from)? else {
                    return stop("COPY from a stage to a stage is not understood");
                };
                let visible = self.relation(from, None, Role::Unload)?;
                self.read_all(&visible.beyond);
                let mut output = Output { open: visible.open, beyond: visible.beyond.clone(), ..Output::default() };
                for column in &visible.columns {
                    let lineage = self.origin(&column.origin, visible.site);
                    output.columns.push(OutputColumn { name: column.name.to_string(), lineage });
                }
                scope.visible.push(visible);
                output
            }
            _ => return stop("this form of COPY INTO a location is not understood"),
        };
        if let Some(partition) = partition {
            for column in &output.columns {
                scope.aliases.push((column.name.clone(), column.lineage.clone()));
            }
            self.expr(partition, &scope, &Ctes::default())?;
        }
        draft.output = Some(output);
        Ok(draft)
    }

    fn load(
        &mut self,
        into: &ObjectName,
        from: &ObjectName,
        items: Option<&[StageLoadSelectItemKind]>,
        params: &StageParamsObject,
        columns: Option<&[Ident]>,
    ) -> Read<Draft> {
        let mut draft = Draft::verb(Verb::CopyLoad);
        for item in items.unwrap_or_default() {
            match item {
                StageLoadSelectItemKind::StageLoadSelectItem(_) => {}
                StageLoadSelectItemKind::SelectItem(item) => self.loaded_item(item)?,
            }
        }
        self.integration(params)?;
        match self.place(from)? {
            Place::Stage { object, shown: _ } => self.touch(ObjectKind::Stage, object, Effect::Import),
            Place::Location(url) => self.touch(ObjectKind::Location, Name::new([url]), Effect::Import),
            Place::Named => return stop("COPY INTO a table from a name without `@` is not understood"),
        }
        let (target, scope) = self.target(into, None)?;
        if let Some(target) = target {
            // What a file holds is not known.
            let listed: Option<Vec<String>> = columns.map(|columns| columns.iter().filter_map(names::fold).collect());
            let known = scope.visible.iter().flat_map(|visible| &visible.columns).map(|column| column.name.to_string());
            let columns = listed.unwrap_or_else(|| known.collect()).into_iter();
            let columns = columns.map(|name| OutputColumn { name, lineage: Lineage::opaque() }).collect();
            let output = Output { columns, open: scope.visible.iter().any(|it| it.open), ..Output::default() };
            draft.after.push(After::Loaded(target.clone()));
            draft.stored.push(Stored { target, output });
        }
        Ok(draft)
    }

    /// An expression over a file's columns; it can see no relation.
    fn loaded_item(&mut self, item: &SelectItem) -> Read<()> {
        match item {
            SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, alias: _ } => {
                self.expr(expr, &Scope::default(), &Ctes::default()).map(drop)
            }
            SelectItem::ExprWithAliases { .. } | SelectItem::QualifiedWildcard(..) | SelectItem::Wildcard(_) => {
                stop("`*` over a file's columns is not understood")
            }
        }
    }

    /// File formats whose names were taken out of the settings.
    pub(crate) fn formats(&mut self) {
        let Some(reworded) = self.reworded else { return };
        for parts in &reworded.formats {
            match names::complete_in_schema(parts.clone(), &self.session) {
                Some(parts) => self.touch(ObjectKind::FileFormat, Name::new(parts), Effect::Use),
                None => self.miss(ObjectKind::FileFormat.as_str(), parts.join(".")),
            }
        }
    }

    /// Objects that settings name; whether one of them is `PURGE = TRUE`.
    fn copy_settings(&mut self, settings: &KeyValueOptions) -> Read<bool> {
        let mut purged = false;
        for KeyValueOption { option_name, option_value } in &settings.options {
            let key = option_name.to_ascii_uppercase();
            let text = match option_value {
                KeyValueOptionKind::Single(value) => value.value.to_string(),
                KeyValueOptionKind::Multi(_) => continue,
                KeyValueOptionKind::KeyValueOptions(inner) => {
                    purged |= self.copy_settings(inner)?;
                    continue;
                }
            };
            match key.as_str() {
                "PURGE" => purged |= text.eq_ignore_ascii_case("true"),
                "STORAGE_INTEGRATION" => match names::dotted(text.trim_matches('\'')) {
                    Some(parts) => self.touch(ObjectKind::Integration, Name::new(parts), Effect::Use),
                    None => return stop("an integration that is not a name"),
                },
                "FORMAT_NAME" => {
                    let parts = names::dotted(text.trim_matches('\''));
                    match parts.and_then(|parts| names::complete_in_schema(parts, &self.session)) {
                        Some(parts) => self.touch(ObjectKind::FileFormat, Name::new(parts), Effect::Use),
                        None => self.miss(ObjectKind::FileFormat.as_str(), text),
                    }
                }
                _ => {}
            }
        }
        Ok(purged)
    }

    fn integration(&mut self, params: &StageParamsObject) -> Read<()> {
        let StageParamsObject { url, encryption: _, endpoint, storage_integration, credentials: _ } = params;
        absent(url.is_some() || endpoint.is_some(), "URL or ENDPOINT in COPY")?;
        if let Some(integration) = storage_integration {
            let Ok(name) = integration.parse::<Name>() else { return stop("an integration that is not a name") };
            self.touch(ObjectKind::Integration, name, Effect::Use);
        }
        Ok(())
    }

    pub(crate) fn place(&mut self, name: &ObjectName) -> Read<Place> {
        let Some(ObjectNamePart::Identifier(first)) = name.0.first() else { return stop("COPY of a computed name") };
        match first.quote_style {
            Some('\'') => {
                let text = first.value.as_str();
                if name.0.len() != 1 || text.contains(['\\', '\'']) {
                    return stop("a location with an escape in its text is not understood");
                }
                let lower = text.to_ascii_lowercase();
                if SCHEMES.iter().any(|scheme| lower.starts_with(scheme)) {
                    return Ok(Place::Location(text.to_owned()));
                }
                match text.strip_prefix('@') {
                    Some(stage) => self.stage(stage),
                    None => stop("a location that is neither a stage nor storage Snowflake knows"),
                }
            }
            None if first.value.starts_with('@') => {
                let text = name.0.iter().map(ToString::to_string).collect::<Vec<_>>().join(".");
                match text.strip_prefix('@') {
                    Some(stage) => self.stage(stage),
                    None => stop("a stage that is not a name"),
                }
            }
            _ => Ok(Place::Named),
        }
    }

    /// `~/x`, `%t/x`, `s/x`, `db.schema.s/x`. Without what the session lacks it is touched as written, and unresolved.
    pub(crate) fn stage(&mut self, text: &str) -> Read<Place> {
        let (name, path) = match text.split_once('/') {
            Some((name, path)) => (name, format!("/{path}")),
            None => (text, String::new()),
        };
        if name == "~" {
            return Ok(Place::Stage { object: Name::new(["@~"]), shown: format!("@~{path}") });
        }
        // `db.schema.%t` is the stage of a table: the sign is a part of its last name.
        let (name, sign) = if name.contains('%') { (name.replacen('%', "", 1), "%") } else { (name.to_owned(), "") };
        let parsed: Result<Name, _> = name.parse();
        let plain = name.chars().all(|c| c.is_ascii_alphanumeric() || "_$.\"".contains(c)) && !name.contains("..");
        let (Ok(parsed), true) = (parsed, plain) else { return stop("a stage that is not a name") };
        let written = parsed.parts().to_vec();
        absent(written.len() > 3, "a stage's name of four parts")?;
        let mut parts = names::complete_in_schema(written.clone(), &self.session).unwrap_or_else(|| {
            self.miss(ObjectKind::Stage.as_str(), text);
            written
        });
        if let Some(last) = parts.last_mut() {
            last.insert_str(0, sign);
        }
        let object = Name::new(parts);
        let shown = format!("@{object}{path}");
        Ok(Place::Stage { object, shown })
    }
}
