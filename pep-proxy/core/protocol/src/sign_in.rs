//! A person signs in with a browser (`authenticator=externalbrowser`): what travels between driver, browser and provider.
//!
//! The driver asks for an address and a proof key, and opens the address in a browser. The browser goes to the identity
//! provider and back, and is then sent to a port of its own machine with a *ticket*, which the driver shows with its proof key
//! to log in. Whatever has to be known on the way is sealed into what travels, so that no replica has to remember it and
//! nobody outside can read it, make it or join two of them:
//!
//! | sealed | carried by | opens |
//! |---|---|---|
//! | [`SignInAsk`] | the address the driver opens | the page that says who asks |
//! | [`SignInState`] | `state` of the authorization request | the way back, in the same browser |
//! | [`SignInTicket`] | the driver's port, then its login | one session, for whoever has the proof key |

mod provider;

use std::fmt;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

pub use self::provider::{Authorization, Granted, IdToken, Provider, ProviderError, WhichToken, grant, token_request};
use crate::{
    ClientFacts, LoginError, Secret, json,
    limits::TEXT_CHARS_MAX,
    login::{client_facts, short},
    refusal::one_line,
    token::{NONCE_BYTES, Sealer, TokenError, secret_text},
};

/// Path of the page a browser opens.
pub const SIGN_IN_PATH: &str = "/console/login";
/// Path the identity provider sends the browser back to.
pub const SIGN_IN_RETURN_PATH: &str = "/console/login/callback";
/// Bytes of randomness in a proof key, a verifier, a nonce and a browser's mark.
pub const SIGN_IN_RANDOM_BYTES: usize = 32;

/// Characters of a login name. It travels inside addresses.
const LOGIN_NAME_CHARS_MAX: usize = 256;
/// Characters of each thing a client says of itself, for the same reason.
const FACT_CHARS_MAX: usize = 64;
/// Bytes of an ask and of a state: parameters of a query string.
const SEALED_BYTES_MAX: usize = TEXT_CHARS_MAX;
/// Bytes of a ticket. Drivers read the request that brings it with one read of 16 KiB, its headers included.
const TICKET_BYTES_MAX: usize = 12 * 1024;
/// Ports below are for services of a machine, and no driver picks one of them by itself.
const PORT_MIN: u16 = 1024;
/// Characters of a proof key. Drivers make it of 32 bytes, in base64.
const PROOF_KEY_CHARS: std::ops::RangeInclusive<usize> = 32..=256;

const ASK: &[u8] = b"icegate sign-in ask v1";
const STATE: &[u8] = b"icegate sign-in state v1";
const TICKET: &[u8] = b"icegate sign-in ticket v1";

/// A secret of which only the hash is kept or carried.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hashed(String);

impl Hashed {
    /// Of this secret.
    pub fn of(secret: &str) -> Self {
        Self(URL_SAFE_NO_PAD.encode(Sha256::digest(secret)))
    }

    /// Whether it is of this secret. Takes as long for every wrong one.
    pub fn is_of(&self, secret: &str) -> bool {
        same(&self.0, &Self::of(secret).0)
    }
}

/// Whether two texts are the same, in a time that tells nothing of where they differ.
fn same(one: &str, other: &str) -> bool {
    let differing = one.bytes().zip(other.bytes()).fold(0, |differing, (a, b)| differing | (a ^ b));
    one.len() == other.len() && differing == 0
}

/// A driver wants a browser sign-in.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SignInAsk {
    /// Unguessable, and good for one sign-in.
    pub id: String,
    /// Of the proof key, which only the driver has.
    pub proof: Hashed,
    /// Where the driver listens, on the browser's own machine.
    pub port: u16,
    /// `LOGIN_NAME` as claimed, empty if none.
    pub login_name: String,
    /// What the client says of itself.
    pub client: ClientFacts,
    /// The address the driver asked from; empty when a browser came with an address of the driver's own making.
    pub from: String,
    /// When the sign-in must be over, Unix milliseconds.
    pub expires_ms: i64,
}

