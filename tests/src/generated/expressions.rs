//! Values and conditions.

use super::{
    Expected,
    queries::{Maker, Relation},
};

type Value = (String, Expected);

impl Maker {
    /// A column by its name, qualified; bare when only one relation has it, now and then.
    pub(super) fn plain(&mut self, relations: &[Relation]) -> Value {
        let with: Vec<&Relation> = relations.iter().filter(|it| !it.columns.is_empty()).collect();
        let relation = *self.dice.pick(&with);
        let column = self.dice.pick(&relation.columns).clone();
        let others = relations.iter().flat_map(|it| &it.columns).filter(|it| it.name == column.name).count();
        let bare = others == 1 && !self.shadowed && self.dice.one_in(3);
        self.take(&column);
        let sql = if bare { column.name.clone() } else { format!("{} . {}", relation.alias, column.name) };
        (sql, column)
    }

    /// The name of some column in sight.
    pub(super) fn plain_name(&mut self, relations: &[Relation]) -> String {
        let relation = self.dice.pick(relations).clone();
        self.dice.pick(&relation.columns).name.clone()
    }

    /// The text of a column, read for a test.
    pub(super) fn column_of(&mut self, relations: &[Relation]) -> String {
        let relation = self.dice.pick(relations).clone();
        let column = self.dice.pick(&relation.columns).clone();
        self.take(&column);
        format!("{} . {}", relation.alias, column.name)
    }

    pub(super) fn aggregate(&mut self, relations: &[Relation]) -> Value {
        let how = self.dice.below(5);
        if how == 0 {
            return ("COUNT ( * )".into(), Expected::default());
        }
        let (sql, column) = self.plain(relations);
        match how {
            1 => (format!("LISTAGG ( {sql} , ',' )"), column),
            2 => {
                let (by, decided) = self.plain(relations);
                (format!("MAX_BY ( {sql} , {by} )"), tested(column, &decided))
            }
            _ => {
                let function = *self.dice.pick(&["MAX", "MIN", "ANY_VALUE", "COUNT"]);
                (format!("{function} ( {sql} )"), column)
            }
        }
    }

    /// Any value that one row gives.
    pub(super) fn value(&mut self, relations: &[Relation], depth: usize) -> Value {
        let how = self.dice.below(12);
        if how == 7 && depth < 2 {
            return self.scalar(relations);
        }
        if how == 9
            && let Some(value) = self.path(relations)
        {
            return value;
        }
        let (sql, column) = self.plain(relations);
        match how {
            0 => (format!("UPPER ( {sql} )"), column),
            1 | 2 => {
                let (other, second) = self.plain(relations);
                (format!("{sql} || {other}"), joined(column, second))
            }
            3 => {
                let (test, decided) = self.plain(relations);
                let (other, second) = self.plain(relations);
                let column = tested(joined(column, second), &decided);
                (format!("CASE WHEN {test} = 1 THEN {sql} ELSE {other} END"), column)
            }
            4 => {
                let (test, decided) = self.plain(relations);
                (format!("IFF ( {test} IS NULL , {sql} , 'none' )"), tested(column, &decided))
            }
            5 => {
                let (by, first) = self.plain(relations);
                let (order, second) = self.plain(relations);
                let column = tested(tested(column, &first), &second);
                (format!("LAG ( {sql} ) OVER ( PARTITION BY {by} ORDER BY {order} )"), column)
            }
            6 => (format!("{sql} :: VARCHAR"), column),
            8 => {
                let (other, second) = self.plain(relations);
                (format!("COALESCE ( {sql} , {other} , 'x' )"), joined(column, second))
            }
            _ => (sql, column),
        }
    }

    /// `( SELECT MAX ( … ) FROM … WHERE … = outer )`.
    fn scalar(&mut self, relations: &[Relation]) -> Value {
        let (name, columns) = self.table();
        let inner = [Relation { alias: self.alias('s'), columns }];
        let (sql, column) = self.plain_of(&inner);
        let key = self.plain_of(&inner);
        let (outer, decided) = self.plain_of(relations);
        let alias = inner.iter().map(|it| it.alias.as_str()).collect::<String>();
        let column = tested(tested(column, &key.1), &decided);
        (format!("( SELECT MAX ( {sql} ) FROM {name} {alias} WHERE {} = {outer} )", key.0), column)
    }

    /// A column, qualified: inside a subquery a bare name could mean either scope.
    pub(super) fn plain_of(&mut self, relations: &[Relation]) -> Value {
        let relation = self.dice.pick(relations).clone();
        let column = self.dice.pick(&relation.columns).clone();
        self.take(&column);
        (format!("{} . {}", relation.alias, column.name), column)
    }

    /// A path into a VARIANT, when one is in sight.
    fn path(&mut self, relations: &[Relation]) -> Option<Value> {
        let relation = relations.iter().find(|it| it.columns.iter().any(|column| column.name == "payload"))?;
        let column = relation.columns.iter().find(|column| column.name == "payload")?.clone();
        self.take(&column);
        Some((format!("{} . payload : user . name :: VARCHAR", relation.alias), column))
    }

    pub(super) fn condition(&mut self, relations: &[Relation], depth: usize) -> String {
        let column = self.column_of(relations);
        match self.dice.below(6) {
            0 => format!("{column} LIKE 'a%'"),
            1 => format!("{column} IN ( 1 , 2 ) AND {} IS NOT NULL", self.column_of(relations)),
            2 if depth < 2 => {
                let (name, columns) = self.table();
                let inner = [Relation { alias: self.alias('s'), columns }];
                let (alias, one, two) = (inner[0].alias.clone(), self.column_of(&inner), self.column_of(&inner));
                format!("EXISTS ( SELECT 1 FROM {name} {alias} WHERE {one} = {column} AND {two} > 1 )")
            }
            3 if depth < 2 => {
                let (name, columns) = self.table();
                let inner = [Relation { alias: self.alias('s'), columns }];
                let (alias, one) = (inner[0].alias.clone(), self.column_of(&inner));
                format!("{column} IN ( SELECT {one} FROM {name} {alias} )")
            }
            4 => format!("NOT ( {column} BETWEEN 1 AND 9 ) OR {} = 'x'", self.column_of(relations)),
            _ => format!("{column} = 1"),
        }
    }
}

fn joined(mut column: Expected, other: Expected) -> Expected {
    column.values.extend(other.values);
    column.tested.extend(other.tested);
    column
}

fn tested(mut column: Expected, by: &Expected) -> Expected {
    column.tested.extend(by.values.iter().chain(&by.tested).cloned());
    column
}
