//! `[sign_in]`: the identity provider people sign in at with their browser.

use std::{path::PathBuf, time::Duration};

use http::Uri;
use icegate_pep_protocol::sign_in::{SIGN_IN_RETURN_PATH, WhichToken};
use serde::Deserialize;

use super::raw::{Fault, Text, base_url, duration, is_loopback, missing};

/// Sign-in with a browser, with OpenID Connect's code flow and PKCE.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignIn {
    /// The provider's issuer, as its metadata and tokens spell it.
    pub issuer: String,
    /// Plaintext to the provider is taken, on loopback only.
    pub danger_plaintext: bool,
    /// Certificate authorities (PEM) to trust there instead of the public ones.
    pub ca: Option<PathBuf>,
    /// What this proxy is registered as there.
    pub client_id: String,
    /// Its secret, where it has one; PKCE is used in any case.
    pub client_secret_file: Option<PathBuf>,
    /// What is asked for, `openid` among it.
    pub scopes: Vec<String>,
    /// Which of the provider's tokens a session is opened with.
    pub token: WhichToken,
    /// Where browsers reach this proxy.
    pub url: String,
    /// Longest wait for an answer of the provider.
    pub timeout: Duration,
    /// How long a person has to sign in.
    pub ttl: Duration,
    /// How long the driver has to log in afterwards.
    pub ticket_ttl: Duration,
    /// Sign-ins remembered as used up.
    pub used_max: usize,
}

impl SignIn {
    /// Where the provider sends browsers back to: to be registered there.
    pub fn redirect_uri(&self) -> String {
        format!("{}{SIGN_IN_RETURN_PATH}", self.url)
    }
}

