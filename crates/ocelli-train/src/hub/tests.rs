//! Against a server of this process: a hub that sends from its own address to where the bytes are.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread;

use sha2::{Digest, Sha256};

use super::*;
use crate::published::find;

const NAME: &str = "resnet18.a1_in1k";

/// How the server behaves.
#[derive(Clone)]
struct Behaviour {
    content: Vec<u8>,
    /// What it says the SHA-256 is.
    sha256: String,
    /// The first answer with bytes ends after so many.
    cut: Option<usize>,
    /// Whether it can begin in the middle.
    ranges: bool,
    status: &'static str,
}

impl Behaviour {
    fn new() -> Self {
        let content: Vec<u8> = (0..300_000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        let sha256 = Sha256::digest(&content).iter().map(|byte| format!("{byte:02x}")).collect();
        Behaviour { content, sha256, cut: None, ranges: true, status: "302 Found" }
    }
}

/// The lines `METHOD path [range]` of all requests so far.
type Requests = Arc<Mutex<Vec<String>>>;

fn serve(behaviour: Behaviour) -> (String, Requests) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let requests = Requests::default();
    let seen = requests.clone();
    thread::spawn(move || {
        let mut behaviour = behaviour;
        for stream in listener.incoming() {
            answer(stream.unwrap(), &mut behaviour, &seen);
        }
    });
    (address, requests)
}

fn answer(mut stream: TcpStream, behaviour: &mut Behaviour, seen: &Requests) {
    let mut lines = BufReader::new(stream.try_clone().unwrap()).lines().map_while(Result::ok);
    let Some(first) = lines.next() else { return };
    let headers: Vec<String> = lines.take_while(|line| !line.is_empty()).map(|line| line.to_lowercase()).collect();
    let range = headers.iter().find_map(|line| line.strip_prefix("range: bytes=")?.strip_suffix('-'));
    let [method, path] = [0, 1].map(|i| first.split(' ').nth(i).unwrap());
    seen.lock().unwrap().push([method, path, range.unwrap_or("")].join(" ").trim_end().to_owned());
    let size = behaviour.content.len();
    let close = "Connection: close\r\n";
    if path != "/bytes" {
        let sha256 = &behaviour.sha256;
        let headers = match behaviour.status {
            "302 Found" => format!("Location: /bytes\r\nX-Linked-Size: {size}\r\nX-Linked-ETag: \"{sha256}\"\r\n"),
            _ => String::new(),
        };
        let _ = write!(stream, "HTTP/1.1 {}\r\n{headers}{close}Content-Length: 0\r\n\r\n", behaviour.status);
        return;
    }
    let start = range.filter(|_| behaviour.ranges).map_or(0, |start| start.parse().unwrap());
    let status = if start > 0 { "206 Partial Content" } else { "200 OK" };
    let _ = write!(stream, "HTTP/1.1 {status}\r\n{close}Content-Length: {}\r\n\r\n", size - start);
    let end = behaviour.cut.take().unwrap_or(size);
    let _ = stream.write_all(&behaviour.content[start..end]);
}

fn hub(endpoint: &str, cache: &Path) -> Hub {
    Hub::new(cache).endpoint(endpoint)
}

fn fetch(hub: &Hub) -> Result<PathBuf> {
    hub.fetch(find(NAME).unwrap(), |_, _| {})
}

