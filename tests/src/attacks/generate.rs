//! Statements nobody thought of: well-typed SELECTs over the twins' relations, and changes of the one whose rows are hidden in
//! part, the same for the same seed.

/// Deepest nesting of queries and of expressions.
const DEPTH_MAX: u32 = 3;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Type {
    Text,
    Number,
    Date,
}

type Columns = Vec<(String, Type)>;

/// Relations of SHOP.PUBLIC whose columns have plain types.
const RELATIONS: [(&str, &[(&str, Type)]); 6] = [
    (
        "customers",
        &[
            ("id", Type::Number),
            ("email", Type::Text),
            ("ssn", Type::Text),
            ("phone", Type::Text),
            ("card", Type::Text),
            ("name", Type::Text),
            ("dob", Type::Date),
            ("country", Type::Text),
            ("balance", Type::Number),
        ],
    ),
    (
        "orders",
        &[
            ("id", Type::Number),
            ("customer_id", Type::Number),
            ("amount", Type::Number),
            ("status", Type::Text),
            ("note", Type::Text),
        ],
    ),
    (
        "employees",
        &[
            ("id", Type::Number),
            ("name", Type::Text),
            ("email", Type::Text),
            ("salary", Type::Number),
            ("manager_id", Type::Number),
            ("dept", Type::Text),
        ],
    ),
    ("v_cust", &[("id", Type::Number), ("contact", Type::Text), ("tax_id", Type::Text)]),
    ("lab.ledger", &LEDGER),
    ("lab.v_ledger", &[("id", Type::Number), ("place", Type::Text), ("memo", Type::Text)]),
];

/// Of which some rows are hidden.
const LEDGER: [(&str, Type); 4] =
    [("id", Type::Number), ("region", Type::Text), ("amount", Type::Number), ("memo", Type::Text)];

/// What somebody who guesses compares with.
const GUESSES: [&str; 8] =
    ["Quvex Zyltha", "900-41-7301", "+46 70 731 4420", "Ulthar Quist", "Q", "M", "quvex.zyltha@example.com", "9"];

/// Makes statements. A generator of the same seed makes the same ones.
#[derive(Debug)]
pub struct Generator {
    state: u64,
    names: u32,
}

impl Generator {
    /// Starts anew.
    pub fn new(seed: u64) -> Self {
        Self { state: seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1, names: 0 }
    }

    /// The next statement: its rows come in one order only.
    pub fn statement(&mut self) -> String {
        self.names = 0;
        let mut ctes = Vec::new();
        for _ in 0..self.below(3) {
            let (sql, columns) = self.query(DEPTH_MAX - 1, &[]);
            ctes.push((self.name("w"), sql, columns));
        }
        let known: Vec<(String, Columns)> =
            ctes.iter().map(|(name, _, columns)| (name.clone(), columns.clone())).collect();
        let (body, columns) = self.query(DEPTH_MAX, &known);
        let with: Vec<String> = ctes.iter().map(|(name, sql, _)| format!("{name} AS ({sql})")).collect();
        let with = if with.is_empty() { String::new() } else { format!("WITH {} ", with.join(", ")) };
        let order: Vec<String> = (1..=columns.len()).map(|at| at.to_string()).collect();
        format!("{with}SELECT * FROM ({body}) ORDER BY {}", order.join(", "))
    }

    /// The next change of rows, of which some stay, whatever it does.
    pub fn change(&mut self) -> String {
        self.names = 0;
        let ledger: Columns = LEDGER.iter().map(|&(name, of)| (format!("ledger.{name}"), of)).collect();
        let condition = self.predicate(2, &ledger, &[]);
        match self.below(4) {
            0 => format!("DELETE FROM lab.ledger WHERE ledger.id > 2 AND {condition}"),
            1 => format!("DELETE FROM lab.ledger WHERE ledger.region <> 'EU' OR ledger.id > 2 AND {condition}"),
            2 => format!("UPDATE lab.ledger SET memo = LEFT({}, 9)", self.value(Type::Text, 2, &ledger, &[])),
            _ => {
                let amount = self.value(Type::Number, 1, &ledger, &[]);
                format!("UPDATE lab.ledger SET amount = ({amount}) % 1000 WHERE {condition} OR 1 = 1")
            }
        }
    }

    fn query(&mut self, depth: u32, ctes: &[(String, Columns)]) -> (String, Columns) {
        let (mut sql, columns) = self.select(depth, ctes, None);
        if self.one_in(5) {
            let types: Vec<Type> = columns.iter().map(|(_, of)| *of).collect();
            let word = self.pick(&["UNION", "UNION ALL", "EXCEPT", "INTERSECT"]);
            let (other, _) = self.select(depth.saturating_sub(1), ctes, Some(&types));
            sql = format!("{sql} {word} {other}");
        }
        (sql, columns)
    }

