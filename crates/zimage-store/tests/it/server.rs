//! A hub with one repository, `tiny/model`, which answers as Hugging Face does unless a test tells it otherwise.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use sha1::{Digest, Sha1};
use zimage_weights::digest::sha256_bytes;

use crate::golden;

pub const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
/// Larger files are kept as the hub keeps large ones.
const LFS_BYTES: usize = 16_000;

/// What arrived.
#[derive(Debug, Clone)]
pub struct Request {
    pub path: String,
    pub range: Option<u64>,
    pub authorization: Option<String>,
    /// How often this path was asked for before.
    pub earlier: usize,
}

impl Request {
    pub fn is_for(&self, file: &str) -> bool {
        self.path.ends_with(&format!("/{file}"))
    }
}

/// How a request is answered.
pub enum Act {
    /// As the hub does.
    Serve,
    /// The right answer, and the connection ends after so many bytes of the body.
    Cut(usize),
    /// The right answer, slowly.
    Slow(Duration),
    /// The right header, and then silence.
    Silence,
    /// All of the file, whatever range was asked for.
    Whole,
    /// A Content-Length that is wrong by so much.
    Length(i64),
    /// A Content-Range with this total.
    Total(u64),
    /// The bytes of another file.
    Bytes(Vec<u8>),
    /// A status with headers.
    Status(u16, &'static str),
    /// Another place.
    Redirect(String),
}

type Plan = Box<dyn Fn(&Request) -> Act + Send + Sync>;

struct State {
    files: Mutex<Vec<(String, Vec<u8>)>>,
    listing: Mutex<Option<String>>,
    commit: Mutex<String>,
    log: Mutex<Vec<Request>>,
    plan: Plan,
    busy: AtomicUsize,
    busiest: AtomicUsize,
}

pub struct Server {
    port: u16,
    state: Arc<State>,
}

impl Server {
    /// Serves the tiny model and a file that nobody needs.
    pub fn start(plan: impl Fn(&Request) -> Act + Send + Sync + 'static) -> Self {
        let mut files = vec![("README.md".to_owned(), b"# tiny".to_vec())];
        read(&golden("models/tiny-a"), "", &mut files);
        files.sort();
        let state = Arc::new(State {
            files: Mutex::new(files),
            listing: Mutex::new(None),
            commit: Mutex::new(COMMIT.to_owned()),
            log: Mutex::new(Vec::new()),
            plan: Box::new(plan),
            busy: AtomicUsize::new(0),
            busiest: AtomicUsize::new(0),
        });
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared = state.clone();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let state = shared.clone();
                // A client that goes away is no concern of the server.
                thread::spawn(move || state.answer(stream).ok());
            }
        });
        Self { port, state }
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    pub fn file(&self, path: &str) -> Vec<u8> {
        let files = self.state.files.lock().unwrap();
        files.iter().find(|(name, _)| name == path).unwrap_or_else(|| panic!("no file {path}")).1.clone()
    }

    /// Replaces a file, under a new commit.
    pub fn commit(&self, commit: &str, path: &str, bytes: &[u8]) {
        let mut files = self.state.files.lock().unwrap();
        files.retain(|(name, _)| name != path);
        files.push((path.to_owned(), bytes.to_vec()));
        *self.state.commit.lock().unwrap() = commit.to_owned();
    }

    /// Answers questions about the repository with this text.
    pub fn list_as(&self, text: &str) {
        *self.state.listing.lock().unwrap() = Some(text.to_owned());
    }

    /// The requests for files, in order.
    pub fn requests(&self) -> Vec<Request> {
        let log = self.state.log.lock().unwrap();
        log.iter().filter(|request| !request.path.starts_with("/api/")).cloned().collect()
    }

    pub fn all_requests(&self) -> Vec<Request> {
        self.state.log.lock().unwrap().clone()
    }

    /// The most files that were under way at once.
    pub fn busiest(&self) -> usize {
        self.state.busiest.load(Ordering::SeqCst)
    }
}

/// The digest that names a file in the cache.
pub fn blob_id(bytes: &[u8]) -> String {
    if bytes.len() > LFS_BYTES {
        return sha256_bytes(bytes);
    }
    let mut digest = Sha1::new();
    digest.update(format!("blob {}\0", bytes.len()));
    digest.update(bytes);
    digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn read(directory: &Path, prefix: &str, files: &mut Vec<(String, Vec<u8>)>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let name = format!("{prefix}{}", path.file_name().unwrap().to_str().unwrap());
        match path.is_dir() {
            true => read(&path, &format!("{name}/"), files),
            false => files.push((name, fs::read(&path).unwrap())),
        }
    }
}

