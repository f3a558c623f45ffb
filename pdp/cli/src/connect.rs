use std::{fs, net::IpAddr, path::Path, time::Duration};

use tonic::{
    Code, Request, Status,
    metadata::MetadataValue,
    service::{Interceptor, interceptor::InterceptedService},
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint},
};

use crate::{
    args::Connection,
    exit::{Exit, Failure, chain},
    progress,
};

/// Longest wait for the connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest token read from a file, in bytes.
const TOKEN_BYTES_MAX: u64 = 64 * 1024;

/// A connection that carries the caller's token.
pub(crate) type Pdp = InterceptedService<Channel, Bearer>;

/// Puts the token on every request.
#[derive(Clone)]
pub(crate) struct Bearer(MetadataValue<tonic::metadata::Ascii>);

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        request.metadata_mut().insert("authorization", self.0.clone());
        Ok(request)
    }
}

/// Connects to the PDP as the person whose token is given.
pub(crate) async fn connect(options: &Connection) -> Result<Pdp, Failure> {
    let bearer = bearer(options)?;
    let endpoint = endpoint(options)?;
    let connecting = progress::wait("connecting to the PDP", endpoint.connect()).await;
    let channel = connecting.map_err(|error| {
        Failure::new(
            Exit::Unavailable,
            format!(
                "cannot reach the PDP at `{}`: {}; check that it runs and that `--pdp` (or ICEGATE_PDP) names it",
                options.pdp,
                chain(&error)
            ),
        )
    })?;
    Ok(InterceptedService::new(channel, bearer))
}

/// Answers of the PDP that are no answers, as what to do about them.
pub(crate) fn refused(status: &Status) -> Failure {
    let said = crate::show::visible(status.message());
    let (exit, message) = match status.code() {
        Code::Unavailable | Code::DeadlineExceeded => {
            (Exit::Unavailable, format!("the PDP does not answer: {said}; try again when it runs"))
        }
        Code::Unauthenticated => (
            Exit::Failed,
            format!("the PDP does not accept your token: {said}; put a fresh one in ICEGATE_TOKEN or `--token-file`"),
        ),
        Code::PermissionDenied | Code::NotFound | Code::FailedPrecondition | Code::AlreadyExists | Code::Aborted => {
            (Exit::Failed, said)
        }
        Code::InvalidArgument | Code::OutOfRange => (Exit::Usage, said),
        Code::Ok
        | Code::Cancelled
        | Code::Unknown
        | Code::ResourceExhausted
        | Code::Unimplemented
        | Code::Internal
        | Code::DataLoss => (Exit::Internal, format!("the PDP failed ({:?}): {said}", status.code())),
    };
    Failure::new(exit, message)
}

fn endpoint(options: &Connection) -> Result<Endpoint, Failure> {
    let config = |message: String| Failure::new(Exit::Config, message);
    let wrong =
        || config(format!("`--pdp` is `{}`; write it as `host:port`, for example `127.0.0.1:7700`", options.pdp));
    let (scheme, authority) = match options.pdp.split_once("://") {
        Some((scheme @ ("http" | "https"), rest)) => (Some(scheme), rest.trim_end_matches('/')),
        Some(_) => return Err(wrong()),
        None => (None, options.pdp.as_str()),
    };
    let (host, port) = authority.rsplit_once(':').ok_or_else(wrong)?;
    if host.is_empty() || port.parse::<u16>().is_err() {
        return Err(wrong());
    }
    if options.danger_plaintext {
        if !is_loopback(host) {
            return Err(config(format!(
                "`--danger-plaintext` would send your token to `{host}` in the clear; leave it out and name the PDP's \
                 certificate authority with `--ca`"
            )));
        }
        if scheme == Some("https") {
            return Err(config(
                "`--danger-plaintext` and an `https` address contradict each other; leave out one".into(),
            ));
        }
        return endpoint_of(&format!("http://{authority}")).map_err(|()| wrong());
    }
    if scheme == Some("http") {
        return Err(config(
            "`http` sends your token in the clear; write `https`, or for a PDP on this machine add `--danger-plaintext`"
                .into(),
        ));
    }
    let Some(ca) = &options.ca else {
        return Err(config(
            "which certificate authority signed the PDP's certificate? Name its PEM file with `--ca` or ICEGATE_CA (for \
             a PDP on this machine without TLS: `--danger-plaintext`)"
                .into(),
        ));
    };
    let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(read(ca, "--ca")?));
    endpoint_of(&format!("https://{authority}"))
        .map_err(|()| wrong())?
        .tls_config(tls)
        .map_err(|error| config(format!("`--ca`: `{}` is not usable: {}", ca.display(), chain(&error))))
}

