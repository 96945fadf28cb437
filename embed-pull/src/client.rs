//! Requests: how patient, through which proxy, with which certificates, and what their failures mean.

use std::time::Duration;

use ureq::config::RedirectAuthHeaders;
use ureq::http::{HeaderMap, Response, header};
use ureq::{Agent, Body};

use crate::error::{PullError, server, shown};
use crate::proxy::Proxies;

/// How long things may take, and how often they are tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// For a connection.
    pub connect: Duration,
    /// For the head of an answer.
    pub answer: Duration,
    /// For the next bytes of a body.
    pub stall: Duration,
    /// How many must come in that time.
    pub stall_bytes: u64,
    /// Before the second try; twice as long before each further one.
    pub pause: Duration,
    /// Tries in a row that bring next to nothing.
    pub tries: u32,
    /// The longest wait that a server may ask for.
    pub wait_max: Duration,
}

impl Default for Patience {
    /// Some 15 seconds of pauses over five tries, which outlast a restart of a router or a server; a
    /// connection over which nothing comes for 30 seconds does not come back, and one that brings less
    /// than a thousand bytes a second brings no model.
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(15),
            answer: Duration::from_secs(30),
            stall: Duration::from_secs(30),
            stall_bytes: 30_000,
            pause: Duration::from_secs(1),
            tries: 5,
            wait_max: Duration::from_secs(120),
        }
    }
}

/// Redirects in a row: hub, content network, and some to spare.
const REDIRECTS_MAX: u32 = 10;

/// Sends requests.
#[derive(Debug)]
pub(crate) struct Client {
    agent: Agent,
    pub(crate) patience: Patience,
}

/// What became of one try.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Another try may do better.
    Passing {
        reason: String,
        /// How long the server wants to be left alone.
        wait: Option<Duration>,
    },
    /// No further try would.
    Final(PullError),
}

impl Client {
    /// For requests that begin at `url`: what begins in secret goes on so, whatever a server refers to.
    pub(crate) fn new(patience: Patience, proxies: &Proxies, url: &str) -> Self {
        let config = Agent::config_builder()
            .https_only(url.starts_with("https://"))
            .tls_config(tls())
            .proxy(proxies.of(url))
            .http_status_as_error(false)
            .redirect_auth_headers(RedirectAuthHeaders::Never)
            .max_redirects(REDIRECTS_MAX)
            .user_agent(concat!("embed-worker/", env!("CARGO_PKG_VERSION")))
            // Bodies are taken as they are: lengths and digests are of the file itself.
            .accept_encoding("identity")
            .timeout_connect(Some(patience.connect))
            .timeout_recv_response(Some(patience.answer))
            .timeout_per_read(Some(patience.stall))
            .build();
        Self { agent: config.into(), patience }
    }

    /// The head of what is at `url`, which may be a redirect.
    pub(crate) fn head(&self, url: &str, token: Option<&str>) -> Result<Response<Body>, Failure> {
        let mut request = self.agent.head(url).config().max_redirects(0).build();
        if let Some(token) = token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        request.call().map_err(|error| failure(url, error))
    }

    /// What is at `url`, from byte `from` on. `validator` tells whether it is still the same.
    pub(crate) fn get(
        &self,
        url: &str,
        token: Option<&str>,
        from: u64,
        validator: Option<&str>,
    ) -> Result<Response<Body>, Failure> {
        let mut request = self.agent.get(url);
        if let Some(token) = token {
            // Sent to this server, and by the agent's configuration to none that it refers to.
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        if from > 0 {
            request = request.header(header::RANGE, format!("bytes={from}-"));
            if let Some(validator) = validator {
                request = request.header(header::IF_RANGE, validator);
            }
        }
        request.call().map_err(|error| failure(url, error))
    }

    /// All of what is at `url`, if it is no more than `most` bytes of text.
    pub(crate) fn text(
        &self,
        url: &str,
        token: Option<&str>,
        most: u64,
    ) -> Result<String, Failure> {
        // All of it is short, so that there is a time for all of it.
        let mut request =
            self.agent.get(url).config().timeout_global(Some(self.patience.answer)).build();
        if let Some(token) = token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        let response = request.call().map_err(|error| failure(url, error))?;
        if !response.status().is_success() {
            return Err(of_status(url, &response, self.patience));
        }
        let body = response.into_body().into_with_config().limit(most);
        body.read_to_string().map_err(|error| failure(url, error))
    }

    /// How long to wait after `tries` tries in a row, if there is to be another one.
    pub(crate) fn pause(&self, tries: u32, wait: Option<Duration>) -> Option<Duration> {
        if tries >= self.patience.tries {
            return None;
        }
        Some(wait.unwrap_or_else(|| self.patience.pause * 2_u32.saturating_pow(tries - 1)))
    }
}

/// What a status other than that of an answer means; `None` for those that say nothing of themselves.
pub(crate) fn of_status(url: &str, response: &Response<Body>, patience: Patience) -> Failure {
    let status = response.status().as_u16();
    let wait = retry_after(response.headers());
    match (status, wait) {
        (_, Some(retry_after)) if retry_after > patience.wait_max => {
            Failure::Final(PullError::Busy { url: shown(url), status, retry_after })
        }
        (408 | 425 | 429 | 500 | 502 | 503 | 504, wait) => {
            Failure::Passing { reason: format!("answers with HTTP {status}"), wait }
        }
        _ => Failure::Final(PullError::Status { url: shown(url), status }),
    }
}

/// Seconds; the form with a date is rare, and then the usual pause must do.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds))
}

