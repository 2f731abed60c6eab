//! TLS towards a broker: the settings' files become a rustls configuration, and rustls' errors
//! become words that name the likely cause.

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use rustls::client::WebPkiServerVerifier;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{AlertDescription, CertificateError, ClientConfig, RootCertStore};

use super::witness::{Presented, Witness};
use super::{ConnectError, Tls};

/// What was wrong between us and the broker's TLS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TlsFault {
    /// The broker's certificate has expired, as far as this board's clock can tell.
    Expired {
        /// RFC 3339, when the certificate says.
        until: Option<String>,
        /// RFC 3339, this board's clock.
        now: Option<String>,
    },
    /// The broker's certificate is not valid yet, as far as this board's clock can tell.
    NotYetValid {
        /// RFC 3339, when the certificate says.
        from: Option<String>,
        /// RFC 3339, this board's clock.
        now: Option<String>,
    },
    /// No trusted CA has signed the broker's certificate.
    UnknownIssuer,
    /// The certificate is for other names.
    WrongName {
        /// The names it is for, as presented.
        presented: Vec<String>,
    },
    /// The certificate has another fault.
    BadCertificate(String),
    /// The broker does not accept our client certificate, or wants one.
    ClientRefused(&'static str),
    /// What answered does not speak TLS.
    NotTls,
    /// The two sides cannot agree, or one broke the protocol.
    Handshake(String),
}

impl TlsFault {
    /// Finds the TLS fault inside an input or output error, when there is one.
    pub(super) fn of(error: &io::Error) -> Option<Self> {
        Some(Self::from_rustls(error.get_ref()?.downcast_ref::<rustls::Error>()?))
    }

    fn from_rustls(error: &rustls::Error) -> Self {
        match error {
            rustls::Error::InvalidCertificate(fault) => Self::from_certificate(fault),
            rustls::Error::InvalidMessage(_) => Self::NotTls,
            rustls::Error::AlertReceived(alert) => Self::from_alert(*alert),
            other => Self::Handshake(other.to_string()),
        }
    }

    fn from_certificate(fault: &CertificateError) -> Self {
        match fault {
            CertificateError::Expired => Self::Expired { until: None, now: None },
            CertificateError::ExpiredContext { time, not_after } => {
                Self::Expired { until: Some(rfc3339(*not_after)), now: Some(rfc3339(*time)) }
            }
            CertificateError::NotValidYet => Self::NotYetValid { from: None, now: None },
            CertificateError::NotValidYetContext { time, not_before } => {
                Self::NotYetValid { from: Some(rfc3339(*not_before)), now: Some(rfc3339(*time)) }
            }
            // A self-signed broker certificate that nobody trusts fails its signature when it bears
            // the trusted CA's name.
            CertificateError::UnknownIssuer | CertificateError::BadSignature => Self::UnknownIssuer,
            CertificateError::NotValidForName => Self::WrongName { presented: Vec::new() },
            CertificateError::NotValidForNameContext { presented, .. } => {
                Self::WrongName { presented: presented.iter().map(|name| bare(name)).collect() }
            }
            other => Self::BadCertificate(other.to_string()),
        }
    }

    /// TLS 1.3 refuses a client certificate after the client's handshake is done, so this may come
    /// as late as the wait for CONNACK (RFC 8446, section 4.4.2.4).
    fn from_alert(alert: AlertDescription) -> Self {
        match alert {
            AlertDescription::CertificateRequired | AlertDescription::NoCertificate => {
                Self::ClientRefused("it requires a client certificate")
            }
            AlertDescription::CertificateExpired => {
                Self::ClientRefused("our client certificate has expired")
            }
            AlertDescription::CertificateRevoked => {
                Self::ClientRefused("our client certificate was revoked")
            }
            AlertDescription::UnknownCA => {
                Self::ClientRefused("it does not trust the CA of our client certificate")
            }
            AlertDescription::BadCertificate
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateUnknown
            | AlertDescription::AccessDenied
            | AlertDescription::DecryptError => {
                Self::ClientRefused("it does not accept our client certificate")
            }
            AlertDescription::HandshakeFailure => Self::ClientRefused(
                "the handshake failed; it may want a client certificate or other ciphers",
            ),
            other => Self::Handshake(format!("the broker ended it with alert {other:?}")),
        }
    }
}

/// Reads the settings' files and builds the configuration of one connection.
///
/// `alpn` is asked for in the handshake (RFC 7301).
pub fn configuration(tls: &Tls, alpn: Option<&str>) -> Result<Arc<ClientConfig>, ConnectError> {
    watched(tls, alpn, None)
}

/// As [`configuration`]; what the broker presents is kept in `presented`.
pub(super) fn watched(
    tls: &Tls,
    alpn: Option<&str>,
    presented: Option<Presented>,
) -> Result<Arc<ClientConfig>, ConnectError> {
    let roots = match &tls.ca {
        Some(path) => roots_from(path)?,
        None => system_roots()?,
    };
    let mut config = with_roots(roots.clone(), tls)?;
    if let Some(presented) = presented {
        let provider = Arc::clone(config.crypto_provider());
        let judge = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider)
            .build()
            .map_err(|_| ConnectError::Settings("TLS cannot be set up".to_owned()))?;
        config.dangerous().set_certificate_verifier(Arc::new(Witness { judge, presented }));
    }
    config.alpn_protocols = alpn.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
    Ok(Arc::new(config))
}

