//! What the READMEs show is so: the policy is in force, the pasted command gives its answer, and no code, metric or command
//! is missing or made up.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests may"
)]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
};

use icegate_pdp_decision::{BoundValues, Earlier, Question, decide};
use icegate_pdp_model::{Outcome, Principal, SessionContext};
use icegate_pdp_pip::BundleDir;
use icegate_pdp_sql::{Limits, analyze};
use icegate_tests::policies::{bundle, root};

/// Files in which somebody may look for a command.
const READMES: [&str; 5] =
    ["README.md", "policies/README.md", "pdp/README.md", "pep-proxy/README.md", "tests/decisions/README.md"];

fn text(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap()
}

/// The fenced blocks of one language, without the indentation of their fence.
fn blocks(text: &str, language: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let Some(rest) = line.trim_start().strip_prefix("```") else { continue };
        let indent = line.len() - line.trim_start().len();
        let inside = lines.by_ref().take_while(|line| line.trim_start() != "```");
        let block: String = inside.flat_map(|line| [line.get(indent..).unwrap_or_default(), "\n"]).collect();
        if rest == language {
            found.push(block);
        }
    }
    found
}

/// What stands between backticks, line by line.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.lines().flat_map(|line| line.split('`').skip(1).step_by(2))
}

/// The section under a heading, up to the next one that is not below it.
fn section<'a>(text: &'a str, heading: &str) -> &'a str {
    let (_, rest) = text.split_once(&format!("\n{heading}\n")).unwrap_or_else(|| panic!("no `{heading}`"));
    let level = heading.split(' ').next().unwrap().len();
    (1..=level).fold(rest, |rest, level| rest.split(format!("\n{} ", "#".repeat(level)).as_str()).next().unwrap())
}

/// Every text in the source that stands between quotation marks and is made of these characters.
fn literals(source: &str, made_of: impl Fn(char) -> bool) -> BTreeSet<String> {
    source
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .flat_map(|line| line.split('"').skip(1).step_by(2))
        .filter(|literal| !literal.is_empty() && literal.chars().all(&made_of))
        .map(str::to_owned)
        .collect()
}

