//! TLS towards a server that takes batches, and what is wrong with it, in words; those for brokers, who
//! also ask for certificates, stand in the room `mqtt`.

use std::io;
use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::{CertificateError, ClientConfig};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Agrees on TLS with `host` at the other end of `stream`.
///
/// # Errors
/// What is wrong with its TLS; `None` when the connection ended without a word.
pub(super) async fn agree(
    configuration: &Arc<ClientConfig>,
    host: &str,
    stream: TcpStream,
) -> Result<TlsStream<TcpStream>, Option<String>> {
    let name = ServerName::try_from(host.to_owned())
        .map_err(|_| Some("the host is no name that TLS knows".to_owned()))?;
    let connector = TlsConnector::from(Arc::clone(configuration));
    connector.connect(name, stream).await.map_err(|error| fault(&error))
}

/// Says what is wrong, when it is TLS that is.
pub(super) fn fault(error: &io::Error) -> Option<String> {
    Some(match error.get_ref()?.downcast_ref::<rustls::Error>()? {
        rustls::Error::InvalidCertificate(fault) => words(fault),
        rustls::Error::InvalidMessage(_) => "it speaks no TLS on that port".to_owned(),
        _ => "TLS was not agreed on".to_owned(),
    })
}

fn words(fault: &CertificateError) -> String {
    use CertificateError as Fault;
    match fault {
        Fault::UnknownIssuer | Fault::BadSignature => {
            "its certificate is not signed by a CA that is trusted here".to_owned()
        }
        Fault::NotValidForNameContext { presented, .. } if !presented.is_empty() => {
            let bare = |name: &String| match name.split_once("(\"") {
                Some((_, name)) => name.trim_end_matches("\")").to_owned(),
                None => name.clone(),
            };
            let names: Vec<String> = presented.iter().map(bare).collect();
            format!("its certificate is for {} only", names.join(", "))
        }
        Fault::NotValidForName | Fault::NotValidForNameContext { .. } => {
            "its certificate is for another name".to_owned()
        }
        Fault::Expired | Fault::ExpiredContext { .. } => {
            "its certificate has expired, by this machine's clock".to_owned()
        }
        Fault::NotValidYet | Fault::NotValidYetContext { .. } => {
            "its certificate is not valid yet, by this machine's clock".to_owned()
        }
        _ => "its certificate cannot be used".to_owned(),
    }
}
