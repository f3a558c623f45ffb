//! Several warehouses behind one listener: which of them is a call for?
//!
//! Each connection is a whole proxy of its own, with its own decision point, credential, sessions, caches and keys, so that
//! nothing of one can be reached through another. Here it is only chosen. Host names count first; then what was sealed for one
//! of them (a token, an address of a part), which opens nowhere else; then the account a login names. A call that says none of
//! it is refused, and so is one that says two different things.

use std::sync::Arc;

use http::HeaderMap;
use icegate_pep_protocol::{PepCode, Route, SignInPage, SignInReturn, sign_in::SIGN_IN_PATH};
use serde_json::{Map, Value};

use crate::{
    api, config,
    listen::{Answer, Call, Unread},
    proxy::{self, Proxy, token},
    refuse::Stop,
    sign_in,
};

/// All connections of this process.
#[derive(Debug)]
pub(crate) struct Front {
    connections: Vec<Connection>,
}

#[derive(Debug)]
struct Connection {
    /// Lower case, without port.
    hosts: Vec<String>,
    /// Upper case, without region.
    accounts: Vec<String>,
    proxy: Arc<Proxy>,
}

/// What a call says of where it goes.
enum Said<'a> {
    Nothing,
    One(&'a Arc<Proxy>),
    /// Two connections at once.
    Both,
}

impl Front {
    /// One proxy for each of the configured connections, in their order.
    pub(crate) fn new(all: impl IntoIterator<Item = (config::Connection, Arc<Proxy>)>) -> Self {
        let connections = all.into_iter().map(|(connection, proxy)| Connection {
            hosts: connection.hosts.iter().map(|host| host.to_ascii_lowercase()).collect(),
            accounts: connection.accounts.iter().map(|account| without_region(account)).collect(),
            proxy,
        });
        Self { connections: connections.collect() }
    }

    pub(crate) fn proxies(&self) -> impl Iterator<Item = &Arc<Proxy>> {
        self.connections.iter().map(|connection| &connection.proxy)
    }

    /// Bytes of a body that are taken: as many as the connection takes that knows its caller. `told` is what the body is said
    /// to have.
    pub(crate) fn body_bytes_max(&self, headers: &HeaderMap, told: Option<usize>) -> usize {
        self.proxies().map(|proxy| proxy.body_bytes_max(headers, told)).max().unwrap_or_default()
    }

    /// Answers one call, whatever it is.
    pub(crate) async fn answer(&self, call: Call) -> Answer {
        match self.choose(&call) {
            Ok(proxy) => proxy.answer(call).await,
            Err(stop) if call.path().starts_with("/api/") => api::refused(&stop).1,
            Err(stop) if call.path().starts_with(SIGN_IN_PATH) => sign_in::refused("unknown", &stop),
            Err(stop) => proxy::counted("unknown", Err(stop)),
        }
    }

    /// Answers a call whose bytes did not come whole.
    #[expect(clippy::unused_self, reason = "it is the front that answers")]
    pub(crate) fn unread(&self, unread: Unread) -> Answer {
        proxy::unread(unread)
    }

    fn choose(&self, call: &Call) -> Result<&Arc<Proxy>, Stop> {
        if let [only] = self.connections.as_slice()
            && only.hosts.is_empty()
            && only.accounts.is_empty()
        {
            return Ok(&only.proxy);
        }
        let by_host = match self.by_hosts(call) {
            Said::Both => return Err(contradiction()),
            Said::One(proxy) => Some(proxy),
            Said::Nothing => None,
        };
        let route = Route::parse(call.method.as_str(), call.path(), call.query());
        if matches!(route, Ok(Route::Login { .. } | Route::SignInAsk)) {
            return match (by_host, self.by_account(call)) {
                (Some(host), Some(account)) if !Arc::ptr_eq(host, account) => Err(contradiction()),
                (Some(proxy), _) | (None, Some(proxy)) => Ok(proxy),
                (None, None) => Err(unknown()),
            };
        }
        if let Some(proxy) = by_host {
            return Ok(proxy);
        }
        let sealed = match &route {
            Ok(Route::Chunk(address)) => self.proxies().find(|proxy| proxy.sealed_part(address)),
            Ok(
                Route::SignInPage(SignInPage { ask: Some(sealed), .. })
                | Route::SignInReturn(SignInReturn { state: sealed, .. }),
            ) => self.proxies().find(|proxy| proxy.sealed_sign_in(sealed)),
            _ => token(&call.headers).and_then(|token| self.proxies().find(|proxy| proxy.sealed(token))),
        };
        match sealed {
            Some(proxy) => Ok(proxy),
            // Drivers log in again on this.
            None if token(&call.headers).is_some() => Err(Stop::TokenInvalid),
            None => Err(unknown()),
        }
    }

    /// What the names say by which the client came here: of the TLS handshake, and of the request.
    fn by_hosts(&self, call: &Call) -> Said<'_> {
        let mut said = Said::Nothing;
        for name in [call.peer.sni.as_deref(), call.host()].into_iter().flatten() {
            let name = without_port(name);
            let found = self.connections.iter().find(|connection| connection.hosts.contains(&name));
            said = match (said, found) {
                (said, None) => said,
                (Said::Nothing, Some(found)) => Said::One(&found.proxy),
                (Said::One(before), Some(found)) if Arc::ptr_eq(before, &found.proxy) => Said::One(before),
                (Said::One(_) | Said::Both, Some(_)) => Said::Both,
            };
        }
        said
    }

    fn by_account(&self, call: &Call) -> Option<&Arc<Proxy>> {
        // Which proxy reads the body is all the same; the one it is for reads it again.
        let body = self.connections.first()?.proxy.decoded(call).ok()?;
        let account = without_region(body.get("data").and_then(Value::as_object).and_then(account_of)?);
        let named = |connection: &&Connection| connection.accounts.contains(&account);
        self.connections.iter().find(named).map(|connection| &connection.proxy)
    }
}

fn account_of(data: &Map<String, Value>) -> Option<&str> {
    data.get("ACCOUNT_NAME").and_then(Value::as_str)
}

/// Drivers write an account with or without its region, in any case.
fn without_region(account: &str) -> String {
    account.split('.').next().unwrap_or_default().to_ascii_uppercase()
}

fn without_port(host: &str) -> String {
    let name = match host.rsplit_once(':') {
        // `[::1]` ends in a bracket.
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    name.trim_end_matches('.').to_ascii_lowercase()
}

fn unknown() -> Stop {
    Stop::new(
        PepCode::ConnectionUnknown,
        "This proxy serves several Snowflake accounts, and neither the host name nor the account of this call is one of them. Connect to the host name you were given, or name the account.",
    )
}

fn contradiction() -> Stop {
    Stop::new(
        PepCode::ConnectionUnknown,
        "The host name and the account of this call belong to two different Snowflake accounts. Make them the same, or leave one out.",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_compared_without_what_does_not_matter() {
        for (host, name) in [
            ("A.Example.com", "a.example.com"),
            ("a.example.com:8443", "a.example.com"),
            ("a.example.com.:443", "a.example.com"),
            ("[::1]:443", "[::1]"),
            ("[::1]", "[::1]"),
            ("", ""),
        ] {
            assert_eq!(without_port(host), name);
        }
        assert_eq!(without_region("myorg-acct.eu-central-1"), "MYORG-ACCT");
    }
}
