use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::{catalog::dbt::MetaKey, demo::DemoArgs};

const EXIT_CODES: &str = "Exit status:
  0   done, and everything that was checked holds
  1   a check failed, or the PDP refused
  2   the command line is wrong
  64  a file or a setting is wrong
  69  the PDP cannot be reached
  70  an error inside icegate";

/// Decides and enforces who may run which SQL against Snowflake, and what they get to see
#[derive(Debug, Parser)]
#[command(name = "icegate", version, after_help = EXIT_CODES, arg_required_else_help = true)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) connection: Connection,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// How commands that ask a PDP reach it, and as whom.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Connection (approvals, sessions, audit, catalog)")]
pub(crate) struct Connection {
    /// Where the PDP listens, as `host:port`
    #[arg(
        long,
        global = true,
        value_name = "ADDR",
        env = "ICEGATE_PDP",
        hide_env_values = true,
        default_value = "127.0.0.1:7700"
    )]
    pub(crate) pdp: String,
    /// File that holds your OIDC token; without it the token is taken from `ICEGATE_TOKEN`
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) token_file: Option<PathBuf>,
    /// PEM file of the certificate authority that signed the PDP's certificate
    #[arg(long, global = true, value_name = "FILE", env = "ICEGATE_CA", hide_env_values = true)]
    pub(crate) ca: Option<PathBuf>,
    /// Talk to a PDP on this machine without TLS; refused for any other address
    #[arg(long, global = true)]
    pub(crate) danger_plaintext: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// See everything at work on this machine: a tour with a real driver, then a place to try things
    Demo(DemoArgs),
    /// Statements that wait for a person
    #[command(subcommand)]
    Approvals(ApprovalsCommand),
    /// Who is connected, and ending it
    #[command(subcommand)]
    Sessions(SessionsCommand),
    /// What was asked, decided and run, and by whom
    #[command(subcommand)]
    Audit(AuditCommand),
    /// What a statement is, touches, reads and discloses
    #[command(subcommand)]
    Sql(SqlCommand),
    /// What would be decided, without a server
    Decide(DecideArgs),
    /// Check a policy bundle, and run its cases
    #[command(subcommand)]
    Policy(PolicyCommand),
    /// What is known of the warehouse: import it, see what a sync read, print it
    #[command(subcommand)]
    Catalog(CatalogCommand),
}

