//! A person signs in with a browser (`authenticator=externalbrowser`), at their own identity provider.
//!
//! 1. The driver asks ([`ask`]) and gets an address here and a proof key. Or it makes both by itself (`/console/login?…`).
//! 2. The browser opens the address ([`page`]): who asks, and a link to the provider with PKCE's challenge, a nonce, and a
//!    state that is tied to this browser by a cookie.
//! 3. The provider sends the browser back ([`back`]). The code is exchanged here; the browser gets a ticket and takes it to
//!    the driver's port on its own machine.
//! 4. The driver logs in with ticket and proof key ([`redeem`]), and the session opens with the provider's token.
//!
//! # Invariants
//! - No token, code, verifier or client secret of the provider's is ever in an answer; a ticket holds one sealed.
//! - A ticket goes to `localhost` only, and opens one session, for whoever has the proof key of the driver that asked.
//! - Nothing is remembered of a sign-in but that it is used up.

mod page;
mod provider;
mod used;

use std::fmt;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use icegate_pep_protocol::{
    AskedFor, Carrier, LoginRequest, PepCode, Refusal, Secret, SignInAsk, SignInPage, SignInReturn, SignInState,
    SignInTicket, TokenError,
    sign_in::{AskError, Authorization, Hashed, SIGN_IN_PATH, SIGN_IN_RANDOM_BYTES, driver_address, sign_in_asked},
    token::NONCE_BYTES,
};
use tracing::{debug, info, warn};

use self::{
    provider::{Idp, Unheard},
    used::Used,
};
use crate::{
    config::{self, secrets::SignInSecrets},
    listen::{Answer, Call},
    metrics,
    proxy::Proxy,
    record::unix_ms,
    refuse::Stop,
};

/// Marks a browser, so that no other ends what it began. Where there is TLS, the prefix keeps neighbouring hosts from
/// setting it.
const COOKIE: &str = "icegate-sign-in";
const COOKIE_TLS: &str = "__Host-icegate-sign-in";

/// Sign-in with a browser, for one connection.
pub(crate) struct SignIn {
    config: config::SignIn,
    idp: Idp,
    used: Used,
    /// The account, for people.
    account: String,
}

impl fmt::Debug for SignIn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SignIn").field("config", &self.config).finish_non_exhaustive()
    }
}

impl SignIn {
    pub(crate) fn new(config: &config::SignIn, secrets: &SignInSecrets, account: &str) -> Self {
        Self {
            idp: Idp::new(config, secrets),
            used: Used::new(config.used_max),
            account: account.to_owned(),
            config: config.clone(),
        }
    }

    fn cookie(&self) -> (&'static str, &'static str) {
        if self.config.url.starts_with("https:") { (COOKIE_TLS, "; Secure") } else { (COOKIE, "") }
    }

    fn authorization<'a>(&'a self, ask: &'a SignInState, redirect_uri: &'a str, scope: &'a str) -> Authorization<'a> {
        Authorization {
            client_id: &self.config.client_id,
            redirect_uri,
            scope,
            state: "",
            nonce: &ask.nonce,
            verifier: &ask.verifier,
            login_name: &ask.ask.login_name,
        }
    }
}

/// Serves `POST /session/authenticator-request`.
pub(crate) async fn ask(proxy: &Proxy, call: &Call) -> Result<Bytes, Stop> {
    let sign_in = on(proxy)?;
    let asked = AskedFor::parse(&proxy.decoded(call)?).map_err(|error| malformed(&error))?;
    // A provider that is away is said here, where the driver shows it, and not in a browser.
    sign_in.idp.metadata().await.map_err(|unheard| unavailable(&unheard))?;
    let proof_key = random()?;
    let ask = begun(sign_in, asked, &proof_key, call.peer.addr.ip().to_string())?;
    debug!(app = ask.client.app_id, "sign-in with a browser asked for");
    let sealed = ask.seal(&proxy.sealing.load().sealer, nonce()?).map_err(|_| no_randomness())?;
    let url = format!("{}{SIGN_IN_PATH}?ask={sealed}", sign_in.config.url);
    Ok(sign_in_asked(&url, &proof_key).into())
}

/// Serves `GET /console/login`.
pub(crate) async fn page(proxy: &Proxy, asked: &SignInPage, call: &Call) -> Answer {
    shown("sign-in-page", confirm(proxy, asked, call).await)
}

/// Serves `GET /console/login/callback`.
pub(crate) async fn back(proxy: &Proxy, returned: &SignInReturn, call: &Call) -> Answer {
    shown("sign-in-return", hand_over(proxy, returned, call).await)
}

