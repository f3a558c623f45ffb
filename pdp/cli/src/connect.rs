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
    let channel = connecting.map_err(|error| unreachable(&options.pdp, &chain(&error)))?;
    Ok(InterceptedService::new(channel, bearer))
}

/// No connection, and what to look at first.
fn unreachable(pdp: &str, problem: &str) -> Failure {
    // The TLS library's own words; nothing finer comes through the transport's error.
    let advice = if problem.contains("certificate") {
        "`--ca` (or ICEGATE_CA) has to name the authority that signed its certificate, and `--pdp` a name in it"
    } else if problem.contains("corrupt message") {
        "this port does not speak TLS; check that `--pdp` (or ICEGATE_PDP) names the PDP's"
    } else {
        "check that it runs and that `--pdp` (or ICEGATE_PDP) names it"
    };
    Failure::new(Exit::Unavailable, format!("cannot reach the PDP at `{pdp}`: {problem}; {advice}"))
}

/// Answers of the PDP that are no answers, as what to do about them.
pub(crate) fn refused(status: &Status) -> Failure {
    let said = crate::show::visible(status.message());
    // What comes of speaking plainly to a port that serves TLS, or of a PDP that stops.
    if status.code() == Code::Cancelled || said.starts_with("h2 protocol error") {
        let message = format!("the connection broke ({said}); if the PDP serves TLS, leave out `--danger-plaintext`");
        return Failure::new(Exit::Unavailable, message);
    }
    let (exit, message) = match status.code() {
        Code::Unavailable | Code::DeadlineExceeded => {
            (Exit::Unavailable, format!("the PDP does not answer: {said}; try again when it runs"))
        }
        Code::Unauthenticated => (
            Exit::Failed,
            format!(
                "the PDP does not accept your token: {}; put a fresh one in ICEGATE_TOKEN or `--token-file`",
                said.trim_end_matches('.')
            ),
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
    let pem = read(ca, "--ca")?;
    // A file without one would be an authority that signed nothing, and the failure a riddle.
    if !String::from_utf8_lossy(&pem).contains("-----BEGIN CERTIFICATE-----") {
        return Err(config(format!("`--ca`: `{}` holds no certificate; it has to be a PEM file", ca.display())));
    }
    let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(pem));
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
    use tonic::Status;

    use super::{endpoint, refused, unreachable};
    use crate::{args::Connection, exit::Exit};

    fn options(pdp: &str, danger_plaintext: bool) -> Connection {
        Connection { pdp: pdp.into(), token_file: None, ca: None, danger_plaintext }
    }

    #[test]
    fn what_to_look_at_follows_from_the_problem() {
        for (problem, wanted) in [
            ("transport error: invalid peer certificate: UnknownIssuer", "`--ca`"),
            ("transport error: received corrupt message of type InvalidContentType", "does not speak TLS"),
            ("transport error: Connection refused (os error 111)", "check that it runs"),
        ] {
            let failure = unreachable("pdp:7700", problem).to_string();
            assert!(failure.contains(wanted), "{failure}");
        }
        let failure = refused(&Status::cancelled("operation was canceled"));
        assert_eq!(failure.exit(), Exit::Unavailable);
        assert!(failure.to_string().contains("`--danger-plaintext`"), "{failure}");
        let failure = refused(&Status::unauthenticated("It is no token.")).to_string();
        assert!(failure.contains("It is no token; put"), "{failure}");
    }

    #[test]
    fn an_authority_is_a_certificate() {
        let mut options = options("pdp.example.com:7700", false);
        options.ca = Some(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml").into());
        let failure = endpoint(&options).unwrap_err().to_string();
        assert!(failure.contains("holds no certificate"), "{failure}");
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