fn endpoint_of(url: &str) -> Result<Endpoint, ()> {
    let endpoint = Endpoint::from_shared(url.to_owned()).map_err(drop)?;
    Ok(endpoint.connect_timeout(CONNECT_TIMEOUT))
}

fn is_loopback(host: &str) -> bool {
    let literal = host.trim_start_matches('[').trim_end_matches(']');
    literal == "localhost" || literal.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn bearer(options: &Connection) -> Result<Bearer, Failure> {
    let config = |message: &str| Failure::new(Exit::Config, message);
    let text = match &options.token_file {
        Some(path) => String::from_utf8(read(path, "--token-file")?)
            .map_err(|_| config("`--token-file` does not hold a token: it is not text"))?,
        None => std::env::var("ICEGATE_TOKEN").map_err(|_| {
            config("who are you? Put your OIDC token in the variable ICEGATE_TOKEN, or its file's name after `--token-file`")
        })?,
    };
    let token = text.trim();
    if token.is_empty() || token.contains(char::is_whitespace) {
        return Err(config("the token is empty or holds blanks; it is one line of letters, digits and dots"));
    }
    let mut value: MetadataValue<_> = format!("Bearer {token}")
        .parse()
        .map_err(|_| config("the token holds characters no token has; it is one line of letters, digits and dots"))?;
    value.set_sensitive(true);
    Ok(Bearer(value))
}

fn read(path: &Path, option: &str) -> Result<Vec<u8>, Failure> {
    let wrong = |problem: String| Failure::new(Exit::Config, format!("`{option}`: `{}` {problem}", path.display()));
    let length = fs::metadata(path).map_err(|error| wrong(format!("cannot be read: {error}")))?.len();
    if length > TOKEN_BYTES_MAX {
        return Err(wrong(format!("has more than {TOKEN_BYTES_MAX} bytes")));
    }
    fs::read(path).map_err(|error| wrong(format!("cannot be read: {error}")))
}

#[cfg(test)]
mod tests {
    use super::endpoint;
    use crate::args::Connection;

    fn options(pdp: &str, danger_plaintext: bool) -> Connection {
        Connection { pdp: pdp.into(), token_file: None, ca: None, danger_plaintext }
    }

    #[test]
    fn plaintext_stays_on_this_machine() {
        for pdp in ["127.0.0.1:7700", "localhost:7700", "[::1]:7700", "http://127.0.0.1:7700"] {
            assert!(endpoint(&options(pdp, true)).is_ok(), "{pdp}");
        }
        for (pdp, plaintext, wanted) in [
            ("pdp.example.com:7700", true, "in the clear"),
            ("127.0.0.1.example.com:7700", true, "in the clear"),
            ("https://127.0.0.1:7700", true, "contradict"),
            ("http://127.0.0.1:7700", false, "in the clear"),
            ("pdp.example.com:7700", false, "`--ca`"),
            ("pdp.example.com", false, "host:port"),
            (":7700", true, "host:port"),
            ("ftp://x:1", true, "host:port"),
        ] {
            let failure = endpoint(&options(pdp, plaintext)).unwrap_err().to_string();
            assert!(failure.contains(wanted), "{pdp}: {failure}");
        }
    }
}