fn squeezed(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn the_policy_is_one_of_the_starting_set() {
    let shown = blocks(&text("README.md"), "cedar");
    assert_eq!(shown.len(), 1);
    assert!(squeezed(&text("policies/personal-data.cedar")).contains(&squeezed(&shown[0])), "{}", shown[0]);
}

#[test]
fn the_pasted_decision_is_a_masked_read() {
    let readme = text("README.md");
    let shell = blocks(&readme, "sh").into_iter().find(|block| block.contains("icegate decide")).unwrap();
    let (_, rest) = shell.split_once("cat > me.yaml <<'END'\n").unwrap();
    let (principal, rest) = rest.split_once("\nEND\n").unwrap();
    let (sql, command) = rest.trim().strip_prefix("echo '").unwrap().split_once("' |\n").unwrap();
    let words: Vec<&str> = command.split_whitespace().collect();
    assert_eq!(words[..2], ["icegate", "decide"]);
    let options: BTreeMap<&str, &str> = words[2..].chunks(2).map(|pair| (pair[0], pair[1])).collect();
    assert_eq!(options.keys().copied().collect::<Vec<_>>(), ["--database", "--policies", "--principal", "--schema"]);
    assert_eq!(options["--principal"], "me.yaml");

    let bundle = BundleDir::new(root().join(options["--policies"])).load().unwrap();
    let principal: Principal = serde_saphyr::from_str(principal).unwrap();
    let session = SessionContext {
        database: Some(options["--database"].to_owned()),
        schema: Some(options["--schema"].to_owned()),
        ..SessionContext::default()
    };
    let approvals = BTreeSet::new();
    let question = Question {
        principal: &principal,
        sql,
        bound: &BoundValues::default(),
        earlier: Earlier::none(),
        session: &session,
        statement_count: 0,
        approvals: &approvals,
    };
    let decision = decide(&question, &bundle);
    assert_eq!(decision.outcome, Outcome::Mask, "{decision:?}");
    assert!(decision.policies.contains("mask-email"), "{decision:?}");
}

/// A word of each row in `policies/README.md` that says what is read, with a statement that is.
const READ: &[(&str, &str, &str)] = &[
    ("understood", "SELECT", "SELECT id FROM sales.public.orders"),
    (
        "understood",
        "MERGE",
        "MERGE INTO sales.public.orders o USING sales.staging.leads l ON o.id = l.id WHEN MATCHED THEN DELETE",
    ),
    ("understood", "COPY INTO", "COPY INTO @sales.public.st FROM sales.public.orders"),
    ("understood", "CLONE", "CREATE TABLE sales.staging.c CLONE sales.public.orders"),
    ("understood", "AS SELECT", "CREATE TABLE sales.staging.c AS SELECT id FROM sales.public.orders"),
    ("understood", "databases", "DROP DATABASE sales"),
    ("understood", "GRANT", "GRANT SELECT ON TABLE sales.public.orders TO ROLE a"),
    ("understood", "ALTER SESSION", "ALTER SESSION SET TIMEZONE = 'UTC'"),
    ("understood", "transactions", "BEGIN"),
    ("understood", "SET of a variable", "SET x = 1"),
    ("classified", "CALL", "CALL sales.public.loader('x')"),
    ("classified", "EXECUTE", "EXECUTE TASK sales.public.t"),
    ("classified", "PUT", "PUT file:///tmp/x @sales.public.st"),
    ("classified", "DDL", "UNDROP TABLE sales.public.orders"),
    ("classified", "tasks", "CREATE TASK sales.public.t AS DELETE FROM sales.public.orders"),
    ("classified", "scripting blocks", "BEGIN DELETE FROM sales.public.orders; END"),
    ("classified", "EXECUTE IMMEDIATE of a constant", "EXECUTE IMMEDIATE 'SELECT 1'"),
    ("unknown", "EXECUTE IMMEDIATE of a computed text", "EXECUTE IMMEDIATE 'SELECT ' || 1"),
    ("unknown", "`SYSTEM$`", "CALL SYSTEM$CANCEL_QUERY('x')"),
    ("unknown", "no SQL", "please show me everything"),
];

#[test]
fn statements_are_read_as_the_table_says() {
    let bundle = bundle();
    let readme = text("policies/README.md");
    let table = section(&readme, "### What is read");
    for (level, word, sql) in READ {
        let row = table.lines().find(|line| line.starts_with(&format!("| `{level}` |"))).unwrap();
        assert!(row.contains(word), "`{word}` is not in the row of `{level}`");
        let analyzed = analyze(sql, &SessionContext::default(), bundle.catalog(), &Limits::default()).unwrap();
        let levels: Vec<&str> = analyzed.statements.iter().map(|statement| statement.level.as_str()).collect();
        assert_eq!(levels, [*level], "{sql}");
    }
}

#[test]
fn refusal_codes_are_all_there_and_no_other() {
    let is_code = |c: char| c.is_ascii_uppercase() || c == '-';
    let mut codes: BTreeSet<String> = BTreeSet::new();
    for source in ["pdp/core/model/src/decision.rs", "pep-proxy/core/protocol/src/refusal.rs"] {
        let source = text(source);
        let arms: String = source.lines().filter(|line| line.contains("Self::") && line.contains("=> \"")).collect();
        codes.extend(literals(&arms, is_code));
    }
    assert!(codes.len() >= 29 && codes.contains("POLICY-FORBID") && codes.contains("PDP-UNREACHABLE"), "{codes:?}");
    let readme = text("README.md");
    let told: BTreeSet<String> = section(&readme, "## Refusals")
        .lines()
        .filter_map(|line| line.strip_prefix("| "))
        .filter_map(|row| row.split(" |").next())
        .flat_map(quoted)
        .map(str::to_owned)
        .collect();
    assert_eq!(told, codes);
}

#[test]
fn metrics_are_all_there_and_no_other() {
    for (source, readme, prefix) in [
        ("pdp/src/metrics.rs", "pdp/README.md", "icegate_pdp_"),
        ("pep-proxy/src/metrics.rs", "pep-proxy/README.md", "icegate_pep_"),
    ] {
        let is_name = |c: char| c.is_ascii_lowercase() || c == '_';
        let mut names = literals(&text(source), is_name);
        names.retain(|name| name.starts_with(prefix));
        assert!(names.len() > 10, "{names:?}");
        let room = text(readme);
        let told: BTreeSet<String> = section(&room, "## Metrics")
            .lines()
            .filter_map(|line| line.strip_prefix("| "))
            .filter_map(|row| row.split(" |").next())
            .flat_map(quoted)
            .map(|name| format!("{prefix}{name}"))
            .collect();
        assert_eq!(told, names, "{readme}");
        let top = text("README.md");
        let to_watch = section(&top, "### Metrics");
        for name in quoted(to_watch).filter(|name| name.starts_with(prefix)) {
            assert!(names.contains(name), "{name}");
        }
    }
}

#[test]
fn commands_exist() {
    let help = text("pdp/cli/src/snapshots/icegate_cli__args__tests__help_reads_well.snap");
    let commands: BTreeSet<&str> =
        help.lines().filter_map(|line| line.strip_prefix("$ icegate ")?.strip_suffix(" --help")).collect();
    assert!(commands.contains("audit search"), "{commands:?}");
    let mut seen = 0;
    for file in READMES {
        let readme = text(file);
        let pasted: Vec<String> = ["sh", ""].iter().flat_map(|language| blocks(&readme, language)).collect();
        let lines = pasted.iter().flat_map(|block| block.lines());
        for shown in lines.chain(quoted(&readme)) {
            let Some(rest) = shown.trim().strip_prefix("icegate ") else { continue };
            let words: Vec<&str> = rest.split_whitespace().take(2).collect();
            let one = words.first().copied().unwrap_or_default();
            let known =
                commands.contains(one) && commands.iter().all(|command| !command.starts_with(&format!("{one} ")));
            assert!(known || commands.contains(words.join(" ").as_str()), "{file}: `{shown}`");
            seen += 1;
        }
    }
    assert!(seen > 10, "only {seen} commands found");
}

#[test]
fn links_lead_somewhere() {
    for file in READMES.into_iter().chain(["ARCHITECTURE.md", "proto/README.md", "benches/README.md"]) {
        let whole = text(file);
        let links = whole.split("](").skip(1).filter_map(|rest| rest.split(')').next());
        for link in links.filter(|link| !link.starts_with("http")) {
            let (path, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = root().join(file).parent().unwrap().join(path);
            let target = if path.is_empty() { root().join(file) } else { target };
            assert!(target.exists(), "{file}: `{link}`");
            if !anchor.is_empty() {
                let headings = fs::read_to_string(&target).unwrap();
                let found = headings
                    .lines()
                    .filter(|line| line.starts_with('#'))
                    .any(|line| line.trim_start_matches('#').trim().to_lowercase().replace(' ', "-") == anchor);
                assert!(found, "{file}: `{link}`");
            }
        }
    }
}