/// Turns the ticket of a login into the token it stands for. Of any other login, nothing.
pub(crate) fn redeem(proxy: &Proxy, mut request: LoginRequest) -> Result<LoginRequest, Stop> {
    match request.carrier {
        Carrier::Oauth | Carrier::Pat | Carrier::Password | Carrier::Bearer => return Ok(request),
        Carrier::Browser => {}
    }
    let sign_in = on(proxy)?;
    let now_ms = unix_ms();
    let ticket = SignInTicket::open(&proxy.sealing.load().sealer, request.token.expose(), now_ms).map_err(unopened)?;
    let proof_key = request.proof_key.take().unwrap_or_default();
    if !ticket.proof.is_of(proof_key.expose()) {
        return Err(invalid("The sign-in was made for another program than the one that logs in."));
    }
    if ticket.login_name != request.login_name {
        return Err(invalid("The sign-in was made for another user name than the one that logs in."));
    }
    sign_in.used.once(&ticket.id, ticket.expires_ms, now_ms).map_err(used_up)?;
    request.token = ticket.token;
    Ok(request)
}

/// A refusal as a page, for a browser.
pub(crate) fn refused(route: &'static str, stop: &Stop) -> Answer {
    let status = match stop.code() {
        "SIGN-IN-PROVIDER" => StatusCode::BAD_GATEWAY,
        _ => StatusCode::BAD_REQUEST,
    };
    metrics::answered(route, "refused");
    page::refused(status, &stop.text())
}

fn shown(route: &'static str, answered: Result<Answer, Stop>) -> Answer {
    match answered {
        Ok(answer) => {
            metrics::answered(route, "ok");
            answer
        }
        Err(stop) => refused(route, &stop),
    }
}

async fn confirm(proxy: &Proxy, asked: &SignInPage, call: &Call) -> Result<Answer, Stop> {
    let sign_in = on(proxy)?;
    let ask = if let Some(sealed) = &asked.ask {
        SignInAsk::open(&proxy.sealing.load().sealer, sealed, unix_ms()).map_err(unopened)?
    } else {
        let (asked, proof_key) = AskedFor::of_address(asked).map_err(|error| malformed(&error))?;
        begun(sign_in, asked, &proof_key, String::new())?
    };
    let provider = sign_in.idp.metadata().await.map_err(|unheard| unavailable(&unheard))?;
    let (cookie, secure) = sign_in.cookie();
    // One browser may have several sign-ins on their way: its mark stays.
    let mark = match mark_of(&call.headers, cookie) {
        Some(mark) => Secret::new(mark),
        None => random()?,
    };
    let state = SignInState { browser: Hashed::of(mark.expose()), verifier: random()?, nonce: random()?, ask };
    let sealed = state.seal(&proxy.sealing.load().sealer, nonce()?).map_err(|_| {
        Stop::new(PepCode::RequestLimit, "What the program says of itself is too long for a sign-in with a browser.")
    })?;
    let (redirect_uri, scope) = (sign_in.config.redirect_uri(), sign_in.config.scopes.join(" "));
    let url = Authorization { state: &sealed, ..sign_in.authorization(&state, &redirect_uri, &scope) }.url(&provider);
    let host = host_of(&sign_in.config.issuer);
    let mut answer = page::confirm(&state.ask, call.peer.addr.ip(), &sign_in.account, host, &url);
    let seconds = sign_in.config.ttl.as_secs().max(1);
    let cookie = format!("{cookie}={}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Lax{secure}", mark.expose());
    let mut cookie = HeaderValue::try_from(cookie).map_err(|_| no_randomness())?;
    cookie.set_sensitive(true);
    answer.headers.push((header::SET_COOKIE, cookie));
    Ok(answer)
}

async fn hand_over(proxy: &Proxy, returned: &SignInReturn, call: &Call) -> Result<Answer, Stop> {
    let sign_in = on(proxy)?;
    let now_ms = unix_ms();
    let state = SignInState::open(&proxy.sealing.load().sealer, &returned.state, now_ms).map_err(unopened)?;
    let (cookie, _) = sign_in.cookie();
    if !mark_of(&call.headers, cookie).is_some_and(|mark| state.browser.is_of(mark)) {
        return Err(invalid("This sign-in was begun in another browser, or this browser keeps no cookies."));
    }
    let provider = sign_in.idp.metadata().await.map_err(|unheard| unavailable(&unheard))?;
    // RFC 9207: an answer of another provider, played in here, is not this one's.
    if returned.iss.as_deref().map_or(provider.names_itself, |iss| iss != sign_in.config.issuer) {
        return Err(invalid("The answer is not of the identity provider this sign-in was begun at."));
    }
    // From here on there is no second try with this state.
    sign_in.used.once(&state.ask.id, state.ask.expires_ms, now_ms).map_err(used_up)?;
    if let Some(word) = returned.refusal() {
        return Err(invalid(&format!("Your identity provider did not sign you in (`{word}`).")));
    }
    let code = returned.code.as_deref().ok_or_else(|| invalid("Your identity provider sent no code."))?;
    let redirect_uri = sign_in.config.redirect_uri();
    let sent = sign_in.authorization(&state, &redirect_uri, "");
    let granted = sign_in.idp.exchange(&provider, &sent, code, sign_in.config.token, now_ms / 1000).await;
    let granted = granted.map_err(|unheard| unavailable(&unheard))?;
    let ask = state.ask;
    let ticket = SignInTicket {
        id: random()?.expose().to_owned(),
        proof: ask.proof,
        login_name: ask.login_name,
        token: granted.token,
        expires_ms: unix_ms().saturating_add(millis(sign_in.config.ticket_ttl)),
    };
    let ticket = ticket.seal(&proxy.sealing.load().sealer, nonce()?).map_err(|_| {
        warn!("the identity provider's token is too long for a ticket: ask for fewer groups or claims");
        Stop::new(
            PepCode::SignInProvider,
            "Your identity provider's token is too long to be handed over. Tell whoever runs icegate; the cause is in its log.",
        )
    })?;
    info!(app = ask.client.app_id, "signed in with a browser");
    Ok(page::signed_in(&granted.name, ask.port, &driver_address(ask.port, &ticket)))
}