    /// `types`: what the columns must be.
    fn select(&mut self, depth: u32, ctes: &[(String, Columns)], types: Option<&[Type]>) -> (String, Columns) {
        let (mut from, mut scope) = self.source(depth, ctes);
        for _ in 0..self.below(3) {
            let (more, columns) = self.source(depth, ctes);
            scope.extend(columns);
            let condition = self.predicate(depth.min(1), &scope, ctes);
            let join = self.pick(&["JOIN", "LEFT JOIN", "FULL JOIN"]);
            from = format!("{from} {join} {more} ON {condition}");
        }
        let wanted: Vec<Type> = match types {
            Some(types) => types.to_vec(),
            None => (0..=self.below(3)).map(|_| self.any_type()).collect(),
        };
        let shape = self.below(6);
        let mut items = Vec::new();
        let mut columns = Vec::new();
        for of in wanted {
            let value = match shape {
                0 => self.aggregate(of, depth, &scope, ctes),
                1 => self.window(of, &scope),
                _ => self.value(of, depth, &scope, ctes),
            };
            let name = self.name("c");
            items.push(format!("{value} AS {name}"));
            columns.push((name, of));
        }
        let condition =
            if self.one_in(2) { format!(" WHERE {}", self.predicate(depth, &scope, ctes)) } else { String::new() };
        let group = if shape == 0 && self.one_in(2) {
            let key = self.any_column(&scope);
            let having = if self.one_in(2) { " HAVING COUNT(*) > 0" } else { "" };
            format!(" GROUP BY {key}{having}")
        } else {
            String::new()
        };
        let distinct = if shape > 1 && self.one_in(5) { "DISTINCT " } else { "" };
        let qualify = if shape == 1 && self.one_in(2) {
            let (over, key) = (self.any_column(&scope), self.any_column(&scope));
            format!(" QUALIFY RANK() OVER (PARTITION BY {over} ORDER BY {key}) = 1")
        } else {
            String::new()
        };
        (format!("SELECT {distinct}{} FROM {from}{condition}{group}{qualify}", items.join(", ")), columns)
    }

    /// A relation of FROM, and its columns as they are called in the query.
    fn source(&mut self, depth: u32, ctes: &[(String, Columns)]) -> (String, Columns) {
        let alias = self.name("t");
        let (text, columns): (String, Columns) = match self.below(4) {
            0 if depth > 0 => {
                let (sql, columns) = self.query(depth - 1, ctes);
                (format!("({sql})"), columns)
            }
            1 if !ctes.is_empty() => ctes.get(self.below(ctes.len())).cloned().unwrap_or_default(),
            _ => {
                // Rather one that holds protected values.
                let at = self.pick(&[0, 0, 0, 1, 2, 2, 3, 4, 4, 5]);
                let (name, columns) = RELATIONS.get(at).copied().unwrap_or_default();
                (name.to_owned(), columns.iter().map(|&(name, of)| (name.to_owned(), of)).collect())
            }
        };
        let columns = columns.into_iter().map(|(name, of)| (format!("{alias}.{name}"), of)).collect();
        (format!("{text} AS {alias}"), columns)
    }

    fn value(&mut self, of: Type, depth: u32, scope: &Columns, ctes: &[(String, Columns)]) -> String {
        if depth == 0 || self.one_in(3) {
            return self.column(of, scope);
        }
        let depth = depth - 1;
        if self.one_in(8) {
            let other = self.value(of, depth, scope, ctes);
            let condition = self.predicate(depth, scope, ctes);
            let value = self.value(of, depth, scope, ctes);
            return format!("CASE WHEN {condition} THEN {value} ELSE {other} END");
        }
        if self.one_in(10) {
            let (from, columns) = self.source(depth, ctes);
            let inner = self.aggregate(of, 0, &columns, ctes);
            return format!("(SELECT {inner} FROM {from})");
        }
        match of {
            Type::Text => {
                let text = self.value(Type::Text, depth, scope, ctes);
                match self.below(8) {
                    0 => format!("UPPER({text})"),
                    1 => format!("SUBSTR({text}, {}, 3)", self.below(4) + 1),
                    2 => format!("{text} || {}", self.value(Type::Text, depth, scope, ctes)),
                    3 => format!("COALESCE({text}, {})", self.value(Type::Text, depth, scope, ctes)),
                    4 => format!("REPLACE({text}, 'a', 'b')"),
                    5 => format!("CAST({} AS VARCHAR)", self.value(Type::Number, depth, scope, ctes)),
                    6 => format!("CAST({} AS VARCHAR)", self.value(Type::Date, depth, scope, ctes)),
                    _ => format!("REVERSE({text})"),
                }
            }
            Type::Number => match self.below(5) {
                0 => format!("LENGTH({})", self.value(Type::Text, depth, scope, ctes)),
                1 => format!("({} + 1)", self.value(Type::Number, depth, scope, ctes)),
                2 => format!("ABS({})", self.value(Type::Number, depth, scope, ctes)),
                3 => format!("DATEDIFF('day', {}, DATE '2026-01-01')", self.value(Type::Date, depth, scope, ctes)),
                _ => format!("POSITION('a', {})", self.value(Type::Text, depth, scope, ctes)),
            },
            Type::Date => format!("DATEADD('day', {}, {})", self.below(9), self.value(Type::Date, depth, scope, ctes)),
        }
    }