/// Whether a URL is one to speak to: `https`, or `http` on loopback where that was asked for.
pub(crate) fn allowed(url: &Uri, danger_plaintext: bool) -> bool {
    let host = url.host().unwrap_or_default();
    let plain = !host.is_empty() && !url.authority().is_some_and(|authority| authority.as_str().contains('@'));
    plain
        && match url.scheme_str() {
            Some("https") => true,
            Some("http") => danger_plaintext && is_loopback(host),
            _ => false,
        }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawSignIn {
    issuer: Option<String>,
    #[serde(default)]
    danger_plaintext: bool,
    ca: Option<PathBuf>,
    client_id: Option<String>,
    client_secret_file: Option<PathBuf>,
    scopes: Option<Vec<String>>,
    #[serde(default)]
    token: RawToken,
    url: Option<String>,
    timeout: Option<Text>,
    ttl: Option<Text>,
    ticket_ttl: Option<Text>,
    used_max: Option<usize>,
}

#[derive(Deserialize, Default, Clone, Copy)]
#[serde(rename_all = "snake_case")]
enum RawToken {
    #[default]
    IdToken,
    AccessToken,
}

pub(super) fn sign_in_of(raw: RawSignIn) -> Result<SignIn, Fault> {
    let fault = |key, message: String| Err(Fault::at("sign_in", key, message));
    let issuer = raw
        .issuer
        .ok_or_else(|| missing("sign_in", "issuer", "the identity provider, as in \"https://login.example.com\""))?;
    let sound = |url: Uri| allowed(&url, raw.danger_plaintext) && url.query().is_none();
    if !issuer.parse().is_ok_and(sound) {
        return fault(
            "issuer",
            format!(
                "`sign_in.issuer` is `{issuer}`; it must be an `https` URL without query (`http` on loopback with danger_plaintext = true)"
            ),
        );
    }
    if raw.danger_plaintext && issuer.starts_with("https:") {
        return fault(
            "danger_plaintext",
            "`sign_in.danger_plaintext` is set and the issuer is `https`; remove it".into(),
        );
    }
    let client_id = raw
        .client_id
        .filter(|id| !id.is_empty())
        .ok_or_else(|| missing("sign_in", "client_id", "what this proxy is registered as at the identity provider"))?;
    let scopes = raw.scopes.unwrap_or_else(|| vec!["openid".to_owned()]);
    let word = |scope: &String| !scope.is_empty() && scope.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'"');
    if !scopes.iter().all(word) || !scopes.iter().any(|scope| scope == "openid") {
        return fault(
            "scopes",
            "`sign_in.scopes` must be words, `openid` among them, as in [\"openid\", \"email\"]".into(),
        );
    }
    let url = raw.url.ok_or_else(|| {
        missing("sign_in", "url", "where browsers reach this proxy, as in \"https://icegate.example.com:8443\"")
    })?;
    // Loopback without TLS is for a machine of one's own.
    base_url("sign_in", &url, url.starts_with("http:"))?;
    let timeout = duration("sign_in", "timeout", raw.timeout.as_ref(), "10s")?;
    let ttl = duration("sign_in", "ttl", raw.ttl.as_ref(), "10m")?;
    let ticket_ttl = duration("sign_in", "ticket_ttl", raw.ticket_ttl.as_ref(), "1m")?;
    for (key, time) in [("timeout", timeout), ("ttl", ttl), ("ticket_ttl", ticket_ttl)] {
        if time.is_zero() || time > Duration::from_hours(1) {
            return fault(key, format!("`sign_in.{key}` must be above zero and at most \"1h\""));
        }
    }
    let used_max = raw.used_max.unwrap_or(100_000);
    if used_max == 0 {
        return fault("used_max", "`sign_in.used_max` is 0; no sign-in would ever end well".into());
    }
    Ok(SignIn {
        issuer,
        danger_plaintext: raw.danger_plaintext,
        ca: raw.ca,
        client_id,
        client_secret_file: raw.client_secret_file,
        scopes,
        token: match raw.token {
            RawToken::IdToken => WhichToken::Id,
            RawToken::AccessToken => WhichToken::Access,
        },
        url: url.trim_end_matches('/').to_owned(),
        timeout,
        ttl,
        ticket_ttl,
        used_max,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Config;

    const EXAMPLE: &str = include_str!("../../config.example.toml");

    /// The example's section, without what makes it a comment.
    fn example() -> String {
        let (_, rest) = EXAMPLE.split_once("\n# [sign_in]\n").unwrap();
        let lines = rest.lines().take_while(|line| line.starts_with('#'));
        let keys: Vec<&str> =
            lines.filter_map(|line| line.strip_prefix("# ")).filter(|line| line.contains(" = ")).collect();
        format!("[sign_in]\n{}\n", keys.join("\n"))
    }

    #[test]
    fn the_example_says_the_defaults() {
        let table = |text: &str| sign_in_of(toml::from_str(text).unwrap()).ok().unwrap();
        let told = table(example().strip_prefix("[sign_in]\n").unwrap());
        let small =
            table(&format!("issuer = {:?}\nclient_id = {:?}\nurl = {:?}", told.issuer, told.client_id, told.url));
        assert!(told.ca.is_some() && told.client_secret_file.is_some(), "every key is there");
        assert_eq!(SignIn { ca: None, client_secret_file: None, ..told }, small);
        assert_eq!(small.redirect_uri(), "https://icegate.example.com:8443/console/login/callback");
    }

    #[test]
    fn wrong_sections_say_where_and_what_to_do() {
        for (from, to, expect) in [
            ("issuer = \"https:", "issuer = \"http:", "`sign_in.issuer` is `http://login.example.com`"),
            ("issuer = \"https://", "issuer = \"https://me:pw@", "`sign_in.issuer` is"),
            ("issuer = ", "isuer = ", "unknown key `isuer`; did you mean `issuer`?"),
            ("client_id = \"icegate\"", "", "`sign_in.client_id` is missing"),
            ("url = \"https://icegate.example.com:8443\"", "", "`sign_in.url` is missing"),
            ("url = \"https://icegate", "url = \"http://icegate", "plaintext is for loopback only"),
            (":8443\"", ":8443/pep\"", "it must end after the host and port"),
            ("scopes = [\"openid\"]", "scopes = [\"email\"]", "`openid` among them"),
            ("ttl = \"10m\"", "ttl = \"2h\"", "`sign_in.ttl` must be above zero and at most \"1h\""),
            ("ttl = \"10m\"", "ttl = 10", "a duration needs its unit"),
            ("token = \"id_token\"", "token = \"refresh_token\"", "unknown variant"),
            ("token = ", "danger_plaintext = true\ntoken = ", "the issuer is `https`; remove it"),
        ] {
            let section = example();
            assert!(section.contains(from), "{from}");
            let text = format!("{EXAMPLE}\n{}", section.replacen(from, to, 1));
            let error = Config::parse(&text, "pep.toml").unwrap_err().to_string();
            assert!(error.contains(expect), "{error}\n  expected: {expect}");
        }
    }
}
