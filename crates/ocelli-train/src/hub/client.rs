//! The two requests that a download needs: what a file is, and its bytes from some place on.

use std::io::Read;
use std::time::Duration;

use ureq::http::{HeaderMap, Response, StatusCode};
use ureq::{Agent, Body};

/// How often the description of a file may send elsewhere.
const REDIRECTS: usize = 5;

/// A file to be fetched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Remote {
    pub(super) address: String,
    /// Its size in bytes, if the server says it.
    pub(super) size: Option<u64>,
    /// Its SHA-256, or the first digits of it.
    pub(super) sha256: Option<String>,
}

pub(super) struct Client {
    agent: Agent,
}

impl Client {
    pub(super) fn new() -> Self {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .timeout_connect(Some(Duration::from_secs(15)))
            .timeout_recv_response(Some(Duration::from_secs(60)))
            .user_agent(concat!("ocelli/", env!("CARGO_PKG_VERSION")))
            .build();
        Client { agent: config.into() }
    }

    /// What the server says of a file, before it sends elsewhere for the bytes: the hub's own headers are on that answer.
    pub(super) fn describe(&self, address: &str) -> Result<Remote, String> {
        let mut at = address.to_owned();
        for _ in 0..REDIRECTS {
            let request = self.agent.head(&at).header("Accept-Encoding", "identity");
            let request = request.config().max_redirects(0).max_redirects_will_error(false).build();
            let answer = request.call().map_err(|error| unreachable(&at, &error))?;
            let headers = answer.headers();
            let linked = header(headers, "x-linked-size");
            let size = linked.or_else(|| header(headers, "content-length")).and_then(|size| size.parse().ok());
            let digest = header(headers, "x-linked-etag").map(|tag| tag.trim_start_matches("W/").trim_matches('"'));
            let sha256 = digest.filter(|digits| digits.len() == 64).map(str::to_lowercase);
            if answer.status().is_success() || linked.is_some() {
                return Ok(Remote { address: address.into(), size, sha256 });
            }
            match header(headers, "location") {
                Some(location) if answer.status().is_redirection() => at = joined(&at, location),
                _ => return Err(refused(&at, answer.status())),
            }
        }
        Err(format!("{address} sends from one address to the next"))
    }

    /// The bytes of a file, from that many on if the server can do so: the second value says whether it does.
    pub(super) fn bytes_from(&self, address: &str, start: u64) -> Result<(impl Read, bool), String> {
        let mut request = self.agent.get(address).header("Accept-Encoding", "identity");
        if start > 0 {
            request = request.header("Range", format!("bytes={start}-"));
        }
        let answer: Response<Body> = request.call().map_err(|error| unreachable(address, &error))?;
        match answer.status() {
            StatusCode::OK => Ok((answer.into_body().into_reader(), false)),
            StatusCode::PARTIAL_CONTENT => Ok((answer.into_body().into_reader(), true)),
            status => Err(refused(address, status)),
        }
    }
}

fn header<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    headers.get(name)?.to_str().ok()
}

fn unreachable(address: &str, error: &ureq::Error) -> String {
    format!("cannot reach {}: {error}", host(address))
}

fn refused(address: &str, status: StatusCode) -> String {
    let reason = match status {
        StatusCode::NOT_FOUND => "there is no such file",
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => "the file is not for everybody, or not there",
        StatusCode::TOO_MANY_REQUESTS => "too many requests, try later",
        _ => "refused",
    };
    format!("{address}: {reason} (HTTP status {})", status.as_u16())
}

/// The scheme and host of an address.
fn host(address: &str) -> &str {
    let path = address.find("://").map_or(0, |scheme| scheme + 3);
    address[path..].find('/').map_or(address, |end| &address[..path + end])
}

/// Where a redirection leads.
fn joined(address: &str, location: &str) -> String {
    if location.starts_with('/') { format!("{}{location}", host(address)) } else { location.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirections_may_be_relative() {
        let address = "https://hub.example:8080/old/name?x=1";
        assert_eq!(host(address), "https://hub.example:8080");
        assert_eq!(joined(address, "/new/name"), "https://hub.example:8080/new/name");
        assert_eq!(joined(address, "http://other/new"), "http://other/new");
    }
}
