//! Statements that write: what is written comes from the same queries.

use super::{
    Expected, Generated,
    queries::{Maker, Query, Relation, column},
};

/// What is stored has the names of the columns it is stored in.
fn named(outputs: Vec<Expected>, columns: &[impl AsRef<str>]) -> Vec<Expected> {
    let named = |(output, name): (Expected, &_)| Expected { name: AsRef::<str>::as_ref(name).to_owned(), ..output };
    outputs.into_iter().zip(columns).map(named).collect()
}

impl Maker {
    pub(super) fn change(&mut self, seed: u64) -> Generated {
        let (sql, outputs, kind) = match self.dice.below(5) {
            0 => {
                let query = self.query(1);
                let columns: Vec<String> = query.outputs.iter().map(|_| self.alias('k')).collect();
                let name = self.alias('m');
                (
                    format!(
                        "CREATE TABLE {name} ( {} ) AS {}",
                        columns.iter().map(|it| format!("{it} VARCHAR")).collect::<Vec<_>>().join(" , "),
                        query.sql
                    ),
                    named(query.outputs, &columns),
                    "create_table",
                )
            }
            1 => {
                let query = self.query(1);
                let name = self.alias('m');
                (format!("CREATE OR REPLACE VIEW {name} AS {}", query.sql), query.outputs, "create_view")
            }
            2 => {
                let Query { sql, outputs } = self.query(1);
                let columns = ["id", "person_id", "status", "amount", "note"];
                let outputs: Vec<_> = outputs.into_iter().take(columns.len()).collect();
                let targets = columns.iter().take(outputs.len()).copied().collect::<Vec<_>>().join(" , ");
                let (alias, from) = (self.alias('t'), outputs.iter().map(|it| it.name.clone()).collect::<Vec<_>>());
                let items = from.iter().map(|name| format!("{alias} . {name}")).collect::<Vec<_>>().join(" , ");
                let sql = format!("INSERT INTO orders ( {targets} ) SELECT {items} FROM ( {sql} ) {alias}");
                (sql, named(outputs, &columns), "insert")
            }
            3 => {
                let Query { sql, outputs } = self.query(1);
                let alias = self.alias('t');
                let source = [Relation { alias: alias.clone(), columns: outputs }];
                let (value, output) = self.plain(&source);
                let key = self.column_of(&source);
                self.take(&column("orders", "id"));
                let sql = format!("UPDATE orders SET note = {value} FROM ( {sql} ) {alias} WHERE orders . id = {key}");
                (sql, named(vec![output], &["note"]), "update")
            }
            _ => {
                let Query { sql, outputs } = self.query(1);
                let (target, alias) = (self.alias('t'), self.alias('t'));
                let source = [Relation { alias: alias.clone(), columns: outputs }];
                let key = self.column_of(&source);
                let qualified = |maker: &mut Self| {
                    let it = maker.dice.pick(&source[0].columns).clone();
                    maker.take(&it);
                    (format!("{alias} . {}", it.name), it)
                };
                let ((update, one), (insert, two)) = (qualified(self), qualified(self));
                self.take(&column("orders", "id"));
                let sql = format!(
                    "MERGE INTO orders {target} USING ( {sql} ) {alias} ON {target} . id = {key} WHEN MATCHED THEN UPDATE SET note = {update} WHEN NOT MATCHED THEN INSERT ( note ) VALUES ( {insert} )"
                );
                // One column takes both.
                let mut both = one;
                both.values.extend(two.values);
                both.tested.extend(two.tested);
                (sql, named(vec![both], &["note"]), "merge")
            }
        };
        Generated { seed, sql, outputs, read: self.read.clone(), kind }
    }
}
