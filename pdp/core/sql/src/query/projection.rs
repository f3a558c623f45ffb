//! The select list: expressions, stars and what the words after a star do to them.

use sqlparser::ast::{
    ExcludeSelectItem, Expr, Ident, IdentWithAlias, ObjectName, RenameSelectItem, ReplaceSelectItem, SelectItem,
    SelectItemQualifiedWildcardKind, WildcardAdditionalOptions,
};

use crate::{
    expr::is_object_star,
    names,
    reader::{Lineage, MADE_COLUMN, Output, OutputColumn, Read, Reader, absent, stop},
    scope::{Ctes, Scope, Visible, fold_all, print},
};

impl Reader<'_, '_> {
    /// Reads a select list; its aliases join the scope as they come.
    pub(crate) fn projection(&mut self, items: &[SelectItem], scope: &mut Scope<'_>, ctes: &Ctes) -> Read<Output> {
        let mut output = Output::default();
        for item in items {
            match item {
                SelectItem::UnnamedExpr(expr) => {
                    let lineage = self.expr(expr, scope, ctes)?;
                    output.columns.push(OutputColumn { name: label(expr, self.reworded.is_some()), lineage });
                }
                SelectItem::ExprWithAlias { expr, alias } => {
                    let lineage = self.expr(expr, scope, ctes)?;
                    let Some(name) = names::fold(alias) else { return stop("an alias that is not a name") };
                    scope.aliases.push((name.clone(), lineage.clone()));
                    output.columns.push(OutputColumn { name, lineage });
                }
                SelectItem::ExprWithAliases { .. } => return stop("several aliases for one expression"),
                SelectItem::Wildcard(options) => self.star(None, options, scope, ctes, &mut output)?,
                SelectItem::QualifiedWildcard(kind, options) => {
                    let name = match kind {
                        SelectItemQualifiedWildcardKind::ObjectName(name) => name,
                        SelectItemQualifiedWildcardKind::Expr(_) => {
                            return stop("`.*` after an expression is not understood");
                        }
                    };
                    self.star(Some(name), options, scope, ctes, &mut output)?;
                }
            }
        }
        Ok(output)
    }

    fn star(
        &mut self,
        qualifier: Option<&ObjectName>,
        options: &WildcardAdditionalOptions,
        scope: &mut Scope<'_>,
        ctes: &Ctes,
        output: &mut Output,
    ) -> Read<()> {
        let WildcardAdditionalOptions {
            wildcard_token: _,
            opt_ilike,
            opt_exclude,
            opt_except,
            opt_replace,
            opt_rename,
            opt_alias,
        } = options;
        absent(opt_except.is_some(), "`* EXCEPT`")?;
        absent(opt_alias.is_some(), "`* AS`")?;
        let like = match opt_ilike {
            None => None,
            Some(ilike) if ilike.pattern.contains(['\\', '\'']) => return stop("an escaped pattern after `* ILIKE`"),
            Some(ilike) => Some(ilike.pattern.as_str()),
        };
        let exclude = match opt_exclude {
            None => Vec::new(),
            Some(ExcludeSelectItem::Single(name)) => vec![last_part(name)?],
            Some(ExcludeSelectItem::Multiple(names)) => names.iter().map(last_part).collect::<Read<_>>()?,
        };
        let rename = match opt_rename {
            None => Vec::new(),
            Some(RenameSelectItem::Single(item)) => vec![renamed(item)?],
            Some(RenameSelectItem::Multiple(items)) => items.iter().map(renamed).collect::<Read<_>>()?,
        };
        let replace = match opt_replace {
            None => Vec::new(),
            Some(ReplaceSelectItem { items }) => {
                let mut replace = Vec::with_capacity(items.len());
                for item in items {
                    let Some(name) = names::fold(&item.column_name) else { return stop("REPLACE without a name") };
                    replace.push((name, self.expr(&item.expr, scope, ctes)?));
                }
                replace
            }
        };
        let pick = Pick { like, exclude: &exclude, replace: &replace, rename: &rename };
        let parts = match qualifier {
            None => None,
            Some(name) => match names::idents(name).and_then(|idents| Some((fold_all(&idents)?, idents))) {
                Some(parts) => Some(parts),
                None => return stop("`.*` after something that is not a name"),
            },
        };
        let mut matched = false;
        let mut at: Option<&Scope<'_>> = Some(scope);
        while let Some(scope) = at {
            let merged = |visible: &&Visible| visible.columns.iter().any(|column| column.merged);
            let twins: Vec<&Visible> = scope.visible.iter().filter(merged).collect();
            let each = MADE_COLUMN + twins.iter().map(|twin| twin.columns.len()).sum::<usize>();
            self.look_through(scope.size().saturating_mul(each))?;
            for visible in &scope.visible {
                if let Some((parts, idents)) = &parts {
                    if !visible.qualifier.ends_with(parts) {
                        continue;
                    }
                    self.note_prefix(visible.site, idents, 0);
                }
                matched = true;
                self.star_of(visible, &pick, qualifier.is_none().then_some(&twins), output);
            }
            at = if qualifier.is_some() && !matched { scope.parent } else { None };
        }
        if !matched {
            let what = parts.map_or_else(|| "* without FROM".to_owned(), |(_, idents)| format!("{}.*", print(&idents)));
            self.miss("column", what);
            output.open = true;
        }
        Ok(())
    }