fn on(proxy: &Proxy) -> Result<&SignIn, Stop> {
    proxy.sign_in.as_ref().ok_or_else(|| {
        Stop::new(
            PepCode::SignInOff,
            "Sign-in with a browser is not set up here. Use `authenticator=oauth` with your identity provider's token as `token`, or ask whoever runs icegate to set up `[sign_in]`.",
        )
    })
}

fn begun(sign_in: &SignIn, asked: AskedFor, proof_key: &Secret, from: String) -> Result<SignInAsk, Stop> {
    Ok(SignInAsk {
        id: random()?.expose().to_owned(),
        proof: Hashed::of(proof_key.expose()),
        port: asked.port,
        login_name: asked.login_name,
        client: asked.client,
        from,
        expires_ms: unix_ms().saturating_add(millis(sign_in.config.ttl)),
    })
}

/// A browser's mark, when it has one of ours.
fn mark_of<'a>(headers: &'a HeaderMap, cookie: &str) -> Option<&'a str> {
    let all = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut pairs = all.flat_map(|value| value.split(';')).filter_map(|pair| pair.trim().split_once('='));
    let (_, mark) = pairs.find(|(name, _)| *name == cookie)?;
    let sound = URL_SAFE_NO_PAD.decode(mark).is_ok_and(|bytes| bytes.len() == SIGN_IN_RANDOM_BYTES);
    sound.then_some(mark)
}

/// What people know a provider by.
fn host_of(issuer: &str) -> &str {
    let rest = issuer.split_once("://").map_or(issuer, |(_, rest)| rest);
    rest.split('/').next().unwrap_or(rest)
}

fn malformed(error: &AskError) -> Stop {
    let code = match error {
        AskError::Login(error) => error.code(),
        AskError::Authenticator { .. } => "IDENTITY-INVALID",
        AskError::Port | AskError::ProofKey | AskError::LoginName => PepCode::RequestMalformed.as_str(),
    };
    Refusal::new(code, error.to_string()).into()
}

fn unopened(error: TokenError) -> Stop {
    invalid(match error {
        TokenError::Expired => "The sign-in took too long.",
        TokenError::Malformed | TokenError::UnknownKey | TokenError::Forged => {
            "This is no sign-in that was begun here."
        }
    })
}

fn used_up(error: used::Unused) -> Stop {
    match error {
        used::Unused::Again => invalid("This sign-in has been used already."),
        used::Unused::NoRoom => {
            Stop::new(PepCode::RequestLimit, "icegate has no room for another sign-in now. Try again in some minutes.")
        }
    }
}

fn invalid(what: &str) -> Stop {
    Stop::new(PepCode::SignInInvalid, format!("{what} Start your program's sign-in again."))
}

fn unavailable(unheard: &Unheard) -> Stop {
    warn!(error = %unheard, "identity provider of no use");
    Stop::new(
        PepCode::SignInProvider,
        "Your identity provider cannot be reached, or its answer cannot be used, so nobody can sign in with a browser. Try again in a moment, and tell whoever runs icegate if it lasts; the cause is in its log.",
    )
}

fn millis(time: std::time::Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}

fn random() -> Result<Secret, Stop> {
    let mut bytes = [0; SIGN_IN_RANDOM_BYTES];
    getrandom::fill(&mut bytes).map_err(|_| no_randomness())?;
    Ok(Secret::new(URL_SAFE_NO_PAD.encode(bytes)))
}

fn nonce() -> Result<[u8; NONCE_BYTES], Stop> {
    let mut nonce = [0; NONCE_BYTES];
    getrandom::fill(&mut nonce).map_err(|_| no_randomness())?;
    Ok(nonce)
}

fn no_randomness() -> Stop {
    Stop::new(PepCode::RequestLimit, "icegate cannot begin a sign-in now. Tell whoever runs icegate.")
}
