//! The storage results lie in: which hosts are one, and one `GET` there.

use std::{fmt, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use icegate_pep_protocol::{Secret, body};
use tracing::{debug, warn};

use super::Missed;
use crate::{
    config::{self, Delivering},
    lanes::{self, Client, Lanes, Taken, Terms},
};

/// Longest wait for a connection to the storage.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest wait for the beginning of a part.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);

/// Fetches parts of results.
pub(crate) struct Storage {
    lanes: Lanes<Client<Empty<Bytes>>>,
    config: config::Results,
}

impl fmt::Debug for Storage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Storage").field("config", &self.config).finish_non_exhaustive()
    }
}

/// A part that is coming.
pub(super) struct Stored {
    /// It is a gzip stream.
    pub(super) packed: bool,
    /// Its first bytes.
    pub(super) first: Bytes,
    pub(super) rest: Incoming,
    /// All its bytes as they lie there, when the storage says.
    pub(super) bytes: Option<u64>,
}

impl Storage {
    pub(crate) fn new(config: &config::Results, tls: &Arc<rustls::ClientConfig>) -> Self {
        let terms = Terms { connect_timeout: CONNECT_TIMEOUT, idle_timeout: Duration::from_secs(20) };
        Self { lanes: Lanes::new(config.fetches_max, || lanes::client(tls, terms)), config: config.clone() }
    }

    /// How long an address is good.
    pub(crate) fn ttl(&self) -> Duration {
        self.config.ttl
    }

    /// Whether drivers go to the storage themselves.
    pub(crate) fn is_direct(&self) -> bool {
        self.config.chunks == Delivering::Direct
    }

    /// Where drivers reach this proxy, when it is not where they say.
    pub(crate) fn base(&self) -> Option<&str> {
        self.config.url.as_deref()
    }

    /// A place among the parts on their way.
    pub(super) async fn place(&self) -> Option<Taken<'_, Client<Empty<Bytes>>>> {
        self.lanes.take().await
    }

    /// The URL of a part, when it is on a host that results are fetched from.
    pub(crate) fn allowed(&self, url: &str) -> Option<Uri> {
        let uri: Uri = url.parse().ok()?;
        let authority = uri.authority()?;
        let host = uri.host()?;
        let loopback = host.trim_matches(['[', ']']).parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback());
        let port = match uri.scheme_str()? {
            "https" => uri.port_u16().unwrap_or(443),
            "http" if self.config.danger_plaintext && loopback => uri.port_u16().unwrap_or(80),
            _ => return None,
        };
        let plain = !authority.as_str().contains('@');
        (plain && self.config.storage_hosts.iter().any(|pattern| pattern.matches(host, port))).then_some(uri)
    }

    pub(super) async fn get(
        &self,
        client: &Client<Empty<Bytes>>,
        url: &str,
        headers: &[(&str, &Secret)],
    ) -> Result<Stored, Missed> {
        // Sealed by us, and looked at again: the list may have become shorter.
        let uri = self.allowed(url).ok_or(Missed::Unknown)?;
        let mut request = Request::new(Empty::new());
        *request.uri_mut() = uri;
        let sent = request.headers_mut();
        sent.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("gzip"));
        sent.insert(header::USER_AGENT, HeaderValue::from_static(concat!("icegate/", env!("CARGO_PKG_VERSION"))));
        for (name, value) in headers {
            let name = HeaderName::try_from(*name).map_err(|_| Missed::Broken)?;
            let mut value = HeaderValue::try_from(value.expose()).map_err(|_| Missed::Broken)?;
            value.set_sensitive(true);
            sent.insert(name, value);
        }
        tokio::time::timeout(HEAD_TIMEOUT, Self::begin(client, request)).await.unwrap_or(Err(Missed::Busy))
    }

    async fn begin(client: &Client<Empty<Bytes>>, request: Request<Empty<Bytes>>) -> Result<Stored, Missed> {
        // Not followed anywhere: this client knows no redirects.
        let response = client.request(request).await.map_err(|error| {
            debug!(connect = error.is_connect(), "storage not reached");
            Missed::Busy
        })?;
        let (head, mut rest) = response.into_parts();
        match head.status {
            StatusCode::OK => {}
            status if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS => return Err(Missed::Busy),
            StatusCode::NOT_FOUND | StatusCode::FORBIDDEN | StatusCode::GONE => return Err(Missed::Unknown),
            status => {
                warn!(status = status.as_u16(), "storage answered something that is not passed on");
                return Err(Missed::Broken);
            }
        }
        let mut first = Bytes::new();
        while first.len() < 2 {
            match rest.frame().await {
                None => break,
                Some(Ok(frame)) => {
                    let data = frame.into_data().unwrap_or_default();
                    first = if first.is_empty() { data } else { [first, data].concat().into() };
                }
                Some(Err(_)) => return Err(Missed::Busy),
            }
        }
        let packed = body::is_gzip(&first);
        match head.headers.get(header::CONTENT_ENCODING).map(HeaderValue::as_bytes) {
            None | Some(b"" | b"identity") => {}
            Some(b"gzip" | b"x-gzip") if packed || first.is_empty() => {}
            Some(_) => return Err(Missed::Broken),
        }
        Ok(Stored { packed, first, rest, bytes: length(&head.headers) })
    }
}

fn length(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use icegate_pep_protocol::HostPattern;

    #[test]
    fn only_listed_hosts_over_tls() {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let tls = rustls::ClientConfig::builder()
            .with_root_certificates(rustls::RootCertStore::empty())
            .with_no_client_auth();
        let storage = |danger_plaintext| {
            let hosts = ["*.s3.amazonaws.com", "127.0.0.1:9000"].map(|text| HostPattern::parse(text).unwrap());
            let config =
                config::Results { storage_hosts: hosts.to_vec(), danger_plaintext, ..config::Results::default() };
            Storage::new(&config, &Arc::new(tls.clone()))
        };
        for (url, strict, danger) in [
            ("https://stage.s3.amazonaws.com/x?sig=1", true, true),
            ("https://stage.s3.amazonaws.com:443/x", true, true),
            ("https://stage.s3.amazonaws.com:8443/x", false, false),
            ("http://stage.s3.amazonaws.com/x", false, false),
            ("https://stage.s3.amazonaws.com@evil.example/x", false, false),
            ("https://user@stage.s3.amazonaws.com/x", false, false),
            ("https://evil.example/stage.s3.amazonaws.com", false, false),
            ("https://169.254.169.254/latest/meta-data", false, false),
            ("https://127.0.0.1:9000/x", true, true),
            ("http://127.0.0.1:9000/x", false, true),
            ("http://127.0.0.1:9001/x", false, false),
            ("http://[::1]:9000/x", false, false),
            ("file:///etc/passwd", false, false),
            ("//stage.s3.amazonaws.com/x", false, false),
            ("", false, false),
        ] {
            assert_eq!(storage(false).allowed(url).is_some(), strict, "{url}");
            assert_eq!(storage(true).allowed(url).is_some(), danger, "{url} with danger_plaintext");
        }
    }
}