    /// `twins` are the relations with merged columns when the star stands alone: such columns show once then, and hold
    /// either side's value.
    fn star_of(&mut self, visible: &Visible, pick: &Pick<'_>, twins: Option<&Vec<&Visible>>, output: &mut Output) {
        output.open |= visible.open;
        self.read_all(&visible.beyond);
        if pick.rename.is_empty() && pick.replace.is_empty() {
            output.beyond.add(&visible.beyond);
        }
        for column in &visible.columns {
            if column.merged && twins.is_some() {
                continue;
            }
            if pick.like.is_some_and(|pattern| !ilike(&column.name, pattern)) {
                continue;
            }
            if pick.exclude.iter().any(|name| column.name == *name) {
                self.keep(column, visible.site);
                continue;
            }
            let lineage = if let Some((_, lineage)) = pick.replace.iter().find(|(name, _)| column.name == *name) {
                self.keep(column, visible.site);
                lineage.clone()
            } else {
                let mut lineage = self.origin(&column.origin, visible.site);
                for other in twins.into_iter().flatten() {
                    for twin in other.columns.iter().filter(|twin| twin.merged && twin.name == column.name) {
                        lineage.add(self.origin(&twin.origin, other.site));
                    }
                }
                lineage
            };
            let renamed = pick.rename.iter().find(|(from, _)| column.name == *from);
            let name = renamed.map_or_else(|| column.name.to_string(), |(_, to)| to.clone());
            output.columns.push(OutputColumn { name, lineage });
        }
    }
}

/// What the words after a star select and change.
struct Pick<'a> {
    like: Option<&'a str>,
    exclude: &'a [String],
    replace: &'a [(String, Lineage)],
    rename: &'a [(String, String)],
}

fn last_part(name: &ObjectName) -> Read<String> {
    match names::parts(name).and_then(|mut parts| parts.pop()) {
        Some(part) => Ok(part),
        None => stop("EXCLUDE of something that is not a name"),
    }
}

fn renamed(item: &IdentWithAlias) -> Read<(String, String)> {
    match (names::fold(&item.ident), names::fold(&item.alias)) {
        (Some(from), Some(to)) => Ok((from, to)),
        _ => stop("RENAME of something that is not a name"),
    }
}

/// Snowflake labels a bare column by its name and anything else by its text.
fn label(expr: &Expr, reworded: bool) -> String {
    let name = |ident: &Ident| names::fold(ident).unwrap_or_else(|| ident.value.clone());
    match expr {
        Expr::Identifier(ident) => name(ident),
        Expr::CompoundIdentifier(idents) => idents.last().map(name).unwrap_or_default(),
        star @ Expr::Value(_) if reworded && is_object_star(star) => "{*}".to_owned(),
        other => other.to_string().to_uppercase(),
    }
}

/// `%` and `_` patterns, without regard to case.
pub(crate) fn ilike(text: &str, pattern: &str) -> bool {
    let text: Vec<char> = text.chars().flat_map(char::to_lowercase).collect();
    let pattern: Vec<char> = pattern.chars().flat_map(char::to_lowercase).collect();
    // reached[i]: the pattern so far can stand for the first i characters.
    let mut reached = vec![false; text.len() + 1];
    if let Some(start) = reached.first_mut() {
        *start = true;
    }
    for wanted in pattern {
        let mut next = vec![false; text.len() + 1];
        let mut any = false;
        for (at, slot) in next.iter_mut().enumerate() {
            any |= reached.get(at).copied().unwrap_or(false);
            *slot = if wanted == '%' {
                any
            } else {
                at.checked_sub(1).is_some_and(|before| {
                    reached.get(before).copied().unwrap_or(false)
                        && (wanted == '_' || text.get(before).is_some_and(|&c| c == wanted))
                })
            };
        }
        reached = next;
    }
    reached.last().copied().unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::ilike;

    #[test]
    fn ilike_knows_its_two_signs() {
        for (text, pattern, fits) in [
            ("SSN", "%s%", true),
            ("ID", "%s%", false),
            ("SSN", "s_n", true),
            ("SSN", "s_", false),
            ("", "%", true),
            ("AB", "a%b", true),
            ("A", "", false),
        ] {
            assert_eq!(ilike(text, pattern), fits, "`{text}` `{pattern}`");
        }
    }
}
