//! Queries: common table expressions, joins, sets, reshaped relations.

use std::collections::{BTreeMap, BTreeSet};

use super::{Aliases, Dice, Expected, Source};

/// Deepest nesting of queries.
const DEPTH_MAX: usize = 3;

/// Makes one statement.
#[derive(Debug)]
pub(super) struct Maker {
    pub(super) dice: Dice,
    pub(super) read: BTreeSet<Source>,
    aliases: Aliases,
    count: usize,
    /// Common table expressions in sight.
    ctes: Vec<Relation>,
    /// An alias of the select list being made has the name of a column: only qualified names are sure from there on.
    pub(super) shadowed: bool,
    /// The name of the common table expression being made, when a table has it too.
    hidden: Option<&'static str>,
}

/// A relation in a FROM clause.
#[derive(Debug, Clone)]
pub(super) struct Relation {
    pub(super) alias: String,
    pub(super) columns: Vec<Expected>,
}

/// A query and its columns.
#[derive(Debug, Clone)]
pub(super) struct Query {
    pub(super) sql: String,
    pub(super) outputs: Vec<Expected>,
}

/// Tables: name and columns.
pub(super) const TABLES: &[(&str, &[&str])] = &[
    ("people", &["id", "name", "email", "country", "manager_id", "balance"]),
    ("orders", &["id", "person_id", "status", "amount", "note"]),
    ("items", &["order_id", "sku", "price", "amount"]),
    ("events", &["id", "person_id", "payload", "kind"]),
];

/// Views: name, and each column with the table's columns its value comes from.
type View = (&'static str, &'static [(&'static str, &'static str)], &'static [&'static str]);
const VIEWS: &[View] = &[
    ("contacts", &[("id", "PEOPLE.ID"), ("email", "PEOPLE.EMAIL"), ("place", "PEOPLE.COUNTRY")], &["PEOPLE.BALANCE"]),
    (
        "spend",
        &[("who", "PEOPLE.EMAIL"), ("total", "ORDERS.AMOUNT"), ("note", "ORDERS.NOTE")],
        &["PEOPLE.ID", "PEOPLE.EMAIL", "ORDERS.PERSON_ID"],
    ),
    (
        "top_spend",
        &[("who", "PEOPLE.EMAIL"), ("total", "ORDERS.AMOUNT"), ("place", "PEOPLE.COUNTRY")],
        &["PEOPLE.ID", "PEOPLE.EMAIL", "ORDERS.PERSON_ID", "PEOPLE.BALANCE"],
    ),
];

fn set(sources: &[&str]) -> BTreeSet<Source> {
    sources.iter().map(|&source| source.to_owned()).collect()
}

/// A column of a table as an output.
pub(super) fn column(table: &str, name: &str) -> Expected {
    let source = format!("{}.{}", table.to_uppercase(), name.to_uppercase());
    Expected { name: name.to_owned(), values: BTreeSet::from([source]), tested: BTreeSet::new() }
}

impl Maker {
    pub(super) fn new(seed: u64, aliases: Aliases) -> Self {
        Self {
            dice: Dice::new(seed),
            read: BTreeSet::new(),
            aliases,
            count: 0,
            ctes: Vec::new(),
            shadowed: false,
            hidden: None,
        }
    }

    /// A name nothing else has.
    pub(super) fn alias(&mut self, letter: char) -> String {
        self.count += 1;
        match self.aliases {
            Aliases::Short => format!("{letter}{}", self.count),
            Aliases::Long => format!("renamed_{letter}{}_x", self.count),
        }
    }

    /// Takes a column into a result: it is read, whatever for.
    pub(super) fn take(&mut self, column: &Expected) {
        self.read.extend(column.values.iter().chain(&column.tested).cloned());
    }

    /// A whole query, with common table expressions and sets.
    pub(super) fn query(&mut self, depth: usize) -> Query {
        let ctes = self.ctes.len();
        let mut with = Vec::new();
        let recursive = depth == 0 && self.dice.one_in(10);
        if recursive {
            with.push(self.recursive());
        }
        if depth == 0 && self.dice.one_in(2) {
            for _ in 0..=self.dice.below(2) {
                // Now and then under the name of a table, which it hides from there on; its own text stays away from it,
                // since that would be the expression itself.
                let hidden = *self.dice.pick(&["items", "events"]);
                let taken = self.ctes.iter().any(|cte| cte.alias == hidden);
                let hides = self.dice.one_in(4) && !taken;
                if hides {
                    self.hidden = Some(hidden);
                }
                let query = self.set(depth + 1);
                self.hidden = None;
                let name = if hides { hidden.to_owned() } else { self.alias('w') };
                with.push(format!("{name} AS ( {} )", query.sql));
                self.ctes.push(Relation { alias: name, columns: query.outputs });
            }
        }
        let mut query = self.set(depth);
        if !with.is_empty() {
            let recursive = if recursive { "RECURSIVE " } else { "" };
            query.sql = format!("WITH {recursive}{} {}", with.join(" , "), query.sql);
        }
        self.ctes.truncate(ctes);
        query
    }

