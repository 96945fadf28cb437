//! Through which proxy a server is reached, as the environment has it for curl and most other programs.

use ureq::Proxy;

/// The proxies of this process's environment.
#[derive(Clone, Debug, Default)]
pub struct Proxies {
    /// For addresses without TLS.
    http: Option<Proxy>,
    /// For addresses with TLS.
    https: Option<Proxy>,
}

/// A variable names a proxy that is none. To go without it would be to go where the user does not want to.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{variable}: is no proxy that can be used; wanted http://HOST:PORT, https:// or socks5://, with USER:PASSWORD@ before the host if it asks who you are"
)]
pub struct ProxyError {
    variable: String,
}

impl Proxies {
    /// Reads `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY` and `NO_PROXY`, in capitals or not; on Windows what the
    /// system says, if they say nothing.
    ///
    /// # Errors
    ///
    /// One of them names a proxy that is none.
    pub fn from_env() -> Result<Self, ProxyError> {
        let proxies = Self::read(|variable| std::env::var(variable).ok())?;
        if cfg!(windows) && proxies.http.is_none() && proxies.https.is_none() {
            let system = Proxy::try_from_env();
            return Ok(Self { http: system.clone(), https: system });
        }
        Ok(proxies)
    }

    fn read(get: impl Fn(&str) -> Option<String>) -> Result<Self, ProxyError> {
        // Small letters came first, and go first in curl.
        let named = |variable: &str| {
            [variable.to_ascii_lowercase(), variable.to_owned()].into_iter().find_map(|variable| {
                let value = get(&variable)?.trim().to_owned();
                (!value.is_empty()).then_some((variable, value))
            })
        };
        let exceptions = named("NO_PROXY").map(|(_, value)| value).unwrap_or_default();
        let all = named("ALL_PROXY");
        let proxy = |variable: &str| match named(variable).or_else(|| all.clone()) {
            Some((variable, value)) => {
                with_exceptions(&value, &exceptions).map(Some).ok_or(ProxyError { variable })
            }
            None => Ok(None),
        };
        Ok(Self { http: proxy("HTTP_PROXY")?, https: proxy("HTTPS_PROXY")? })
    }

    /// The proxy for requests that begin at `url`.
    pub(crate) fn of(&self, url: &str) -> Option<Proxy> {
        if url.starts_with("https://") { self.https.clone() } else { self.http.clone() }
    }
}

/// A proxy that is not asked for the hosts of `exceptions`, nor for those below them.
fn with_exceptions(value: &str, exceptions: &str) -> Option<Proxy> {
    let proxy = Proxy::new(value).ok()?;
    let mut builder = Proxy::builder(proxy.protocol()).host(proxy.host()).port(proxy.port());
    if let Some(username) = proxy.username() {
        builder = builder.username(username);
    }
    if let Some(password) = proxy.password() {
        builder = builder.password(password);
    }
    for host in exceptions.split([',', ' ']).map(str::trim).filter(|host| !host.is_empty()) {
        builder = builder.no_proxy(host);
        if !host.starts_with(['.', '*']) {
            builder = builder.no_proxy(&format!(".{host}"));
        }
    }
    builder.build().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    fn read(variables: &[(&str, &str)]) -> Result<Proxies, ProxyError> {
        let variables: HashMap<_, _> = variables.iter().copied().collect();
        Proxies::read(|variable| variables.get(variable).map(|&value| value.to_owned()))
    }

    fn host(proxies: &Proxies, url: &str) -> Option<String> {
        proxies.of(url).map(|proxy| format!("{}:{}", proxy.host(), proxy.port()))
    }

    #[test]
    fn each_kind_of_address_has_its_own_proxy() {
        let proxies = read(&[("HTTP_PROXY", "http://plain:1"), ("https_proxy", "secure:2")]);
        let proxies = proxies.expect("both are good");
        assert_eq!(host(&proxies, "http://x/").as_deref(), Some("plain:1"));
        assert_eq!(host(&proxies, "https://x/").as_deref(), Some("secure:2"));
        let proxies = read(&[("HTTP_PROXY", "http://plain:1")]).expect("it is good");
        assert_eq!(host(&proxies, "https://x/"), None, "it is for others");
        let proxies = read(&[("ALL_PROXY", "socks5://all:3"), ("http_proxy", "")]);
        let proxies = proxies.expect("it is good");
        assert_eq!(host(&proxies, "https://x/").as_deref(), Some("all:3"));
        assert_eq!(host(&proxies, "http://x/").as_deref(), Some("all:3"));
        assert_eq!(host(&read(&[]).expect("none"), "https://x/"), None);
    }

    #[test]
    fn exceptions_are_hosts_and_what_is_below_them() {
        let variables =
            [("ALL_PROXY", "http://u:p%40@proxy:1"), ("NO_PROXY", "localhost, example.org,.corp")];
        let proxy = read(&variables).expect("good").https.expect("there is one");
        assert_eq!((proxy.username(), proxy.password()), (Some("u"), Some("p@")));
        for (host, is_excepted) in [
            ("localhost", true),
            ("example.org", true),
            ("hub.example.org", true),
            ("a.corp", true),
            ("corp", false),
            ("badexample.org", false),
            ("huggingface.co", false),
        ] {
            let uri = format!("https://{host}/").parse().expect("an address");
            assert_eq!(proxy.is_no_proxy(&uri), is_excepted, "{host}");
        }
    }

    #[test]
    fn a_proxy_that_is_none_is_an_error_that_names_its_variable() {
        for value in ["ftp://x:1", "http://", "socks9://x"] {
            let error = read(&[("HTTPS_PROXY", value)]).expect_err(value).to_string();
            assert!(error.starts_with("HTTPS_PROXY: is no proxy"), "{error}");
        }
    }
}
