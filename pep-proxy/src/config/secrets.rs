//! The files a configuration names: certificates, keys, the service user's credential. Read before a port is bound.

use std::{fmt, io::Write as _, path::Path, sync::Arc};

use arc_swap::ArcSwap;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use hyper_rustls::ConfigBuilderExt as _;
use icegate_pep_masking::KeyRing;
use icegate_pep_protocol::{SealKey, Sealer, Secret};
use rsa::{
    RsaPrivateKey,
    pkcs1::DecodeRsaPrivateKey as _,
    pkcs8::{DecodePrivateKey as _, EncodePublicKey as _},
};
use rustls::{
    RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use sha2::{Digest as _, Sha256};
use tonic::transport::{Certificate, ClientTlsConfig, Identity};
use zeroize::Zeroizing;

use super::{ClientTls, Config, Connection, MaskKeys, ServerTls, SignIn, UpstreamAuth};

mod command;

/// Everything secret a proxy works with, parsed.
pub struct Secrets {
    pub(crate) server_tls: Option<ServedTls>,
    /// In the order of the connections.
    pub(crate) connections: Vec<ConnectionSecrets>,
    pub(crate) storage_tls: Arc<rustls::ClientConfig>,
    pub(crate) mask_keys: ReadKeys,
    /// Newest first, never empty.
    pub(crate) token_keys: TokenKeys,
    /// The keys are this process's own: a restart ends all sessions.
    pub(crate) token_keys_passing: bool,
}

/// What one connection works with.
#[derive(Debug)]
pub(crate) struct ConnectionSecrets {
    pub(crate) pdp_tls: Option<ClientTlsConfig>,
    pub(crate) upstream_tls: Arc<rustls::ClientConfig>,
    pub(crate) credential: Credential,
    pub(crate) sign_in: Option<SignInSecrets>,
}

/// What a sign-in with a browser needs.
#[derive(Debug)]
pub(crate) struct SignInSecrets {
    pub(crate) tls: Arc<rustls::ClientConfig>,
    pub(crate) client_secret: Option<Secret>,
}

impl SignInSecrets {
    fn read(config: &SignIn) -> Result<Self, SecretsError> {
        const KEY: &str = "sign_in.client_secret_file";
        let client_secret = match &config.client_secret_file {
            None => None,
            Some(path) => {
                let bytes = read(KEY, path)?;
                let text = std::str::from_utf8(&bytes).map_err(|_| unusable(KEY, "the secret is not UTF-8"))?;
                let text = text.trim_end_matches(['\r', '\n']);
                if text.is_empty() {
                    return Err(unusable(KEY, "the secret is empty"));
                }
                Some(Secret::new(text))
            }
        };
        Ok(Self { tls: client_tls("sign_in.ca", config.ca.as_deref())?, client_secret })
    }
}

impl ConnectionSecrets {
    fn read(connection: &Connection) -> Result<Self, SecretsError> {
        let Connection { upstream, pdp, sign_in, .. } = connection;
        Ok(Self {
            pdp_tls: pdp.tls.as_ref().map(pdp_tls).transpose()?,
            upstream_tls: client_tls("upstream.ca", upstream.ca.as_deref())?,
            credential: credential(&upstream.auth)?,
            sign_in: sign_in.as_ref().map(SignInSecrets::read).transpose()?,
        })
    }
}

/// What seals and opens the tokens of one connection.
pub(crate) fn sealer(keys: &TokenKeys, connection: &str) -> Result<Sealer, SecretsError> {
    let keys = keys.iter().map(|key| SealKey::new(*key_of_connection(key, connection))).collect();
    Sealer::new(keys).ok_or_else(|| unusable("tokens.keys_file", "no key"))
}

/// The key of one connection, of those the file has for all: what is sealed for one opens for no other.
fn key_of_connection(key: &[u8; 32], name: &str) -> Zeroizing<[u8; 32]> {
    if name.is_empty() {
        return Zeroizing::new(*key);
    }
    let hash = Sha256::new().chain_update(b"icegate connection").chain_update(key).chain_update(name);
    Zeroizing::new(hash.finalize().into())
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secrets(***)")
    }
}

