//! A client that can misbehave: requests are what the test writes, byte for byte.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value;

/// Longer than anything a test waits for; a server that hangs fails the test instead of stopping it.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A response.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Reply {
    /// A header, or nothing.
    pub fn header(&self, name: &str) -> &str {
        let found = self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
        found.map_or("", |(_, value)| value.as_str())
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// A connection.
pub struct Connection(BufReader<TcpStream>);

impl Connection {
    pub fn open(address: SocketAddr) -> Connection {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Connection(BufReader::new(stream))
    }

    /// Sends bytes. A server that has heard enough may have closed, which its reply tells.
    pub fn send(&mut self, bytes: &[u8]) -> bool {
        self.0.get_mut().write_all(bytes).is_ok()
    }

    /// Whether the server closes the connection without a word.
    pub fn is_closed(&mut self) -> bool {
        let mut rest = Vec::new();
        matches!(self.0.read_to_end(&mut rest), Ok(0))
    }

    /// Reads the head of a response; the body stays to be read.
    pub fn head(&mut self) -> Reply {
        let line = self.line();
        let status = line.split(' ').nth(1).unwrap_or_else(|| panic!("no status: {line:?}")).parse().unwrap();
        let mut headers = Vec::new();
        loop {
            let line = self.line();
            let Some((name, value)) = line.split_once(": ") else { break };
            headers.push((name.to_owned(), value.to_owned()));
        }
        Reply { status, headers, body: Vec::new() }
    }

    /// Reads a whole response.
    pub fn reply(&mut self) -> Reply {
        let mut reply = self.head();
        if reply.header("transfer-encoding") == "chunked" {
            while let Some(chunk) = self.chunk() {
                reply.body.extend(chunk);
            }
        } else {
            let length = reply.header("content-length").parse().unwrap_or(0);
            reply.body = vec![0; length];
            self.0.read_exact(&mut reply.body).unwrap();
        }
        reply
    }

    /// The next piece of a chunked body; `None` at its end.
    pub fn chunk(&mut self) -> Option<Vec<u8>> {
        let length = usize::from_str_radix(self.line().trim(), 16).ok()?;
        let mut chunk = vec![0; length];
        self.0.read_exact(&mut chunk).unwrap();
        self.line();
        (length > 0).then_some(chunk)
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.0.read_line(&mut line).unwrap();
        line.trim_end_matches(['\r', '\n']).to_owned()
    }
}

/// A request to be sent.
#[derive(Clone)]
pub struct Request {
    method: String,
    target: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Request {
    pub fn new(method: &str, target: &str) -> Request {
        Request { method: method.into(), target: target.into(), headers: Vec::new(), body: Vec::new() }
    }

    pub fn get(target: &str) -> Request {
        Request::new("GET", target)
    }

    /// With a JSON body.
    pub fn json(method: &str, target: &str, body: &str) -> Request {
        Request::new(method, target).header("content-type", "application/json").body(body)
    }

    /// A form with one part.
    pub fn form(target: &str, part: &str, bytes: &[u8]) -> Request {
        let mut body =
            format!("--b\r\ncontent-disposition: form-data; name=\"{part}\"; filename=\"x\"\r\n\r\n").into_bytes();
        body.extend(bytes);
        body.extend(b"\r\n--b--\r\n");
        Request::new("POST", target).header("content-type", "multipart/form-data; boundary=b").body(body)
    }

    pub fn header(mut self, name: &str, value: &str) -> Request {
        self.headers.push((name.into(), value.into()));
        self
    }

    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Request {
        self.body = body.into();
        self
    }

    /// The head, with a `Host` unless the test gave its own.
    pub fn head(&self) -> String {
        let mut head = format!("{} {} HTTP/1.1\r\n", self.method, self.target);
        if !self.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
            head += "host: localhost\r\n";
        }
        for (name, value) in self.headers.iter().filter(|(_, value)| value != NONE) {
            head += &format!("{name}: {value}\r\n");
        }
        if !self.body.is_empty() {
            head += &format!("content-length: {}\r\n", self.body.len());
        }
        head + "\r\n"
    }

    /// Sends it on its own connection.
    pub fn start(&self, address: SocketAddr) -> Connection {
        let mut connection = Connection::open(address);
        let is_sent = connection.send(self.head().as_bytes()) && connection.send(&self.body);
        if !is_sent {
            eprintln!("the server closed before it had all of {} {}", self.method, self.target);
        }
        connection
    }

    pub fn send(&self, address: SocketAddr) -> Reply {
        self.start(address).reply()
    }
}

/// The value of a header that is to be left out, though it is usual.
pub const NONE: &str = "(none)";