/// What a driver says when it asks; the rest of [`SignInAsk`] is the proxy's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AskedFor {
    /// Where it listens.
    pub port: u16,
    /// `LOGIN_NAME`.
    pub login_name: String,
    /// What it says of itself.
    pub client: ClientFacts,
}

/// Why a sign-in cannot begin. The sentences are shown to the person who connects.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AskError {
    /// Fields of the request.
    #[error(transparent)]
    Login(#[from] LoginError),
    /// Okta's own way, or another one.
    #[error(
        "The authenticator `{authenticator}` is not served by icegate. Use `authenticator=externalbrowser` to sign in with a browser."
    )]
    Authenticator {
        /// As the client sent it.
        authenticator: String,
    },
    /// Not a port a driver listens on.
    #[error("The port to hand the sign-in over to is not valid: it must be a number from {PORT_MIN} to 65535.")]
    Port,
    /// Too short to be a secret, or not text.
    #[error("The proof key is not one that a driver makes.")]
    ProofKey,
    /// Too long.
    #[error("The login name is longer than {LOGIN_NAME_CHARS_MAX} characters or has characters no name has.")]
    LoginName,
}

impl AskedFor {
    /// Reads the body of `POST /session/authenticator-request`.
    ///
    /// # Errors
    ///
    /// Another authenticator, or a field that is not valid.
    pub fn parse(body: &Map<String, Value>) -> Result<Self, AskError> {
        let data = body.get("data").and_then(Value::as_object).ok_or(LoginError::NoData)?;
        let authenticator = short(data, "AUTHENTICATOR")?;
        if !authenticator.trim().eq_ignore_ascii_case("EXTERNALBROWSER") {
            return Err(AskError::Authenticator { authenticator: one_line(&authenticator, 64) });
        }
        // Drivers send text; a number means the same.
        let port = data.get("BROWSER_MODE_REDIRECT_PORT").and_then(json::scalar_text).ok_or(AskError::Port)?;
        Ok(Self {
            port: listening(&port)?,
            login_name: name(&short(data, "LOGIN_NAME")?)?,
            client: shortened(&client_facts(data)?),
        })
    }

    /// Reads the address a driver makes by itself (`/console/login?login_name=…`), which says nothing of the driver. The
    /// second is the proof key.
    ///
    /// # Errors
    ///
    /// A parameter that is not valid.
    pub fn of_address(page: &SignInPage) -> Result<(Self, Secret), AskError> {
        let text = |value: &Option<String>| value.clone().unwrap_or_default();
        let proof_key = text(&page.proof_key);
        if !PROOF_KEY_CHARS.contains(&proof_key.len()) || !proof_key.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(AskError::ProofKey);
        }
        let asked = Self {
            port: listening(&text(&page.port))?,
            login_name: name(&text(&page.login_name))?,
            client: ClientFacts::default(),
        };
        Ok((asked, Secret::new(proof_key)))
    }
}

fn listening(port: &str) -> Result<u16, AskError> {
    let digits = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    port.parse().ok().filter(|port| digits && *port >= PORT_MIN).ok_or(AskError::Port)
}

fn name(text: &str) -> Result<String, AskError> {
    let sound = text.chars().count() <= LOGIN_NAME_CHARS_MAX && one_line(text, LOGIN_NAME_CHARS_MAX) == text;
    if sound { Ok(text.to_owned()) } else { Err(AskError::LoginName) }
}

fn shortened(client: &ClientFacts) -> ClientFacts {
    let short = |text: &str| one_line(text, FACT_CHARS_MAX);
    ClientFacts {
        app_id: short(&client.app_id),
        app_version: short(&client.app_version),
        application: short(&client.application),
    }
}