impl Tls {
    /// Reads the files that the settings name, as a connection would, and opens none. A systemd
    /// credential is passed over where systemd handed over none: that is every shell.
    ///
    /// # Errors
    /// The first file that is missing, cannot be read, is damaged, or does not fit its key.
    pub fn look_at_files(&self) -> Result<(), ConnectError> {
        let roots = self.ca.as_deref().map_or_else(|| Ok(RootCertStore::empty()), roots_from)?;
        match &self.client {
            Some((chain, key)) if !key.is_within_reach() => certificates(chain).map(drop),
            _ => with_roots(roots, self).map(drop),
        }
    }
}

fn with_roots(roots: RootCertStore, tls: &Tls) -> Result<ClientConfig, ConnectError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| ConnectError::Settings(format!("TLS cannot be set up: {e}")))?
        .with_root_certificates(roots);
    let Some((chain_path, key)) = &tls.client else {
        return Ok(builder.with_no_client_auth());
    };
    let chain = certificates(chain_path)?;
    let pem = key.read_bytes().map_err(|e| ConnectError::Settings(e.to_string()))?;
    let key_der = PrivateKeyDer::from_pem_slice(&pem).map_err(|_| {
        ConnectError::Settings(format!("{key} holds no private key in PEM (PKCS#8, SEC1, PKCS#1)"))
    })?;
    builder.with_client_auth_cert(chain, key_der).map_err(|_| {
        ConnectError::Settings(format!(
            "the private key in {key} does not belong to the certificate in {}",
            chain_path.display()
        ))
    })
}

/// Takes a host as the name that the broker's certificate must bear.
pub(super) fn server_name(host: &str) -> Result<ServerName<'static>, ConnectError> {
    ServerName::try_from(host.to_owned())
        .map_err(|_| ConnectError::Settings(format!("{host} is neither a DNS name nor an address")))
}

fn roots_from(path: &Path) -> Result<RootCertStore, ConnectError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path)? {
        roots.add(certificate).map_err(|_| {
            ConnectError::Settings(format!("{} holds a damaged CA certificate", path.display()))
        })?;
    }
    Ok(roots)
}

fn system_roots() -> Result<RootCertStore, ConnectError> {
    let mut roots = RootCertStore::empty();
    let (added, _) =
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if added == 0 {
        return Err(ConnectError::Settings(
            "this board has no CA certificates (Debian package ca-certificates), \
             and the uplink names no CA file"
                .to_owned(),
        ));
    }
    Ok(roots)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, ConnectError> {
    let place = path.display();
    let pem = std::fs::read(path).map_err(|e| {
        ConnectError::Settings(match e.kind() {
            io::ErrorKind::NotFound => format!("certificate file {place} does not exist"),
            io::ErrorKind::PermissionDenied => {
                format!("certificate file {place} may not be read by this user")
            }
            _ => format!("certificate file {place} cannot be read"),
        })
    })?;
    let list: Vec<_> = CertificateDer::pem_slice_iter(&pem)
        .collect::<Result<_, _>>()
        .map_err(|_| ConnectError::Settings(format!("{place} is damaged: not PEM")))?;
    if list.is_empty() {
        return Err(ConnectError::Settings(format!("{place} holds no certificate in PEM")));
    }
    Ok(list)
}

fn rfc3339(at: UnixTime) -> String {
    // Years beyond 9999 are the one thing humantime cannot write.
    let seconds = at.as_secs().min(253_402_300_799);
    humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_secs(seconds)).to_string()
}

impl fmt::Display for TlsFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let clock = |now: &Option<String>| {
            now.as_ref().map_or(String::new(), |now| format!("; this board's clock shows {now}"))
        };
        match self {
            Self::Expired { until, now } => {
                let at = until.as_ref().map_or("".to_owned(), |until| format!(" at {until}"));
                write!(f, "the broker's certificate has expired{at}{}", clock(now))
            }
            Self::NotYetValid { from, now } => {
                let from = from.as_ref().map_or("yet".to_owned(), |from| format!("before {from}"));
                write!(f, "the broker's certificate is not valid {from}{}", clock(now))
            }
            Self::UnknownIssuer => {
                f.write_str("the broker's certificate is not signed by a CA that is trusted here")
            }
            Self::WrongName { presented } if presented.is_empty() => {
                f.write_str("the broker's certificate is for another name")
            }
            Self::WrongName { presented } => {
                write!(f, "the broker's certificate is for {} only", presented.join(", "))
            }
            Self::BadCertificate(why) => {
                write!(f, "the broker's certificate cannot be used: {why}")
            }
            Self::ClientRefused(why) => write!(f, "the broker ended the TLS handshake: {why}"),
            Self::NotTls => f.write_str("what answers on that port does not speak TLS"),
            Self::Handshake(why) => write!(f, "the TLS handshake failed: {why}"),
        }
    }
}

/// Returns a name as the certificate has it: `rustls` gives `DnsName("mqtt.example.org")`.
fn bare(name: &str) -> String {
    let inner = name.split_once('(').map_or(name, |(_, inner)| inner.trim_end_matches(')'));
    inner.trim_matches('"').to_owned()
}
