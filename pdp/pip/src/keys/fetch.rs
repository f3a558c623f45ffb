use std::{io, net::IpAddr, path::Path, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Empty, LengthLimitError, Limited};
use hyper_rustls::HttpsConnector;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use icegate_pdp_identity::{KeyError, KeySet};
use icegate_pdp_model::with_causes;
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, pem::PemObject as _},
};
use serde::Deserialize;
use thiserror::Error;

use super::KeySource;

/// Longest JWKS or provider configuration read, in bytes.
pub const DOCUMENT_BYTES_MAX: usize = 1024 * 1024;
/// Where an OpenID provider's configuration stands under its issuer (OpenID Connect Discovery 1.0 §4).
const WELL_KNOWN: &str = "/.well-known/openid-configuration";

/// Why an issuer's keys could not be fetched.
#[derive(Debug, Error)]
pub enum FetchError {
    /// The file cannot be read.
    #[error("`{path}` cannot be read")]
    File {
        /// Which file.
        path: String,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// Not a URL keys may come from.
    #[error("`{0}` is not an `https` URL (plain `http` only on loopback)")]
    Url(String),
    /// The server cannot be reached, or the connection broke.
    #[error("`{url}` cannot be fetched: {problem}")]
    Connection {
        /// Which URL.
        url: String,
        /// The chain of causes.
        problem: String,
    },
    /// No whole answer in time.
    #[error("`{0}` did not answer in time")]
    Timeout(String),
    /// Anything but 200. Redirects are not followed.
    #[error("`{url}` answered {status}")]
    Status {
        /// Which URL.
        url: String,
        /// HTTP status.
        status: u16,
    },
    /// Over [`DOCUMENT_BYTES_MAX`].
    #[error("`{0}` holds more than {DOCUMENT_BYTES_MAX} bytes")]
    TooLong(String),
    /// The provider's configuration is not usable.
    #[error("`{url}` is not an OpenID provider's configuration: {problem}")]
    Discovery {
        /// Which URL.
        url: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The document is no usable JWKS.
    #[error("`{place}` is not usable")]
    Keys {
        /// File or URL.
        place: String,
        /// What is wrong with it.
        #[source]
        source: KeyError,
    },
    /// The certificate authorities to trust cannot be read.
    #[error("the certificate authorities in `{path}` cannot be read: {problem}")]
    Authorities {
        /// Which file.
        path: String,
        /// What is wrong with it.
        problem: String,
    },
    /// TLS cannot be set up.
    #[error("TLS cannot be set up")]
    Tls(#[source] rustls::Error),
}

/// A key set, and for how long its server says it may be kept.
pub(super) struct Fetched {
    pub(super) keys: KeySet,
    pub(super) keep_for: Option<Duration>,
}

/// Reads files and fetches URLs, within limits.
pub(super) struct Fetcher {
    client: Client<HttpsConnector<HttpConnector>, Empty<Bytes>>,
    timeout: Duration,
}

impl Fetcher {
    pub(super) fn new(ca_file: Option<&Path>, timeout: Duration) -> Result<Self, FetchError> {
        let provider = rustls::crypto::ring::default_provider();
        let builder = hyper_rustls::HttpsConnectorBuilder::new();
        let builder = match ca_file {
            None => builder.with_provider_and_webpki_roots(provider).map_err(FetchError::Tls)?,
            Some(path) => {
                let config = ClientConfig::builder_with_provider(provider.into())
                    .with_safe_default_protocol_versions()
                    .map_err(FetchError::Tls)?
                    .with_root_certificates(authorities(path)?)
                    .with_no_client_auth();
                builder.with_tls_config(config)
            }
        };
        let connector = builder.https_or_http().enable_http1().build();
        Ok(Self { client: Client::builder(TokioExecutor::new()).build(connector), timeout })
    }

    pub(super) async fn fetch(&self, source: &KeySource, issuer: &str) -> Result<Fetched, FetchError> {
        match source {
            KeySource::File(path) => {
                let place = path.display().to_string();
                let file = |source| FetchError::File { path: place.clone(), source };
                let length = tokio::fs::metadata(path).await.map_err(file)?.len();
                if length > DOCUMENT_BYTES_MAX as u64 {
                    return Err(FetchError::TooLong(place));
                }
                let json = tokio::fs::read(path).await.map_err(file)?;
                let keys = parse(&place, &json)?;
                Ok(Fetched { keys, keep_for: None })
            }
            KeySource::Url(url) => self.fetch_keys(url).await,
            KeySource::Discovery(url) => {
                let jwks_url = self.discover(url, issuer).await?;
                self.fetch_keys(&jwks_url).await
            }
        }
    }

    async fn fetch_keys(&self, url: &str) -> Result<Fetched, FetchError> {
        let (headers, json) = self.get(url).await?;
        Ok(Fetched { keys: parse(url, &json)?, keep_for: max_age(&headers) })
    }

    async fn discover(&self, url: &str, issuer: &str) -> Result<String, FetchError> {
        #[derive(Deserialize)]
        struct Provider {
            issuer: String,
            jwks_uri: String,
        }
        let url = if url.contains("/.well-known/") {
            url.to_owned()
        } else {
            format!("{}{WELL_KNOWN}", url.trim_end_matches('/'))
        };
        let (_, json) = self.get(&url).await?;
        let wrong = |problem: String| FetchError::Discovery { url: url.clone(), problem };
        let provider: Provider = serde_json::from_slice(&json).map_err(|error| wrong(error.to_string()))?;
        if provider.issuer != issuer {
            return Err(wrong(format!("it speaks for `{}`, and `{issuer}` is configured", provider.issuer)));
        }
        Ok(provider.jwks_uri)
    }

    async fn get(&self, url: &str) -> Result<(HeaderMap, Bytes), FetchError> {
        let uri = checked(url)?;
        let broken = |problem: String| FetchError::Connection { url: url.to_owned(), problem };
        let request = Request::get(uri)
            .header(header::ACCEPT, "application/json")
            .body(Empty::new())
            .map_err(|error| broken(error.to_string()))?;
        let fetch = async {
            let answer = self.client.request(request).await.map_err(|error| broken(with_causes(&error)))?;
            if answer.status() != StatusCode::OK {
                return Err(FetchError::Status { url: url.to_owned(), status: answer.status().as_u16() });
            }
            let (head, body) = answer.into_parts();
            let body = Limited::new(body, DOCUMENT_BYTES_MAX).collect().await.map_err(|error| {
                if error.is::<LengthLimitError>() {
                    FetchError::TooLong(url.to_owned())
                } else {
                    broken(with_causes(error.as_ref()))
                }
            })?;
            Ok((head.headers, body.to_bytes()))
        };
        tokio::time::timeout(self.timeout, fetch).await.unwrap_or_else(|_| Err(FetchError::Timeout(url.to_owned())))
    }
}

fn parse(place: &str, json: &[u8]) -> Result<KeySet, FetchError> {
    KeySet::from_jwks_json(json).map_err(|source| FetchError::Keys { place: place.to_owned(), source })
}

/// Keys fetched in the clear could be anybody's; on loopback there is nobody between.
fn checked(url: &str) -> Result<Uri, FetchError> {
    let wrong = || FetchError::Url(url.to_owned());
    let uri: Uri = url.parse().map_err(|_| wrong())?;
    let host = uri.host().ok_or_else(wrong)?;
    let literal = host.trim_start_matches('[').trim_end_matches(']');
    let loopback = literal == "localhost" || literal.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
    let names_user = uri.authority().is_some_and(|authority| authority.as_str().contains('@'));
    match uri.scheme_str() {
        Some("https") if !names_user => Ok(uri),
        Some("http") if loopback && !names_user => Ok(uri),
        _ => Err(wrong()),
    }
}

fn max_age(headers: &HeaderMap) -> Option<Duration> {
    let control = headers.get(header::CACHE_CONTROL)?.to_str().ok()?;
    let seconds = control.split(',').find_map(|part| part.trim().strip_prefix("max-age="))?;
    seconds.parse().ok().map(Duration::from_secs)
}

fn authorities(path: &Path) -> Result<RootCertStore, FetchError> {
    let wrong = |problem: String| FetchError::Authorities { path: path.display().to_string(), problem };
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(path).map_err(|error| wrong(error.to_string()))? {
        let certificate = certificate.map_err(|error| wrong(error.to_string()))?;
        roots.add(certificate).map_err(|error| wrong(error.to_string()))?;
    }
    if roots.is_empty() { Err(wrong("it holds no certificate".into())) } else { Ok(roots) }
}

#[cfg(test)]
mod tests {
    use super::checked;

    #[test]
    fn keys_come_over_https_or_loopback() {
        for (url, wanted) in [
            ("https://login.example.com/keys", true),
            ("http://127.0.0.1:8080/keys", true),
            ("http://[::1]:8080/keys", true),
            ("http://localhost/keys", true),
            ("http://login.example.com/keys", false),
            ("http://127.0.0.1.example.com/keys", false),
            ("http://localhost@evil.example/keys", false),
            ("https://user:password@login.example.com/keys", false),
            ("file:///etc/passwd", false),
            ("/keys", false),
        ] {
            assert_eq!(checked(url).is_ok(), wanted, "{url}");
        }
    }
}
