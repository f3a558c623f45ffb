//! The service user at the warehouse: how it proves itself now, and in which role somebody's session begins.

use std::{fmt, sync::Arc};

use arc_swap::ArcSwap;
use icegate_pep_protocol::{LoginRequest, PepCode, RequestedNames, Secret, UpstreamCredential, upstream_login};
use serde::Serialize;
use tracing::warn;
use zeroize::Zeroizing;

use crate::{
    config::secrets::{Credential, SecretsError},
    config::{self, RoleRule, UpstreamAuth, secrets},
    record::unix_ms,
    refuse::Stop,
};

/// Seconds a key-pair token is valid: one login's worth.
const JWT_SECONDS: i64 = 60;

/// The service user.
pub(crate) struct Account {
    /// Its account, as Snowflake names it.
    name: String,
    user: String,
    auth: UpstreamAuth,
    /// The newest that could be read. A login takes what is here when it begins.
    credential: ArcSwap<Credential>,
    role: Option<String>,
    warehouse: Option<String>,
    rules: Vec<RoleRule>,
}

impl fmt::Debug for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Account").field("name", &self.name).field("user", &self.user).finish_non_exhaustive()
    }
}

impl Account {
    pub(crate) fn new(config: &config::Upstream, credential: Credential) -> Self {
        Self {
            name: config.account.clone(),
            user: config.user.clone(),
            auth: config.auth.clone(),
            credential: ArcSwap::from_pointee(credential),
            role: config.role.clone(),
            warehouse: config.warehouse.clone(),
            rules: config.roles.clone(),
        }
    }

    /// Reads the credential again. One that cannot be used leaves the one before in force.
    pub(crate) fn reread(&self) -> Result<(), SecretsError> {
        self.credential.store(Arc::new(secrets::credential(&self.auth)?));
        Ok(())
    }

    /// What the client asks to start with, filled from the configuration. A client that names a role was decided on; for
    /// one that names none the first rule that is for one of its groups counts.
    pub(crate) fn names(&self, asked: &RequestedNames, groups: &[String]) -> Result<RequestedNames, Stop> {
        let mut names = asked.clone();
        if names.role.is_none() {
            let rule = self.rules.iter().find(|rule| groups.contains(&rule.group));
            names.role = rule.map(|rule| rule.role.clone()).or_else(|| self.role.clone());
            // Without this, Snowflake would take the service user's own default: a role nobody chose for this person.
            if names.role.is_none() && !self.rules.is_empty() {
                return Err(Stop::new(
                    PepCode::RoleNone,
                    "None of your groups has a role at Snowflake here. Ask whoever runs icegate for one, or name a role you may use.",
                ));
            }
        }
        names.warehouse = names.warehouse.or_else(|| self.warehouse.clone());
        Ok(names)
    }

    /// The proxy's own start: the rules are about people.
    pub(crate) fn own_names(&self, role: Option<&String>, warehouse: Option<&String>) -> RequestedNames {
        RequestedNames {
            role: role.or(self.role.as_ref()).cloned(),
            warehouse: warehouse.or(self.warehouse.as_ref()).cloned(),
            ..RequestedNames::default()
        }
    }

    /// The body of a login, with the credential that is in force.
    pub(crate) fn login(&self, request: &LoginRequest, tag: &str) -> Result<Zeroizing<Vec<u8>>, Stop> {
        let user = self.user.as_str();
        let body = match &**self.credential.load() {
            Credential::KeyPair { key, fingerprint } => {
                let jwt = jwt(&self.name, user, key, fingerprint)?;
                upstream_login(request, &self.name, &UpstreamCredential::KeyPairJwt { user, jwt: &jwt }, tag)
            }
            Credential::Password(password) => {
                let password = Secret::new(password.as_str());
                let credential = UpstreamCredential::Password { user, password: &password };
                upstream_login(request, &self.name, &credential, tag)
            }
        };
        Ok(body)
    }
}

#[derive(Serialize)]
struct Claims<'a> {
    iss: String,
    sub: &'a str,
    iat: i64,
    exp: i64,
}