/// The answer to `POST /session/authenticator-request`.
pub fn sign_in_asked(url: &str, proof_key: &Secret) -> Vec<u8> {
    json!({
        "data": { "ssoUrl": url, "proofKey": proof_key.expose(), "tokenUrl": null },
        "code": null, "message": null, "success": true,
    })
    .to_string()
    .into_bytes()
}

/// What a browser shows when it opens the page: an address made here, or the parts of one that a driver made.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct SignInPage {
    /// A sealed [`SignInAsk`].
    pub ask: Option<String>,
    /// `login_name`.
    pub login_name: Option<String>,
    /// `browser_mode_redirect_port`.
    pub port: Option<String>,
    /// `proof_key`.
    pub proof_key: Option<String>,
}

impl fmt::Debug for SignInPage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SignInPage").field("port", &self.port).finish_non_exhaustive()
    }
}

/// What a browser brings back from the identity provider.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct SignInReturn {
    /// A sealed [`SignInState`].
    pub state: String,
    /// The authorization code.
    pub code: Option<String>,
    /// Who answers (RFC 9207).
    pub iss: Option<String>,
    /// Why there is no code (RFC 6749 §4.1.2.1): a word.
    pub error: Option<String>,
}

impl SignInReturn {
    /// The provider's word for why there is no code; `?` when it is no word.
    pub fn refusal(&self) -> Option<String> {
        self.error.as_deref().map(provider::word)
    }
}

impl fmt::Debug for SignInReturn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SignInReturn").field("error", &self.error).finish_non_exhaustive()
    }
}

/// What must be known when the browser comes back.
#[derive(Clone, Serialize, Deserialize)]
pub struct SignInState {
    /// Who asked.
    pub ask: SignInAsk,
    /// Of the mark of the browser that began: no other may end it.
    pub browser: Hashed,
    /// PKCE's verifier (RFC 7636).
    #[serde(with = "secret_text")]
    pub verifier: Secret,
    /// What the ID token must repeat.
    #[serde(with = "secret_text")]
    pub nonce: Secret,
}

impl fmt::Debug for SignInState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SignInState").field("ask", &self.ask.id).finish_non_exhaustive()
    }
}

/// A person has signed in, and one driver may log in with it.
#[derive(Clone, Serialize, Deserialize)]
pub struct SignInTicket {
    /// Unguessable, and good for one login.
    pub id: String,
    /// Of the proof key of the driver that asked.
    pub proof: Hashed,
    /// The login name that driver claimed.
    pub login_name: String,
    /// The identity provider's token.
    #[serde(with = "secret_text")]
    pub token: Secret,
    /// When the login must have happened, Unix milliseconds.
    pub expires_ms: i64,
}

impl fmt::Debug for SignInTicket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SignInTicket").field("id", &self.id).finish_non_exhaustive()
    }
}

/// Seals and opens one of the three; the nonce must be random and never used before.
macro_rules! sealed {
    ($what:ty, $purpose:expr, $bytes_max:expr, $($expires:ident).+) => {
        impl $what {
            /// Makes it travel. `nonce` must be random and never used before.
            ///
            /// # Errors
            ///
            /// [`TokenError::Malformed`]: the content makes it too long.
            pub fn seal(&self, keys: &Sealer, nonce: [u8; NONCE_BYTES]) -> Result<String, TokenError> {
                keys.seal_value(self, $purpose, nonce, $bytes_max)
            }

            /// Opens it.
            ///
            /// # Errors
            ///
            /// Not ours, changed, sealed for something else, or past its end.
            pub fn open(keys: &Sealer, sealed: &str, now_ms: i64) -> Result<Self, TokenError> {
                let opened: Self = keys.open_value(sealed, $purpose, $bytes_max)?;
                if now_ms >= opened.$($expires).+ { Err(TokenError::Expired) } else { Ok(opened) }
            }
        }
    };
}

sealed!(SignInAsk, ASK, SEALED_BYTES_MAX, expires_ms);
sealed!(SignInState, STATE, SEALED_BYTES_MAX, ask.expires_ms);
sealed!(SignInTicket, TICKET, TICKET_BYTES_MAX, expires_ms);