/// What the listener shows, and the means to show something newer.
#[derive(Clone)]
pub(crate) struct ServedTls {
    pub(crate) config: Arc<rustls::ServerConfig>,
    files: ServerTls,
    shown: Arc<Shown>,
}

/// The certificate that is shown now.
#[derive(Debug)]
struct Shown(ArcSwap<CertifiedKey>);

impl ResolvesServerCert for Shown {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.load_full())
    }
}

impl ServedTls {
    /// Reads certificate and key again. A pair that cannot be used leaves the one before in force.
    pub(crate) fn reread(&self) -> Result<(), SecretsError> {
        self.shown.0.store(Arc::new(certified(&self.files)?));
        Ok(())
    }
}

/// How the service user proves itself to the warehouse.
#[derive(Clone)]
pub(crate) enum Credential {
    KeyPair {
        key: jsonwebtoken::EncodingKey,
        /// `SHA256:<base64>` of the public key, as Snowflake prints it.
        fingerprint: String,
    },
    Password(Zeroizing<String>),
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credential(***)")
    }
}

/// A file or variable that does not hold what it should.
#[derive(Debug, thiserror::Error)]
pub enum SecretsError {
    /// It cannot be read.
    #[error("`{key}`: cannot read `{path}`")]
    Unreadable {
        /// The configuration key.
        key: &'static str,
        /// The file.
        path: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// It holds something else.
    #[error("`{key}`: {message}")]
    Unusable {
        /// The configuration key.
        key: &'static str,
        /// What is wrong and what to do.
        message: String,
    },
}

impl Secrets {
    /// Reads every file and variable the configuration names.
    ///
    /// # Errors
    /// When one is missing or does not hold what it should.
    pub fn read(config: &Config) -> Result<Self, SecretsError> {
        let (token_keys, token_keys_passing) = token_keys(config)?;
        Ok(Self {
            server_tls: config.listen.tls.as_ref().map(server_tls).transpose()?,
            connections: config.connections.iter().map(ConnectionSecrets::read).collect::<Result<_, _>>()?,
            storage_tls: client_tls("results.ca", config.results.ca.as_deref())?,
            token_keys,
            token_keys_passing,
            mask_keys: config.masking.keys.as_ref().map(mask_keys).transpose()?.unwrap_or_default(),
        })
    }
}

fn read(key: &'static str, path: &Path) -> Result<Zeroizing<Vec<u8>>, SecretsError> {
    std::fs::read(path).map(Zeroizing::new).map_err(|source| SecretsError::Unreadable {
        key,
        path: path.display().to_string(),
        source,
    })
}

fn unusable(key: &'static str, message: impl Into<String>) -> SecretsError {
    SecretsError::Unusable { key, message: message.into() }
}

fn certificates(key: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, SecretsError> {
    let pem = read(key, path)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        _ => Err(unusable(key, format!("`{}` holds no PEM certificate", path.display()))),
    }
}

fn ring() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn server_tls(tls: &ServerTls) -> Result<ServedTls, SecretsError> {
    let shown = Arc::new(Shown(ArcSwap::from_pointee(certified(tls)?)));
    let mut config = rustls::ServerConfig::builder_with_provider(ring())
        .with_safe_default_protocol_versions()
        .map_err(|error| unusable("listen.tls", error.to_string()))?
        .with_no_client_auth()
        .with_cert_resolver(Arc::<Shown>::clone(&shown));
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(ServedTls { config: Arc::new(config), files: tls.clone(), shown })
}

fn certified(tls: &ServerTls) -> Result<CertifiedKey, SecretsError> {
    let chain = certificates("listen.tls.cert", &tls.cert)?;
    let pem = read("listen.tls.key", &tls.key)?;
    let key = PrivateKeyDer::from_pem_slice(&pem)
        .map_err(|_| unusable("listen.tls.key", format!("`{}` holds no PEM private key", tls.key.display())))?;
    CertifiedKey::from_der(chain, key, &ring())
        .map_err(|error| unusable("listen.tls", format!("certificate and key do not go together: {error}")))
}

pub(crate) fn pdp_tls(tls: &ClientTls) -> Result<ClientTlsConfig, SecretsError> {
    // Parsed once here so that a wrong file is named at start, then given to tonic as PEM.
    certificates("pdp.tls.ca", &tls.ca)?;
    certificates("pdp.tls.cert", &tls.cert)?;
    let key = read("pdp.tls.key", &tls.key)?;
    PrivateKeyDer::from_pem_slice(&key)
        .map_err(|_| unusable("pdp.tls.key", format!("`{}` holds no PEM private key", tls.key.display())))?;
    Ok(ClientTlsConfig::new()
        .ca_certificate(Certificate::from_pem(&*read("pdp.tls.ca", &tls.ca)?))
        .identity(Identity::from_pem(&*read("pdp.tls.cert", &tls.cert)?, &*key)))
}

fn client_tls(key: &'static str, ca: Option<&Path>) -> Result<Arc<rustls::ClientConfig>, SecretsError> {
    let builder = rustls::ClientConfig::builder_with_provider(ring())
        .with_safe_default_protocol_versions()
        .map_err(|error| unusable(key, error.to_string()))?;
    let builder = match ca {
        None => builder.with_webpki_roots(),
        Some(ca) => {
            let mut roots = RootCertStore::empty();
            for certificate in certificates(key, ca)? {
                roots.add(certificate).map_err(|error| unusable(key, error.to_string()))?;
            }
            builder.with_root_certificates(roots)
        }
    };
    Ok(Arc::new(builder.with_no_client_auth()))
}

pub(crate) fn credential(auth: &UpstreamAuth) -> Result<Credential, SecretsError> {
    match auth {
        UpstreamAuth::KeyPair(path) => key_pair(path),
        UpstreamAuth::PasswordFile(path) => {
            let bytes = read("upstream.password_file", path)?;
            let text = std::str::from_utf8(&bytes)
                .map_err(|_| unusable("upstream.password_file", "the password is not UTF-8"))?;
            password("upstream.password_file", text.trim_end_matches(['\r', '\n']))
        }
        UpstreamAuth::PasswordEnv(name) => {
            let text = std::env::var(name)
                .map(Zeroizing::new)
                .map_err(|_| unusable("upstream.password_env", format!("the variable `{name}` is not set")))?;
            password("upstream.password_env", &text)
        }
    }
}

fn password(key: &'static str, text: &str) -> Result<Credential, SecretsError> {
    if text.is_empty() {
        return Err(unusable(key, "the password is empty"));
    }
    Ok(Credential::Password(Zeroizing::new(text.to_owned())))
}

pub(crate) fn key_pair(path: &Path) -> Result<Credential, SecretsError> {
    const KEY: &str = "upstream.private_key";
    let bytes = read(KEY, path)?;
    let pem = std::str::from_utf8(&bytes).map_err(|_| unusable(KEY, "the file is not PEM text"))?;
    if pem.contains("ENCRYPTED") {
        return Err(unusable(
            KEY,
            "the key is encrypted; write it unencrypted with mode 0600: `openssl pkcs8 -in <key> -out <file>`",
        ));
    }
    let key = RsaPrivateKey::from_pkcs8_pem(pem)
        .or_else(|_| RsaPrivateKey::from_pkcs1_pem(pem))
        .map_err(|_| unusable(KEY, format!("`{}` holds no RSA private key in PEM", path.display())))?;
    let public = key
        .to_public_key()
        .to_public_key_der()
        .map_err(|_| unusable(KEY, "the public key cannot be derived from the private key"))?;
    let fingerprint = format!("SHA256:{}", STANDARD.encode(Sha256::digest(public.as_bytes())));
    let key = jsonwebtoken::EncodingKey::from_rsa_pem(pem.as_bytes())
        .map_err(|_| unusable(KEY, "the key cannot sign; use an RSA key of 2048 bits or more"))?;
    Ok(Credential::KeyPair { key, fingerprint })
}

/// Keys of masks, and of which text they were read. None without `[masking]`.
#[derive(Debug, Clone, Default)]
pub(crate) struct ReadKeys {
    pub(crate) ring: KeyRing,
    pub(crate) digest: [u8; 32],
}

pub(crate) fn mask_keys(from: &MaskKeys) -> Result<ReadKeys, SecretsError> {
    let (key, path, bytes) = match from {
        MaskKeys::File(path) => ("masking.keys_file", path, read("masking.keys_file", path)?),
        MaskKeys::Command(path, arguments) => {
            let key = "masking.keys_command";
            let said = command::output(path, arguments).map_err(|why| match why {
                command::Mute::Unstarted(source) => {
                    SecretsError::Unreadable { key, path: path.display().to_string(), source }
                }
                why => unusable(key, format!("`{}` {why}", path.display())),
            })?;
            (key, path, said)
        }
    };
    let text = std::str::from_utf8(&bytes).map_err(|_| unusable(key, format!("`{}`: no text", path.display())))?;
    let ring = KeyRing::parse(text).map_err(|error| unusable(key, format!("`{}`: {error}", path.display())))?;
    Ok(ReadKeys { ring, digest: Sha256::digest(&bytes).into() })
}

/// Keys that seal tokens, newest first.
pub(crate) type TokenKeys = Vec<Zeroizing<[u8; 32]>>;

fn token_keys(config: &Config) -> Result<(TokenKeys, bool), SecretsError> {
    const KEY: &str = "tokens.keys_file";
    let Some(path) = &config.tokens.keys_file else {
        return Ok((vec![fresh_key()?], true));
    };
    if config.tokens.create && !path.exists() {
        let key = fresh_key()?;
        create_private(path, &STANDARD.encode(*key)).map_err(|source| SecretsError::Unreadable {
            key: KEY,
            path: path.display().to_string(),
            source,
        })?;
        return Ok((vec![key], false));
    }
    Ok((token_keys_in(path)?, false))
}

/// The keys in a file: at least one.
pub(crate) fn token_keys_in(path: &Path) -> Result<TokenKeys, SecretsError> {
    const KEY: &str = "tokens.keys_file";
    let bytes = read(KEY, path)?;
    let text = std::str::from_utf8(&bytes).map_err(|_| unusable(KEY, "the file is not text"))?;
    let mut keys = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let key: Option<[u8; 32]> = STANDARD.decode(line).ok().and_then(|bytes| bytes.try_into().ok());
        match key {
            Some(key) => keys.push(Zeroizing::new(key)),
            None => {
                return Err(unusable(
                    KEY,
                    format!(
                        "line {} of `{}` is not base64 of 32 bytes: `openssl rand -base64 32`",
                        index + 1,
                        path.display()
                    ),
                ));
            }
        }
    }
    if keys.is_empty() {
        return Err(unusable(KEY, format!("`{}` holds no key: `openssl rand -base64 32 > <file>`", path.display())));
    }
    Ok(keys)
}

