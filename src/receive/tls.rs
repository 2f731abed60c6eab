//! What is wrong with the TLS of a server that takes batches, in words; those for brokers, who also ask
//! for certificates, stand in the room `mqtt`.

use std::io;

use rustls::CertificateError;

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