/// What a request's failure means.
fn failure(url: &str, error: ureq::Error) -> Failure {
    use std::io::ErrorKind;

    let reason = error.to_string();
    match error {
        ureq::Error::HostNotFound
        | ureq::Error::ConnectionFailed
        | ureq::Error::ConnectProxyFailed(_)
        | ureq::Error::InvalidProxyUrl => {
            Failure::Final(PullError::Unreachable { server: server(url), reason })
        }
        // A certificate that is not trusted comes as an error of a stream's first byte.
        ureq::Error::Io(error) if error.kind() == ErrorKind::InvalidData => {
            Failure::Final(PullError::Tls { server: server(url), reason })
        }
        // What a connection suffers that there was. All others say that there is no way to the server,
        // among them that its name is not known, for which there is no kind.
        ureq::Error::Io(error)
            if ![
                ErrorKind::ConnectionReset,
                ErrorKind::ConnectionAborted,
                ErrorKind::BrokenPipe,
                ErrorKind::UnexpectedEof,
                ErrorKind::TimedOut,
                ErrorKind::WouldBlock,
                ErrorKind::Interrupted,
            ]
            .contains(&error.kind()) =>
        {
            let reason = error.to_string();
            Failure::Final(PullError::Unreachable { server: server(url), reason })
        }
        ureq::Error::Io(_) | ureq::Error::Protocol(_) => {
            Failure::Passing { reason: format!("breaks off ({reason})"), wait: None }
        }
        ureq::Error::Timeout(_) => {
            Failure::Passing { reason: "does not answer".into(), wait: None }
        }
        ureq::Error::Tls(_) | ureq::Error::TlsRequired => {
            Failure::Final(PullError::Tls { server: server(url), reason })
        }
        ureq::Error::RequireHttpsOnly(_) => Failure::Final(PullError::Contradiction {
            url: shown(url),
            what: "refers to an address without TLS, which is not followed".into(),
        }),
        ureq::Error::BadUri(_) | ureq::Error::Http(_) => {
            Failure::Final(PullError::Address { url: shown(url), reason })
        }
        other => of_platform(url, other, reason),
    }
}

#[cfg(not(any(windows, target_os = "macos")))]
fn of_platform(url: &str, error: ureq::Error, reason: String) -> Failure {
    match error {
        ureq::Error::Rustls(_) => Failure::Final(PullError::Tls { server: server(url), reason }),
        _ => Failure::Final(PullError::Contradiction { url: shown(url), what: reason }),
    }
}

#[cfg(any(windows, target_os = "macos"))]
fn of_platform(url: &str, error: ureq::Error, reason: String) -> Failure {
    match error {
        ureq::Error::NativeTls(_) => Failure::Final(PullError::Tls { server: server(url), reason }),
        _ => Failure::Final(PullError::Contradiction { url: shown(url), what: reason }),
    }
}

/// The system's certificates, which know a company's own; in a container that has none, Mozilla's.
#[cfg(not(any(windows, target_os = "macos")))]
fn tls() -> ureq::tls::TlsConfig {
    use ureq::tls::{Certificate, RootCerts, TlsConfig};

    let found = rustls_native_certs::load_native_certs();
    for error in &found.errors {
        tracing::warn!(%error, "some of the system's certificates cannot be read");
    }
    let certificates: Vec<_> =
        found.certs.iter().map(|der| Certificate::from_der(der).to_owned()).collect();
    let roots = if certificates.is_empty() {
        RootCerts::WebPki
    } else {
        RootCerts::new_with_certs(&certificates)
    };
    TlsConfig::builder().root_certs(roots).build()
}

/// The system's TLS with the system's certificates.
#[cfg(any(windows, target_os = "macos"))]
fn tls() -> ureq::tls::TlsConfig {
    use ureq::tls::{RootCerts, TlsConfig, TlsProvider};

    TlsConfig::builder()
        .provider(TlsProvider::NativeTls)
        .root_certs(RootCerts::PlatformVerifier)
        .build()
}