fn fresh_key() -> Result<Zeroizing<[u8; 32]>, SecretsError> {
    let mut key = Zeroizing::new([0; 32]);
    getrandom::fill(&mut *key).map_err(|error| unusable("tokens.keys_file", format!("no randomness: {error}")))?;
    Ok(key)
}

fn create_private(path: &Path, line: &str) -> std::io::Result<()> {
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt as _;
        options.mode(0o600);
    }
    let mut file = options.open(path)?;
    writeln!(file, "{line}")?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The key was made for this test and opens nothing.
    const KEY: &str = "tests/fixtures/service-user.p8";

    #[test]
    fn the_fingerprint_is_the_one_openssl_prints() {
        // openssl rsa -in service-user.p8 -pubout -outform DER | openssl dgst -sha256 -binary | openssl enc -base64
        let Credential::KeyPair { fingerprint, .. } = key_pair(Path::new(KEY)).unwrap() else { panic!("a key") };
        assert_eq!(fingerprint, "SHA256:O/+7fVf8+XhcLLq5W/WaGksN3Lfp+8HAHUMwkj4UOfM=");
        assert_eq!(format!("{:?}", key_pair(Path::new(KEY)).unwrap()), "Credential(***)");
    }

    #[test]
    fn what_is_no_key_says_what_to_do() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        for (text, expect) in
            [("hello", "holds no RSA private key in PEM"), ("-----BEGIN ENCRYPTED PRIVATE KEY-----", "openssl pkcs8")]
        {
            std::fs::write(&path, text).unwrap();
            let error = key_pair(&path).unwrap_err().to_string();
            assert!(error.starts_with("`upstream.private_key`: ") && error.contains(expect), "{error}");
        }
    }
}