impl State {
    fn answer(&self, mut stream: TcpStream) -> std::io::Result<()> {
        let mut lines = BufReader::new(stream.try_clone()?).lines();
        let first = lines.next().transpose()?.unwrap_or_default();
        let path = first.split(' ').nth(1).unwrap_or_default().replace("%20", " ");
        let headers: Vec<String> = lines.map_while(Result::ok).take_while(|line| !line.is_empty()).collect();
        let header = |name: &str| {
            let found = headers.iter().filter_map(|line| line.split_once(": "));
            found.into_iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.to_owned())
        };
        let range = header("Range").map(|range| range["bytes=".len()..range.len() - 1].parse().unwrap());
        let request = {
            let mut log = self.log.lock().unwrap();
            let earlier = log.iter().filter(|request| request.path == path).count();
            log.push(Request { path, range, authorization: header("Authorization"), earlier });
            log.last().unwrap().clone()
        };
        let act = (self.plan)(&request);
        if request.path.starts_with("/api/") {
            return match act {
                Act::Status(status, headers) => respond(&mut stream, status, headers, b""),
                _ => respond(&mut stream, 200, "", self.list().as_bytes()),
            };
        }
        let busy = self.busy.fetch_add(1, Ordering::SeqCst) + 1;
        self.busiest.fetch_max(busy, Ordering::SeqCst);
        let sent = self.serve(&mut stream, &request, act);
        self.busy.fetch_sub(1, Ordering::SeqCst);
        sent
    }

    fn list(&self) -> String {
        if let Some(listing) = &*self.listing.lock().unwrap() {
            return listing.clone();
        }
        let entry = |(path, bytes): &(String, Vec<u8>)| {
            let (id, size) = (blob_id(bytes), bytes.len());
            match size > LFS_BYTES {
                true => format!(
                    r#"{{"rfilename":"{path}","size":{size},"blobId":"{}","lfs":{{"sha256":"{id}","size":{size},"pointerSize":134}}}}"#,
                    "9".repeat(40)
                ),
                false => format!(r#"{{"rfilename":"{path}","size":{size},"blobId":"{id}"}}"#),
            }
        };
        let entries: Vec<String> = self.files.lock().unwrap().iter().map(entry).collect();
        format!(r#"{{"id":"tiny/model","sha":"{}","siblings":[{}]}}"#, self.commit.lock().unwrap(), entries.join(","))
    }

    fn serve(&self, stream: &mut TcpStream, request: &Request, act: Act) -> std::io::Result<()> {
        let commit = self.commit.lock().unwrap().clone();
        let prefix = format!("/tiny/model/resolve/{commit}/");
        let name = request.path.strip_prefix(&prefix).or(request.path.strip_prefix("/elsewhere/"));
        let found = self.files.lock().unwrap().iter().find(|(path, _)| Some(path.as_str()) == name).cloned();
        let Some((_, bytes)) = found else { return respond(stream, 404, "X-Error-Code: EntryNotFound\r\n", b"") };
        let bytes = if let Act::Bytes(other) = &act { other.clone() } else { bytes };
        let total = bytes.len() as u64;
        let from = request.range.filter(|_| !matches!(act, Act::Whole)).unwrap_or(0);
        if from > total || from == total && from > 0 {
            return respond(stream, 416, "", b"");
        }
        let body = &bytes[from as usize..];
        let shown = if let Act::Total(total) = act { total } else { total };
        let status = if from > 0 { 206 } else { 200 };
        let range =
            if from > 0 { format!("Content-Range: bytes {from}-{}/{shown}\r\n", total - 1) } else { String::new() };
        let difference = if let Act::Length(difference) = act { difference } else { 0 };
        let length = body.len() as i64 + difference;
        let head = format!("HTTP/1.1 {status} x\r\nContent-Length: {length}\r\n{range}Connection: close\r\n\r\n");
        match act {
            Act::Status(status, headers) => return respond(stream, status, headers, b""),
            Act::Redirect(place) => return respond(stream, 302, &format!("Location: {place}\r\n"), b""),
            _ => stream.write_all(head.as_bytes())?,
        }
        match act {
            Act::Cut(bytes) => stream.write_all(&body[..bytes.min(body.len())]),
            Act::Silence => {
                thread::sleep(Duration::from_secs(3));
                Ok(())
            }
            Act::Slow(pause) => body.chunks(body.len().div_ceil(4).max(1)).try_for_each(|piece| {
                thread::sleep(pause);
                stream.write_all(piece)
            }),
            _ => stream.write_all(body),
        }
    }
}

fn respond(stream: &mut TcpStream, status: u16, headers: &str, body: &[u8]) -> std::io::Result<()> {
    let head = format!("HTTP/1.1 {status} x\r\n{headers}Content-Length: {}\r\nConnection: close\r\n\r\n", body.len());
    stream.write_all(head.as_bytes())?;
    stream.write_all(body)
}
