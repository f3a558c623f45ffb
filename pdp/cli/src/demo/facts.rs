//! Where everything is, for programs: `demo.json`.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// The content of `target/demo/demo.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    /// The PEP's host.
    pub host: String,
    /// The PEP's port.
    pub port: u16,
    /// `http`: the demo is on loopback only.
    pub protocol: String,
    /// What the driver wants to be given; any name will do.
    pub account: String,
    /// Database to start in.
    pub database: String,
    /// Schema to start in.
    pub schema: String,
    /// Warehouse to start in.
    pub warehouse: String,
    /// Everybody who may log in.
    pub users: BTreeMap<String, User>,
    /// The PDP's host and port.
    pub pdp_addr: String,
    /// URL of the PDP's metrics.
    pub pdp_metrics: String,
    /// URL of the PEP's metrics.
    pub pep_metrics: String,
    /// The catalog's file.
    pub catalog: PathBuf,
    /// The directory of policies in force; a change takes effect within a second.
    pub policies: PathBuf,
}

/// One who may log in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// The OIDC token, for `authenticator="oauth"`.
    pub token: String,
    /// The groups in the token.
    pub groups: Vec<String>,
}

impl Facts {
    /// Arguments of `snowflake.connector.connect` for one user.
    ///
    /// # Errors
    ///
    /// When nobody has this name.
    pub fn connect_arguments(&self, user: &str) -> anyhow::Result<Value> {
        let token = &self.users.get(user).with_context(|| format!("nobody is called `{user}`"))?.token;
        Ok(json!({
            "host": self.host, "port": self.port, "protocol": self.protocol, "account": self.account,
            "database": self.database, "schema": self.schema, "warehouse": self.warehouse,
            "authenticator": "oauth", "token": token,
        }))
    }

    /// Writes the file in one step, readable by its owner only: it carries tokens.
    ///
    /// # Errors
    ///
    /// When the file cannot be written.
    pub fn write(&self, path: &Path) -> anyhow::Result<()> {
        let next = path.with_extension("json.next");
        let mut options = fs::OpenOptions::new();
        options.write(true).create(true).truncate(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let written = || -> anyhow::Result<()> {
            let mut file = options.open(&next)?;
            serde_json::to_writer_pretty(&mut file, self)?;
            file.write_all(b"\n")?;
            file.sync_all()?;
            fs::rename(&next, path)?;
            Ok(())
        };
        written().with_context(|| format!("cannot write `{}`", path.display()))
    }
}
