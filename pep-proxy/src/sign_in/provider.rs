//! The connection to the identity provider: its metadata, and codes for tokens, with limits of time, size and number.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use icegate_pep_protocol::{
    Secret,
    refusal::one_line,
    sign_in::{Authorization, Granted, IdToken, Provider, ProviderError, WhichToken, grant, token_request},
};
use tokio::sync::{Mutex, Semaphore};

use crate::config::{self, secrets::SignInSecrets};

/// Where a provider's metadata stands under its issuer (OpenID Connect Discovery 1.0 §4).
const WELL_KNOWN: &str = "/.well-known/openid-configuration";
/// Bytes of an answer of the provider.
const ANSWER_BYTES_MAX: usize = 256 * 1024;
/// How long metadata is kept.
const METADATA_TTL: Duration = Duration::from_mins(5);
/// How long it is not asked for again after it could not be had: askers need no credential.
const PAUSE: Duration = Duration::from_secs(5);
/// Codes being exchanged at one time.
const EXCHANGES_MAX: usize = 32;

/// Speaks to the identity provider.
pub(super) struct Idp {
    http: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    issuer: String,
    danger_plaintext: bool,
    timeout: Duration,
    client_secret: Option<Secret>,
    /// What was heard last, and when.
    metadata: Mutex<Option<(Instant, Heard)>>,
    exchanges: Semaphore,
}

type Heard = Result<Arc<Provider>, Arc<Unheard>>;

impl fmt::Debug for Idp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Idp").field("issuer", &self.issuer).finish_non_exhaustive()
    }
}

/// Why the provider is of no use now. For the log.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unheard {
    #[error("`{0}` is not a URL to speak to: `https`, or `http` on loopback with `sign_in.danger_plaintext`")]
    Url(String),
    #[error("the identity provider cannot be reached")]
    Unreachable,
    #[error("the identity provider did not answer in time")]
    Timeout,
    #[error("the identity provider's answer is over the limit")]
    TooLarge,
    #[error("the identity provider answered with status {0}")]
    Status(u16),
    #[error("too many codes are being exchanged")]
    Busy,
    #[error("the identity provider: {0}")]
    Provider(#[from] ProviderError),
}

impl Idp {
    pub(super) fn new(config: &config::SignIn, secrets: &SignInSecrets) -> Self {
        let mut http = HttpConnector::new();
        http.enforce_http(false);
        http.set_nodelay(true);
        http.set_connect_timeout(Some(config.timeout));
        // `http` gets past `allowed` only on loopback and with `danger_plaintext`.
        let https = HttpsConnectorBuilder::new()
            .with_tls_config(rustls::ClientConfig::clone(&secrets.tls))
            .https_or_http()
            .enable_http1()
            .wrap_connector(http);
        let http = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(Duration::from_secs(20))
            .build(https);
        Self {
            http,
            issuer: config.issuer.clone(),
            danger_plaintext: config.danger_plaintext,
            timeout: config.timeout,
            client_secret: secrets.client_secret.clone(),
            metadata: Mutex::default(),
            exchanges: Semaphore::new(EXCHANGES_MAX),
        }
    }

    /// What the provider says of itself. Asked for by one at a time, and not again for a while whatever came of it.
    pub(super) async fn metadata(&self) -> Heard {
        let mut last = self.metadata.lock().await;
        if let Some((at, heard)) = last.as_ref() {
            let good_for = if heard.is_ok() { METADATA_TTL } else { PAUSE };
            if at.elapsed() < good_for {
                return heard.clone();
            }
        }
        let heard = self.discover().await.map(Arc::new).map_err(Arc::new);
        last.insert((Instant::now(), heard)).1.clone()
    }

    async fn discover(&self) -> Result<Provider, Unheard> {
        let url = format!("{}{WELL_KNOWN}", self.issuer.trim_end_matches('/'));
        let (status, document) = self.call(Method::GET, &url, None, None).await?;
        if status != StatusCode::OK {
            return Err(Unheard::Status(status.as_u16()));
        }
        let provider = Provider::parse(&document, &self.issuer)?;
        for endpoint in [&provider.authorization_endpoint, &provider.token_endpoint] {
            self.allowed(endpoint)?;
        }
        Ok(provider)
    }

    /// Exchanges a code for a token, at the token endpoint of the issuer's own metadata.
    pub(super) async fn exchange(
        &self,
        provider: &Provider,
        sent: &Authorization<'_>,
        code: &str,
        which: WhichToken,
        now_s: i64,
    ) -> Result<Granted, Unheard> {
        let _place = self.exchanges.try_acquire().map_err(|_| Unheard::Busy)?;
        let (form, authorization) = token_request(provider, sent, code, self.client_secret.as_ref());
        let (status, answer) = self.call(Method::POST, &provider.token_endpoint, Some(form), authorization).await?;
        let expected = IdToken { issuer: &self.issuer, client_id: sent.client_id, nonce: sent.nonce, now_s };
        match (status, grant(&answer, which, &expected)) {
            (StatusCode::OK, granted) => Ok(granted?),
            // It says why in words of OAuth.
            (_, Err(refused @ ProviderError::Refused(_))) => Err(refused.into()),
            (status, _) => Err(Unheard::Status(status.as_u16())),
        }
    }

    fn allowed(&self, url: &str) -> Result<Uri, Unheard> {
        let uri = url.parse().ok().filter(|uri| config::allowed(uri, self.danger_plaintext));
        uri.ok_or_else(|| Unheard::Url(one_line(url, 200)))
    }

    async fn call(
        &self,
        method: Method,
        url: &str,
        form: Option<Secret>,
        authorization: Option<Secret>,
    ) -> Result<(StatusCode, Bytes), Unheard> {
        let mut request = Request::new(Full::default());
        *request.method_mut() = method;
        *request.uri_mut() = self.allowed(url)?;
        let headers = request.headers_mut();
        headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
        headers.insert(header::USER_AGENT, HeaderValue::from_static(concat!("icegate/", env!("CARGO_PKG_VERSION"))));
        if let Some(authorization) = authorization {
            let mut value = HeaderValue::try_from(authorization.expose()).map_err(|_| Unheard::Unreachable)?;
            value.set_sensitive(true);
            headers.insert(header::AUTHORIZATION, value);
        }
        if let Some(form) = form {
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
            *request.body_mut() = Full::new(Bytes::copy_from_slice(form.expose().as_bytes()));
        }
        let answered = async {
            // This client knows no redirects: one would carry a code or a secret elsewhere.
            let response = self.http.request(request).await.map_err(|_| Unheard::Unreachable)?;
            let status = response.status();
            let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await.map_err(|error| {
                if error.is::<LengthLimitError>() { Unheard::TooLarge } else { Unheard::Unreachable }
            })?;
            Ok((status, body.to_bytes()))
        };
        tokio::time::timeout(self.timeout, answered).await.unwrap_or(Err(Unheard::Timeout))
    }
}
