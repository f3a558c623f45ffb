//! One warehouse or several: how they are told apart.

use serde::Deserialize;

use super::{
    Connection,
    raw::{Fault, RawCatalog, RawPdp, RawUpstream, catalog_of, missing_table, pdp_of, upstream_of},
    sign_in::{RawSignIn, sign_in_of},
};

/// Longest name of a connection: it is part of file names.
const NAME_BYTES_MAX: usize = 64;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawConnection {
    name: String,
    #[serde(default)]
    hosts: Vec<String>,
    accounts: Option<Vec<String>>,
    upstream: RawUpstream,
    pdp: RawPdp,
    #[serde(default)]
    catalog: RawCatalog,
    sign_in: Option<RawSignIn>,
}

/// The tables of the simple form.
pub(super) struct Single {
    pub(super) upstream: Option<RawUpstream>,
    pub(super) pdp: Option<RawPdp>,
    pub(super) catalog: Option<RawCatalog>,
    pub(super) sign_in: Option<RawSignIn>,
}

pub(super) fn connections_of(single: Single, several: Vec<RawConnection>) -> Result<Vec<Connection>, Fault> {
    if several.is_empty() {
        let upstream = upstream_of(single.upstream.ok_or_else(|| missing_table("upstream"))?)?;
        let pdp = pdp_of(single.pdp.ok_or_else(|| missing_table("pdp"))?)?;
        let catalog = catalog_of(single.catalog.unwrap_or_default());
        return Ok(vec![Connection {
            name: String::new(),
            hosts: Vec::new(),
            accounts: Vec::new(),
            upstream,
            pdp,
            catalog,
            sign_in: single.sign_in.map(sign_in_of).transpose()?,
        }]);
    }
    for (table, there) in [
        ("upstream", single.upstream.is_some()),
        ("pdp", single.pdp.is_some()),
        ("catalog", single.catalog.is_some()),
        ("sign_in", single.sign_in.is_some()),
    ] {
        if there {
            let message = format!("`[{table}]` and `[[connections]]` exclude each other; each connection has its own");
            return Err(Fault::at(table, "", message));
        }
    }
    let mut all: Vec<Connection> = Vec::new();
    for (at, raw) in several.into_iter().enumerate() {
        let name = raw.name.clone();
        let connection = one(raw).map_err(|fault| fault.of_connection(at, &name))?;
        distinct(&all, &connection).map_err(|message| Fault::at("", "", message).of_connection(at, &name))?;
        all.push(connection);
    }
    Ok(all)
}

fn one(raw: RawConnection) -> Result<Connection, Fault> {
    let fault = |message: &str| Err(Fault::at("", "", message));
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    if raw.name.is_empty() || raw.name.len() > NAME_BYTES_MAX || !raw.name.bytes().all(plain) {
        return fault(
            "`name` must be 1 to 64 ASCII letters, digits, `-` or `_`: the `connection` of the PDP's settings.yaml",
        );
    }
    let named = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'[' | b']');
    if raw.hosts.iter().any(|host| host.is_empty() || host.ends_with('.') || !host.bytes().all(named)) {
        return fault("`hosts` are host names without port, as in [\"snowflake-prod.example.com\"]");
    }
    let upstream = upstream_of(raw.upstream)?;
    // A team changes one host name and keeps its account.
    let accounts = raw.accounts.unwrap_or_else(|| vec![upstream.account.clone()]);
    if accounts.iter().any(String::is_empty) || (raw.hosts.is_empty() && accounts.is_empty()) {
        return fault("nothing names it: give it `hosts`, `accounts` or both");
    }
    Ok(Connection {
        name: raw.name,
        hosts: raw.hosts.iter().map(|host| host.to_ascii_lowercase()).collect(),
        accounts,
        upstream,
        pdp: pdp_of(raw.pdp)?,
        catalog: catalog_of(raw.catalog),
        sign_in: raw.sign_in.map(sign_in_of).transpose()?,
    })
}

/// Two connections that are mistaken for each other would be decided with the wrong policies.
fn distinct(all: &[Connection], fresh: &Connection) -> Result<(), String> {
    let account = |account: &String| account.split('.').next().unwrap_or_default().to_ascii_uppercase();
    for there in all {
        let before = &there.name;
        if there.name.eq_ignore_ascii_case(&fresh.name) {
            return Err("another connection has this `name`".to_owned());
        }
        if let Some(host) = fresh.hosts.iter().find(|host| there.hosts.contains(host)) {
            return Err(format!("`{host}` in `hosts` is also of `{before}`"));
        }
        if let Some(same) =
            fresh.accounts.iter().find(|one| there.accounts.iter().any(|other| account(other) == account(one)))
        {
            return Err(format!(
                "the account `{same}` is also of `{before}`; give both `hosts` and one of them `accounts = []`"
            ));
        }
        if there.pdp.url == fresh.pdp.url {
            return Err(format!(
                "`pdp.url` is also of `{before}`; a PDP has the policies of one connection, so each needs its own"
            ));
        }
    }
    Ok(())
}
