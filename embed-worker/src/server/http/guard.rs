//! Who may ask over HTTP.
//!
//! Any program of the machine reaches 127.0.0.1, other users' included, so a key is wanted there too. A web
//! page reaches it as well: by a name that leads to 127.0.0.1 when it is asked for the second time. Its
//! requests bear that name as their `Host`, so on 127.0.0.1 only names of this machine are heard. No
//! header ever permits a page of another origin to read an answer, and texts are taken as JSON only, which
//! a page may not send without asking first.

use std::net::{IpAddr, SocketAddr};

use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::{StatusCode, Uri};

use super::error::ApiError;
use super::key::ApiKey;

/// Who may ask.
#[derive(Debug)]
pub struct Guard {
    /// None: everybody who reaches the endpoint.
    key: Option<ApiKey>,
    /// Names by which the endpoint may be called; none: by every name.
    hosts: Option<Vec<String>>,
}

impl Guard {
    /// The guard of an endpoint at `address`, which may besides be called by `hosts`.
    pub fn new(address: SocketAddr, key: Option<ApiKey>, hosts: &[String]) -> Self {
        let hosts = address.ip().is_loopback().then(|| hosts.to_vec());
        Self { key, hosts }
    }

    /// Lets a request in that is called by a name of this endpoint.
    ///
    /// # Errors
    ///
    /// The answer to one that is not.
    pub(super) fn check_host(&self, uri: &Uri, headers: &HeaderMap) -> Result<(), ApiError> {
        let Some(hosts) = &self.hosts else { return Ok(()) };
        let named = uri.authority().map(|authority| authority.as_str());
        let header = || headers.get(header::HOST).map(HeaderValue::to_str);
        let host = match (named, header()) {
            (Some(host), _) | (None, Some(Ok(host))) => host,
            // Programs that check whether a server lives may send none; a browser always does.
            (None, None) => return Ok(()),
            (None, Some(Err(_))) => "",
        };
        let host = without_port(host);
        let is_local = host.eq_ignore_ascii_case("localhost")
            || host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
        if is_local || hosts.iter().any(|allowed| allowed.eq_ignore_ascii_case(host)) {
            return Ok(());
        }
        let message = format!(
            "header `Host`: is `{}`, which is no name of this machine; a proxy may say 127.0.0.1, or the worker be started with --allow-host",
            host.escape_debug()
        );
        Err(ApiError::new(StatusCode::FORBIDDEN, "host_not_allowed", message))
    }

    /// Lets a request in that has the key.
    ///
    /// # Errors
    ///
    /// The answer to one that has not.
    pub(super) fn check_key(&self, headers: &HeaderMap) -> Result<(), ApiError> {
        let Some(key) = &self.key else { return Ok(()) };
        let given = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let Some((scheme, word)) = given.and_then(|value| value.split_once(' ')) else {
            let message = "header `Authorization`: is missing, wanted `Bearer KEY`; the worker says at its start where the key is";
            return Err(ApiError::new(StatusCode::UNAUTHORIZED, "invalid_api_key", message));
        };
        if scheme.eq_ignore_ascii_case("bearer") && key.is(word.trim()) {
            return Ok(());
        }
        let message = "header `Authorization`: has another key than this worker's";
        Err(ApiError::new(StatusCode::UNAUTHORIZED, "invalid_api_key", message))
    }
}

/// `host`, `host:port`, `[::1]:port`.
fn without_port(host: &str) -> &str {
    let end = if host.starts_with('[') { host.find(']').map(|at| at + 1) } else { host.find(':') };
    &host[..end.unwrap_or(host.len())]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(guard: &Guard, host: &str) -> bool {
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, HeaderValue::from_str(host).expect("a value"));
        guard.check_host(&Uri::from_static("/health"), &headers).is_ok()
    }

    #[test]
    fn on_this_machine_only_its_own_names_are_heard() {
        for address in ["127.0.0.1:80", "[::1]:80", "127.0.0.9:80"] {
            let address = address.parse().expect("an address");
            let guard = Guard::new(address, None, &["embed.internal".into()]);
            for good in [
                "localhost",
                "LOCALHOST:8080",
                "127.0.0.1:1",
                "[::1]:80",
                "[::1]",
                "embed.internal:9",
            ] {
                assert!(host(&guard, good), "{good}");
            }
            for bad in [
                "evil.example",
                "evil.example:80",
                "127.0.0.1.evil.example",
                "localhost.evil",
                "",
                "[::2]",
                "10.0.0.1",
            ] {
                assert!(!host(&guard, bad), "{bad}");
            }
            assert!(guard.check_host(&Uri::from_static("/"), &HeaderMap::new()).is_ok());
            let absolute = Uri::from_static("http://evil.example/v1/models");
            assert!(guard.check_host(&absolute, &HeaderMap::new()).is_err());
        }
    }

    #[test]
    fn beyond_this_machine_names_are_others_affair() {
        let guard = Guard::new("0.0.0.0:80".parse().expect("an address"), None, &[]);
        assert!(host(&guard, "embed.example"));
    }

    #[test]
    fn without_the_key_nobody_is_let_in() {
        let key = ApiKey::new("0123456789abcdef", "x").expect("a key");
        let guard = Guard::new("127.0.0.1:80".parse().expect("an address"), Some(key), &[]);
        let check = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::AUTHORIZATION, HeaderValue::from_str(value).expect("a value"));
            guard.check_key(&headers).is_ok()
        };
        assert!(check("Bearer 0123456789abcdef") && check("bearer  0123456789abcdef"));
        for bad in [
            "",
            "Bearer",
            "Bearer ",
            "Basic 0123456789abcdef",
            "0123456789abcdef",
            "Bearer 0123456789abcdeF",
        ] {
            assert!(!check(bad), "{bad}");
        }
        assert!(guard.check_key(&HeaderMap::new()).is_err());
    }
}