    fn aggregate(&mut self, of: Type, depth: u32, scope: &Columns, ctes: &[(String, Columns)]) -> String {
        let word = match of {
            Type::Number => self.pick(&["MAX", "MIN", "SUM", "COUNT", "AVG"]),
            Type::Text | Type::Date => self.pick(&["MAX", "MIN"]),
        };
        if word == "COUNT" {
            return format!("COUNT(DISTINCT {})", self.any_column(scope));
        }
        let depth = depth.min(1);
        // No subquery inside an aggregate: not everybody runs that.
        let value = if depth == 0 { self.column(of, scope) } else { self.value(of, 0, scope, ctes) };
        format!("{word}({value})")
    }

    fn window(&mut self, of: Type, scope: &Columns) -> String {
        let (value, over, key) = (self.column(of, scope), self.any_column(scope), self.any_column(scope));
        match of {
            Type::Number if self.one_in(2) => format!("DENSE_RANK() OVER (PARTITION BY {over} ORDER BY {key})"),
            Type::Text | Type::Number | Type::Date => format!("MAX({value}) OVER (PARTITION BY {over})"),
        }
    }

    fn predicate(&mut self, depth: u32, scope: &Columns, ctes: &[(String, Columns)]) -> String {
        let text = |this: &mut Self| this.value(Type::Text, depth.min(1), scope, ctes);
        match self.below(if depth > 0 { 9 } else { 5 }) {
            0 => format!("{} = {}", text(self), self.guess()),
            1 => format!("{} LIKE '{}%'", text(self), self.pick(&["Q", "9", "+46", "quv", "4000"])),
            2 => format!("{} > {}", text(self), self.guess()),
            3 => format!("{} IS NULL", self.any_column(scope)),
            4 => format!("{} > {}", self.value(Type::Number, depth.min(1), scope, ctes), self.below(100_000)),
            5 => {
                let (sql, _) = self.select(depth - 1, ctes, Some(&[Type::Text]));
                format!("{} IN ({sql})", self.column(Type::Text, scope))
            }
            6 => {
                let (from, mut columns) = self.source(depth - 1, ctes);
                columns.extend(scope.iter().cloned());
                let condition = self.predicate(0, &columns, ctes);
                format!("EXISTS (SELECT 1 FROM {from} WHERE {condition})")
            }
            7 => format!("NOT ({})", self.predicate(depth - 1, scope, ctes)),
            _ => {
                let word = self.pick(&["AND", "OR"]);
                format!(
                    "({} {word} {})",
                    self.predicate(depth - 1, scope, ctes),
                    self.predicate(depth - 1, scope, ctes)
                )
            }
        }
    }

    /// A column of the type, or a literal when there is none.
    fn column(&mut self, of: Type, scope: &Columns) -> String {
        let fit: Vec<&String> = scope.iter().filter(|(_, own)| *own == of).map(|(name, _)| name).collect();
        match (fit.get(self.below(fit.len().max(1))), of) {
            (Some(name), _) => (*name).clone(),
            (None, Type::Text) => self.guess(),
            (None, Type::Number) => "7".to_owned(),
            (None, Type::Date) => "DATE '1984-06-01'".to_owned(),
        }
    }

    fn any_column(&mut self, scope: &Columns) -> String {
        let of = self.any_type();
        let at = self.below(scope.len().max(1));
        scope.get(at).map_or_else(|| self.column(of, scope), |(name, _)| name.clone())
    }

    fn any_type(&mut self) -> Type {
        self.pick(&[Type::Text, Type::Text, Type::Text, Type::Number, Type::Number, Type::Date])
    }

    fn guess(&mut self) -> String {
        format!("'{}'", self.pick(&GUESSES))
    }

    fn name(&mut self, prefix: &str) -> String {
        self.names += 1;
        format!("{prefix}{}", self.names)
    }

    fn pick<T: Copy, const N: usize>(&mut self, from: &[T; N]) -> T {
        let at = self.below(N);
        #[expect(clippy::indexing_slicing, reason = "below N")]
        from[at]
    }

    fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    /// A number from 0 to `n` - 1: xorshift64*, because a test's numbers must be the same everywhere.
    fn below(&mut self, n: usize) -> usize {
        self.state ^= self.state >> 12;
        self.state ^= self.state << 25;
        self.state ^= self.state >> 27;
        let high = self.state.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33;
        usize::try_from(high).unwrap_or(0) % n.max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_makes_the_same_statements() {
        let make = |seed| {
            let mut generator = Generator::new(seed);
            (0..50).map(|_| generator.statement()).collect::<Vec<_>>()
        };
        assert_eq!(make(7), make(7));
        assert_ne!(make(7), make(8));
        assert!(make(7).iter().any(|sql| sql.contains("EXISTS")));
        let change = |seed| Generator::new(seed).change();
        assert_eq!(change(7), change(7));
        assert!((0..50).map(change).any(|sql| sql.starts_with("DELETE")));
    }
}