    /// Everybody under somebody: a common table expression over itself.
    fn recursive(&mut self) -> String {
        let (name, one, other) = (self.alias('w'), self.alias('t'), self.alias('t'));
        let columns = vec![column("people", "id"), column("people", "email")];
        for read in columns.iter().chain(&[column("people", "manager_id"), column("people", "country")]) {
            self.take(read);
        }
        self.ctes.push(Relation { alias: name.clone(), columns });
        format!(
            "{name} AS ( SELECT id , email FROM people WHERE country = 'x' UNION ALL SELECT {one} . id , {one} . email FROM people {one} JOIN {name} {other} ON {one} . manager_id = {other} . id )"
        )
    }

    /// One SELECT, or several in a set.
    fn set(&mut self, depth: usize) -> Query {
        if !self.dice.one_in(5) || depth > DEPTH_MAX {
            return self.select(depth, None);
        }
        let wanted = 1 + self.dice.below(3);
        let mut left = self.select(depth + 1, Some(wanted));
        let mut right = self.select(depth + 1, Some(wanted));
        let by_name = self.dice.one_in(4);
        if by_name {
            // The same names on both sides, in another order on the right.
            let names: Vec<String> = (0..wanted).map(|_| self.alias('n')).collect();
            let derived = |names: &[String], query: &Query, from: String, order: &[usize]| {
                let items = order
                    .iter()
                    .filter_map(|&at| Some(format!("{from} . {} AS {}", query.outputs.get(at)?.name, names.get(at)?)));
                format!("SELECT {} FROM ( {} ) {from}", items.collect::<Vec<_>>().join(" , "), query.sql)
            };
            let forward: Vec<usize> = (0..wanted).collect();
            let backward: Vec<usize> = (0..wanted).rev().collect();
            let (one, other) = (self.alias('t'), self.alias('t'));
            left.sql = derived(&names, &left, one, &forward);
            right.sql = derived(&names, &right, other, &backward);
            for (output, name) in left.outputs.iter_mut().zip(names) {
                output.name = name;
            }
        }
        let operator = match self.dice.below(if by_name { 2 } else { 4 }) {
            0 => "UNION ALL",
            1 => "UNION",
            2 => "INTERSECT",
            _ => "EXCEPT",
        };
        let by = if by_name { " BY NAME" } else { "" };
        let merges = operator.starts_with("UNION");
        for (left, right) in left.outputs.iter_mut().zip(right.outputs) {
            if merges {
                left.values.extend(right.values);
                left.tested.extend(right.tested);
            } else {
                left.tested.extend(right.values);
                left.tested.extend(right.tested);
            }
        }
        Query { sql: format!("{} {operator}{by} {}", left.sql, right.sql), outputs: left.outputs }
    }

    /// One relation in FROM: a table, a view, a common table expression, a query in brackets, reshaped or as it is.
    fn relation(&mut self, depth: usize) -> (String, Relation) {
        let alias = self.alias('t');
        let nests = depth < DEPTH_MAX;
        match self.dice.below(10) {
            0 | 1 if nests => {
                let query = self.set(depth + 1);
                (format!("( {} ) {alias}", query.sql), Relation { alias, columns: query.outputs })
            }
            2 | 3 if !self.ctes.is_empty() => {
                let cte = self.dice.pick(&self.ctes.clone()).clone();
                (format!("{} {alias}", cte.alias), Relation { alias, columns: cte.columns })
            }
            4 => {
                let (name, columns, decided) = *self.dice.pick(VIEWS);
                let columns = columns.iter().map(|(column, source)| Expected {
                    name: (*column).to_owned(),
                    values: set(&[source]),
                    tested: BTreeSet::new(),
                });
                self.read.extend(set(decided));
                (format!("{name} AS {alias}"), Relation { alias, columns: columns.collect() })
            }
            5 if self.dice.one_in(3) => {
                let columns = ["one", "two"].map(|name| Expected { name: name.into(), ..Expected::default() });
                let sql = format!("( VALUES ( 1 , 'a' ) , ( 2 , 'b' ) ) AS {alias} ( one , two )");
                (sql, Relation { alias, columns: columns.into() })
            }
            5 if nests && self.dice.one_in(2) => self.pivot(alias),
            6 if nests && self.dice.one_in(2) => self.unpivot(alias),
            _ => {
                let (name, columns) = self.table();
                let full = self.dice.one_in(6);
                let name = if full { format!("shop . main . {name}") } else { name.to_owned() };
                (format!("{name} {alias}"), Relation { alias, columns })
            }
        }
    }

