//! Asks an EST server through usg-est-client, and writes what that library understood.
//!
//! ```text
//! est-client URL LABEL CA.pem CERTIFICATE.pem KEY.pem cacerts FOLDER            0.der, 1.der, ...
//! est-client URL LABEL CA.pem CERTIFICATE.pem KEY.pem csrattrs                  an object identifier a line
//! est-client URL LABEL CA.pem CERTIFICATE.pem KEY.pem simpleenroll CSR.der CERTIFICATE.der
//! est-client URL LABEL CA.pem CERTIFICATE.pem KEY.pem simplereenroll CSR.der CERTIFICATE.der
//! ```
//!
//! `-` stands for no label, no certificate and no key. Exit codes: 0 done, 1 the server said no, 2 the library could not read
//! what the server said.
#![forbid(unsafe_code)]

use std::error::Error;
use std::path::Path;
use std::process::ExitCode;
use std::{env, fs};

use der::Encode as _;
use usg_est_client::{EnrollmentResultV2, EstClient, EstClientConfig, EstError};

type Done = Result<(), Box<dyn Error>>;

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let done = runtime
        .map_err(Box::from)
        .and_then(|runtime| runtime.block_on(run(&words)));
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            let said_no = error.downcast_ref::<EstError>().is_some_and(is_answer);
            ExitCode::from(if said_no { 1 } else { 2 })
        }
    }
}

/// Whether it is an answer of the server's, understood.
fn is_answer(error: &EstError) -> bool {
    matches!(
        error,
        EstError::ServerError { .. }
            | EstError::AuthenticationRequired { .. }
            | EstError::EnrollmentPending { .. }
    )
}

async fn run(words: &[&str]) -> Done {
    let [url, label, trusted, certificate, key, operation, rest @ ..] = words else {
        return Err("see the program's head for its arguments".into());
    };
    let mut config = EstClientConfig::builder()
        .server_url(url)?
        .trust_explicit(vec![fs::read(trusted)?])
        .verify_csr_signatures();
    if *label != "-" {
        config = config.ca_label(*label);
    }
    if *certificate != "-" {
        config = config.client_identity_pem(fs::read(certificate)?, fs::read(key)?);
    }
    let client = EstClient::new(config.build()?).await?;
    match (*operation, rest) {
        ("cacerts", [folder]) => {
            for (at, certificate) in client.get_ca_certs().await?.iter().enumerate() {
                let file = Path::new(folder).join(format!("{at}.der"));
                fs::write(file, certificate.to_der()?)?;
            }
        }
        ("csrattrs", []) => {
            for attribute in client.get_csr_attributes().await?.attributes {
                println!("{} {}", attribute.oid, attribute.values.len());
            }
        }
        ("simpleenroll", [csr, file]) => {
            let csr = fs::read(csr)?;
            given(client.simple_enroll_v2(&csr).await?, file)?;
        }
        ("simplereenroll", [csr, file]) => {
            let csr = fs::read(csr)?;
            given(client.simple_reenroll_v2(&csr).await?, file)?;
        }
        _ => return Err("no such operation".into()),
    }
    Ok(())
}

/// What was given is the certificate of the request's key and nothing else: its chain is what cacerts tells.
fn given(result: EnrollmentResultV2, file: &str) -> Done {
    match result {
        EnrollmentResultV2::Issued {
            certificate,
            intermediates,
        } if intermediates.is_empty() => Ok(fs::write(file, certificate.to_der()?)?),
        EnrollmentResultV2::Issued { .. } => Err("there is more than the certificate".into()),
        EnrollmentResultV2::Pending { retry_after } => Err(EstError::EnrollmentPending {
            retry_after: retry_after.as_secs(),
        }
        .into()),
    }
}