/// The address on the browser's own machine where the driver waits. There is no other host a ticket is ever sent to.
pub fn driver_address(port: u16, ticket: &str) -> String {
    // Connectors look for `/?token=` at the very beginning.
    format!("http://localhost:{port}/?token={ticket}")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::{SealKey, TokenKind};

    fn ask() -> SignInAsk {
        SignInAsk {
            id: "i".to_owned(),
            proof: Hashed::of("proof"),
            port: 50_000,
            login_name: "ä".repeat(LOGIN_NAME_CHARS_MAX),
            client: ClientFacts {
                app_id: "x".repeat(FACT_CHARS_MAX),
                app_version: "x".repeat(FACT_CHARS_MAX),
                application: "x".repeat(FACT_CHARS_MAX),
            },
            from: "[2001:db8::1]:65535".to_owned(),
            expires_ms: 1_000,
        }
    }

    fn ticket(token: &str) -> SignInTicket {
        SignInTicket {
            id: "t".to_owned(),
            proof: Hashed::of("proof"),
            login_name: String::new(),
            token: Secret::new(token),
            expires_ms: 1_000,
        }
    }

    #[test]
    fn the_longest_ask_and_state_still_travel_and_each_opens_only_as_what_it_is() {
        let keys = Sealer::new(vec![SealKey::new([7; 32])]).unwrap();
        let state = SignInState {
            ask: ask(),
            browser: Hashed::of("mark"),
            verifier: Secret::new("v".repeat(43)),
            nonce: Secret::new("n".repeat(43)),
        };
        let all = [
            ask().seal(&keys, [1; NONCE_BYTES]).unwrap(),
            state.seal(&keys, [2; NONCE_BYTES]).unwrap(),
            ticket("to.ke.n").seal(&keys, [3; NONCE_BYTES]).unwrap(),
        ];
        for (at, sealed) in all.iter().enumerate() {
            let opens = [
                SignInAsk::open(&keys, sealed, 999).is_ok(),
                SignInState::open(&keys, sealed, 999).is_ok(),
                SignInTicket::open(&keys, sealed, 999).is_ok(),
            ];
            assert_eq!(opens, [at == 0, at == 1, at == 2]);
            assert!(keys.open_ignoring_expiry(sealed, TokenKind::Session).is_err());
            assert!(!sealed.contains("to.ke.n"));
        }
        assert_eq!(SignInState::open(&keys, &all[1], 1_000).unwrap_err(), TokenError::Expired);
        assert_eq!(SignInTicket::open(&keys, &all[2], 1_000).unwrap_err(), TokenError::Expired);
        assert!(ticket(&"x".repeat(TICKET_BYTES_MAX)).seal(&keys, [4; NONCE_BYTES]).is_err());
    }

    #[test]
    fn a_driver_listens_on_a_port_of_its_own() {
        let asked = |port: Value| {
            let body = json!({ "data": { "AUTHENTICATOR": "externalbrowser", "BROWSER_MODE_REDIRECT_PORT": port } });
            AskedFor::parse(body.as_object().unwrap()).map(|asked| asked.port)
        };
        for (port, is) in [
            (json!("50000"), Some(50_000)),
            (json!(50_000), Some(50_000)),
            (json!("22"), None),
            (json!("65536"), None),
            (json!("+8080"), None),
            (json!("8080@evil.example"), None),
            (json!(""), None),
            (Value::Null, None),
        ] {
            assert_eq!(asked(port.clone()).ok(), is, "{port}");
        }
    }

    #[test]
    fn a_hash_is_of_one_secret() {
        assert!(Hashed::of("a").is_of("a"));
        assert!(!Hashed::of("a").is_of("b") && !Hashed::of("a").is_of("") && !Hashed(String::new()).is_of("a"));
    }
}