    /// A table that no common table expression hides.
    pub(super) fn table(&mut self) -> (&'static str, Vec<Expected>) {
        let seen: Vec<_> = TABLES
            .iter()
            .filter(|(name, _)| self.hidden != Some(*name) && !self.ctes.iter().any(|cte| cte.alias == *name))
            .copied()
            .collect();
        let (name, columns) = *self.dice.pick(&seen);
        (name, columns.iter().map(|it| column(name, it)).collect())
    }

    fn pivot(&mut self, alias: String) -> (String, Relation) {
        let sql = format!(
            "( SELECT person_id , status , amount FROM orders ) PIVOT ( SUM ( amount ) FOR status IN ( 'new' , 'old' ) ) AS {alias} ( who , one , two )"
        );
        let mut value = column("orders", "amount");
        value.tested = set(&["ORDERS.STATUS"]);
        let columns = vec![
            Expected { name: "who".into(), ..column("orders", "person_id") },
            Expected { name: "one".into(), ..value.clone() },
            Expected { name: "two".into(), ..value },
        ];
        self.read.extend(set(&["ORDERS.PERSON_ID", "ORDERS.STATUS", "ORDERS.AMOUNT"]));
        (sql, Relation { alias, columns })
    }

    fn unpivot(&mut self, alias: String) -> (String, Relation) {
        let sql = format!("people UNPIVOT ( held FOR sort IN ( name , email , country ) ) {alias}");
        let values = set(&["PEOPLE.NAME", "PEOPLE.EMAIL", "PEOPLE.COUNTRY"]);
        let columns = vec![
            column("people", "id"),
            column("people", "manager_id"),
            column("people", "balance"),
            Expected { name: "sort".into(), ..Expected::default() },
            Expected { name: "held".into(), values: values.clone(), tested: BTreeSet::new() },
        ];
        self.read.extend(values);
        (sql, Relation { alias, columns })
    }

    /// `SELECT … FROM …`, with all that may stand behind; `wanted` columns when that is said.
    fn select(&mut self, depth: usize, wanted: Option<usize>) -> Query {
        let (mut from, first) = self.relation(depth);
        let mut relations = vec![first];
        for _ in 0..self.dice.below(3) {
            let (sql, relation) = self.relation(depth);
            let shared = relation.columns.iter().find(|it| it.name == "id");
            let left = relations.iter().flat_map(|it| &it.columns).filter(|it| it.name == "id").collect::<Vec<_>>();
            if let (Some(right), [left], true) = (shared, left.as_slice(), self.dice.one_in(2)) {
                let (left, right) = ((*left).clone(), right.clone());
                self.take(&left);
                self.take(&right);
                from = format!("{from} JOIN {sql} USING ( id )");
                relations.push(relation);
                continue;
            }
            let join = *self.dice.pick(&["JOIN", "LEFT JOIN", "INNER JOIN", "FULL OUTER JOIN"]);
            let (left, right) = (self.column_of(&relations), self.column_of(std::slice::from_ref(&relation)));
            from = format!("{from} {join} {sql} ON {left} = {right}");
            relations.push(relation);
        }
        // A query that looks at the relations to its left.
        if depth < DEPTH_MAX && self.dice.one_in(10) {
            let (name, columns) = self.table();
            let (alias, inner) = (self.alias('l'), [Relation { alias: self.alias('s'), columns }]);
            let (value, mut output) = self.plain_of(&inner);
            let (key, outer) = (self.column_of(&inner), self.column_of(&relations));
            let inside = inner.iter().map(|it| it.alias.as_str()).collect::<String>();
            from = format!(
                "{from} , LATERAL ( SELECT {value} AS found FROM {name} {inside} WHERE {key} = {outer} ) AS {alias}"
            );
            output.name = "found".into();
            relations.push(Relation { alias, columns: vec![output] });
        }
        // Rows of a VARIANT: a lateral relation that looks to its left.
        let variant = relations.iter().find_map(|it| {
            let payload = it.columns.iter().find(|column| column.name == "payload")?;
            Some((it.alias.clone(), payload.clone()))
        });
        if let Some((left, payload)) = variant
            && self.dice.one_in(2)
        {
            let alias = self.alias('f');
            from = format!("{from} , LATERAL FLATTEN ( input => {left} . payload ) {alias}");
            self.take(&payload);
            relations.push(Relation { alias, columns: vec![Expected { name: "value".into(), ..payload }] });
        }
        let grouped = wanted.is_none_or(|wanted| wanted > 1) && self.dice.one_in(4);
        let (items, outputs, keys) = if grouped {
            self.grouped_items(&relations, wanted)
        } else {
            let (items, outputs) = self.items(&relations, wanted, depth);
            (items, outputs, 0)
        };
        let distinct = if self.dice.one_in(8) { "DISTINCT " } else { "" };
        let mut sql = format!("SELECT {distinct}{} FROM {from}", items.join(" , "));
        if self.dice.one_in(2) {
            let condition = self.condition(&relations, depth);
            sql = format!("{sql} WHERE {condition}");
        }
        if grouped {
            let keys: Vec<String> = (1..=keys).map(|key| key.to_string()).collect();
            sql = format!("{sql} GROUP BY {}", keys.join(" , "));
        } else if self.dice.one_in(6) {
            let (by, order) = (self.column_of(&relations), self.column_of(&relations));
            sql = format!("{sql} QUALIFY ROW_NUMBER ( ) OVER ( PARTITION BY {by} ORDER BY {order} ) = 1");
        }
        if depth == 0 && wanted.is_none() && self.dice.one_in(4) {
            sql = format!("{sql} ORDER BY 1 LIMIT 10");
        }
        Query { sql, outputs }
    }