/// The names of the files in the folder of the weights.
fn files(cache: &Path) -> Vec<String> {
    let folder = fs::read_dir(cache.join("timm").join(NAME)).unwrap();
    folder.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

const ASKED: &str = "/timm/resnet18.a1_in1k/resolve/main/model.safetensors";

#[test]
fn a_file_comes_whole_and_once() {
    let cache = tempfile::tempdir().unwrap();
    let behaviour = Behaviour::new();
    let (endpoint, requests) = serve(behaviour.clone());
    let hub = hub(&endpoint, cache.path());
    let mut told = Vec::new();
    let path = hub.fetch(find(NAME).unwrap(), |done, total| told.push((done, total))).unwrap();
    assert_eq!(fs::read(&path).unwrap(), behaviour.content);
    assert_eq!(told.last(), Some(&(300_000, 300_000)));
    assert_eq!(files(cache.path()), ["model.safetensors"]);
    assert_eq!(*requests.lock().unwrap(), [format!("HEAD {ASKED}"), format!("GET {ASKED}"), "GET /bytes".into()]);
    // From now on nothing is asked, even where nothing may be.
    assert_eq!(fetch(&hub.offline(true)).unwrap(), path);
    assert_eq!(requests.lock().unwrap().len(), 3);
}

#[test]
fn a_connection_that_breaks_is_taken_up_where_it_broke() {
    let cache = tempfile::tempdir().unwrap();
    let behaviour = Behaviour { cut: Some(100_000), ..Behaviour::new() };
    let (endpoint, requests) = serve(behaviour.clone());
    let path = fetch(&hub(&endpoint, cache.path())).unwrap();
    assert_eq!(fs::read(path).unwrap(), behaviour.content);
    assert_eq!(requests.lock().unwrap().last().unwrap(), "GET /bytes 100000");
}

#[test]
fn a_part_of_an_earlier_run_is_continued_or_replaced() {
    for ranges in [true, false] {
        let cache = tempfile::tempdir().unwrap();
        let behaviour = Behaviour { ranges, ..Behaviour::new() };
        let (endpoint, requests) = serve(behaviour.clone());
        let folder = cache.path().join("timm").join(NAME);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("model.part"), &behaviour.content[..123_456]).unwrap();
        let path = fetch(&hub(&endpoint, cache.path())).unwrap();
        assert_eq!(fs::read(path).unwrap(), behaviour.content);
        assert_eq!(requests.lock().unwrap().last().unwrap(), "GET /bytes 123456");
    }
}

#[test]
fn a_file_with_another_checksum_is_thrown_away() {
    let cache = tempfile::tempdir().unwrap();
    let (endpoint, _) = serve(Behaviour { sha256: "0".repeat(64), ..Behaviour::new() });
    let error = fetch(&hub(&endpoint, cache.path())).unwrap_err().to_string();
    assert!(error.starts_with("resnet18.a1_in1k: ") && error.contains("came damaged, with SHA-256"), "{error}");
    assert!(files(cache.path()).is_empty());
}

#[test]
fn a_part_of_another_file_spoils_one_attempt_only() {
    let cache = tempfile::tempdir().unwrap();
    let behaviour = Behaviour::new();
    let (endpoint, _) = serve(behaviour.clone());
    let folder = cache.path().join("timm").join(NAME);
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("model.part"), vec![7; 1000]).unwrap();
    let hub = hub(&endpoint, cache.path());
    assert!(fetch(&hub).unwrap_err().to_string().contains("came damaged"));
    assert_eq!(fs::read(fetch(&hub).unwrap()).unwrap(), behaviour.content);
}

#[test]
fn a_missing_file_is_named_with_its_address() {
    let cache = tempfile::tempdir().unwrap();
    let (endpoint, _) = serve(Behaviour { status: "404 Not Found", ..Behaviour::new() });
    let error = fetch(&hub(&endpoint, cache.path())).unwrap_err().to_string();
    assert_eq!(error, format!("{NAME}: {endpoint}{ASKED}: there is no such file (HTTP status 404)"));
}

#[test]
fn without_a_network_the_error_says_so() {
    let cache = tempfile::tempdir().unwrap();
    let offline = Hub::new(cache.path()).offline(true);
    let error = fetch(&offline).unwrap_err().to_string();
    assert!(error.contains("not in the cache") && error.contains("HF_HUB_OFFLINE"), "{error}");
    // A port that nobody listens at any more.
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let endpoint = format!("http://127.0.0.1:{port}");
    let error = fetch(&hub(&endpoint, cache.path())).unwrap_err().to_string();
    assert!(error.starts_with(&format!("{NAME}: cannot reach {endpoint}: ")), "{error}");
    assert!(!cache.path().join("timm").exists());
}