#[derive(Debug, Subcommand)]
pub(crate) enum ApprovalsCommand {
    /// List statements you may approve, and your own
    List {
        /// Ended ones too
        #[arg(long)]
        all: bool,
        /// At most this many, 1 to 1000
        #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1000))]
        limit: u32,
        /// One JSON object a line
        #[arg(long)]
        json: bool,
    },
    /// Show one with the exact statement that would run
    Show {
        /// The approval, as `approvals list` and the driver's message name it
        id: String,
        /// One JSON object
        #[arg(long)]
        json: bool,
    },
    /// Approve one; the statement that waits then runs
    Approve {
        /// The approval
        id: String,
        /// Why, for the record
        #[arg(long, default_value = "", hide_default_value = true)]
        comment: String,
    },
    /// Reject one, for good
    Reject {
        /// The approval
        id: String,
        /// Why, for the record and for whoever asked
        #[arg(long)]
        comment: String,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum SessionsCommand {
    /// List sessions, newest first
    List {
        /// Only this principal's
        #[arg(long, default_value = "", hide_default_value = true)]
        principal: String,
        /// Ended ones too
        #[arg(long)]
        all: bool,
        /// At most this many, 1 to 1000
        #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1000))]
        limit: u32,
        /// One JSON object a line
        #[arg(long)]
        json: bool,
    },
    /// End one session, or everything a principal has: its sessions and every token issued until now
    #[command(group(clap::ArgGroup::new("whose").required(true).args(["session_id", "principal"])))]
    Revoke {
        /// The session, as `sessions list` names it
        session_id: Option<String>,
        /// The principal, as `sessions list` names it
        #[arg(long)]
        principal: Option<String>,
        /// Why, for the record
        #[arg(long)]
        reason: String,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum AuditCommand {
    /// Find records, newest first
    Search(SearchArgs),
    /// Show everything that belongs to one decision
    Show {
        /// The decision, as refusals and `QUERY_TAG` name it, or the number of one of its records in `audit search`
        #[arg(value_name = "DECISION|RECORD")]
        wanted: String,
        /// One JSON object a line
        #[arg(long)]
        json: bool,
    },
    /// Check that no record was altered, removed or put in, by computing the hash chain again
    Verify {
        /// First record; those before it are not checked
        #[arg(long, default_value_t = 0, hide_default_value = true)]
        from_seq: u64,
        /// Last record
        #[arg(long, default_value_t = 0, hide_default_value = true)]
        to_seq: u64,
    },
}

/// What to find: everything that is given has to hold.
#[derive(Debug, Clone, Args)]
pub(crate) struct SearchArgs {
    /// Principal, with or without the issuer's name before the `/`
    #[arg(long, default_value = "", hide_default_value = true)]
    pub(crate) user: String,
    /// Agent
    #[arg(long, default_value = "", hide_default_value = true)]
    pub(crate) agent: String,
    /// Only records since then: `2026-11-23T15:00:00Z`, `2026-11-23` (midnight UTC), or how long ago, as `15m`, `2h`, `3d`
    #[arg(long, value_name = "TIME")]
    pub(crate) from: Option<String>,
    /// Only records until then, written like `--from`
    #[arg(long, value_name = "TIME")]
    pub(crate) to: Option<String>,
    /// Object, or the beginning of its name: `SALES.PUBLIC`
    #[arg(long, default_value = "", hide_default_value = true)]
    pub(crate) object: String,
    /// Decision (`allow`, `deny`, `mask`, `needs-approval`) or how the run ended (`succeeded`, `failed`, `cancelled`,
    /// `withheld`, `not-sent`, `unknown`), or `cut`: a part of its result could not be masked and was kept back
    #[arg(long, default_value = "", hide_default_value = true)]
    pub(crate) outcome: String,
    /// Text that occurs in the statement
    #[arg(long, default_value = "", hide_default_value = true)]
    pub(crate) text: String,
    /// Decision id
    #[arg(long, default_value = "", hide_default_value = true)]
    pub(crate) decision: String,
    /// At most this many records
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) limit: u32,
    /// One JSON object a line: `record` and, for a decision, `outcome` and `cut` as they were hashed
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum SqlCommand {
    /// Read SQL on standard input and print what it is
    Inspect(InspectArgs),
}

#[derive(Debug, Clone, Args)]
pub(crate) struct InspectArgs {
    /// Catalog, YAML or JSON
    #[arg(long, value_name = "FILE")]
    pub(crate) catalog: PathBuf,
    /// The input is one `{"id","sql","session"}` a line, and so is the output; other fields are left alone
    #[arg(long)]
    pub(crate) jsonl: bool,
    /// One JSON object, as a line of `--jsonl` gives
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) session: SessionArgs,
}

/// The session unqualified names are resolved in, where a line of input has none of its own.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Session")]
pub(crate) struct SessionArgs {
    /// Current database
    #[arg(long, value_name = "NAME")]
    pub(crate) database: Option<String>,
    /// Current schema
    #[arg(long, value_name = "NAME")]
    pub(crate) schema: Option<String>,
    /// Current role
    #[arg(long, value_name = "NAME")]
    pub(crate) role: Option<String>,
    /// Current warehouse
    #[arg(long, value_name = "NAME")]
    pub(crate) warehouse: Option<String>,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct DecideArgs {
    /// Directory of the policy bundle
    #[arg(long, value_name = "DIR")]
    pub(crate) policies: PathBuf,
    /// Catalog to use instead of the bundle's own, YAML or JSON
    #[arg(long, value_name = "FILE")]
    pub(crate) catalog: Option<PathBuf>,
    /// Who asks, YAML or JSON: `{ id: corp/ana, groups: [analysts], agent: { id: …, assurance: attested } }`
    #[arg(long, value_name = "FILE")]
    pub(crate) principal: PathBuf,
    /// Groups that have approved the statement
    #[arg(long, value_name = "GROUP", value_delimiter = ',')]
    pub(crate) approvals: Vec<String>,
    /// The input is one `{"id","sql","session"}` a line, and so is the output; other fields are left alone
    #[arg(long)]
    pub(crate) jsonl: bool,
    /// One JSON object, as a line of `--jsonl` gives
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) session: SessionArgs,
}

#[derive(Debug, Subcommand)]
pub(crate) enum PolicyCommand {
    /// Compile the bundle and print everything that is wrong with it, by file and line
    Validate {
        /// Directory of the policy bundle
        dir: PathBuf,
    },
    /// Run the bundle's cases (`cases/*.yaml`) and print what is not as they say
    Test {
        /// Directory of the policy bundle
        dir: PathBuf,
        /// Policies that determine no case are a failure too
        #[arg(long)]
        require_coverage: bool,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum CatalogCommand {
    /// Turn a dbt project's artefacts into a part of the catalog, without a server; what was not taken is told on standard
    /// error
    ImportDbt(ImportDbtArgs),
    /// Show what the PDP read of the warehouse, what it could not read, and why
    Status {
        /// One JSON object
        #[arg(long)]
        json: bool,
    },
    /// Print the catalog in force as YAML
    Export {
        /// Only what was read of the warehouse, without what the bundle says
        #[arg(long)]
        warehouse_only: bool,
    },
}

#[derive(Debug, Clone, Args)]
pub(crate) struct ImportDbtArgs {
    /// `target/manifest.json`, as `dbt compile` writes it
    #[arg(long, value_name = "FILE")]
    pub(crate) manifest: PathBuf,
    /// `target/catalog.json`, as `dbt docs generate` writes it: all columns and their types
    #[arg(long, value_name = "FILE")]
    pub(crate) catalog: Option<PathBuf>,
    /// Where to write the YAML, for example `policies/catalog/dbt.yaml`; without it, standard output
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
    /// Key of `meta` whose values become tags, besides `tags=`, `pii` and `classification`: KEY gives `key.value`,
    /// KEY=PREFIX gives `prefix.value`, and an empty prefix the value itself
    #[arg(long, value_name = "KEY[=PREFIX]")]
    pub(crate) meta_key: Vec<MetaKey>,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::Cli;

    /// Every command's help, in one text: what a person reads who knows nothing.
    #[test]
    fn help_reads_well() {
        fn write(command: &mut clap::Command, path: &str, text: &mut String) {
            let path = format!("{path}{}", command.get_name());
            let help = command.clone().term_width(100).render_long_help().to_string();
            text.extend(["$ ", &path, " --help\n", &help, "\n"]);
            for sub in command.get_subcommands_mut() {
                if sub.get_name() != "help" {
                    write(sub, &format!("{path} "), text);
                }
            }
        }
        let mut command = Cli::command();
        command.build();
        let mut text = String::new();
        write(&mut command, "", &mut text);
        insta::assert_snapshot!(text);
    }

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }
}