    /// The select list. A `*` stands for every column of one relation, unless a name would be there twice.
    fn items(&mut self, relations: &[Relation], wanted: Option<usize>, depth: usize) -> (Vec<String>, Vec<Expected>) {
        let (mut items, mut outputs) = (Vec::new(), Vec::new());
        let named: BTreeSet<&str> = relations.iter().flat_map(|it| &it.columns).map(|it| it.name.as_str()).collect();
        let count: usize = relations.iter().map(|it| it.columns.len()).sum();
        if wanted.is_none() && self.dice.one_in(4) {
            let star = relations.first().filter(|it| {
                let distinct: BTreeSet<&str> = it.columns.iter().map(|column| column.name.as_str()).collect();
                distinct.len() == it.columns.len()
            });
            if let Some(relation) = star {
                let all = relations.len() == 1 && named.len() == count;
                let mut columns = relation.columns.clone();
                let mut item = if all { "*".to_owned() } else { format!("{} . *", relation.alias) };
                if all && columns.len() > 1 && self.dice.one_in(3) {
                    let at = self.dice.below(columns.len());
                    item = format!("* EXCLUDE ( {} )", columns.remove(at).name);
                }
                for column in &columns {
                    self.take(column);
                }
                items.push(item);
                outputs.extend(columns);
            }
        }
        let more = wanted.unwrap_or_else(|| usize::from(items.is_empty()) + self.dice.below(3));
        // An alias of this list that a later item uses: `SELECT a + 1 AS x , x + 1 AS y`.
        let mut lateral: BTreeMap<String, Expected> = BTreeMap::new();
        let outer = self.shadowed;
        for _ in 0..more {
            let expression = match lateral.iter().next().filter(|_| self.dice.one_in(6)) {
                Some((alias, known)) => (format!("COALESCE ( {alias} , 0 )"), known.clone()),
                None => self.value(relations, depth),
            };
            let (sql, mut output) = expression;
            // Now and then the name of another column, which the alias hides from whoever reads this result.
            let hidden = if self.dice.one_in(8) { Some(self.plain_name(relations)) } else { None };
            let hidden = hidden.filter(|name| outputs.iter().all(|it: &Expected| it.name != *name));
            self.shadowed |= hidden.is_some();
            let shadows = hidden.is_some();
            let alias = hidden.unwrap_or_else(|| self.alias('c'));
            output.name.clone_from(&alias);
            items.push(format!("{sql} AS {alias}"));
            if !shadows {
                lateral.insert(alias, output.clone());
            }
            outputs.push(output);
        }
        self.shadowed = outer;
        (items, outputs)
    }

    /// Keys first, aggregates behind them.
    fn grouped_items(&mut self, relations: &[Relation], wanted: Option<usize>) -> (Vec<String>, Vec<Expected>, usize) {
        let count = wanted.unwrap_or_else(|| 2 + self.dice.below(2));
        let keys = 1 + self.dice.below(count.saturating_sub(1));
        let (mut items, mut outputs) = (Vec::new(), Vec::new());
        for at in 0..count {
            let (sql, mut output) = if at < keys { self.plain(relations) } else { self.aggregate(relations) };
            let alias = self.alias('c');
            output.name.clone_from(&alias);
            items.push(format!("{sql} AS {alias}"));
            outputs.push(output);
        }
        (items, outputs, keys)
    }
}