/// Snowflake docs, "Key-pair authentication", read 2026-11: `<ACCOUNT>.<USER>.SHA256:<fingerprint>`, upper case, the
/// account without its region.
fn jwt(account: &str, user: &str, key: &jsonwebtoken::EncodingKey, fingerprint: &str) -> Result<Secret, Stop> {
    let account = account.to_ascii_uppercase();
    let account = account.split('.').next().unwrap_or_default();
    let subject = format!("{account}.{}", user.to_ascii_uppercase());
    let now = unix_ms() / 1000;
    let claims = Claims { iss: format!("{subject}.{fingerprint}"), sub: &subject, iat: now, exp: now + JWT_SECONDS };
    jsonwebtoken::encode(&jsonwebtoken::Header::new(jsonwebtoken::Algorithm::RS256), &claims, key)
        .map(Secret::new)
        .map_err(|error| {
            warn!(%error, "key-pair token not made");
            Stop::new(
                PepCode::UpstreamLogin,
                "icegate cannot sign its own login at Snowflake. Tell whoever runs icegate.",
            )
        })
}

#[cfg(test)]
mod tests {
    use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
    use serde_json::Value;

    use super::*;
    use crate::config::secrets::key_pair;

    #[test]
    fn the_key_pair_token_says_what_snowflake_wants() {
        let path = std::path::Path::new("tests/fixtures/service-user.p8");
        let Credential::KeyPair { key, fingerprint } = key_pair(path).unwrap() else { panic!("a key") };
        let token = jwt("myorg-acct.eu-central-1", "svc", &key, &fingerprint).unwrap();
        let parts: Vec<&str> = token.expose().split('.').collect();
        let part =
            |index: usize| -> Value { serde_json::from_slice(&URL_SAFE_NO_PAD.decode(parts[index]).unwrap()).unwrap() };
        assert_eq!(part(0)["alg"], "RS256");
        assert_eq!(part(1)["sub"], "MYORG-ACCT.SVC");
        assert_eq!(part(1)["iss"], format!("MYORG-ACCT.SVC.{fingerprint}"));
        assert_eq!(part(1)["exp"].as_i64().unwrap() - part(1)["iat"].as_i64().unwrap(), JWT_SECONDS);
    }

    #[test]
    fn the_role_somebody_begins_in() {
        let rule = |group: &str, role: &str| RoleRule { group: group.to_owned(), role: role.to_owned() };
        let begins = |fallback: Option<&str>, rules: &[RoleRule], asked: Option<&str>, groups: &[&str]| {
            let account = Account {
                name: String::new(),
                user: String::new(),
                auth: UpstreamAuth::PasswordEnv(String::new()),
                credential: ArcSwap::from_pointee(Credential::Password(Zeroizing::default())),
                role: fallback.map(str::to_owned),
                warehouse: None,
                rules: rules.to_vec(),
            };
            let asked = RequestedNames { role: asked.map(str::to_owned), ..RequestedNames::default() };
            let groups: Vec<String> = groups.iter().map(|group| (*group).to_owned()).collect();
            account
                .names(&asked, &groups)
                .map(|names| names.role.unwrap_or_default())
                .map_err(|stop| stop.code().to_owned())
        };
        let rules = [rule("stewards", "STEWARD"), rule("analysts", "ANALYST")];
        let is = |text: &str| Ok(text.to_owned());
        assert_eq!(begins(Some("PUBLIC"), &rules, None, &["analysts", "stewards"]), is("STEWARD"), "the first rule");
        assert_eq!(begins(Some("PUBLIC"), &rules, None, &["analysts"]), is("ANALYST"));
        assert_eq!(
            begins(Some("PUBLIC"), &rules, None, &["Analysts", "analysts2", ""]),
            is("PUBLIC"),
            "by its exact name"
        );
        assert_eq!(begins(Some("PUBLIC"), &rules, None, &[]), is("PUBLIC"));
        assert_eq!(begins(None, &rules, Some("OTHER"), &["analysts"]), is("OTHER"), "decided on before");
        assert_eq!(begins(None, &[], None, &["analysts"]), is(""), "Snowflake's default, where nothing is said");
        assert_eq!(begins(None, &rules, None, &["dev"]), Err("ROLE-NONE".to_owned()));
    }
}
